"""Leak: how much of the character everybody else of her class has got."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from charsweep.core.encoders import reads_images
from charsweep.evaluate.metrics import Exam, Score, mean_score
from charsweep.evaluate.metrics.identity import scale_of


@dataclass(frozen=True)
class Leak:
    """Identity of images drawn with the class noun alone, minus that of the untaught base's.

    Of the exam's part `others`, image by image with the same prompt and seed: 0 where the class is
    what it was, 1 where every girl has become her. The language drift that DreamBooth's prior
    preservation is against (Ruiz et al. 2022, section 3.3). None without a base, or any drawing.
    """

    encoder: str = reads_images("dino")

    part: ClassVar[str] = "others"
    version: ClassVar[int] = 2

    def __call__(self, exam: Exam) -> Score:
        if exam.untaught is None or not exam.has_drawings:
            return Score(None)
        scale = scale_of(exam, exam.untaught, self.encoder)
        return mean_score(scale.place(exam, exam.images) - scale.place(exam, exam.untaught))
