"""Quality ratio: the share of images that are right in all respects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from charsweep.evaluate.metrics import Exam, Score, mean_score, prompt_similarity, similarity


@dataclass(frozen=True)
class QualityRatio:
    """Share of images, in [0, 1], that pass all three:

    identity: mean DINO cosine to the training images at least the 10th percentile of the cosines
    that the training images have among themselves;
    prompt: CLIP cosine to the prompt at least what the untaught base reaches for that prompt with
    the class noun, whatever the seed;
    no copy: nearest training image no nearer than half the distance between the two training
    images that are most alike.

    None where there is nothing to compare with (one training image, no prompts).
    """

    version: ClassVar[int] = 1

    def __call__(self, exam: Exam) -> Score:
        references = exam.references["dino"]
        if exam.prompts is None or exam.untaught is None or len(references) < 2:
            return Score(None)
        pairs = similarity(exam.images.by_encoder["dino"], references)
        between = exam.among("dino")
        identity = pairs.mean(axis=1) >= np.percentile(between, 10)
        original = pairs.max(axis=1) <= 1.0 - (1.0 - between.max()) / 2
        asked = prompt_similarity(exam.images, exam.prompts) >= self._bar(exam)
        return mean_score((identity & original & asked).astype(np.float64))

    def _bar(self, exam: Exam) -> NDArray[np.float64]:
        """Per image (N,): what the untaught base reaches for the same prompt."""
        assert exam.untaught is not None
        assert exam.prompts is not None
        reached = prompt_similarity(exam.untaught, exam.prompts)
        asked = np.array(exam.untaught.prompt_of)
        bars = {p: reached[asked == p].min() for p in set(exam.untaught.prompt_of)}
        return np.array([bars[p] for p in exam.images.prompt_of])
