"""Colour: how much the colours of images and training images overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from charsweep.evaluate.metrics import Exam, Score, mean_score, similarity


@dataclass(frozen=True)
class Colour:
    """Mean Bhattacharyya coefficient (1943) of two images' colour histograms, in [0, 1].

    Over all pairs of drawn and training images: 1 where the same colours cover the same areas,
    wherever they lie. It says when the colours have been learned, before there is any shape.
    """

    version: ClassVar[int] = 1

    def __call__(self, exam: Exam) -> Score:
        if not exam.references:
            return Score(None)
        pairs = similarity(exam.images.by_encoder["colour"], exam.references["colour"])
        return mean_score(pairs.mean(axis=1))

    def among(self, exam: Exam) -> float | None:
        return exam.mean_among("colour")
