"""Drift: how far the base has moved where nothing was asked about the character."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from charsweep.core.encoders import reads_images
from charsweep.evaluate.metrics import Exam, Score, mean_score


@dataclass(frozen=True)
class Drift:
    """1 - DINO cosine between an image and the untaught base's of the same prompt and seed.

    Of the exam's part `elsewhere`, whose prompts have nothing to do with the character: 0 where the
    base draws what it drew, up to 2. None without a base.
    """

    encoder: str = reads_images("dino")

    part: ClassVar[str] = "elsewhere"
    version: ClassVar[int] = 1

    def __call__(self, exam: Exam) -> Score:
        if exam.untaught is None:
            return Score(None)
        eye = self.encoder
        ours, theirs = exam.images.by_encoder[eye], exam.untaught.by_encoder[eye]
        return mean_score(1.0 - exam.paired_likeness(eye, ours, theirs))
