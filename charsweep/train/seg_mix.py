"""Pictures of both that are taught, composed of drawings of each: Seg-Mix (Jang et al. 2024).

"Identity Decoupling for Multi-Subject Personalization of Text-to-Image Models", arXiv 2404.04243:
both are cut out by masks and put side by side on a plain ground, in places and sizes left to
chance, so that what tells them apart is learned where both are. Here a picture is wide, as those
that are asked for, and its caption says who is on which side. An object is smaller than somebody
beside it; a place is no cutout but the ground, whose drawings somebody is put on.

A fixed number of pictures, which depend on the drawings alone and not on a trial's seed, so that
their latents are computed once for all trials. Rejected: another one for each step, whose latents
every step would wait for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from PIL import Image, ImageChops, ImageOps

from charsweep.character import TrainingImage, caption_in_place, joint_caption, middle_of
from charsweep.core.seeding import generator
from charsweep.core.specs import CHARACTER, OBJECT

COUNT = 64  # pictures: of 400 steps, a quarter of which show both, each is in one or two
SCALES = (0.75, 1.0)  # of the size that somebody has in the drawing
OBJECT_SCALES = (0.4, 0.65)  # that an object has
SHIFT = 0.05  # of the height: how far from the middle of a half, and from the ground
MOST = (0.55, 0.96)  # of the picture's width and height, that one of them takes
ASIDE = 0.15  # of the width: how far from the middle of a place somebody stands
GROUND = "white"

Size = tuple[int, int]  # width, height


class Composed(NamedTuple):
    """A picture of both in RGB, what of it is them in greys, and what it shows."""

    image: Image.Image
    mask: Image.Image
    caption: str


class Cutout(NamedTuple):
    """One of them without the ground: RGBA, as large as the mask; its height and its lower end in
    heights of the square that training sees of the drawing."""

    image: Image.Image
    height: float
    bottom: float


class Mix(Protocol):
    """`COUNT` pictures of both."""

    def captions(self) -> list[str]:
        """Of all pictures, without making any."""

    def picture(self, index: int) -> Composed:
        """The picture of that number; always the same."""


class SegMix:
    """`COUNT` pictures of `size` of a character and another, or an object, both with masks.

    With `flip`, each of the two may be mirrored, never the picture: its caption says who is left.
    """

    def __init__(
        self, one: Sequence[TrainingImage], other: Sequence[TrainingImage],
        names: tuple[str, str], size: Size, flip: bool, kind: str = CHARACTER,
    ) -> None:  # fmt: skip
        self.drawings = ([cut_out(drawing) for drawing in one], [cut_out(d) for d in other])
        self.scales = (SCALES, OBJECT_SCALES if kind == OBJECT else SCALES)
        self.names, self.size, self.flip = names, size, flip

    def captions(self) -> list[str]:
        return [self._caption(self._order(index)) for index in range(COUNT)]

    def picture(self, index: int) -> Composed:
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
        own = chances(index, f"place of {who}", 5)
        centre = (0.25 + 0.5 * place) * self.size[0]
        spot = Spot(self.scales[who], MOST[0], centre, SHIFT * self.size[1])
        return spot.put(self.drawings[who], own, self.size, self.flip)


class InPlace:
    """`COUNT` pictures of `size` of a character, who has masks, on drawings of a place.

    A caption is that of the drawing, with the character in the place; with `flip` the character may
    be mirrored, the place never.
    """

    def __init__(
        self, one: Sequence[TrainingImage], places: Sequence[Image.Image], captions: Sequence[str],
        names: tuple[str, str], size: Size, flip: bool,
    ) -> None:  # fmt: skip
        self.drawings, self.size, self.flip = [cut_out(drawing) for drawing in one], size, flip
        self.places = [middle_of(place, size) for place in places]
        self.told = [caption_in_place(caption, *names) for caption in captions]

    def captions(self) -> list[str]:
        return [self.told[self._ground(index)] for index in range(COUNT)]

    def picture(self, index: int) -> Composed:
        ground, own = self._ground(index), chances(index, "place of 0", 5)
        image = self.places[ground].copy()
        spot = Spot(SCALES, MOST[1], self.size[0] / 2, ASIDE * self.size[0])
        cut, corner = spot.put(self.drawings, own, self.size, self.flip)
        image.paste(cut.convert("RGB"), corner, cut.getchannel("A"))
        return Composed(image, Image.new("L", self.size, 255), self.told[ground])

    def _ground(self, index: int) -> int:
        """Which drawing of the place it is: each as often as any other."""
        return index % len(self.places)


class Spot(NamedTuple):
    """Where one of them may stand: sizes of that in the drawing, at most so much of the width, so
    many pixels from the centre."""

    scales: tuple[float, float]
    most: float
    centre: float
    aside: float

    def put(
        self, drawings: Sequence[Cutout], own: Sequence[float], on: Size, flip: bool
    ) -> tuple[Image.Image, tuple[int, int]]:
        """One of the drawings as large as it is to be, and the corner that it is put at."""
        width, height = on
        which, scale, aside, down, mirror = own
        cut = drawings[int(which * len(drawings))]
        tall = cut.height * (self.scales[0] + scale * (self.scales[1] - self.scales[0])) * height
        broad = tall * cut.image.width / cut.image.height
        fits = min(1.0, self.most * width / broad, MOST[1] * height / tall)
        size = max(round(broad * fits), 1), max(round(tall * fits), 1)
        image = cut.image.resize(size, Image.Resampling.LANCZOS)
        if flip and mirror < 0.5:
            image = ImageOps.mirror(image)
        centre = self.centre + (2 * aside - 1) * self.aside
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
