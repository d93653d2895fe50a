"""Drift: how far the base has moved where nothing was asked about the character."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from charsweep.evaluate.metrics import Exam, Score, mean_score


@dataclass(frozen=True)
class Drift:
    """1 - DINO cosine between an image and the untaught base's of the same prompt and seed.

    Of the exam's part `elsewhere`, whose prompts have nothing to do with the character: 0 where the
    base draws what it drew, up to 2. None without a base.
    """

    part: ClassVar[str] = "elsewhere"
    version: ClassVar[int] = 1

    def __call__(self, exam: Exam) -> Score:
        if exam.untaught is None:
            return Score(None)
        ours, theirs = exam.images.by_encoder["dino"], exam.untaught.by_encoder["dino"]
        cosines = np.einsum("nd,nd->n", ours.astype(np.float64), theirs.astype(np.float64))
        return mean_score(1.0 - cosines)
