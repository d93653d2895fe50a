"""A lint of the training images and their captions: what is likely to spoil what is learned.

Only what can be told from small copies, captions and words; each line has its remedy, none forbids
anything. Looks and poses are read by the vocabulary of conf/attributes/.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image, ImageChops

from charsweep.character.attributes import named_in
from charsweep.core.specs import AttributeSpec, CharacterSpec
from charsweep.core.system.images import flat
from charsweep.core.words import holds, places_in

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 128  # pixels, of the longer side of a small copy
GRID = 32  # pixels, of the copies that are compared
# Correlation of two copies. The same drawing saved anew, smaller or darker has 0.999 or more; of
# UnicornGirl's drawings, which differ by an arm, no two have more than 0.985.
ALIKE = 0.995
TWICE = ": keep one, or it counts twice"
MIRRORED = ", mirrored: keep one; flip=true mirrors all, if her sides are alike"
HELD_OUT = ", and the second is held out: hold out another drawing"
MOST_COMPARED = 500  # drawings
FAR_BELOW = 2 / 3  # of the resolution: enlarged by half or more
BORDER, STRAIGHT = 0.01, 0.9  # of a side; of an edge that is unlike the border
UNLIKE = 24  # of 255: further from the border's colour than its own noise
MASK_LIKE, NEARLY = 0.95, 8  # of the pixels black or white, up to so many of 255
FEW = 3  # captions, below which what they share says nothing
WRITING = ("text", "watermark", "signature", "signed", "logo", "artist name", "username", "caption",
           "speech bubble", "web address", "dated", "copyright", "letters", "subtitle")  # fmt: skip


class Thumbnail(NamedTuple):
    """An image's name, its size, and a small copy in RGB."""

    name: str
    size: tuple[int, int]
    small: Image.Image


def thumbnail_of(name: str, image: Image.Image) -> Thumbnail:
    """Of an image in RGB or RGBA."""
    scale = min(SIDE / max(image.size), 1)
    size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    return Thumbnail(
        name, image.size, flat(image.resize(size, Image.Resampling.BOX, reducing_gap=1.0))
    )


def lint_drawings(
    shown: Sequence[Thumbnail], kept: Sequence[Thumbnail], resolution: int
) -> Iterator[str]:
    """Of drawings that teach, and of those that are held out."""
    every = [*shown, *kept]
    pairs: dict[str, list[str]] = {}
    for first, second, mirrored in _alike(every):
        if first < len(shown):  # else neither is taught
            what = HELD_OUT if second >= len(shown) else MIRRORED if mirrored else TWICE
            pairs.setdefault(what, []).append(f"{every[first].name} and {every[second].name}")
    yield from (
        f"{'; '.join(_few(names))} are nearly the same{what}" for what, names in pairs.items()
    )
    if small := [one for one in shown if min(one.size) < FAR_BELOW * resolution]:
        least = min(min(one.size) for one in small)
        yield (
            f"{shown_names(small)}: enlarged to {resolution} pixels from {least}, so blurred: scan "
            f"larger, or set resolution={max(least // 64 * 64, 16)}"
        )
    if framed := [one for one in shown if _has_border(_array(one.small))]:
        yield f"{shown_names(framed)}: a border, which is learned too: crop it away"
    masks = [one for one in shown if _is_black_and_white(one.small)]
    if masks and len(masks) < len(shown):
        yield (
            f"{shown_names(masks)}: black and white alone; if it is a mask, call it NAME-mask.png "
            "after its drawing"
        )


def lint_identifier(character: CharacterSpec, known: Collection[str]) -> Iterator[str]:
    """Of an identifier whose every word the base has a token for."""
    words = re.findall(r"[^\W\d_]+", character.identifier.lower())
    if words and all(word in known for word in words):
        rare = "".join(words).capitalize() + ("vex" if len(words) == 1 else "")
        yield (
            f"identifier {character.identifier}: the base knows it as a word of another meaning, "
            f"which mixes in: choose a rare one, as in character.identifier={rare}"
        )


