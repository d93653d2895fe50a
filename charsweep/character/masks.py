"""Masks of training images: what of each is the character.

A mask is an image of its own, `NAME-mask.png` beside `NAME.png` or as other trainers name it (see
charsweep.character.folder), or the image's alpha channel: white, or opaque, is the character;
black, or transparent, is not; between, in part. Under an alpha mask the colours are those that the
file holds, as sd-scripts' alpha masks have it, so that a photograph keeps its background; without
masks, transparency is white.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from charsweep.character.folder import MASK_WORDS, Contents, contents_of, parted
from charsweep.core.keys import digest_of
from charsweep.core.system.images import (
    UnusableError,
    decoded,
    flat,
    open_whole,
    read_bytes,
)

ENDING = "-mask"
ALPHA = "alpha"
# What the masked reference images have around the subject: near 0 once CLIP or a network of
# ImageNet has normalised it, and nobody's background.
NEUTRAL = (128, 128, 128)


class TrainingImage(NamedTuple):
    """A training image in RGB and its mask in greys, of one size; None: all of it counts."""

    image: Image.Image
    mask: Image.Image | None

    @property
    def subject(self) -> Image.Image:
        """The image with `NEUTRAL` where the mask is black."""
        if self.mask is None:
            return self.image
        neutral = Image.new("RGB", self.image.size, NEUTRAL)
        return Image.composite(self.image, neutral, self.mask)


@dataclass(frozen=True)
class Masks:
    """One mask per training image, in their order."""

    paths: tuple[Path | None, ...]  # None: the alpha channel
    digests: tuple[str, ...]  # "alpha" for an alpha channel, whose digest is the image's


def masks_of(source: str, paths: Sequence[Path], contents: Contents, problems: list[str]) -> Masks:
    """The masks of training images from "file" or "alpha"; what is wrong goes to `problems`."""
    if source == ALPHA:
        problems.extend(_wrong_alphas(paths))
        return Masks((None,) * len(paths), (ALPHA,) * len(paths))
    own = {path: contents.masks[path] for path in paths}
    problems.extend(_wrong_pairs(own))
    problems.extend(
        f"{path.parent.name}/{path.name}: is a mask without an image: rename it as its image is "
        "called, or move it away"
        for path in contents.loose_masks
    )
    digests = []
    for path, found in own.items():
        try:
            digests += [digest_of(_checked(path, mask)) for mask in found[:1]]
        except UnusableError as error:
            problems.append(f"{found[0].name}: {error}")
    return Masks(tuple(found[0] if found else None for found in own.values()), tuple(digests))


def open_masked(path: Path, mask: Path | None) -> TrainingImage:
    """A training image with the mask in that file, or with its alpha channel."""
    if mask is not None:
        return TrainingImage(flat(open_whole(path)), _greys(open_whole(mask)))
    return _split(open_whole(path))


def mask_beside(path: Path) -> Path | None:
    """The mask file of a training image, if there is one."""
    masks = contents_of(path.parent).masks.get(path)
    return masks[0] if masks else None


def _split(image: Image.Image) -> TrainingImage:
    """RGBA into colours and mask; what has no alpha is the character all over."""
    if image.mode == "RGBA":
        return TrainingImage(image.convert("RGB"), image.getchannel("A"))
    return TrainingImage(image, Image.new("L", image.size, 255))


def _greys(image: Image.Image) -> Image.Image:
    return flat(image, "black").convert("L")


def _wrong_pairs(own: Mapping[Path, Sequence[Path]]) -> Iterator[str]:
    """Masks without an image; images without a mask, with two, or two with the same one."""
    for path, found in own.items():
        if not found and (name := parted(path.stem, MASK_WORDS)[0]):
            yield f"{path.name}: is a mask without an image: add {name}.png, or move it away"
        elif not found:
            yield (
                f"{path.name}: has no mask: add {path.stem}{ENDING}.png, all white if all of it "
                "is the character"
            )
        elif len(found) > 1:
            yield f"{path.name}: has the masks {' and '.join(m.name for m in found)}: keep one"
        elif sum(found[0] in masks for masks in own.values()) > 1:
            yield f"{found[0].name}: is the mask of which image? Rename {path.name} or the other"


def _checked(path: Path, mask: Path) -> bytes:
    """The mask's content, if it is one for the image in `path`."""
    content = read_bytes(mask)
    greys = _greys(decoded(content))
    try:
        size = decoded(read_bytes(path)).size
    except UnusableError:  # said of the image itself
        return content
    if greys.size != size:
        raise UnusableError(
            f"is {greys.width} × {greys.height} pixels, but {path.name} is {size[0]} × {size[1]} "
            "when upright: make the mask as large"
        )
    if greys.getbbox() is None:
        raise UnusableError("is all black, so nothing would be learned: paint the character white")
    return content


def _wrong_alphas(paths: Sequence[Path]) -> Iterator[str]:
    """Images that are transparent all over; or that none is transparent anywhere."""
    opaque = 0
    for path in paths:
        try:
            mask = _split(decoded(read_bytes(path))).mask
        except UnusableError:  # said of the image itself
            continue
        assert mask is not None
        low, high = mask.getextrema()
        opaque += low == 255
        if high == 0:
            yield f"{path.name}: is all transparent, so nothing would be learned: export it again"
    if paths and opaque == len(paths):
        yield "no image has transparency: set character.masks=file with mask files, or null"
