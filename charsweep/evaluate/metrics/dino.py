"""DINO: likeness to the training images, by DINO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from charsweep.core.encoders import reads_images
from charsweep.evaluate.metrics import Exam, Score, mean_score


@dataclass(frozen=True)
class Dino:
    """DINO identity score of DreamBooth (Ruiz et al. 2022, section 4.2): mean over all pairs.

    In [-1, 1]; higher is more like the training images, copies of them included. By another
    encoder it is that one's likeness.
    """

    encoder: str = reads_images("dino")

    version: ClassVar[int] = 1

    def __call__(self, exam: Exam) -> Score:
        if not exam.references:
            return Score(None)
        eye = self.encoder
        pairs = exam.likeness(eye, exam.images.by_encoder[eye], exam.references[eye])
        return mean_score(pairs.mean(axis=1))

    def among(self, exam: Exam) -> float | None:
        return exam.mean_among(self.encoder)