def lint_captions(
    character: CharacterSpec,
    captions: Mapping[str, str],
    looks: Sequence[AttributeSpec],
    changing: Sequence[AttributeSpec],
) -> Iterator[str]:
    """Of captions that are taught, by the names of their images.

    A look is known by the last word of each of its phrases: "hair" of "with red hair".
    """
    identifier = character.identifier
    if without := [name for name, text in captions.items() if not holds(text, identifier)]:
        yield f"{shown_names(without)}: the caption lacks {identifier}: write it in"
    nouns = dict.fromkeys(word.split()[-1] for look in looks for word in look.words)
    if counts := _counted(captions.values(), nouns):
        said = ", ".join(f"{word} ({count})" for word, count in counts.items())
        yield (
            f"captions say {said} of {len(captions)}: what is said is not tied to {identifier}; "
            "take out the looks that never change"
        )
    for attribute in changing:
        named = [named_in(text, [attribute]).get(attribute.name) for text in captions.values()]
        values = {found.word.lower() for found in named if found}
        if len(named) >= FEW and None not in named and len(values) == 1:
            yield (
                f'every caption says "{values.pop()}", so it is learned as part of {identifier}: '
                f"add drawings of another {attribute.name}"
            )
    written = {
        name: places[0].word
        for name, text in captions.items()
        if (places := list(places_in(text, WRITING)))
    }
    if written:
        word = next(iter(written.values()))
        yield (
            f'{shown_names(list(written))}: the caption says "{word}", which is learned too: paint '
            "it over, or crop it away"
        )


def shown_names(names: Sequence[str | Thumbnail]) -> str:
    """ "01.png, 02.png and 4 more"."""
    texts = _few([name.name if isinstance(name, Thumbnail) else name for name in names])
    return " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))


def _few(texts: Sequence[str]) -> list[str]:
    return [*texts] if len(texts) <= 3 else [*texts[:2], f"{len(texts) - 2} more"]


def _counted(texts: Collection[str], words: Iterable[str]) -> dict[str, int]:
    """In how many texts each word stands, the commonest first."""
    counts = Counter(word for word in words for text in texts if holds(text, word))
    return dict(counts.most_common(4))


def _array(image: Image.Image) -> NDArray[Any]:
    import numpy as np

    return np.asarray(image, dtype=np.float32)


def _alike(images: Sequence[Thumbnail]) -> Iterator[tuple[int, int, bool]]:
    """Places of pairs that are nearly the same, and whether one is the other's mirror image.

    Of several that are all alike, each later one is paired with the first.
    """
    import numpy as np

    images = images[:MOST_COMPARED]
    grids = [_array(one.small.resize((GRID, GRID), Image.Resampling.BOX)) for one in images]
    flat_ones = np.stack([_normal(grid) for grid in grids])
    mirrors = np.stack([_normal(grid[:, ::-1]) for grid in grids])
    plain, mirrored = flat_ones @ flat_ones.T >= ALIKE, flat_ones @ mirrors.T >= ALIKE
    paired: set[int] = set()
    for i, j in combinations(range(len(images)), 2):
        if j in paired or not (plain[i, j] or mirrored[i, j]):
            continue
        paired.add(j)
        yield i, j, not plain[i, j]


def _normal(grid: NDArray[Any]) -> NDArray[Any]:
    """As a vector of mean 0 and length 1, whose products are correlations; plain colour is 0."""
    import numpy as np

    vector: NDArray[Any] = (grid - grid.mean()).ravel()
    length = float(np.linalg.norm(vector))
    return vector * (1 / length if length > 1 else 0)


def _has_border(pixels: NDArray[Any]) -> bool:
    """Whether bars of the corners' colour lie along two opposite sides, with straight edges."""
    import numpy as np

    corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1]]
    if np.ptp(corners, axis=0).max() > UNLIKE:
        return False
    red, green, blue = np.moveaxis(np.abs(pixels - corners[0]) > UNLIKE, -1, 0)
    inside = red | green | blue
    if not inside.any():
        return False
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
    height, width = inside.shape
    across = min(top, height - 1 - bottom) >= max(BORDER * height, 2)
    along = min(left, width - 1 - right) >= max(BORDER * width, 2)
    picture = inside[top : bottom + 1, left : right + 1]
    edges = [picture[0], picture[-1]] if across else []
    edges += [picture[:, 0], picture[:, -1]] if along else []
    return bool(edges) and min(float(edge.mean()) for edge in edges) >= STRAIGHT


def _is_black_and_white(image: Image.Image) -> bool:
    red, green, blue = image.split()
    if any(_farthest(red, other) > NEARLY for other in (green, blue)):
        return False
    counts = red.histogram()
    black, white = sum(counts[:NEARLY]), sum(counts[-NEARLY:])
    return min(black, white) > 0 and black + white >= MASK_LIKE * sum(counts)


def _farthest(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of two images in greys."""
    counts = ImageChops.difference(one, other).histogram()
    return max(value for value, count in enumerate(counts) if count)
