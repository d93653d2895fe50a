"""Diversity: how much the images of one prompt differ between seeds, by DINO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from charsweep.core.encoders import reads_images, reads_prompts
from charsweep.evaluate.metrics import Exam, Score
from charsweep.evaluate.metrics.quality_ratio import QualityRatio


@dataclass(frozen=True)
class Diversity:
    """Mean over prompts of 1 - cosine between the seeds' images that are right.

    Right is what `quality_ratio` counts; where that does not apply, every image is. None unless two
    images of a prompt are. The idea of DreamBooth's DIV (Ruiz et al. 2022, section 4.3), with DINO
    in the place of LPIPS, and only of images that are worth having: debris is diverse.
    """

    identity_from: float = 0.7  # as for quality_ratio
    encoder: str = reads_images("dino")  # of the differences
    identity_encoder: str = reads_images("dino")  # of what is right
    prompt_encoder: str = reads_prompts("clip")

    version: ClassVar[int] = 3

    def __call__(self, exam: Exam) -> Score:
        ratio = QualityRatio(self.identity_from, self.identity_encoder, self.prompt_encoder)
        right = ratio(exam).per_image
        prompts = np.array(exam.images.prompt_of)
        counted = np.ones(len(prompts), dtype=bool) if right is None else np.array(right) == 1.0
        features = exam.images.by_encoder[self.encoder]
        groups = [features[(prompts == prompt) & counted] for prompt in np.unique(prompts)]
        alike = [exam.likeness_among(self.encoder, group) for group in groups if len(group) > 1]
        spread = [1.0 - float(pairs.mean()) for pairs in alike]
        return Score(float(np.mean(spread)) if spread else None)
