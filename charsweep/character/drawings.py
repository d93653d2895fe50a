"""The files of one or several characters, found by the digests that specs name them by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from charsweep.character.companion import Companion
from charsweep.character.load import Character, ClassImages
from charsweep.character.masks import ALPHA, Masks, TrainingImage, open_masked
from charsweep.core.system.images import open_image


@dataclass(frozen=True)
class Drawings:
    """Paths by the digests of their contents, and class images by their key."""

    paths: Mapping[str, Path]
    class_images: Mapping[str, ClassImages]

    def open(self, digests: Sequence[str]) -> list[Image.Image]:
        """The images as they are."""
        return [open_image(self.paths[digest]) for digest in digests]

    def training_images(
        self, digests: Sequence[str], masks: Sequence[str] = ()
    ) -> list[TrainingImage]:
        """The images with their masks, if there are any."""
        if not masks:
            return [TrainingImage(image, None) for image in self.open(digests)]
        return [
            open_masked(self.paths[digest], None if mask == ALPHA else self.paths[mask])
            for digest, mask in zip(digests, masks, strict=True)
        ]

    def references(self, names: Sequence[str]) -> list[TrainingImage]:
        """The images that an exam refers to; with what a mask keeps of them, after a slash."""
        pairs = [name.partition("/")[::2] for name in names]
        masks = [mask for _, mask in pairs]
        return self.training_images([image for image, _ in pairs], masks if any(masks) else ())


def drawings_of(characters: Iterable[Character], companions: Iterable[Companion] = ()) -> Drawings:
    """The files of these characters, and of others with what shows them beside the first."""
    paths: dict[str, Path] = {}
    class_images: dict[str, ClassImages] = {}
    known = list(companions)
    for one in (*characters, *(companion.other for companion in known)):
        paths |= zip(one.spec.digests, one.paths, strict=True)
        for pictures in (one.held_out, one.truth):
            if pictures is not None:
                paths |= zip(pictures.digests, pictures.paths, strict=True)
        if one.masks is not None:
            paths |= _files_of(one.masks)
        if one.class_images is not None:
            class_images[one.class_images.key] = one.class_images
    for companion in known:
        if companion.joint is not None:
            paths |= zip(companion.joint.digests, companion.joint.paths, strict=True)
        for masks in companion.cut:
            paths |= _files_of(masks)
    return Drawings(paths, class_images)


def _files_of(masks: Masks) -> dict[str, Path]:
    pairs = zip(masks.digests, masks.paths, strict=True)
    return {digest: path for digest, path in pairs if path is not None}
