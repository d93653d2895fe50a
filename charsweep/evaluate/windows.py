"""Windows of a picture of two: what encoders, which see squares, see of its left and right."""

from __future__ import annotations

from PIL import Image

from charsweep.character.masks import NEUTRAL

WINDOWS = 2  # the left one, then the right one


def windows_of(picture: Image.Image) -> list[Image.Image]:
    """The left and the right half, squares of what is in them and of `NEUTRAL` around it.

    Of 280 planted pictures of 96 × 64 pixels, these told the outcomes of .95 right, squares as high
    as the picture, which overlap, those of .81, each by its own best thresholds; with edges
    repeated or mirrored around the halves it were .94.
    """
    half = picture.width // 2
    lefts = (0, picture.width - half)
    return [_square(picture.crop((left, 0, left + half, picture.height))) for left in lefts]


def _square(picture: Image.Image) -> Image.Image:
    """A picture in the middle of a square as wide or as high."""
    side = max(picture.size)
    square = Image.new("RGB", (side, side), NEUTRAL)
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square
