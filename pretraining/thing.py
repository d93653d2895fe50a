"""Things: objects with a look of their own, which no base has seen, alone or beside a figure.

StarKite is the one that ships; `benchmarks` have others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from PIL import Image

from pretraining.drawing import LINE, WIDE, Pen, Point, draw_on, ground_of
from pretraining.figure import Figure
from pretraining.pair import APART, MIDDLE

BESIDE = 0.5  # how large a thing is beside a figure


@dataclass(frozen=True)
class Thing:
    """An object, as it is seen: `tilt` in degrees to the left, `at` its middle in the picture."""

    kind: str  # one of KINDS
    colours: tuple[str, str, str]
    place: str = "white"
    tilt: float = 0.0
    scale: float = 1.0
    at: Point = (0.5, 0.5)


STAR_KITE = Thing("kite", ("#f5c518", "#1fa79a", "#e2492f"))
STAR_KITE_NAME = "StarKite"


def draw_thing(thing: Thing, size: int = 64) -> Image.Image:
    """The thing alone, as a square RGB picture."""
    image, layer = ground_of(thing.place, size, 1.0).copy(), _layer(thing, size, 1.0)
    image.paste(layer, mask=layer.getchannel("A"))
    return image.reduce(4)


def draw_thing_mask(thing: Thing, size: int = 64) -> Image.Image:
    """What of `draw_thing` is the thing itself: a picture in greys, white there."""
    return _layer(thing, size, 1.0).getchannel("A").reduce(4)


def draw_beside(figure: Figure, thing: Thing | None, is_left: bool, size: int = 64) -> Image.Image:
    """A figure on the left, or on the right, and a thing, if any, on the other side, smaller, in
    the figure's place, as a picture WIDE times as wide as high."""
    ground = ground_of(figure.place, size, WIDE)
    if thing:
        ground = _with_thing(ground, thing, not is_left)
    shift = (_middle_of(is_left) - 0.5 + figure.shift[0], figure.shift[1])
    return draw_on(ground, replace(figure, shift=shift))


def draw_thing_aside(thing: Thing, place: str, is_left: bool, size: int = 64) -> Image.Image:
    """The same picture of a thing without anybody."""
    return _with_thing(ground_of(place, size, WIDE), thing, is_left).reduce(4)


def _with_thing(ground: Image.Image, thing: Thing, is_left: bool) -> Image.Image:
    """A ground four times too large with a thing as it stands beside somebody."""
    x = _middle_of(is_left) + thing.at[0] - 0.5
    own = replace(thing, at=(x, thing.at[1] + 0.1), scale=thing.scale * BESIDE)
    image, layer = ground.copy(), _layer(own, ground.height // 4, WIDE)
    image.paste(layer, mask=layer.getchannel("A"))
    return image


def _middle_of(is_left: bool) -> float:
    """Of a half of the picture."""
    return MIDDLE + (-1 if is_left else 1) * APART["beside"]


def _layer(thing: Thing, size: int, width: float) -> Image.Image:
    """The thing on nothing, four times too large."""
    image = Image.new("RGBA", (round(4 * size * width), 4 * size))
    pen = Pen(image, (thing.at[0] - 0.5, thing.at[1] - 0.5), thing.scale, (0.5, 0.5))
    KINDS[thing.kind](pen, thing.colours)
    return image.rotate(thing.tilt, Image.Resampling.BICUBIC, center=pen.at((0.5, 0.5)))


# -- the kinds, each within the unit square


def _star(centre: Point, outer: float, inner: float) -> list[Point]:
    reaches = [(outer, inner)[corner % 2] for corner in range(10)]
    angles = [math.pi * (corner / 5 - 0.5) for corner in range(10)]
    return [
        (centre[0] + reach * math.cos(angle), centre[1] + reach * math.sin(angle))
        for reach, angle in zip(reaches, angles, strict=True)
    ]


def _kite(pen: Pen, colours: tuple[str, str, str]) -> None:
    main, second, third = colours
    tail = [(0.5, 0.62), (0.44, 0.72), (0.55, 0.80), (0.46, 0.90)]
    pen.limb(tail, 0.02, LINE)
    for x, y in tail[1:]:
        for side in (-1, 1):
            pen.polygon([(x, y), (x + side * 0.07, y - 0.035), (x + side * 0.07, y + 0.035)], third)
    pen.polygon(_star((0.5, 0.40), 0.34, 0.165), main)
    pen.polygon(_star((0.5, 0.40), 0.19, 0.09), second)


def _teapot(pen: Pen, colours: tuple[str, str, str]) -> None:
    main, second, third = colours
    pen.polygon([(0.66, 0.60), (0.90, 0.36), (0.94, 0.42), (0.72, 0.70)], second)
    pen.arc((0.26, 0.56), 0.13, 0.14, 60, 300, 0.045)
    pen.ellipse((0.5, 0.58), 0.26, 0.22, main)
    pen.ellipse((0.5, 0.38), 0.14, 0.045, third)
    pen.circle((0.5, 0.32), 0.04, second)


def _umbrella(pen: Pen, colours: tuple[str, str, str]) -> None:
    main, second, third = colours
    pen.limb([(0.5, 0.3), (0.5, 0.82), (0.44, 0.87), (0.38, 0.82)], 0.03, LINE)
    for corner in range(6):
        left, right = (math.pi * (1 + (corner + end) / 6) for end in (0, 1))
        arc = [left + (right - left) * step / 4 for step in range(5)]
        rim = [(0.5 + 0.36 * math.cos(angle), 0.48 + 0.34 * math.sin(angle)) for angle in arc]
        pen.polygon([(0.5, 0.48), *rim], (main, second)[corner % 2])
    pen.circle((0.5, 0.13), 0.03, third)


def _drum(pen: Pen, colours: tuple[str, str, str]) -> None:
    main, second, third = colours
    pen.ellipse((0.5, 0.70), 0.28, 0.09, main)
    pen.box(0.22, 0.36, 0.78, 0.70, main)
    for step in range(5):
        x = 0.22 + 0.14 * step
        pen.limb([(x, 0.38), (min(x + 0.07, 0.78), 0.70)], 0.022, third)
    pen.ellipse((0.5, 0.36), 0.28, 0.09, second)


def _ball(pen: Pen, colours: tuple[str, str, str]) -> None:
    main, second, third = colours
    pen.circle((0.5, 0.5), 0.30, main)
    pen.polygon(_star((0.5, 0.5), 0.20, 0.09), second)
    for angle in range(5):
        turn = 2 * math.pi * angle / 5 - math.pi / 2 + math.pi / 5
        pen.circle((0.5 + 0.24 * math.cos(turn), 0.5 + 0.24 * math.sin(turn)), 0.03, third)


def _lantern(pen: Pen, colours: tuple[str, str, str]) -> None:
    main, second, third = colours
    pen.arc((0.5, 0.22), 0.11, 0.11, 180, 360, 0.03)
    pen.box(0.36, 0.20, 0.64, 0.27, main)
    pen.box(0.32, 0.27, 0.68, 0.74, main)
    pen.box(0.37, 0.32, 0.63, 0.69, second)
    pen.ellipse((0.5, 0.54), 0.055, 0.11, third)
    pen.box(0.28, 0.74, 0.72, 0.82, main)


KINDS: dict[str, Callable[[Pen, tuple[str, str, str]], None]] = {
    "kite": _kite, "teapot": _teapot, "umbrella": _umbrella, "drum": _drum, "ball": _ball,
    "lantern": _lantern,
}  # fmt: skip
