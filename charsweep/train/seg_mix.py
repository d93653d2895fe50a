"""Pictures of two characters, composed of drawings of each: Seg-Mix (Jang et al. 2024).

"Identity Decoupling for Multi-Subject Personalization of Text-to-Image Models", arXiv 2404.04243:
both are cut out by masks and put side by side on a plain ground, in places and sizes left to
chance, so that what tells them apart is learned where both are. Here a picture is wide, as those
that are asked for, and its caption says who is on which side.

A fixed number of pictures, which depend on the drawings alone and not on a trial's seed, so that
their latents are computed once for all trials. Rejected: another one for each step, whose latents
every step would wait for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from PIL import Image, ImageChops, ImageOps

from charsweep.character import TrainingImage, joint_caption
from charsweep.core.seeding import generator

COUNT = 64  # pictures: of 400 steps, a quarter of which show both, each is in one or two
SCALES = (0.75, 1.0)  # of the size that somebody has in the drawing
SHIFT = 0.05  # of the height: how far from the middle of a half, and from the ground
MOST = (0.55, 0.96)  # of the picture's width and height, that one of them takes
GROUND = "white"

Size = tuple[int, int]  # width, height


class Composed(NamedTuple):
    """A picture of both in RGB, where they are in greys, and what it shows."""

    image: Image.Image
    mask: Image.Image
    caption: str


class Cutout(NamedTuple):
    """One of them without the ground: RGBA, as large as the mask; its height and its lower end in
    heights of the square that training sees of the drawing."""

    image: Image.Image
    height: float
    bottom: float


class SegMix:
    """`COUNT` pictures of `size` of two characters, each of whom has drawings with masks.

    With `flip`, each of the two may be mirrored, never the picture: its caption says who is left.
    """

    def __init__(
        self, one: Sequence[TrainingImage], other: Sequence[TrainingImage],
        names: tuple[str, str], size: Size, flip: bool,
    ) -> None:  # fmt: skip
        self.drawings = ([cut_out(drawing) for drawing in one], [cut_out(d) for d in other])
        self.names, self.size, self.flip = names, size, flip

    def __iter__(self) -> Iterator[Composed]:
        return map(self.picture, range(COUNT))

    def captions(self) -> list[str]:
        """Of all pictures, without making any."""
        return [self._caption(self._order(index)) for index in range(COUNT)]

    def picture(self, index: int) -> Composed:
        """The picture of that number; always the same."""
        order = self._order(index)
        image, mask = Image.new("RGB", self.size, GROUND), Image.new("L", self.size, 0)
        placed = [self._placed(who, place, index) for place, who in enumerate(order)]
        if chances(index, "front", 1)[0] < 0.5:
            placed.reverse()
        for cut, corner in placed:
            image.paste(cut.convert("RGB"), corner, cut.getchannel("A"))
            alone = Image.new("L", self.size, 0)
            alone.paste(cut.getchannel("A"), corner)
            mask = ImageChops.lighter(mask, alone)
        return Composed(image, mask, self._caption(order))

    def _order(self, index: int) -> tuple[int, int]:
        """Who is left and who is right."""
        return (0, 1) if chances(index, "left", 1)[0] < 0.5 else (1, 0)

    def _caption(self, order: tuple[int, int]) -> str:
        left, right = (self.names[who] for who in order)
        return joint_caption(left, right)

    def _placed(self, who: int, place: int, index: int) -> tuple[Image.Image, tuple[int, int]]:
        """One of them as large as it is to be, and the corner that it is put at."""
        width, height = self.size
        which, scale, aside, down, mirror = chances(index, f"place of {who}", 5)
        cut = self.drawings[who][int(which * len(self.drawings[who]))]
        tall = cut.height * (SCALES[0] + scale * (SCALES[1] - SCALES[0])) * height
        broad = tall * cut.image.width / cut.image.height
        fits = min(1.0, MOST[0] * width / broad, MOST[1] * height / tall)
        size = max(round(broad * fits), 1), max(round(tall * fits), 1)
        image = cut.image.resize(size, Image.Resampling.LANCZOS)
        if self.flip and mirror < 0.5:
            image = ImageOps.mirror(image)
        centre = (0.25 + 0.5 * place) * width + (2 * aside - 1) * SHIFT * height
        bottom = (cut.bottom + (2 * down - 1) * SHIFT) * height
        left = min(max(round(centre - size[0] / 2), 0), width - size[0])
        top = min(max(round(bottom) - size[1], 0), height - size[1])
        return image, (left, top)


def cut_out(drawing: TrainingImage) -> Cutout:
    """What the mask keeps of a drawing."""
    image, mask = drawing
    assert mask is not None
    sure = mask.point(lambda value: 255 if value > 127 else 0)
    box = sure.getbbox() or mask.getbbox()
    assert box is not None  # a mask that is all black was refused
    whole = image.copy()
    whole.putalpha(mask)
    height = (box[3] - box[1]) / min(image.size)
    return Cutout(whole.crop(box), height, box[3] / image.height)


def chances(index: int, what: str, count: int) -> list[float]:
    """Numbers from 0 to 1 that depend on nothing but what they decide."""
    numbers: list[float] = torch.rand(count, generator=generator(0, f"both {what}", index)).tolist()
    return numbers
