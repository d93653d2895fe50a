"""Framing of training images: what a step may show of one.

    center   the middle square, `resolution` pixels wide and high
    random   the shorter side is scaled to `resolution`; each step shows a square window of that,
             anywhere along the longer side (a square image has one window only)
    buckets  the whole image, but for the few pixels that the nearest bucket's aspect ratio lacks:
             scaled to cover the bucket, cut in the middle

Buckets as NovelAI made them (2022) and SDXL has them (Podell et al. 2023, section 2.3, appendix I):
areas of at most resolution², sides multiples of 64 pixels, between half and double the resolution.

A picture composed of two is seen whole: it is drawn WIDE, of the resolution's height.

Only Pillow: the report shows training images through this too.
"""

from __future__ import annotations

import math
from functools import cache

from PIL import Image

UNIT = 8  # pixels; sides are multiples of it, or of what the base says, so that latents are whole
LONGEST = 4  # sides to one, as the longest of SDXL's buckets; what is longer is cut in the middle
WHOLE = "whole"  # the framing of a picture that is as large as it is to be seen
WIDE = 1.5  # the width of a picture of two, its height being 1

Size = tuple[int, int]  # width, height


def framed(image: Image.Image, crop: str, resolution: int, unit: int = UNIT) -> Image.Image:
    """What is encoded of an image in RGB or greys; for "random", all that windows are taken of."""
    if crop == "center":
        return middle_square(image, resolution)
    return covered(image, size_of(image.size, crop, resolution, unit))


def size_of(size: Size, crop: str, resolution: int, unit: int = UNIT) -> Size:
    """How large an image of `size` is once `framed`."""
    if crop == "buckets":
        return bucket_of(size, resolution, unit)
    if crop == "center":
        return resolution, resolution
    if crop == WHOLE:
        return size
    longer = resolution * min(max(size) / min(size), LONGEST)
    longer = max(int(longer + 1e-6) // unit * unit, resolution)
    return (longer, resolution) if size[0] >= size[1] else (resolution, longer)


def wide(resolution: int, unit: int = UNIT) -> Size:
    """The size of a picture of two."""
    return int(WIDE * resolution) // unit * unit, resolution


def sizes_of(size: Size, crop: str, resolution: int, unit: int = UNIT) -> tuple[int, ...]:
    """SDXL's six numbers (Podell et al. 2023, section 2.2) of what is framed, in pixels.

    Height and width of the original, top and left of the crop in the scaled image, height and
    width of the target. The middle square is taken for an image of its own, as it always was:
    that is also what drawing asks for. A window's corner is to be added.
    """
    if crop == "center":
        return (resolution, resolution, 0, 0, resolution, resolution)
    target = size_of(size, crop, resolution, unit)
    left, top = corner_of(scaled_to(size, target), target)
    if crop == "random":
        target = (resolution, resolution)
    return (size[1], size[0], top, left, target[1], target[0])


def middle_square(image: Image.Image, resolution: int) -> Image.Image:
    """The middle square of an image at `resolution` × `resolution` pixels.

    Training images, references and true images are all seen through this one function. The
    whole part of the factor is a mean over blocks, the rest Lanczos: for whole factors this is
    exactly how the embedded world is drawn, without the halos that Lanczos gives flat colours.
    """
    side = min(image.size)
    factor = max(side // resolution, 1)
    side -= side % factor  # at most a few pixels of the edge, so that all blocks are whole
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side)).reduce(factor)
    if square.width == resolution:
        return square
    return square.resize((resolution, resolution), Image.Resampling.LANCZOS)


def middle_of(image: Image.Image, size: Size) -> Image.Image:
    """The middle of an image at `size`, by the same means."""
    return middle_square(image, size[0]) if size[0] == size[1] else covered(image, size)


def covered(image: Image.Image, size: Size) -> Image.Image:
    """The image scaled until it just covers `size`, cut in the middle.

    As in `middle_square`, the whole part of the factor is a mean over blocks, the rest Lanczos.
    """
    scaled = scaled_to(image.size, size)
    left, top = corner_of(scaled, size)
    large = image.resize(scaled, Image.Resampling.LANCZOS, reducing_gap=1.0)
    return large.crop((left, top, left + size[0], top + size[1]))


def scaled_to(size: Size, target: Size) -> Size:
    """The size that just covers `target` at the aspect ratio of `size`, up to rounding."""
    scale = max(target[0] / size[0], target[1] / size[1])
    return max(round(size[0] * scale), target[0]), max(round(size[1] * scale), target[1])


def corner_of(scaled: Size, target: Size) -> tuple[int, int]:
    """Left and top of the middle."""
    return (scaled[0] - target[0]) // 2, (scaled[1] - target[1]) // 2


def bucket_of(size: Size, resolution: int, unit: int = UNIT) -> Size:
    """The bucket whose aspect ratio is nearest, by the factor between them; of two, the larger."""

    def distance(bucket: Size) -> tuple[float, int]:
        factor = bucket[0] / bucket[1] * size[1] / size[0]
        return round(abs(math.log(factor)), 9), -bucket[0] * bucket[1]

    return min(buckets(resolution, unit), key=distance)


@cache
def buckets(resolution: int, least_unit: int = UNIT) -> tuple[Size, ...]:
    """Widths in steps, each with the largest height that the area allows, and the other way round.

    The step is 64 pixels from 512 up; below, an eighth of the resolution, as 64 is of 512.
    """
    unit = min(64, max(least_unit, 2 ** int(math.log2(resolution / 8))))
    least, most = -(-resolution // 2 // unit) * unit, 2 * resolution
    side = resolution // unit * unit or resolution
    found = {(side, side)}
    for width in range(max(least, unit), most + 1, unit):
        height = min(resolution**2 // width, most) // unit * unit
        if height >= max(least, unit):
            found |= {(width, height), (height, width)}
    return tuple(sorted(found))
