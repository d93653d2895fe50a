"""The renderer of the cartoon world: a Figure, or a Pair, as a Pillow RGB image of any size.

Everything is drawn in relative coordinates (y from 0 to 1 downwards, x from 0 to the picture's
width in heights: 1, or WIDE for two figures) on a canvas four times too large and reduced with
antialiasing, so 64 px and 512 px show the same picture. Shapes are flat on purpose: a tiny model
can then be sharp.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageChops, ImageDraw

from pretraining.figure import COLOURS, RAINBOW, Figure
from pretraining.pair import Pair

Point = tuple[float, float]
Hand = tuple[int, Point]  # which (-1: at the picture's left), and where it is held, of the picture

WIDE = 1.5  # the width of a picture of two, its height being 1

SKIN, LINE, CHEEK, GOLD = "#fbdcc0", "#33231f", "#f6b3a6", "#f2b632"


@dataclass(frozen=True)
class Pen:
    """Draws in relative coordinates: `zoom` about `pivot`, then `move`, place a figure."""

    image: Image.Image
    move: Point = (0.0, 0.0)
    zoom: float = 1.0
    pivot: Point = (0.5, 0.95)

    @property
    def draw(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self.image)

    @property
    def width(self) -> float:
        """Of the picture, its height being 1."""
        return self.image.width / self.image.height

    def at(self, point: Point) -> Point:
        """Relative coordinates -> pixels of the canvas."""
        side = self.image.height
        x = self.pivot[0] + (point[0] - self.pivot[0]) * self.zoom + self.move[0]
        y = self.pivot[1] + (point[1] - self.pivot[1]) * self.zoom + self.move[1]
        return x * side, y * side

    def length(self, value: float) -> float:
        return value * self.zoom * self.image.height

    def own(self, point: Point) -> Point:
        """A point of the picture in the placed figure's coordinates."""
        x, y = (
            (point[axis] - self.move[axis] - self.pivot[axis]) / self.zoom + self.pivot[axis]
            for axis in (0, 1)
        )
        return x, y

    def ellipse(self, centre: Point, rx: float, ry: float, fill: str) -> None:
        x, y = self.at(centre)
        a, b = self.length(rx), self.length(ry)
        self.draw.ellipse((x - a, y - b, x + a, y + b), fill=fill)

    def circle(self, centre: Point, radius: float, fill: str) -> None:
        self.ellipse(centre, radius, radius, fill)

    def polygon(self, points: list[Point], fill: str) -> None:
        self.draw.polygon([self.at(p) for p in points], fill=fill)

    def box(self, left: float, top: float, right: float, bottom: float, fill: str) -> None:
        self.draw.rectangle((*self.at((left, top)), *self.at((right, bottom))), fill=fill)

    def rounded(
        self, left: float, top: float, right: float, bottom: float, radius: float, fill: str
    ) -> None:
        corners = (*self.at((left, top)), *self.at((right, bottom)))
        self.draw.rounded_rectangle(corners, self.length(radius), fill=fill)

    def limb(self, points: list[Point], width: float, fill: str) -> None:
        """A line with round joints and ends."""
        pixels = [self.at(p) for p in points]
        radius = self.length(width) / 2
        self.draw.line(pixels, fill=fill, width=max(1, round(2 * radius)))
        for x, y in pixels:
            self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)

    def arc(
        self, centre: Point, rx: float, ry: float, start: float, end: float, width: float
    ) -> None:
        x, y = self.at(centre)
        a, b = self.length(rx), self.length(ry)
        thick = max(1, round(self.length(width)))
        self.draw.arc((x - a, y - b, x + a, y + b), start, end, fill=LINE, width=thick)


def draw(figure: Figure, size: int = 64, width: float = 1.0) -> Image.Image:
    """The figure as an RGB picture, `size` pixels high; the same figure, the same bytes."""
    return draw_on(ground_of(figure.place, size, width), figure)


def draw_on(ground: Image.Image, figure: Figure) -> Image.Image:
    """The same on a ground of its own, which is four times too large."""
    image = ground.copy()
    _draw_figure(image, figure)
    return image.reduce(4)


