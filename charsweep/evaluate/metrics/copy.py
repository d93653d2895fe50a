"""Copy: how near images come to copying a training image, by DINO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from charsweep.core.encoders import reads_images
from charsweep.evaluate.metrics import Exam, Score, mean_score


@dataclass(frozen=True)
class Copy:
    """Highest cosine to any one training image, minus what training images have to each other.

    Above 0, images lie closer to one training image than the training images' nearest neighbours
    do. An image repeats a drawing where it lies nearer to it than half the distance between the two
    training images that are most alike; `repeats` counts these by the drawing's number, from 1.
    None with one training image, or none.
    """

    encoder: str = reads_images("dino")

    version: ClassVar[int] = 2

    def __call__(self, exam: Exam) -> Score:
        eye = self.encoder
        if not exam.references or len(exam.references[eye]) < 2:
            return Score(None)
        references = exam.references[eye]
        between = exam.among(eye)
        pairs = exam.likeness(eye, exam.images.by_encoder[eye], references)
        repeated = pairs.argmax(axis=1)[pairs.max(axis=1) > 1.0 - (1.0 - between.max()) / 2]
        numbers, counts = np.unique(repeated + 1, return_counts=True)
        repeats = {str(number): int(count) for number, count in zip(numbers, counts, strict=True)}
        return mean_score(pairs.max(axis=1) - between.max(axis=1).mean(), {"repeats": repeats})
