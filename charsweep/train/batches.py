"""Batches of one trial: latents, noise, timesteps, loss weights; a function of (seed, step).

Every draw is a function of (seed, purpose, step), so that a batch does not depend on what ran
before it or on who else trains. Which bucket a step shows does not depend on the seed either, so
that trials at the same step show images of one size.

Latents are computed once, and batches made on the CPU, whose random numbers are the same anywhere.
So a random window is cut out of the latent of the whole picture, at whole latent pixels: what lies
close beside the window has a small part in it, and in return no step waits for the VAE.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from charsweep.character import ALPHA, framed, sizes_of
from charsweep.core.methods import CaptionChanges, LossSettings, tags_of
from charsweep.core.seeding import chosen, generator
from charsweep.core.specs import Framing, TrajectorySpec
from charsweep.models.families import Noising
from charsweep.models.pipeline import LoadedPipeline

Images = Literal["images", "prior"]  # the training images, or those of the class


class FramedImage(NamedTuple):
    """A framed image as the base meets it: its latent (C, h, w), weights (h, w), sizes (6,)."""

    mean: Tensor
    std: Tensor
    weights: Tensor
    sizes: Tensor


class ImageBatch(NamedTuple):
    """The images of a batch; latents (B, C, h, w) drawn from the posterior, sizes (B, 6)."""

    latents: Tensor
    captions: list[str]
    area: Tensor  # (B, h, w): what each latent pixel counts; 1 on average over a whole image
    sizes: Tensor


class TrainingImages:
    """Images and captions as latents and prompts; a batch is a function of (seed, step)."""

    def __init__(
        self,
        base: LoadedPipeline,
        spec: TrajectorySpec,
        purpose: str,
        keys: Sequence[str],
        images: Iterable[Image.Image],
        captions: list[str],
        framing: Framing,
        masks: Iterable[Image.Image | None] = (),
        changes: CaptionChanges = CaptionChanges(),  # noqa: B008  # a constant
    ) -> None:
        self.captions, self.purpose, self.framing = captions, purpose, framing
        self.changes, self.unit = changes, base.family.unit
        self.laid = base.family.laid_together
        self.seed, self.batch_size, self.resolution = spec.seed, spec.batch_size, spec.resolution
        masks = masks or [None] * len(keys)
        self.framed = [  # as it is and, perhaps, mirrored
            [self._framed(base, *one, mirrored) for mirrored in (False, True)[: 1 + framing.flip]]
            for one in zip(keys, images, masks, strict=True)
        ]

    def _framed(
        self,
        base: LoadedPipeline,
        key: str,
        image: Image.Image,
        mask: Image.Image | None,
        mirrored: bool,
    ) -> FramedImage:
        crop, size, unit = self.framing.crop, self.resolution, self.unit
        sizes = torch.tensor(sizes_of(image.size, crop, size, unit))
        if mirrored:  # before it is cropped, as diffusers' SDXL scripts do, and the mask with it
            image = ImageOps.mirror(image)
            mask = ImageOps.mirror(mask) if mask else None
        mode = (crop, size, mirrored, ALPHA in self.framing.masks)  # which leaves other colours
        mean, std = base.latents((key, *mode), framed(image, crop, size, unit))
        weights = torch.ones(mean.shape[-2:])
        if mask:
            weights = weights_of(framed(mask, crop, size, unit), weights, self.framing.background)
        return FramedImage(mean.cpu(), std.cpu(), weights, sizes)

    def batch(self, step: int) -> ImageBatch:
        indices = self._chosen(step)
        images = [self._window(image, *at) for image, *at in self._looks(indices, step)]
        mean, std, area, sizes = (torch.stack(parts) for parts in zip(*images, strict=True))
        noise = torch.randn(mean.shape, generator=generator(self.seed, self.purpose, step))
        latents = mean + std * noise
        source = generator(self.seed, f"{self.purpose} caption", step)
        captions = [changed(self.captions[i], self.changes, source) for i in indices]
        return ImageBatch(latents, captions, area, sizes)

    def _chosen(self, step: int) -> list[int]:
        """Which images a step shows: all of one size, and every image equally often.

        In as many steps as there are images each size comes as often as it has images, in an
        order of its own; where all have one size, it is simply that of the step.
        """
        sizes = [framed[0].mean.shape for framed in self.framed]
        if self.framing.crop != "buckets":
            sizes = sizes[:1] * len(sizes)
        cycle, place = divmod(step, len(sizes))
        order = torch.randperm(len(sizes), generator=generator(0, "bucket order", cycle)).tolist()
        now = sizes[order[place]]
        own = [index for index, size in enumerate(sizes) if size == now]
        before = sum(sizes[index] == now for index in order[:place])
        visit = cycle * len(own) + before
        shown = chosen(self.seed, self.purpose, len(own), self.batch_size, visit)
        return [own[index] for index in shown]

    def _looks(self, indices: Sequence[int], step: int) -> list[tuple[FramedImage, float, float]]:
        """Each image, mirrored or not, and where its window lies, each from 0 to 1."""
        source = generator(self.seed, f"{self.purpose} look", step)
        looks = []
        for index in indices:
            mirror, top, left = torch.rand(3, generator=source).tolist()
            framed = self.framed[index]
            looks.append((framed[int(mirror * len(framed))], top, left))
        return looks

    def _window(self, image: FramedImage, top: float, left: float) -> FramedImage:
        """A square of `resolution` pixels out of a larger image, its corner said in the sizes."""
        if self.framing.crop != "random":
            return image
        side = min(image.weights.shape)
        height, width = image.weights.shape
        y, x = int(top * (height - side + 1)), int(left * (width - side + 1))
        mean, std, weights = (part[..., y : y + side, x : x + side] for part in image[:3])
        each = self.resolution // side  # pixels of a latent pixel
        corner = torch.tensor([0, 0, y * each, x * each, 0, 0])
        return FramedImage(mean, std, weights, image.sizes + corner)


def changed(caption: str, changes: CaptionChanges, source: torch.Generator) -> str:
    """A caption as one step sees it, as sd-scripts' `process_caption` makes it."""
    if changes.dropout_rate and torch.rand(1, generator=source).item() < changes.dropout_rate:
        return ""
    if not changes.shuffle:
        return caption
    tags = tags_of(caption)
    kept, moved = tags[: changes.kept], tags[changes.kept :]
    order = torch.randperm(len(moved), generator=source).tolist()
    return ", ".join([*kept, *(moved[place] for place in order)])


