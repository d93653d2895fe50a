"""CLIP-I: likeness to the training images, by CLIP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from charsweep.evaluate.metrics import Exam, Score, mean_score, similarity


@dataclass(frozen=True)
class ClipI:
    """CLIP-I of DreamBooth (Ruiz et al. 2022, section 4.2): mean over all pairs, in [-1, 1]."""

    version: ClassVar[int] = 1

    def __call__(self, exam: Exam) -> Score:
        if not exam.references:
            return Score(None)
        pairs = similarity(exam.images.by_encoder["clip"], exam.references["clip"])
        return mean_score(pairs.mean(axis=1))
