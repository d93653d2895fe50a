"""Prompt: how much of what the prompt says an image shows, by CLIP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from charsweep.core.encoders import reads_prompts
from charsweep.evaluate.metrics import (
    Exam,
    ImageFeatures,
    Score,
    mean_score,
    prompt_similarity,
    similarity,
)


@dataclass(frozen=True)
class Prompt:
    """Share of the attributes named by the prompt that the image shows, in [0, 1].

    An image shows an attribute (position, place, ...) if CLIP prefers the prompt to the same prompt
    with every other word for it. Only attributes that CLIP can read count: those that it names
    right, nearer to always than to chance, on the untaught base's own images or on true pictures.
    Where a prompt names none of them, plain contrast takes their place: the share of the exam's
    other prompts, and of the class prompt, to which CLIP prefers it. None without prompts.
    """

    encoder: str = reads_prompts("clip")

    version: ClassVar[int] = 1

    def __call__(self, exam: Exam) -> Score:
        if exam.prompts is None:
            return Score(None)
        found, right = readings(exam, self.encoder), shown(exam.images, exam, self.encoder)
        counted = [right[name] for name, reading in found.items() if reading["counts"]]
        share = contrast(exam.images, exam, self.encoder)
        by_name = np.array(counted).reshape(-1, len(share))
        asked = np.array(~np.isnan(by_name).all(axis=0))
        share[asked] = np.nanmean(by_name[:, asked], axis=0)
        plain = sorted(
            {p for p, known in zip(exam.images.prompt_of, asked, strict=True) if not known}
        )
        details = {"encoder": self.encoder, "attributes": found, "by_contrast": plain}
        return mean_score(share, details)


def shown(images: ImageFeatures, exam: Exam, encoder: str) -> dict[str, NDArray[np.float64]]:
    """By attribute, per image (N,): 1 where it is shown, 0 where not, NaN where not asked for."""
    assert exam.prompts is not None
    own = prompt_similarity(images, exam.prompts, encoder)
    names = dict.fromkeys(name for rivals in exam.rivals for name in rivals)
    found = {name: np.full(len(own), np.nan) for name in names}
    for i, prompt in enumerate(images.prompt_of):
        for name, rivals in exam.rivals[prompt].items() if exam.rivals else ():
            others = similarity(images.by_encoder[encoder][i : i + 1], rivals)
            found[name][i] = own[i] > others.max()
    return found


def readings(exam: Exam, encoder: str) -> dict[str, dict[str, float | bool]]:
    """By attribute: how often CLIP names it right on the base's and on true images; if it counts.

    It counts if either share is nearer to 1 than to what guessing among its words would give.
    """
    known = {"base": exam.untaught, "truth": exam.truth}
    shares: dict[str, dict[str, float | bool]] = {}
    for where, images in known.items():
        for name, right in (shown(images, exam, encoder) if images is not None else {}).items():
            if not np.isnan(right).all():
                shares.setdefault(name, {})[where] = float(np.nanmean(right))
    for name, found in shares.items():
        words = 1 + max(len(rivals[name]) for rivals in exam.rivals if name in rivals)
        found["counts"] = max(found.values()) > (1 + 1 / words) / 2
    return shares


def contrast(images: ImageFeatures, exam: Exam, encoder: str) -> NDArray[np.float64]:
    """Per image (N,): the share of other texts to which CLIP prefers its own prompt."""
    assert exam.prompts is not None
    texts = exam.prompts
    if exam.class_prompt is not None:
        texts = np.concatenate([texts, exam.class_prompt])
    own = prompt_similarity(images, exam.prompts, encoder)
    beaten = similarity(images.by_encoder[encoder], texts) < own[:, None]
    others = max(len(texts) - 1, 1)
    share: NDArray[np.float64] = beaten.sum(axis=1) / others
    return share
