"""The files of one or several characters, found by the digests that specs name them by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from charsweep.character.load import Character, ClassImages
from charsweep.character.masks import ALPHA, TrainingImage, open_masked
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


def drawings_of(characters: Iterable[Character]) -> Drawings:
    """The files of these characters."""
    paths: dict[str, Path] = {}
    class_images: dict[str, ClassImages] = {}
    for one in characters:
        paths |= zip(one.spec.digests, one.paths, strict=True)
        for pictures in (one.held_out, one.truth):
            if pictures is not None:
                paths |= zip(pictures.digests, pictures.paths, strict=True)
        if one.masks is not None:
            pairs = zip(one.masks.digests, one.masks.paths, strict=True)
            paths |= {digest: path for digest, path in pairs if path is not None}
        if one.class_images is not None:
            class_images[one.class_images.key] = one.class_images
    return Drawings(paths, class_images)
