"""Together: whether an image shows both that it was asked for, each as it is.

Two characters, or a character beside an object or in a place; `outcomes` has how that is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from charsweep.core.encoders import reads_images
from charsweep.core.specs import CHARACTER
from charsweep.evaluate.metrics import Exam, Score, mean_score
from charsweep.evaluate.metrics.outcomes import OF_KIND, Outcome, told


@dataclass(frozen=True)
class Together:
    """Per image the lower identity of the two, 0 unless both are there as asked; and the mean.

    Of the exam's part `together`. From the left and the right window of an image is told what
    became of the two: `both`, `swapped` (each where the other should be; never where the prompt
    does not say), `merged` (one of them twice, or somebody who has something of both) or `missing`
    (one of them or both are not there). An object beside a character is never merged with it; of a
    place, which is on no side, there is `both` and `missing` alone. `details` have that of every
    image, the identity of the first and of the second, and of how many of two characters the
    nearest drawing is one of their own. None without a base, whose images it needs, and without
    drawings.
    """

    encoder: str = reads_images("dino")

    part: ClassVar[str] = "together"
    version: ClassVar[int] = 2

    def __call__(self, exam: Exam) -> Score:
        if exam.windows is None or exam.untaught_windows is None or not exam.has_drawings:
            return Score(None)
        found = told(exam, self.encoder)
        counts = Counter(found.outcomes)
        details = {
            "encoder": self.encoder,
            "drawings": [scale.kind for scale in found.scales],
            "base": [scale.base for scale in found.scales],
            "least": [scale.end for scale in found.scales],
            "shares": {name: counts[name] / len(found.outcomes) for name in OF_KIND[exam.kind]},
            "outcomes": found.outcomes,
            "identity": found.identity.tolist(),
            "nearest": None if found.nearest is None else found.nearest.tolist(),
        }
        are_there = [outcome == "both" for outcome in found.outcomes]
        return mean_score(found.identity.min(axis=1) * are_there, details)


@dataclass(frozen=True)
class Became:
    """Share of images in which that became of the two, as `Together` tells it.

    None for what cannot become of them.
    """

    outcome: Outcome
    encoder: str = reads_images("dino")

    part: ClassVar[str] = "together"
    version: ClassVar[int] = 2

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

    Mean over images, 0 to 1: the rank-1 hit rate of a gallery with the drawings of both. Of two
    characters alone.
    """

    encoder: str = reads_images("dino")

    part: ClassVar[str] = "together"
    kinds: ClassVar[tuple[str, ...]] = (CHARACTER,)
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