def draw_mask(figure: Figure, size: int = 64) -> Image.Image:
    """What of `draw` is the figure itself, without its shadow: a picture in greys, white there."""
    dark, light = (Image.new("RGB", (4 * size, 4 * size), ground) for ground in ("black", "white"))
    for image in (dark, light):
        _draw_figure(image, figure, shadow=False)
    ground = ImageChops.difference(dark, light).getchannel("R")  # 255 where nothing was drawn
    return ImageChops.invert(ground).reduce(4)


def draw_pair(pair: Pair, size: int = 64) -> Image.Image:
    """Both as an RGB picture, `size` pixels high and WIDE times as wide."""
    image = ground_of(pair.place, size, WIDE).copy()
    left, right = pair.placed()
    held = _held(left, right) if pair.together == "holding hands" else None
    one, two = (left, (1, held) if held else None), (right, (-1, held) if held else None)
    for figure, hand in (two, one) if pair.together == "left in front" else (one, two):
        _draw_figure(image, figure, hand)
    return image.reduce(4)


def _held(left: Figure, right: Figure) -> Point:
    """Where two figures hold hands: in the middle between both, at the height of their hands."""
    pens = [_pen_of(Image.new("L", (1, 1)), figure) for figure in (left, right)]
    hands = [pen.at((0.5, 0.70)) for pen in pens]
    return (hands[0][0] + hands[1][0]) / 2, (hands[0][1] + hands[1][1]) / 2


@lru_cache(maxsize=32)
def ground_of(place: str, size: int, width: float) -> Image.Image:
    """The background, four times too large; kept, because there are only a few."""
    image = Image.new("RGB", (round(4 * size * width), 4 * size), "#ffffff")
    _PLACES[place](Pen(image))
    return image


def _white(pen: Pen) -> None:
    pen.box(0, 0, pen.width, 1, "#ffffff")


def _beach(pen: Pen) -> None:
    pen.box(0, 0, pen.width, 0.56, "#96d2fb")
    pen.circle((pen.width - 0.14, 0.15), 0.085, "#f7d84f")
    pen.box(0, 0.56, pen.width, 0.72, "#3a8ad0")
    pen.box(0, 0.72, pen.width, 1, "#efdaa0")


def _forest(pen: Pen) -> None:
    pen.box(0, 0, pen.width, 1, "#bfe6c0")
    trees = ((0.06, 0.30), (0.24, 0.22), (0.76, 0.22), (0.94, 0.30), (0.50, 0.34))
    further = ((1.12, 0.24), (1.30, 0.32), (1.46, 0.22)) if pen.width > 1 else ()
    for x, top in (*trees, *further):
        pen.box(x - 0.018, 0.6, x + 0.018, 0.84, "#7b5238")
        for step in range(3):
            y = top + 0.12 * step
            half = 0.07 + 0.025 * step
            pen.polygon([(x, y), (x - half, y + 0.18), (x + half, y + 0.18)], "#2c7a3c")
    pen.box(0, 0.80, pen.width, 1, "#62a34d")


def _night(pen: Pen) -> None:
    pen.box(0, 0, pen.width, 1, "#1a1f47")
    pen.circle((0.15, 0.16), 0.085, "#fdf0c4")
    stars = ((0.34, 0.08), (0.72, 0.10), (0.90, 0.26), (0.10, 0.48), (0.84, 0.52), (0.93, 0.07))
    for x, y in (*stars, (1.16, 0.14), (1.30, 0.46), (1.43, 0.09), (1.40, 0.30)):
        pen.circle((x, y), 0.012, "#ffffff")
    pen.box(0, 0.80, pen.width, 1, "#20402c")


def _city(pen: Pen) -> None:
    pen.box(0, 0, pen.width, 1, "#c9d7e6")
    houses = [(0.0, 0.34, 0.19), (0.19, 0.22, 0.36), (0.64, 0.16, 0.80), (0.80, 0.38, 1.0)]
    if pen.width > 1:
        houses += [(1.04, 0.26, 1.22), (1.30, 0.18, 1.50)]
    for number, (left, top, right) in enumerate(houses):
        pen.box(left, top, right, 0.88, "#8d8796" if number % 2 else "#6b7590")
        for row in range(8):
            y = top + 0.04 + 0.085 * row
            for column in range(2):
                x = left + 0.04 + column * (right - left - 0.03) / 2
                if y < 0.80:
                    pen.box(x, y, x + 0.04, y + 0.045, "#f5dd8e")
    pen.box(0, 0.84, pen.width, 1, "#5a5b66")


