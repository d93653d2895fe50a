"""An unconditional diffusion model, trained on the training images and nothing else.

The baseline that shows what a pretrained base is worth: denoising diffusion (Ho et al. 2020,
arXiv 2006.11239) in pixels, with the cosine schedule (Nichol and Dhariwal 2021, arXiv 2102.09672)
and the velocity as target (Salimans and Ho 2022, arXiv 2202.00512): predicting the noise left whole
images tinted for all of 1,000 steps. Its images follow no prompt. Snapshots are folders for
diffusers' plain `DDPMPipeline`.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from charsweep.core.methods import Held
from charsweep.core.seeding import generator
from charsweep.models.identify import check_indices
from charsweep.models.samplers import make_scheduler
from charsweep.train.methods.from_scratch import (
    FromScratch,
    PixelBatches,
    UnpackedTrainable,
    seeded,
    shown,
)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from diffusers import UNet2DModel
    from numpy.typing import NDArray
    from torch import Tensor

    from charsweep.core.methods import Method
    from charsweep.core.specs import ImageSetSpec, TrajectorySpec
    from charsweep.evaluate.sample import Asked, Paint
    from charsweep.models.pipeline import LoadedPipeline
    from charsweep.models.weights import BaseWeights
    from charsweep.train.methods import Materials

MOST_KEPT = 0.995  # of the mean at each step: half of it is the last 140 steps

Channels = Annotated[int, Field(ge=8, le=1024, multiple_of=8)]


@dataclass(frozen=True, config={"extra": "forbid", "allow_inf_nan": False})
class Diffusion(FromScratch):
    """A U-Net of `channels` per level, each level half as large as the one before."""

    version: ClassVar[int] = 1
    iterative: ClassVar[bool] = True

    channels: Annotated[tuple[Channels, ...], Field(min_length=2, max_length=8)]
    layers: Annotated[int, Field(ge=1, le=8)] = 1

    def unet(self, resolution: int) -> UNet2DModel:
        """With attention at the coarsest level only."""
        from diffusers import UNet2DModel

        plain = len(self.channels) - 1
        return UNet2DModel(
            sample_size=resolution,
            block_out_channels=self.channels,
            layers_per_block=self.layers,
            norm_num_groups=8,
            attention_head_dim=8,
            down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * plain,
        )

    def trainable(self, spec: TrajectorySpec, materials: Materials) -> DiffusionTrainable:
        return DiffusionTrainable(self, spec, materials)

    @contextlib.contextmanager
    def painter(
        self, images: ImageSetSpec, folder: Path, base: LoadedPipeline | None,
        device: torch.device,
    ) -> Iterator[Paint]:  # fmt: skip
        """An image depends on its seed and its place."""
        from diffusers import DDPMPipeline

        from charsweep.models.pipeline import quiet

        check_indices(folder)
        with quiet():
            pipeline = DDPMPipeline.from_pretrained(folder, use_safetensors=True)
        pipeline.to(device)

        def paint(spec: ImageSetSpec, asked: Sequence[Asked]) -> NDArray[np.float32]:
            own = pipeline.scheduler
            scheduler = make_scheduler(spec.sampler, own.config, type(own), of_latents=False)
            return denoise(pipeline.unet, scheduler, spec, asked)

        yield paint

    def snapshot_bytes(self, spec: TrajectorySpec, base: BaseWeights | None) -> int:
        return 4 * self._numbers()

    def held(self, resolution: int, base: BaseWeights | None) -> Held:
        """With a running mean of the weights."""
        return Held(self._numbers(), mean=self._numbers())

    def _numbers(self) -> int:
        """Its weights, counted block by block as diffusers builds them; biases left out."""
        first, last, deepest = self.channels[0], self.channels[-1], len(self.channels) - 1
        embedding = 4 * first

        def block(coming: int, going: int) -> int:
            shortcut = coming * going if coming != going else 0
            return 9 * going * (coming + going) + embedding * going + shortcut

        total, skips, wide = 2 * 27 * first + embedding * (first + embedding), [first], first
        for level, channels in enumerate(self.channels):
            for _ in range(self.layers):
                total += block(wide, channels)
                wide = channels
                skips.append(channels)
            if level < deepest:
                total += 9 * channels**2
                skips.append(channels)
        total += 2 * block(last, last) + 4 * last**2 * (2 * self.layers + 2)  # with attention
        for level, channels in enumerate(reversed(self.channels)):
            for _ in range(self.layers + 1):
                total += block(wide + skips.pop(), channels)
                wide = channels
            total += 9 * channels**2 if level < deepest else 0
        return total


if TYPE_CHECKING:
    _: type[Method] = Diffusion


class DiffusionTrainable(UnpackedTrainable):
    """The denoising loss of one trial, and the running mean of its weights, which is what draws.

    Without the mean, one step's noise in the weights tints whole images (Song and Ermon 2020, arXiv
    2006.09011, section 5). It is brought up to the last step before it is used.
    """

    part_names = ()

    def __init__(self, method: Diffusion, spec: TrajectorySpec, materials: Materials) -> None:
        import torch
        from diffusers import DDPMScheduler

        self.images = PixelBatches(spec, materials)
        self.noising = DDPMScheduler(
            beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"
        )
        with seeded(generator(spec.seed, "unet")):
            self.unet = method.unet(spec.resolution).to(materials.device)
        super().__init__({"unet": self.unet})
        self.mean = copy.deepcopy(self.unet).requires_grad_(False)
        self.averaged = torch.zeros((), dtype=torch.long)  # steps that are in the mean
        self.done = 0  # steps that have been taken

    def losses(self, steps: Sequence[int | None]) -> Iterator[Tensor]:
        """Mean squared error of the predicted velocity, shape (1,)."""
        import torch
        import torch.nn.functional as F

        (step,) = steps
        assert step is not None
        self.done = step
        self._average()
        self.done = step + 1  # when the optimizer has taken it
        pixels, seed = self.images.batch(step), self.images.seed
        noise = torch.randn(pixels.shape, generator=generator(seed, "image noise", step))
        source = generator(seed, "image timestep", step)
        timesteps = torch.randint(len(self.noising), (len(pixels),), generator=source)
        noise, timesteps = noise.to(pixels), timesteps.to(pixels.device)
        predicted = self.unet(self.noising.add_noise(pixels, noise, timesteps), timesteps).sample
        velocity = self.noising.get_velocity(pixels, noise, timesteps)
        yield F.mse_loss(predicted, velocity)[None]

    def resume_tensors(self, slot: int) -> Mapping[str, Tensor]:
        self._average()
        mean = {f"mean.{name}": tensor for name, tensor in self.mean.named_parameters()}
        return {**self.named(slot), **mean, "averaged": self.averaged}

    def _average(self) -> None:
        """Add the weights as they are now, unless they are in the mean already."""
        import torch

        if self.done == int(self.averaged):
            return
        assert self.done == int(self.averaged) + 1
        decay = min(MOST_KEPT, (1 + self.done) / (10 + self.done))  # shorter at first, as usual
        with torch.no_grad():
            for mean, now in zip(self.mean.parameters(), self.unet.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)
        self.averaged.fill_(self.done)

    def save(self, slot: int, folder: Path) -> None:
        from diffusers import DDPMPipeline

        from charsweep.models.pipeline import quiet

        with quiet():
            self._average()
            pipeline = DDPMPipeline(unet=self.mean, scheduler=self.noising)
            pipeline.save_pretrained(folder, safe_serialization=True)


def denoise(
    unet: UNet2DModel, scheduler: Any, spec: ImageSetSpec, asked: Sequence[Asked]
) -> NDArray[np.float32]:
    """Images NHWC float in [0, 1], by any scheduler (`DDPMPipeline` knows only some)."""
    import torch

    sources = [generator(one.seed, "image", one.place) for one in asked]
    shape = (3, spec.resolution, spec.resolution)
    images = torch.stack([torch.randn(shape, generator=source) for source in sources])
    images = images.to(unet.device) * scheduler.init_noise_sigma
    scheduler.set_timesteps(spec.inference_steps)
    takes_source = "generator" in inspect.signature(scheduler.step).parameters
    more = {"generator": sources} if takes_source else {}
    with torch.inference_mode():
        for timestep in scheduler.timesteps:
            given = scheduler.scale_model_input(images, timestep)
            predicted = unet(given, timestep).sample
            images = scheduler.step(predicted, timestep, images, **more).prev_sample
    return shown(images)
