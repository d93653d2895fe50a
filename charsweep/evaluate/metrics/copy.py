"""Copy: how near images come to copying a training image, by DINO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from charsweep.evaluate.metrics import Exam, Score, mean_score, similarity


@dataclass(frozen=True)
class Copy:
    """Highest cosine to any one training image, minus what training images have to each other.

    Above 0, images lie closer to one training image than the training images' nearest neighbours
    do: the sign of memorising. None with one training image.
    """

    version: ClassVar[int] = 1

    def __call__(self, exam: Exam) -> Score:
        references = exam.references["dino"]
        if len(references) < 2:
            return Score(None)
        nearest = similarity(exam.images.by_encoder["dino"], references).max(axis=1)
        return mean_score(nearest - exam.among("dino").max(axis=1).mean())