def _room(pen: Pen) -> None:
    pen.box(0, 0, pen.width, 1, "#d6cbe6")  # not skin: arms must show
    pen.box(0.05, 0.12, 0.29, 0.40, "#ffffff")
    for x in (0.07, 0.18):
        for y in (0.14, 0.27):
            pen.box(x, y, x + 0.09, y + 0.11, "#a3d6f7")
    right = pen.width - 0.05
    pen.box(right - 0.18, 0.16, right, 0.34, "#b98a5a")
    pen.box(right - 0.16, 0.18, right - 0.02, 0.32, "#e88f7a")
    pen.box(0, 0.80, pen.width, 1, "#a9754e")


def _snow(pen: Pen) -> None:
    pen.box(0, 0, pen.width, 1, "#b9cbe0")
    pen.ellipse((0.15, 0.86), 0.42, 0.30, "#dbe6f2")
    pen.ellipse((pen.width - 0.12, 0.86), 0.42, 0.36, "#dbe6f2")
    pen.box(0, 0.80, pen.width, 1, "#f7fafd")
    flakes = ((0.08, 0.10), (0.24, 0.28), (0.40, 0.06), (0.66, 0.10), (0.80, 0.30), (0.93, 0.12))
    further = ((1.10, 0.44), (1.18, 0.09), (1.32, 0.24), (1.44, 0.14), (1.42, 0.50))
    for x, y in (*flakes, (0.10, 0.52), (0.90, 0.48), *further):
        pen.circle((x, y), 0.016, "#ffffff")


_PLACES = {
    "white": _white,
    "beach": _beach,
    "forest": _forest,
    "night": _night,
    "city": _city,
    "room": _room,
    "snow": _snow,
}


# The figure, in its own coordinates: head centre and radius, shoulders, hips, ground.
HEAD: Point = (0.5, 0.405)
HEAD_RADIUS = 0.165
SHOULDER_Y, HIP_Y, GROUND = 0.60, 0.80, 0.955
SIT_DROP, JUMP_LIFT = 0.10, 0.045


def _pen_of(image: Image.Image, figure: Figure) -> Pen:
    drop = {"sitting": SIT_DROP, "jumping": -JUMP_LIFT}.get(figure.legs, 0.0)
    return Pen(image, (figure.shift[0], figure.shift[1] + drop), figure.scale)


def _draw_figure(
    image: Image.Image, figure: Figure, held: Hand | None = None, shadow: bool = True
) -> None:
    pen = _pen_of(image, figure)
    skin = SKIN if figure.hair else _base_colour(figure)
    if shadow and (figure.place == "white" or figure.legs == "jumping"):
        _shadow(Pen(image, figure.shift, figure.scale), figure)
    _hair_behind(pen, figure)
    _ears(pen, figure)
    _legs(pen, figure, skin)
    _body(pen, figure)
    _arms(pen, figure, skin, held)
    _scarf(pen, figure)
    _head(pen, figure)
    _face(pen, figure)
    _headgear(pen, figure)


def _base_colour(figure: Figure) -> str:
    return RAINBOW[0] if figure.pattern == "rainbow" else COLOURS[figure.colours[0]]


def _shadow(pen: Pen, figure: Figure) -> None:
    """A flat shadow on the ground: it tells jumping from standing on white."""
    shade = {"white": "#e4e4ea", "snow": "#d5dee9", "night": "#152c20"}.get(figure.place, "#e4e4ea")
    if figure.place in ("beach", "forest", "city", "room"):
        shade = {"beach": "#d2bc80", "forest": "#4c863a", "city": "#45464f", "room": "#8a5c3b"}[
            figure.place
        ]
    pen.ellipse((0.5, 0.958), 0.13 if figure.legs == "jumping" else 0.17, 0.022, shade)


# -- hair and fur: a shape, filled with one of the patterns


