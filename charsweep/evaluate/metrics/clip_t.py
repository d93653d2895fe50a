"""CLIP-T: likeness of images to their prompts, by CLIP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from charsweep.core.encoders import reads_prompts
from charsweep.evaluate.metrics import Exam, Score, mean_score, prompt_similarity


@dataclass(frozen=True)
class ClipT:
    """CLIPScore (Hessel et al. 2021, equation 1 with w = 1): max(cosine, 0), in [0, 1].

    The prompt has the class noun in place of the identifier, a word that CLIP cannot know.
    """

    encoder: str = reads_prompts("clip")

    version: ClassVar[int] = 1

    def __call__(self, exam: Exam) -> Score:
        if exam.prompts is None:
            return Score(None)
        cosines = prompt_similarity(exam.images, exam.prompts, self.encoder)
        return mean_score(np.maximum(cosines, 0.0))
