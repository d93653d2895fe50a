"""Identity: how much of the way from the untaught base to the character an image has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from charsweep.evaluate.metrics import Exam, Score, among, mean_score, similarity


@dataclass(frozen=True)
class Identity:
    """Mean DINO cosine to drawings of the character on a scale of its own, cut to [0, 1].

    0: no more her than the untaught base's images of the same exam, drawn with the class noun;
    1: as much her as the least typical drawing is to the others, leave one out. The drawings are
    those held out of training, else the true pictures of the exam, else the training images. The
    scale ends at 1, the same image, where one drawing is all there is or where the base's images
    are as like the drawings as these are to each other. None without a base, whose images it needs.
    """

    version: ClassVar[int] = 1

    def __call__(self, exam: Exam) -> Score:
        if exam.untaught is None:
            return Score(None)
        kind, drawings, between = self._drawings(exam)
        base = float(similarity(exam.untaught.by_encoder["dino"], drawings).mean())
        least = float(between.mean(axis=1).min()) if len(drawings) > 1 else 1.0
        end = least if least > base else 1.0
        likeness = similarity(exam.images.by_encoder["dino"], drawings).mean(axis=1)
        details = {"drawings": kind, "base": base, "least": end}
        return mean_score(np.clip((likeness - base) / max(end - base, 1e-9), 0.0, 1.0), details)

    def _drawings(self, exam: Exam) -> tuple[str, NDArray[np.float32], NDArray[np.float64]]:
        """Which drawings, their features (M, D), and their cosines among each other (M, M - 1)."""
        if exam.held_out is not None:
            return "held out", exam.held_out["dino"], among(exam.held_out["dino"])
        if exam.truth is not None:
            true = exam.truth.by_encoder["dino"]
            return "true pictures", true, among(true)
        return "training images", exam.references["dino"], exam.among("dino")