def _fill_pattern(pen: Pen, figure: Figure, shape: Image.Image) -> None:
    """Fill the white of `shape` (an "L" canvas) with the figure's hair or fur pattern."""
    pen.image.paste(_texture(pen, figure), (0, 0), shape)


def _shape(pen: Pen) -> Pen:
    """An empty "L" canvas of the same size and placement, to draw a shape on in white."""
    return Pen(Image.new("L", pen.image.size, 0), pen.move, pen.zoom, pen.pivot)


def _texture(pen: Pen, figure: Figure) -> Image.Image:
    """The pattern over the whole canvas: six bands that fan out from below the head."""
    colours = RAINBOW if figure.pattern == "rainbow" else tuple(COLOURS[c] for c in figure.colours)
    image = Image.new("RGB", pen.image.size, colours[0])
    brush = Pen(image, pen.move, pen.zoom, pen.pivot)
    if figure.pattern in ("striped", "rainbow"):
        _fan(brush, colours)
    elif figure.pattern == "two-tone":
        brush.box(HEAD[0], -0.5, 1.5, 1.5, colours[1])
    elif figure.pattern == "dipped":
        limit = HEAD[1] + 0.07 if figure.hair in ("long", "pigtails") else HEAD[1] - 0.10
        if figure.hair in ("long", "pigtails"):
            brush.box(-0.5, limit, 1.5, 1.5, colours[1])
        else:
            brush.box(-0.5, -0.5, 1.5, limit, colours[1])
    return image


def _fan(brush: Pen, colours: tuple[str, ...]) -> None:
    apex = (HEAD[0], HEAD[1] + 0.42)
    edges = [-1.0, -0.19, -0.095, 0.0, 0.095, 0.19, 1.0]  # where the bands cross the head's centre
    reach = 3.0
    for band in range(6):
        corners = [
            (apex[0] + edge * reach, apex[1] - 0.42 * reach) for edge in edges[band : band + 2]
        ]
        brush.polygon([apex, *corners], colours[band % len(colours)])
    brush.box(-0.5, HEAD[1] + 0.13, HEAD[0], 1.5, colours[0])
    brush.box(HEAD[0], HEAD[1] + 0.13, 1.5, 1.5, colours[5 % len(colours)])


def _hair_behind(pen: Pen, figure: Figure) -> None:
    """Hair that hangs behind head and shoulders."""
    if figure.hair not in ("long", "pigtails"):
        return
    shape = _shape(pen)
    x, y = HEAD
    if figure.hair == "long":
        shape.rounded(x - 0.215, y - 0.12, x + 0.215, y + 0.255, 0.10, "white")
        shape.circle((x, y - 0.02), 0.215, "white")
    else:
        shape.circle((x, y - 0.02), 0.195, "white")
        for side in (-1, 1):
            shape.ellipse((x + side * 0.245, y + 0.06), 0.065, 0.135, "white")
    _fill_pattern(pen, figure, shape.image)


def _ears(pen: Pen, figure: Figure) -> None:
    x, y = HEAD
    shape = _shape(pen)
    inner: list[tuple[Point, float, float]] = []
    for side in (-1, 1):
        if figure.species == "bear":
            shape.circle((x + side * 0.135, y - 0.135), 0.066, "white")
            inner.append(((x + side * 0.135, y - 0.135), 0.034, 0.034))
        elif figure.species == "cat":
            tip, base = (x + side * 0.165, y - 0.245), (x + side * 0.165, y - 0.03)
            shape.polygon([tip, base, (x + side * 0.03, y - 0.14)], "white")
        elif figure.species == "bunny":
            shape.ellipse((x + side * 0.085, y - 0.235), 0.048, 0.155, "white")
            inner.append(((x + side * 0.085, y - 0.225), 0.022, 0.105))
        elif figure.species == "dog":
            shape.ellipse((x + side * 0.185, y + 0.0), 0.060, 0.130, "white")
        elif figure.species == "frog":
            shape.circle((x + side * 0.095, y - 0.145), 0.066, "white")
        elif figure.species == "robot":
            shape.rounded(
                x + side * 0.185 - 0.03, y - 0.05, x + side * 0.185 + 0.03, y + 0.06, 0.012, "white"
            )
    if figure.species != "dog":  # a dog's ears hang in front of its head: see _head
        _fill_pattern(pen, figure, shape.image)
    for centre, rx, ry in inner:
        pen.ellipse(centre, rx, ry, CHEEK)


