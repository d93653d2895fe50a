"""What became of both that an image was asked to show: two characters, or one and something.

Two characters stand in a half each, and so do a character and an object, which is looked for in
squares of a half, as it is small. A place is all around: it is seen at the edges of the picture,
and the character in the whole of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from charsweep.core.specs import CHARACTER, OBJECT, PLACE
from charsweep.evaluate.metrics import Exam, ImageFeatures
from charsweep.evaluate.metrics.identity import Scale, edges, place_scale, scale_of

Outcome = Literal["both", "swapped", "merged", "missing"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
# By what is beside a character: a place is on no side, and nobody is half an object or a place.
OF_KIND: Mapping[str, tuple[Outcome, ...]] = {
    CHARACTER: OUTCOMES, OBJECT: ("both", "swapped", "missing"), PLACE: ("both", "missing")
}  # fmt: skip
# Who is in a half, of two characters. Chosen on planted pictures of six pairs, of which .92 were
# told right (mean over outcomes), and on 128 that adapters drew; .90 of planted pictures of six
# other pairs, .84 of the worst. Of what adapters draw, .73 of what two judges read alike is told so
# (benchmarks/TOGETHER.md). Mixtures are told worst, about half of them. Not checked on photos, nor
# with another encoder.
THERE = 0.4  # of a character's identity
SOMETHING = 0.5  # of both identities together: there is somebody who has something of them
# How much less like its own drawings than the other's somebody may be, to be that one: so much of
# the scale of identity, but less than half of the way between the drawings of both.
PURE, HALFWAY = 0.5, 0.45
# With an object or in a place: of the character's identity, of the object's, which is small, and of
# the place's. Chosen on planted pictures of three pairs with an object and four in a place; .96 of
# others of them were told right, and of pairs that were not chosen on .97 and .94
# (benchmarks/validity/kinds.py).
BESIDE, OBJECT_THERE, PLACE_THERE = 0.5, 0.4, 0.65
FIRST, SECOND, MIXED, NOBODY = range(4)


class Told(NamedTuple):
    """What became of both in each image, the identity of each (N, 2), and, of two characters, of
    how many the nearest drawing is one of their own (N,)."""

    outcomes: list[Outcome]
    identity: NDArray[np.float64]
    nearest: NDArray[np.int64] | None
    scales: tuple[Scale, Scale]


def told(exam: Exam, encoder: str) -> Told:
    """What became of both, by an encoder. The exam has windows, and drawings of both."""
    of_kind = {CHARACTER: _two_characters, OBJECT: _with_object, PLACE: _in_place}
    return of_kind[exam.kind](exam, encoder)


# -- two characters --------------------------------------------------------------------------------


def _two_characters(exam: Exam, encoder: str) -> Told:
    assert exam.windows is not None
    assert exam.untaught_windows is not None
    base = _flat(exam.untaught_windows, encoder)
    scales = (scale_of(exam, base, encoder), scale_of(_of_other(exam), base, encoder))
    halves, left = Halves.of(exam, scales), _left(exam)
    outcomes = [_outcome(*pair) for pair in zip(halves.who().tolist(), left, strict=True)]
    rows, first = _where(halves.identity, left)
    closer = halves.nearest[0] - halves.nearest[1]
    nearest = (closer[rows, first] > 0).astype(int) + (closer[rows, 1 - first] < 0)
    return Told(outcomes, _of_each(halves.identity, left), nearest, scales)


@dataclass(frozen=True)
class Halves:
    """What is seen in each half of two characters, all (2, N, 2): of the first and the second, by
    image, in the left and the right one. And `share` (N, 2): 1 like the first one's drawings, 0
    like the second one's; from where on it counts as such is `slack` of the way between them."""

    identity: NDArray[np.float64]
    nearest: NDArray[np.float64]  # likeness to the nearest drawing
    share: NDArray[np.float64]
    slack: float

    @classmethod
    def of(cls, exam: Exam, scales: tuple[Scale, Scale]) -> Halves:
        assert exam.windows is not None
        encoder = scales[0].encoder
        images = exam.windows.by_encoder[encoder]
        flat = _flat(exam.windows, encoder).by_encoder[encoder]
        likeness = [
            exam.likeness(encoder, flat, scale.drawings).reshape(*images.shape[:2], -1)
            for scale in scales
        ]
        first, second = (own.mean(axis=-1) for own in likeness)
        between = float(exam.likeness(encoder, *(scale.drawings for scale in scales)).mean())
        end, begin = scales[0].among - between, between - scales[1].among
        gap = max(end - begin, 1e-9)
        scale = float(np.mean([scale.end - scale.base for scale in scales]))
        return cls(
            np.stack([scale.at(own) for scale, own in zip(scales, (first, second), strict=True)]),
            np.stack([own.max(axis=-1) for own in likeness]),
            (first - second - begin) / gap,
            min(PURE * scale / gap, HALFWAY),
        )

    def who(self) -> NDArray[np.int64]:
        """Who is in each window (N, 2): FIRST, SECOND, MIXED or NOBODY."""
        first, second = self.identity
        found = np.where(first + second >= SOMETHING, MIXED, NOBODY)
        found[(first >= THERE) & (self.share >= 1 - self.slack)] = FIRST
        found[(second >= THERE) & (self.share <= self.slack)] = SECOND
        return found


