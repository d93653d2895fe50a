"""Damaged pictures: what they show can still be told, as in those that adapters draw, not cleanly.

By chance each: colours of another picture leak in, in patches; noise lies on it; the untaught base
paints over it without words, from up to half of the noise that it begins pictures with.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.validity.judge import Autoencoder, smooth_noise
from charsweep.models.embedded import WEIGHTS
from pretraining.progress import steps

BATCH = 24
LEAK, KEPT, NOISE = 0.6, 0.65, 0.45  # at most of another, at least of its own, at most of noise
PAINTED, IN_ALL = (0, 2, 3, 4, 5), 10  # inference steps, of those of a whole picture


def damaged(drawn: NDArray[np.uint8], first: int = 0) -> NDArray[np.uint8]:
    """The pictures (N x H x W x 3), each damaged in its own way, the same way every time; in others
    for another number of the `first` batch."""
    autoencoder, painter, result = Autoencoder(), Painter(), np.empty_like(drawn)
    for index in steps("damage", 0, -(-len(drawn) // BATCH)):
        part = slice(BATCH * index, BATCH * index + BATCH)
        rng = np.random.default_rng(first + index)
        latents = autoencoder.encode(drawn[part])
        latents = drowned(leaked(latents, rng), rng)
        latents = painter.paint_over(latents, int(rng.choice(PAINTED)), first + index)
        result[part] = autoencoder.decode(latents)
    return result


def leaked(latents: Tensor, rng: np.random.Generator) -> Tensor:
    """Every second one, by chance, with patches of the one before in it."""
    count, _, height, width = latents.shape
    patches = smooth_noise((count, 1), 4, max(height, width), rng)[..., :height, :width]
    share = (0.5 * patches - 0.1).clamp(0, LEAK) * _of_each(rng.integers(0, 2, count))
    return latents.lerp(latents.roll(1, 0), share)


def drowned(latents: Tensor, rng: np.random.Generator) -> Tensor:
    """Every second one, by chance, fainter and with noise of one of three grains on it."""
    count, channels, height, width = latents.shape
    grain = int(rng.choice([2, 4, 8]))
    noise = smooth_noise((count, channels), grain, max(height, width), rng)[..., :height, :width]
    amount = _of_each(rng.uniform(0, 1, count) * rng.integers(0, 2, count))
    return (1 - (1 - KEPT) * amount) * latents + NOISE * amount * noise


def _of_each(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(values).float()[:, None, None, None]


class Painter:
    """The embedded base sd15, as it ships: taught no character."""

    def __init__(self) -> None:
        pipeline: Any = StableDiffusionPipeline.from_pretrained(
            WEIGHTS / "sd15", safety_checker=None, requires_safety_checker=False
        )
        tokens = pipeline.tokenizer([""], padding="max_length", return_tensors="pt").input_ids
        with torch.inference_mode():
            self.no_words = pipeline.text_encoder(tokens)[0]
        self.unet = pipeline.unet
        self.scheduler: Any = DDIMScheduler.from_config(
            pipeline.scheduler.config, clip_sample=False
        )
        self.scheduler.set_timesteps(IN_ALL)

    @torch.inference_mode()
    def paint_over(self, latents: Tensor, n_steps: int, seed: int) -> Tensor:
        """Noised and denoised again in the last of IN_ALL steps (SDEdit, Meng et al. 2022)."""
        if not n_steps:
            return latents
        times = self.scheduler.timesteps[-n_steps:]
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
        painted = self.scheduler.add_noise(latents, noise, times[:1])
        for time in times:
            words = self.no_words.expand(len(painted), -1, -1)
            predicted = self.unet(painted, time, words).sample
            painted = self.scheduler.step(predicted, time, painted).prev_sample
        result: Tensor = painted
        return result