def _head(pen: Pen, figure: Figure) -> None:
    x, y = HEAD
    if figure.hair:
        pen.circle(HEAD, HEAD_RADIUS, SKIN)
        _hair_front(pen, figure)
        return
    shape = _shape(pen)
    if figure.species == "robot":
        shape.rounded(x - 0.165, y - 0.155, x + 0.165, y + 0.150, 0.03, "white")
    elif figure.species == "frog":
        shape.ellipse((x, y + 0.01), 0.185, 0.155, "white")
    else:
        shape.circle(HEAD, HEAD_RADIUS + 0.005, "white")
    _fill_pattern(pen, figure, shape.image)
    if figure.species == "robot":
        pen.rounded(x - 0.125, y - 0.07, x + 0.125, y + 0.115, 0.03, "#e9eef2")
    else:
        pen.ellipse((x, y + 0.045), 0.118, 0.092, "#fbeadb")
        pen.ellipse((x, y + 0.005), 0.132, 0.060, "#fbeadb")
    if figure.species == "dog":
        ears = _shape(pen)
        for side in (-1, 1):
            ears.ellipse((x + side * 0.180, y - 0.015), 0.050, 0.125, "white")
        dark = COLOURS[figure.colours[-1]]
        pen.image.paste(dark if len(figure.colours) > 1 else "#5a4034", (0, 0), ears.image)


def _hair_front(pen: Pen, figure: Figure) -> None:
    """The fringe: the head's upper part, cut by a lower circle that leaves the face free."""
    x, y = HEAD
    shape = _shape(pen)
    if figure.hair == "spiky":
        for step in range(7):
            at = -0.18 + 0.06 * step
            shape.polygon(
                [
                    (x + at - 0.055, y - 0.06),
                    (x + at * 1.12, y - 0.245 + at * at),
                    (x + at + 0.055, y - 0.06),
                ],
                "white",
            )
    shape.circle((x, y - 0.022), 0.190, "white")
    shape.box(x - 0.3, y - 0.005, x + 0.3, y + 0.3, "black")
    if figure.hair == "short":
        shape.rounded(x - 0.19, y - 0.05, x - 0.135, y + 0.075, 0.025, "white")
        shape.rounded(x + 0.135, y - 0.05, x + 0.19, y + 0.075, 0.025, "white")
    shape.ellipse((x + 0.03, y + 0.045), 0.160, 0.115, "black")
    _fill_pattern(pen, figure, shape.image)


# -- body


def _legs(pen: Pen, figure: Figure, skin: str) -> None:
    cover = figure.clothes in ("overalls",)
    leg = COLOURS[figure.clothes_colour] if cover else skin
    shoe = LINE if figure.hair else skin
    width = 0.068
    for side in (-1, 1):
        hip = (0.5 + side * 0.06, HIP_Y - 0.03)
        if figure.legs == "sitting":
            knee, foot = (0.5 + side * 0.17, HIP_Y + 0.005), (0.5 + side * 0.055, HIP_Y + 0.035)
        elif figure.legs == "jumping":
            knee, foot = (0.5 + side * 0.14, HIP_Y + 0.055), (0.5 + side * 0.085, HIP_Y + 0.125)
        elif figure.legs == "walking":
            knee, foot = (0.5 + side * 0.09, HIP_Y + 0.05), (0.5 + side * 0.15, GROUND - 0.025)
        else:
            knee, foot = (0.5 + side * 0.062, HIP_Y + 0.05), (0.5 + side * 0.062, GROUND - 0.025)
        pen.limb([hip, knee, foot], width, leg)
        if figure.legs == "sitting":
            pen.circle(foot, 0.036, shoe)
        else:
            pen.ellipse((foot[0] + side * 0.012, foot[1] + 0.008), 0.046, 0.030, shoe)


