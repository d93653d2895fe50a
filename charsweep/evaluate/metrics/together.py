"""Together: whether an image shows both that it was asked for, each as it is.

Two characters, or a character beside an object or in a place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from charsweep.core.encoders import reads_images
from charsweep.core.specs import CHARACTER, OBJECT, PLACE
from charsweep.evaluate.metrics import Exam, ImageFeatures, Score, mean_score
from charsweep.evaluate.metrics.identity import Scale, edges, place_scale, scale_of

Outcome = Literal["both", "swapped", "merged", "missing"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
# What may become of a character and another, by what that is: a place is on no side, and neither a
# place nor an object has a body that somebody could be half of.
OF_KIND: Mapping[str, tuple[Outcome, ...]] = {
    CHARACTER: OUTCOMES, OBJECT: ("both", "swapped", "missing"), PLACE: ("both", "missing")
}  # fmt: skip
# Who is in a window. Chosen on planted pictures of six pairs, of which .92 were told right (mean
# over outcomes); .90 of six other pairs, .86 of the worst. Mixtures are told worst, about half of
# them (benchmarks/validity/together.py). Not checked on photographs, nor with another encoder.
THERE = 0.4  # of a character's identity
SOMETHING = 0.25  # of both identities together: there is somebody who has something of them
# How much less like its own drawings than the other's somebody may be, to be that one: so much of
# the scale of identity, but less than half of the way between the drawings of both.
PURE, HALFWAY = 0.5, 0.45
FIRST, SECOND, MIXED, NOBODY = range(4)
# With an object or a place beside: of the character's identity, of the object's, which is small
# beside somebody, and of the place's. By these .95 of planted pictures of three objects were told
# right, and of four others; .94 of four lands, and of five other pairs.
BESIDE, OBJECT_THERE, PLACE_THERE = 0.5, 0.2, 0.5


@dataclass(frozen=True)
class Together:
    """Per image the lower identity of the two, 0 unless both are there as asked; and the mean.

    Of the exam's part `together`. From the left and the right window of an image is told what
    became of the two: `both`, `swapped` (each where the other should be; never where the prompt
    does not say), `merged` (one of them twice, or somebody who has something of both) or `missing`
    (one of them or both are not there). An object beside a character is never merged with it, and
    of a place, which is seen at the edges of the whole picture, there is `both` and `missing`
    alone. `details` have that of every image, the identity of the first and of the second, and of
    how many of the two the nearest drawing is one of their own, but of a place. None without a
    base, whose images it needs, and without drawings.
    """

    encoder: str = reads_images("dino")

    part: ClassVar[str] = "together"
    version: ClassVar[int] = 1

    def __call__(self, exam: Exam) -> Score:
        if exam.windows is None or exam.untaught_windows is None or not exam.has_drawings:
            return Score(None)
        told = (_in_place if exam.kind == PLACE else _side_by_side)(exam, self.encoder)
        counts = Counter(told.outcomes)
        details = {
            "encoder": self.encoder,
            "drawings": [scale.kind for scale in told.scales],
            "base": [scale.base for scale in told.scales],
            "least": [scale.end for scale in told.scales],
            "shares": {name: counts[name] / len(told.outcomes) for name in OF_KIND[exam.kind]},
            "outcomes": told.outcomes,
            "identity": told.identity.tolist(),
            "nearest": None if told.nearest is None else told.nearest.tolist(),
        }
        are_there = [outcome == "both" for outcome in told.outcomes]
        return mean_score(told.identity.min(axis=1) * are_there, details)


@dataclass(frozen=True)
class Became:
    """Share of images in which that became of the two, as `Together` tells it.

    None for what cannot become of them.
    """

    outcome: Outcome
    encoder: str = reads_images("dino")

    part: ClassVar[str] = "together"
    version: ClassVar[int] = 1

    @property
    def kinds(self) -> tuple[str, ...]:
        """What the other may be of which it says anything."""
        return tuple(kind for kind, outcomes in OF_KIND.items() if self.outcome in outcomes)

    def __call__(self, exam: Exam) -> Score:
        if exam.kind not in self.kinds:
            return Score(None)
        return _read(exam, self.encoder, lambda of: [one == self.outcome for one in of["outcomes"]])


@dataclass(frozen=True)
class Nearest:
    """Of the two, how many are nearer to a drawing of their own than to any of the other's.

    Mean over images, 0 to 1: the rank-1 hit rate of a gallery with the drawings of both. None for
    a place, which is seen where nobody stands.
    """

    encoder: str = reads_images("dino")

    part: ClassVar[str] = "together"
    kinds: ClassVar[tuple[str, ...]] = (CHARACTER, OBJECT)
    version: ClassVar[int] = 1

    def __call__(self, exam: Exam) -> Score:
        if exam.kind not in self.kinds:
            return Score(None)
        return _read(exam, self.encoder, lambda of: [number / 2 for number in of["nearest"]])


def _read(exam: Exam, encoder: str, read: Callable[[Mapping[str, Any]], Sequence[float]]) -> Score:
    """A score by image out of what `Together` tells of each; None where it tells nothing."""
    found = Together(encoder)(exam)
    if found.value is None:
        return Score(None)
    return mean_score(np.array(read(found.details), dtype=np.float64))


class Told(NamedTuple):
    """What became of the two in each image, the identity of each (N, 2), and of how many of them
    the nearest drawing is one of their own (N,)."""

    outcomes: list[Outcome]
    identity: NDArray[np.float64]
    nearest: NDArray[np.int64] | None
    scales: tuple[Scale, Scale]


def _side_by_side(exam: Exam, encoder: str) -> Told:
    """Of a character and another, or an object, one in each half."""
    assert exam.windows is not None
    assert exam.untaught_windows is not None
    base = _each(exam.untaught_windows, encoder)
    of_other = replace(exam, references=exam.other, held_out=None, unmasked_references=None)
    scales = (scale_of(exam, base, encoder), scale_of(of_other, base, encoder))
    seen = Halves.of(exam, scales)
    left = [exam.left[prompt] for prompt in exam.windows.prompt_of]
    who = seen.which() if exam.kind == OBJECT else seen.who()
    outcomes = [_outcome(*pair) for pair in zip(who.tolist(), left, strict=True)]
    if exam.kind == OBJECT:  # the character twice is no mixture: the object is not there
        outcomes = ["missing" if one == "merged" else one for one in outcomes]
    return Told(outcomes, *seen.of_each(left), scales)


def _in_place(exam: Exam, encoder: str) -> Told:
    """Of a character in a place: the one in the whole picture, the other at its edges."""
    assert exam.untaught is not None
    scales = (scale_of(exam, exam.untaught, encoder), place_scale(exam, encoder))
    found = (scales[0].place(exam, exam.images), scales[1].place(exam, edges(exam.windows)))
    are_there = (found[0] >= BESIDE) & (found[1] >= PLACE_THERE)
    outcomes: list[Outcome] = ["both" if there else "missing" for there in are_there]
    return Told(outcomes, np.stack(found, axis=1).clip(0.0, 1.0), None, scales)


@dataclass(frozen=True)
class Halves:
    """What is seen in each half, all (2, N, 2): of the first and the second character, by image,
    in the left and the right one. And `share` (N, 2): 1 like the first one's drawings, 0 like the
    second one's; from where on it counts as such is `slack` of the way between them."""

    identity: NDArray[np.float64]
    nearest: NDArray[np.float64]  # likeness to the nearest drawing
    share: NDArray[np.float64]
    slack: float

    @classmethod
    def of(cls, exam: Exam, scales: tuple[Scale, Scale]) -> Halves:
        assert exam.windows is not None
        encoder = scales[0].encoder
        images = exam.windows.by_encoder[encoder]
        flat = _each(exam.windows, encoder).by_encoder[encoder]
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

    def which(self) -> NDArray[np.int64]:
        """The same of a character and an object (N, 2), between which nothing is a mixture."""
        first, second = self.identity
        found = np.full(first.shape, NOBODY)
        found[(first >= BESIDE) & (first > second)] = FIRST
        found[(second >= OBJECT_THERE) & (second >= first)] = SECOND
        return found

    def of_each(self, left: Sequence[str | None]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Identities (N, 2) of the first and the second where they belong, or where they fit best;
        of how many of the two (N,) the nearest drawing is their own."""
        one, other = self.identity
        fits = one[:, 0] + other[:, 1] >= one[:, 1] + other[:, 0]
        is_left = [fit if told is None else told == "subject"
                   for fit, told in zip(fits, left, strict=True)]  # fmt: skip
        rows, first = np.arange(len(fits)), np.where(is_left, 0, 1)
        second = 1 - first
        identity = np.stack([one[rows, first], other[rows, second]], axis=1)
        closer = self.nearest[0] - self.nearest[1]
        nearest = (closer[rows, first] > 0).astype(int) + (closer[rows, second] < 0)
        return identity.clip(0.0, 1.0), nearest


def _outcome(who: Sequence[int], left: str | None) -> Outcome:
    if NOBODY in who:
        return "missing"
    if MIXED in who or who[0] == who[1]:
        return "merged"
    wanted = {"subject": FIRST, "other": SECOND}.get(left or "", who[0])
    return "both" if who[0] == wanted else "swapped"


def _each(windows: ImageFeatures, encoder: str) -> ImageFeatures:
    """Windows as images of their own (N · W, D)."""
    rows = windows.by_encoder[encoder]
    return ImageFeatures({encoder: rows.reshape(-1, rows.shape[-1])}, ())
