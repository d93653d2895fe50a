"""Score: the one number by which settings are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from charsweep.core.encoders import reads_images, reads_prompts
from charsweep.evaluate.metrics import Exam, Metric, mean_score
from charsweep.evaluate.metrics import Score as Result
from charsweep.evaluate.metrics.identity import Identity
from charsweep.evaluate.metrics.prompt import Prompt


@dataclass(frozen=True)
class Score:
    """Mean over images of identity times prompt, in [0, 1]: is it her, doing what was asked?

    A copy of a drawing has the identity and not the prompt, the untaught base the prompt and not
    the identity; noise has neither. None where either does not apply.
    """

    identity_encoder: str = reads_images("dino")
    prompt_encoder: str = reads_prompts("clip")

    version: ClassVar[int] = 2

    def __call__(self, exam: Exam) -> Result:
        parts: tuple[Metric, ...] = (
            Identity(self.identity_encoder),
            Prompt(self.prompt_encoder),
        )
        found = [metric(exam).per_image for metric in parts]
        if None in found:
            return Result(None)
        identity, prompt = np.array(found, dtype=np.float64)
        return mean_score(identity * prompt)