def _body(pen: Pen, figure: Figure) -> None:
    colour = COLOURS[figure.clothes_colour]
    top, bottom = 0.535, HIP_Y + 0.012
    if figure.clothes == "dress":
        pen.polygon([(0.415, top), (0.585, top), (0.675, bottom), (0.325, bottom)], colour)
        pen.ellipse((0.5, bottom), 0.175, 0.022, colour)
    elif figure.clothes == "coat":
        pen.rounded(0.37, top, 0.63, bottom + 0.045, 0.045, colour)
        pen.box(
            0.492,
            top + 0.02,
            0.508,
            bottom + 0.045,
            "#ffffff" if figure.clothes_colour != "white" else "#888888",
        )
    elif figure.clothes == "overalls":
        pen.rounded(
            0.385,
            top,
            0.615,
            bottom,
            0.055,
            "#ece9e2" if figure.clothes_colour != "white" else "#c9c9d2",
        )
        pen.box(0.43, top + 0.04, 0.57, bottom, colour)
        pen.rounded(0.385, 0.70, 0.615, bottom, 0.03, colour)
        pen.limb([(0.445, top), (0.445, 0.62)], 0.026, colour)
        pen.limb([(0.555, top), (0.555, 0.62)], 0.026, colour)
    else:
        pen.rounded(0.385, top, 0.615, bottom - 0.015, 0.055, colour)
    _emblem(pen, figure, (0.5, 0.672))


def _emblem(pen: Pen, figure: Figure, centre: Point, r: float = 0.08) -> None:
    """A sign on the clothes, about 10 px wide at 64 px."""
    x, y = centre
    colour = COLOURS[figure.emblem_colour]
    kind = figure.emblem
    if kind == "star":
        tips = []
        for corner in range(10):
            angle = math.pi * (corner / 5 - 0.5)
            reach = 1.28 * r if corner % 2 == 0 else 0.56 * r
            tips.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
        pen.polygon(tips, colour)
    elif kind == "heart":
        for side in (-1, 1):
            pen.circle((x + side * 0.48 * r, y - 0.35 * r), 0.55 * r, colour)
        pen.polygon(
            [(x - 0.98 * r, y - 0.12 * r), (x + 0.98 * r, y - 0.12 * r), (x, y + r)], colour
        )
    elif kind == "moon":
        pen.circle(centre, r, colour)
        pen.circle((x + 0.5 * r, y - 0.1 * r), 0.78 * r, COLOURS[figure.clothes_colour])
    elif kind == "flower":
        for petal in range(5):
            angle = 2 * math.pi * petal / 5 - math.pi / 2
            pen.circle(
                (x + 0.62 * r * math.cos(angle), y + 0.62 * r * math.sin(angle)), 0.42 * r, colour
            )
        pen.circle(
            centre, 0.36 * r, COLOURS["yellow"] if figure.emblem_colour != "yellow" else LINE
        )
    elif kind == "square":
        pen.box(x - 0.82 * r, y - 0.82 * r, x + 0.82 * r, y + 0.82 * r, colour)
    elif kind == "circle":
        pen.circle(centre, 0.95 * r, colour)
    elif kind == "diamond":
        pen.polygon(
            [(x, y - 1.15 * r), (x + 0.85 * r, y), (x, y + 1.15 * r), (x - 0.85 * r, y)], colour
        )
    elif kind == "cross":
        pen.box(x - r, y - 0.34 * r, x + r, y + 0.34 * r, colour)
        pen.box(x - 0.34 * r, y - r, x + 0.34 * r, y + r, colour)
    elif kind == "bolt":
        zigzag = ((0.35, -1.2), (-0.75, 0.25), (-0.1, 0.25), (-0.4, 1.2), (0.75, -0.3), (0.1, -0.3))
        pen.polygon([(x + dx * r, y + dy * r) for dx, dy in zigzag], colour)
    elif kind == "dots":
        for dx, dy in ((-1, -1), (1, -1), (0, 0), (-1, 1), (1, 1)):
            pen.circle((x + 0.78 * r * dx, y + 0.78 * r * dy), 0.33 * r, colour)
    elif kind == "A":
        pen.limb(
            [(x - 0.7 * r, y + 0.9 * r), (x, y - 0.9 * r), (x + 0.7 * r, y + 0.9 * r)],
            0.42 * r,
            colour,
        )
        pen.limb([(x - 0.42 * r, y + 0.3 * r), (x + 0.42 * r, y + 0.3 * r)], 0.34 * r, colour)


