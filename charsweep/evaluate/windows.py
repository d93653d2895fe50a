"""Windows of a picture: what encoders, which see squares, see of its parts where two are asked for.

Of somebody beside somebody these are the halves, of an object squares of them too, as it is small;
of a place the edges, where nobody stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from PIL import Image

from charsweep.character.masks import NEUTRAL
from charsweep.core.specs import CHARACTER, OBJECT, PLACE

EDGE = 0.25  # of a picture's width, at either side


@dataclass(frozen=True)
class Windows:
    """How a picture is cut into windows, and into how many."""

    count: int
    of: Callable[[Image.Image], list[Image.Image]]


def halves_of(picture: Image.Image) -> list[Image.Image]:
    """The left and the right half, squares of what is in them and of `NEUTRAL` around it.

    Of 280 planted pictures of 96 × 64 pixels, these told the outcomes of .95 right, squares as high
    as the picture, which overlap, those of .81, each by its own best thresholds; with edges
    repeated or mirrored around the halves it were .94.
    """
    return [_square(half) for half in _halves(picture)]


def edges_of(picture: Image.Image) -> list[Image.Image]:
    """The left and the right edge beside each other, in one square with `NEUTRAL` around them.

    What a picture shows of a place, whoever stands in it. By the drawing of the place that is
    nearest, with DINO, each by its own best threshold, these told of .95 of planted pictures
    whether they show it, all but the middle of .93, the four corners of .89, the upper ones of .82,
    the whole picture of .77; of lands that were not chosen on .93, .89, .89, .80, .79. CLIP was
    worse in most, histograms of colours as good on the lands chosen on and .12 worse on others
    (benchmarks/TOGETHER.md).
    """
    wide = max(round(EDGE * picture.width), 1)
    edges = Image.new("RGB", (2 * wide, picture.height))
    edges.paste(picture.crop((0, 0, wide, picture.height)), (0, 0))
    edges.paste(picture.crop((picture.width - wide, 0, *picture.size)), (wide, 0))
    return [_square(edges)]


def squares_of(picture: Image.Image) -> list[Image.Image]:
    """Of the left half, then of the right one: the half as in `halves_of`, and three squares of it,
    one at each end and one between.

    An object beside somebody is small, and larger in one of these: by the square that was most like
    it .97 of planted pictures were told right, by the whole half .94 (benchmarks/TOGETHER.md).
    """
    windows = []
    for half, whole in zip(_halves(picture), halves_of(picture), strict=True):
        side = min(half.size)
        ends = (half.width - side, half.height - side)
        corners = [(round(part * ends[0]), round(part * ends[1])) for part in (0, 0.5, 1)]
        windows += [whole, *(half.crop((x, y, x + side, y + side)) for x, y in corners)]
    return windows


HALVES, SQUARES, EDGES = Windows(2, halves_of), Windows(8, squares_of), Windows(1, edges_of)
WINDOWS: Mapping[str, Windows] = {CHARACTER: HALVES, OBJECT: SQUARES, PLACE: EDGES}  # by its kind


def _halves(picture: Image.Image) -> list[Image.Image]:
    half = picture.width // 2
    lefts = (0, picture.width - half)
    return [picture.crop((left, 0, left + half, picture.height)) for left in lefts]


def _square(picture: Image.Image) -> Image.Image:
    """A picture in the middle of a square as wide or as high."""
    side = max(picture.size)
    square = Image.new("RGB", (side, side), NEUTRAL)
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square
