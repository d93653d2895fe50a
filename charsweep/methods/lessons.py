"""Pictures and captions in, what a trial learns from at each step out.

Every draw is a function of (seed, purpose, step), so that a batch does not depend on what ran
before it or on who else trains.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal, NamedTuple

from charsweep.character import picture_at
from charsweep.draws import chosen, generator

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from charsweep.bases import Noising
    from charsweep.methods.finetune import FineTune
    from charsweep.resident import Base
    from charsweep.specs import TrajectorySpec


class Lessons:
    """Pictures and captions as latents and prompts; a batch is a function of (seed, step)."""

    def __init__(
        self,
        base: Base,
        spec: TrajectorySpec,
        purpose: str,
        keys: list[str],
        pictures: list[Image.Image],
        captions: list[str],
    ) -> None:
        import torch

        pairs = zip(keys, pictures, strict=True)
        size = spec.resolution
        latents = [base.latents((key, size), picture_at(one, size)) for key, one in pairs]
        self.mean = torch.stack([mean for mean, _ in latents])
        self.std = torch.stack([std for _, std in latents])
        self.captions, self.purpose = captions, purpose
        self.seed, self.batch_size = spec.seed, spec.batch_size

    def batch(self, step: int) -> tuple[Tensor, list[str]]:
        """Latents (B, C, h, w) drawn from the posterior, and their captions."""
        import torch

        shown = chosen(self.seed, self.purpose, len(self.captions), self.batch_size, step)
        mean, std = self.mean[shown], self.std[shown]
        noise = torch.randn(mean.shape, generator=generator(self.seed, self.purpose, step))
        return mean + std * noise.to(mean), [self.captions[i] for i in shown]


class Batch(NamedTuple):
    """One trial's part of a step: latents and noise (B, C, h, w), the others (B,)."""

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    weights: Tensor
    captions: list[str]

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.latents, self.noise, self.timesteps, self.weights


@dataclasses.dataclass(frozen=True)
class Desk:
    """What the trial in a slot learns from; every draw is a function of its seed and step."""

    method: FineTune
    lessons: Lessons
    prior: Lessons | None

    def batch(self, which: Literal["lessons", "prior"], step: int, noising: Noising) -> Batch:
        import torch

        lessons = self.lessons if which == "lessons" else self.prior
        assert lessons is not None
        latents, captions = lessons.batch(step)
        seed, purpose = lessons.seed, lessons.purpose
        source = generator(seed, f"{purpose} noise", step)
        noise = torch.randn(latents.shape, generator=source)
        if self.method.noise_offset:  # Guttenberg 2023: one more normal number per channel
            offset = torch.randn(*latents.shape[:2], 1, 1, generator=source)
            noise = noise + self.method.noise_offset * offset
        timesteps = noising.timesteps(len(latents), generator(seed, f"{purpose} timestep", step))
        weights = noising.weights(timesteps, self.method.min_snr_gamma)
        return Batch(latents, noise.to(latents), timesteps, weights, captions)