def _arms(pen: Pen, figure: Figure, skin: str, held: Hand | None = None) -> None:
    """The figure's left arm is at the picture's right (side = +1)."""
    sleeve = COLOURS[figure.clothes_colour] if figure.clothes in ("coat", "shirt") else skin
    if figure.clothes == "overalls":
        sleeve = "#ece9e2" if figure.clothes_colour != "white" else "#c9c9d2"
    for side in (-1, 1):
        up = figure.arms == "both up" or figure.arms == ("left up" if side == 1 else "right up")
        shoulder = (0.5 + side * 0.105, SHOULDER_Y - 0.025)
        if held and held[0] == side:
            x, y = pen.own(held[1])
            hand = (x - side * 0.02, y)
            elbow = ((shoulder[0] + hand[0]) / 2, (shoulder[1] + hand[1]) / 2 + 0.025)
        elif up:
            elbow, hand = (0.5 + side * 0.235, 0.56), (0.5 + side * 0.275, 0.375)
        elif figure.arms == "out":
            elbow, hand = (0.5 + side * 0.20, 0.595), (0.5 + side * 0.335, 0.60)
        elif figure.arms == "hips":
            elbow, hand = (0.5 + side * 0.235, 0.665), (0.5 + side * 0.13, 0.735)
        else:
            elbow, hand = (0.5 + side * 0.165, 0.67), (0.5 + side * 0.185, 0.765)
        pen.limb([shoulder, elbow, hand], 0.062, sleeve)
        pen.circle(hand, 0.036, skin)


def _scarf(pen: Pen, figure: Figure) -> None:
    """Round the neck, one end hanging down."""
    if figure.scarf == "none":
        return
    colour = COLOURS[figure.scarf]
    pen.limb([(0.575, 0.575), (0.62, 0.70)], 0.075, colour)
    pen.limb([(0.40, 0.556), (0.5, 0.578), (0.60, 0.556)], 0.062, colour)


# -- face and what is worn on the head


def _face(pen: Pen, figure: Figure) -> None:
    x, y = HEAD[0], HEAD[1] + 0.025
    for side in (-1, 1):
        eye = (x + side * 0.068, y)
        if figure.eyes == "open":
            pen.ellipse(eye, 0.025, 0.034, LINE)
            pen.circle((eye[0] + 0.008, eye[1] - 0.012), 0.0105, "#ffffff")
        else:
            pen.arc((eye[0], eye[1] - 0.010), 0.032, 0.026, 15, 165, 0.0165)
        if figure.hair:
            pen.ellipse((x + side * 0.108, y + 0.052), 0.024, 0.017, CHEEK)
        if figure.glasses:
            pen.arc(eye, 0.053, 0.053, 0, 360, 0.0145)
    if figure.glasses:
        pen.limb([(x - 0.018, y - 0.006), (x + 0.018, y - 0.006)], 0.0145, LINE)
    if figure.species in ("bear", "cat", "bunny", "dog"):
        pen.ellipse(
            (x, y + 0.040), 0.020, 0.014, LINE if figure.species in ("bear", "dog") else "#e0768c"
        )
    mouth = (x, y + 0.085)
    if figure.mouth == "smile":
        pen.arc((mouth[0], mouth[1] - 0.026), 0.044, 0.034, 20, 160, 0.0165)
    elif figure.mouth == "sad":
        pen.arc((mouth[0], mouth[1] + 0.022), 0.040, 0.032, 200, 340, 0.0165)
    else:
        pen.ellipse(mouth, 0.026, 0.030, "#b8323c")


