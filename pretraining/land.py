"""Lands: places with a look of their own, which no base has seen, empty or with a figure in them.

A land is colours of sky, hills and ground, and two kinds of things that stand there. It is seen
from a view, near, far or aside, and at a time, which change all colours but not the land: what is
taught of a place is what stays. Candyland is the one that ships; `benchmarks` have others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from PIL import Image

from pretraining.drawing import Pen, draw_on
from pretraining.figure import Figure

TIMES = ("day", "night", "evening", "snow")
TINTS = {"night": ("#1a1f47", 0.6), "evening": ("#ff8a3c", 0.35)}  # what is laid over all, how much
SNOW = "#f7fafd"
HORIZON = 0.62  # of the height, where hills end and the ground begins


@dataclass(frozen=True)
class Land:
    """A land, as it is seen; `zoom` above 1 is from near, `aside` moves the view to the right."""

    sky: str
    hills: tuple[str, str]
    ground: str
    path: str
    tall: str  # what stands there: lollipop, cane, mushroom, crystal, cactus, pillar
    low: str
    colours: tuple[str, str, str]  # of what stands there
    time: str = "day"
    zoom: float = 1.0
    aside: float = 0.0


CANDYLAND = Land(
    sky="#fbd3e6",
    hills=("#c9a2e8", "#f7b267"),
    ground="#a8e6cf",
    path="#fff3b0",
    tall="lollipop",
    low="cane",
    colours=("#e84a7f", "#5ec4e8", "#f7d84f"),
)
CANDYLAND_NAME = "Candyland"


def draw_land(land: Land, size: int = 64) -> Image.Image:
    """The land with nobody in it, as a square RGB picture."""
    return _ground(land, size).reduce(4)


def draw_in_land(figure: Figure, land: Land, size: int = 64) -> Image.Image:
    """The figure in a land, whatever place it has."""
    shaded_as = "night" if land.time == "night" else "snow"
    return draw_on(_ground(land, size), replace(figure, place=shaded_as))


@lru_cache(maxsize=64)
def _ground(land: Land, size: int) -> Image.Image:
    """The land, four times too large."""
    image = Image.new("RGB", (4 * size, 4 * size), land.sky)
    pen = Pen(image, (-land.aside * land.zoom, 0.0), land.zoom, (0.5, HORIZON))
    _hills(pen, land)
    snowy = land.time == "snow"
    pen.box(-2, HORIZON, 3, 3, SNOW if snowy else land.ground)
    pen.polygon([(0.44, HORIZON), (0.56, HORIZON), (0.95, 1.6), (0.05, 1.6)], land.path)
    for x, top in (
        (-0.62, 0.10),
        (-0.26, 0.20),
        (0.10, 0.12),
        (0.88, 0.16),
        (1.24, 0.10),
        (1.6, 0.2),
    ):
        _stand(pen, land, land.tall, x, top, HORIZON + 0.16)
    for x, top in (
        (-0.44, 0.48),
        (-0.08, 0.46),
        (0.28, 0.40),
        (0.71, 0.42),
        (1.06, 0.46),
        (1.42, 0.5),
    ):
        _stand(pen, land, land.low, x, top, HORIZON + 0.26)
    if land.time in TINTS:
        tint, share = TINTS[land.time]
        image = Image.blend(image, Image.new("RGB", image.size, tint), share)
    _sky(Pen(image), land.time)
    return image


def _hills(pen: Pen, land: Land) -> None:
    for number, (x, rx, ry) in enumerate(
        (
            (-0.75, 0.4, 0.2),
            (-0.2, 0.42, 0.24),
            (0.12, 0.36, 0.20),
            (0.78, 0.40, 0.26),
            (1.4, 0.4, 0.2),
        )
    ):
        pen.ellipse((x, HORIZON + 0.02), rx, ry, land.hills[number % 2])


def _sky(pen: Pen, time: str) -> None:
    if time == "night":
        for x, y in ((0.30, 0.08), (0.62, 0.06), (0.93, 0.10), (0.46, 0.20), (0.05, 0.05)):
            pen.circle((x, y), 0.012, "#ffffff")
    if time == "snow":
        for x, y in (
            (0.08, 0.3),
            (0.24, 0.06),
            (0.42, 0.16),
            (0.66, 0.08),
            (0.78, 0.3),
            (0.95, 0.07),
        ):
            pen.circle((x, y), 0.016, "#ffffff")


# -- what stands in a land: from `top` down to `foot`, its middle at `x`


def _stand(pen: Pen, land: Land, kind: str, x: float, top: float, foot: float) -> None:
    main, second, third = land.colours
    if kind == "lollipop":
        pen.box(x - 0.012, top + 0.1, x + 0.012, foot, "#ffffff")
        for step, colour in enumerate((main, "#ffffff", main, "#ffffff")):
            pen.circle((x, top + 0.09), 0.105 - 0.028 * step, colour)
    elif kind == "cane":
        bend = [
            (
                x + 0.05 - 0.05 * math.cos(a / 6 * math.pi),
                top + 0.05 - 0.05 * math.sin(a / 6 * math.pi),
            )
            for a in range(7)
        ]
        pen.limb([(x, foot), *bend], 0.034, "#ffffff")
        for step in range(5):
            y = top + 0.07 + (foot - top - 0.07) * step / 5
            pen.limb([(x - 0.012, y + 0.022), (x + 0.012, y)], 0.022, "#d92b36")
    elif kind == "mushroom":
        pen.rounded(x - 0.03, top + 0.08, x + 0.03, foot, 0.02, "#f3e9d2")
        pen.ellipse((x, top + 0.10), 0.125, 0.08, main)
        for dx, dy in ((-0.06, 0.0), (0.02, -0.03), (0.07, 0.02)):
            pen.circle((x + dx, top + 0.10 + dy), 0.018, third)
    elif kind == "crystal":
        for dx, tall, colour in ((-0.045, 0.12, second), (0.045, 0.08, third), (0.0, 0.0, main)):
            pen.polygon(
                [(x + dx - 0.045, foot), (x + dx, top + tall), (x + dx + 0.045, foot)], colour
            )
    elif kind == "cactus":
        pen.limb([(x, foot), (x, top + 0.05)], 0.06, main)
        for side in (-1, 1):
            pen.limb(
                [(x, top + 0.22), (x + side * 0.08, top + 0.20), (x + side * 0.08, top + 0.11)],
                0.036,
                main,
            )
        pen.circle((x, top + 0.02), 0.024, second)
    elif kind == "pillar":
        pen.box(x - 0.045, top + 0.04, x + 0.045, foot, main)
        pen.box(x - 0.065, top, x + 0.065, top + 0.05, second)
        pen.box(x - 0.065, foot - 0.04, x + 0.065, foot, second)
    elif kind == "balloon":
        pen.limb([(x, foot), (x, top + 0.1)], 0.008, "#555555")
        pen.ellipse((x, top + 0.09), 0.08, 0.1, main)
        pen.box(x - 0.08, top + 0.075, x + 0.08, top + 0.105, second)
    elif kind == "rock":
        pen.ellipse((x, foot - 0.02), 0.085, 0.06, main)
        pen.ellipse((x + 0.06, foot), 0.06, 0.04, second)
    elif kind == "flower":
        pen.limb([(x, foot), (x, foot - 0.14)], 0.014, "#3d8b3d")
        for petal in range(5):
            a = 2 * math.pi * petal / 5 - math.pi / 2
            pen.circle((x + 0.035 * math.cos(a), foot - 0.15 + 0.035 * math.sin(a)), 0.026, second)
        pen.circle((x, foot - 0.15), 0.02, third)
