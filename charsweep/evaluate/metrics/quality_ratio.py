"""Quality ratio: the share of images that are right in all respects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from charsweep.core.encoders import reads_images, reads_prompts
from charsweep.evaluate.metrics import Exam, Score, mean_score
from charsweep.evaluate.metrics.identity import Identity
from charsweep.evaluate.metrics.prompt import Prompt


@dataclass(frozen=True)
class QualityRatio:
    """Share of images, in [0, 1], that are the character and show all that the prompt names.

    The character: `identity` at least `identity_from`; all: `prompt` of 1. None where either does
    not apply.
    """

    identity_from: float = 0.7
    identity_encoder: str = reads_images("dino")
    prompt_encoder: str = reads_prompts("clip")

    version: ClassVar[int] = 3

    def __call__(self, exam: Exam) -> Score:
        identity = Identity(self.identity_encoder)(exam).per_image
        prompt = Prompt(self.prompt_encoder)(exam).per_image
        if identity is None or prompt is None:
            return Score(None)
        right = (np.array(identity) >= self.identity_from) & (np.array(prompt) == 1.0)
        return mean_score(right.astype(np.float64))