def _headgear(pen: Pen, figure: Figure) -> None:
    x, top = HEAD[0], HEAD[1] - 0.185
    colour = COLOURS[figure.headgear_colour]
    trim = "#fdf3d0" if figure.headgear_colour not in ("white", "yellow") else "#d92b36"
    kind = figure.headgear
    if kind == "horn":
        base, tip = HEAD[1] - 0.150, (x, 0.025)
        pen.polygon([(x - 0.052, base), tip, (x + 0.052, base)], GOLD)
        pen.ellipse((x, base), 0.052, 0.014, GOLD)
        for step in range(3):
            low = base - 0.030 - 0.056 * step
            half = 0.052 * (low - tip[1]) / (base - tip[1])
            pen.limb([(x - half, low + 0.012), (x + half * 0.9, low - 0.016)], 0.014, "#fbe7a1")
    elif kind == "goggles":
        pen.rounded(x - 0.165, top + 0.045, x + 0.165, top + 0.095, 0.02, colour)
        for side in (-1, 1):
            pen.circle((x + side * 0.068, top + 0.068), 0.060, colour)
            pen.circle((x + side * 0.068, top + 0.068), 0.038, "#c4ecff")
    elif kind == "top hat":
        pen.rounded(x - 0.16, top + 0.025, x + 0.16, top + 0.060, 0.012, colour)
        pen.box(x - 0.10, top - 0.135, x + 0.10, top + 0.035, colour)
        pen.box(x - 0.10, top - 0.020, x + 0.10, top + 0.018, trim)
    elif kind == "crown":
        points = [
            (-0.12, 0.055),
            (-0.135, -0.085),
            (-0.065, -0.025),
            (0.0, -0.11),
            (0.065, -0.025),
            (0.135, -0.085),
            (0.12, 0.055),
        ]
        pen.polygon([(x + dx, top + dy) for dx, dy in points], colour)
        pen.circle((x, top + 0.018), 0.022, trim)
    elif kind == "bow":
        at = (x + 0.105, top + 0.055)
        for side in (-1, 1):
            pen.polygon(
                [at, (at[0] + side * 0.088, at[1] - 0.060), (at[0] + side * 0.088, at[1] + 0.060)],
                colour,
            )
        pen.circle(at, 0.026, trim)
    elif kind == "party hat":
        pen.polygon([(x - 0.105, top + 0.055), (x, top - 0.150), (x + 0.105, top + 0.055)], colour)
        pen.polygon(
            [
                (x - 0.068, top - 0.018),
                (x - 0.043, top - 0.068),
                (x + 0.068, top - 0.018),
                (x + 0.093, top + 0.030),
            ],
            trim,
        )
        pen.circle((x, top - 0.155), 0.030, trim)
    elif kind == "wizard hat":
        pen.ellipse((x, top + 0.045), 0.195, 0.034, colour)
        pen.polygon(
            [(x - 0.115, top + 0.045), (x + 0.03, top - 0.215), (x + 0.115, top + 0.045)], colour
        )
        pen.polygon(
            [
                (x - 0.113, top + 0.040),
                (x - 0.092, top + 0.004),
                (x + 0.101, top + 0.004),
                (x + 0.113, top + 0.040),
            ],
            trim,
        )
    elif kind == "cap":
        pen.ellipse((x, top + 0.045), 0.150, 0.085, colour)
        pen.rounded(x - 0.02, top + 0.045, x + 0.225, top + 0.083, 0.018, colour)
        pen.circle((x, top - 0.040), 0.018, trim)
    elif kind == "flower":
        at = (x - 0.115, top + 0.055)
        for petal in range(5):
            angle = 2 * math.pi * petal / 5
            pen.circle(
                (at[0] + 0.046 * math.cos(angle), at[1] + 0.046 * math.sin(angle)), 0.034, colour
            )
        pen.circle(at, 0.026, trim)
    elif kind == "feather":
        pen.rounded(x - 0.172, top + 0.055, x + 0.172, top + 0.088, 0.012, colour)
        pen.polygon(
            [
                (x + 0.09, top + 0.065),
                (x + 0.055, top - 0.06),
                (x + 0.105, top - 0.175),
                (x + 0.145, top - 0.06),
            ],
            colour,
        )
        pen.limb([(x + 0.10, top + 0.055), (x + 0.103, top - 0.12)], 0.010, trim)
    elif kind == "pompom hat":
        pen.ellipse((x, top + 0.065), 0.165, 0.125, colour)
        pen.rounded(x - 0.172, top + 0.048, x + 0.172, top + 0.092, 0.020, trim)
        pen.circle((x, top - 0.075), 0.042, trim)
