"""Diversity: how much the images of one prompt differ between seeds, by DINO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from charsweep.evaluate.metrics import Exam, Score, among


@dataclass(frozen=True)
class Diversity:
    """Mean over prompts of 1 - cosine between the seeds' images; None with one seed.

    The idea of DreamBooth's DIV (Ruiz et al. 2022, section 4.3), with DINO in the place of LPIPS.
    """

    version: ClassVar[int] = 1

    def __call__(self, exam: Exam) -> Score:
        asked, features = np.array(exam.images.prompt_of), exam.images.by_encoder["dino"]
        groups = [features[asked == prompt] for prompt in sorted(set(exam.images.prompt_of))]
        spread = [1.0 - float(among(group).mean()) for group in groups if len(group) > 1]
        return Score(float(np.mean(spread)) if spread else None)
