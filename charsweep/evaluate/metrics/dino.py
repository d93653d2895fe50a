"""DINO: likeness to the training images, by DINO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from charsweep.evaluate.metrics import Exam, Score, mean_score, similarity


@dataclass(frozen=True)
class Dino:
    """DINO identity score of DreamBooth (Ruiz et al. 2022, section 4.2): mean over all pairs.

    In [-1, 1]; higher is more like the training images, copies of them included.
    """

    version: ClassVar[int] = 1

    def __call__(self, exam: Exam) -> Score:
        if not exam.references:
            return Score(None)
        pairs = similarity(exam.images.by_encoder["dino"], exam.references["dino"])
        return mean_score(pairs.mean(axis=1))