# -- a character with an object --------------------------------------------------------------------


def _with_object(exam: Exam, encoder: str) -> Told:
    """The character in a half, the object in that square of one that is most like it."""
    halves = [_flat(_part(own, slice(0, 1)), encoder) for own in _both(exam)]
    squares = [_most_alike(exam, _part(own, slice(1, None)), encoder) for own in _both(exam)]
    scales = (scale_of(exam, halves[1], encoder), scale_of(_of_other(exam), squares[1], encoder))
    seen = zip(scales, (halves[0], squares[0]), strict=True)
    identity = np.stack([scale.place(exam, images).reshape(-1, 2) for scale, images in seen])
    she, it = identity
    who = np.full(she.shape, NOBODY)
    who[(she >= BESIDE) & (she > it)] = FIRST
    who[(it >= OBJECT_THERE) & (it >= she)] = SECOND
    left = _left(exam)
    outcomes = [
        "missing" if pair[0] == pair[1] else _outcome(pair, side)  # twice is no mixture of both
        for pair, side in zip(who.tolist(), left, strict=True)
    ]
    return Told(outcomes, _of_each(identity, left), None, scales)


def _most_alike(exam: Exam, squares: ImageFeatures, encoder: str) -> ImageFeatures:
    """Of the squares of each half (N, 2 · S, D) that which is most like the object (2 · N, D)."""
    rows = squares.by_encoder[encoder]
    rows = rows.reshape(2 * len(rows), -1, rows.shape[-1])
    flat = rows.reshape(-1, rows.shape[-1])
    likeness = exam.likeness(encoder, flat, exam.other[encoder]).mean(axis=1)
    best = likeness.reshape(rows.shape[:2]).argmax(axis=1)
    return ImageFeatures({encoder: rows[np.arange(len(rows)), best]}, ())


def _part(windows: ImageFeatures, which: slice) -> ImageFeatures:
    """Some of the windows that each half has (N, 2 · W, D)."""
    halves = {name: own.reshape(len(own), 2, -1, own.shape[-1])[:, :, which]
              for name, own in windows.by_encoder.items()}  # fmt: skip
    rows = {name: own.reshape(len(own), -1, own.shape[-1]) for name, own in halves.items()}
    return ImageFeatures(rows, windows.prompt_of)


def _both(exam: Exam) -> tuple[ImageFeatures, ImageFeatures]:
    """Windows of the images, and of the base's."""
    assert exam.windows is not None
    assert exam.untaught_windows is not None
    return exam.windows, exam.untaught_windows


# -- a character in a place ------------------------------------------------------------------------


def _in_place(exam: Exam, encoder: str) -> Told:
    """The character in the whole picture, the place at its edges."""
    assert exam.untaught is not None
    scales = (scale_of(exam, exam.untaught, encoder), place_scale(exam, encoder))
    found = (scales[0].place(exam, exam.images), scales[1].place(exam, edges(exam.windows)))
    are_there = (found[0] >= BESIDE) & (found[1] >= PLACE_THERE)
    outcomes: list[Outcome] = ["both" if there else "missing" for there in are_there]
    return Told(outcomes, np.stack(found, axis=1).clip(0.0, 1.0), None, scales)


# -- sides -----------------------------------------------------------------------------------------


def _left(exam: Exam) -> list[str | None]:
    """Who is to stand on the left of each image."""
    assert exam.windows is not None
    return [exam.left[prompt] for prompt in exam.windows.prompt_of]


def _outcome(who: Sequence[int], left: str | None) -> Outcome:
    if NOBODY in who:
        return "missing"
    if MIXED in who or who[0] == who[1]:
        return "merged"
    wanted = {"subject": FIRST, "other": SECOND}.get(left or "", who[0])
    return "both" if who[0] == wanted else "swapped"


def _where(
    identity: NDArray[np.float64], left: Sequence[str | None]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each image (N,) its number, and the half in which the first belongs, or fits best."""
    one, other = identity
    fits = one[:, 0] + other[:, 1] >= one[:, 1] + other[:, 0]
    is_left = [fit if told is None else told == "subject"
               for fit, told in zip(fits, left, strict=True)]  # fmt: skip
    return np.arange(len(fits)), np.where(is_left, 0, 1)


def _of_each(identity: NDArray[np.float64], left: Sequence[str | None]) -> NDArray[np.float64]:
    """Identities (N, 2) of the first and the second where they belong, or where they fit best."""
    rows, first = _where(identity, left)
    own = (identity[0, rows, first], identity[1, rows, 1 - first])
    return np.stack(own, axis=1).clip(0.0, 1.0)


def _of_other(exam: Exam) -> Exam:
    """The exam with the other's drawings as those of the one who is asked for."""
    return replace(exam, references=exam.other, held_out=None, unmasked_references=None)


def _flat(windows: ImageFeatures, encoder: str) -> ImageFeatures:
    """Windows as images of their own (N · W, D)."""
    rows = windows.by_encoder[encoder]
    return ImageFeatures({encoder: rows.reshape(-1, rows.shape[-1])}, ())