def weights_of(mask: Image.Image, like: Tensor, background: float) -> Tensor:
    """What each latent pixel counts in the loss, (h, w) as `like`; 1 on average.

    From `background` where the mask is black to 1 where it is white, divided by the mean: the loss
    is the weighted mean of the squared errors, of one scale with a loss without mask whether the
    subject is small or large (as MAE's, He et al. 2021, over its masked patches).
    """
    greys = torch.from_numpy(np.asarray(mask, dtype=np.float32) / 255)
    inside = torch.nn.functional.adaptive_avg_pool2d(greys[None], (like.shape[0], like.shape[1]))[0]
    weights = background + (1 - background) * inside
    return weights / weights.mean()


class Shown(Protocol):
    """What steps show: training images, or those of two characters by turns."""

    seed: int
    purpose: str
    laid: int  # as `Family.laid_together`
    captions: list[str]

    def batch(self, step: int) -> ImageBatch: ...


class Batch(NamedTuple):
    """One trial's part of a step: latents and noise (B, C, h, w), the others by image."""

    latents: Tensor
    noise: Tensor
    timesteps: Tensor  # (B,)
    weights: Tensor  # (B,): of the images
    area: Tensor  # (B, h, w): of the latent pixels
    sizes: Tensor  # (B, 6): see `LoadedPipeline.predict`
    captions: list[str]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self[:-1]

    def idle(self) -> Batch:
        """What a slot without a part in this pass is given: as large, and of no consequence."""
        zeros = [part.new_zeros(part.shape) for part in self.tensors]
        return Batch._make([*zeros, [""] * len(self.captions)])


@dataclasses.dataclass(frozen=True)
class TrialBatches:
    """What the trial in a slot learns from; every draw is a function of its seed and step."""

    loss: LossSettings
    images: Shown
    prior: Shown | None

    def batch(self, which: Images, step: int, noising: Noising) -> Batch:
        images = self.images if which == "images" else self.prior
        assert images is not None
        shown = images.batch(step)
        latents = shown.latents
        seed, purpose = images.seed, images.purpose
        source = generator(seed, f"{purpose} noise", step)
        noise = torch.randn(latents.shape, generator=source)
        if self.loss.noise_offset:  # Guttenberg 2023: one more normal number per channel
            count, channels = latents.shape[:2]
            offset = torch.randn(count, channels // images.laid, 1, 1, generator=source)
            offset = offset.repeat_interleave(images.laid, dim=1)
            noise = noise + self.loss.noise_offset * offset
        size, source = latents.shape[-2:], generator(seed, f"{purpose} timestep", step)
        timesteps = noising.timesteps(len(latents), size, source)
        weights = noising.weights(timesteps, self.loss.min_snr_gamma)
        if which == "prior":
            weights = self.loss.prior_weight * weights
        return Batch(latents, noise, timesteps, weights, shown.area, shown.sizes, shown.captions)
