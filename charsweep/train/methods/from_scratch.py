"""What methods that start from nothing share: they train alone, in pixels, on the training images
and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from charsweep.core.methods import CaptionChanges, Loading, LossSettings
from charsweep.core.seeding import chosen

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from charsweep.core.specs import CharacterSpec, TrajectorySpec
    from charsweep.models.families import Family
    from charsweep.train.methods import Materials


class FromScratch:
    """What such methods answer alike (`charsweep.core.methods.Method`)."""

    base: ClassVar[None] = None
    prompted: ClassVar[bool] = False
    trains_base: ClassVar[bool] = False
    label: ClassVar[str] = ""
    tags: ClassVar[tuple[str, ...]] = ()
    unused: ClassVar[tuple[str, ...]] = ()
    pack_key: ClassVar[None] = None
    low_rank: ClassVar[None] = None
    loss: ClassVar[LossSettings] = LossSettings()
    caption_changes: ClassVar[CaptionChanges] = CaptionChanges()
    text_encoder_lr: ClassVar[None] = None
    identifier_tokens: ClassVar[None] = None
    prior_images: ClassVar[int] = 0

    def settled(self, family: Family) -> Mapping[str, Any]:
        return {}

    def check(self, spec: TrajectorySpec, family: Family | None) -> None:
        """Any size and any character."""

    def captions(self, character: CharacterSpec) -> tuple[str, ...]:
        return ()

    def taught(self, family: Family) -> tuple[str, ...]:
        return ()

    def loading(self, spec: TrajectorySpec, prompt: str, place: str) -> Loading | None:
        return None

    def elsewhere(self, spec: TrajectorySpec) -> str:
        return ""


class PixelBatches:
    """The training images as pixels in [-1, 1]; a batch is a function of (seed, step)."""

    def __init__(self, spec: TrajectorySpec, materials: Materials) -> None:
        from charsweep.character import middle_square
        from charsweep.models.pipeline import pixels_of

        sized = [middle_square(image, spec.resolution) for image in materials.images]
        self.pixels = pixels_of(sized).to(materials.device)
        self.seed, self.batch_size = spec.seed, spec.batch_size

    def batch(self, step: int) -> Tensor:
        """NCHW float in [-1, 1]."""
        return self.pixels[chosen(self.seed, "image", len(self.pixels), self.batch_size, step)]


class UnpackedTrainable:
    """The part of `charsweep.train.methods.Trainable` that any networks trained alone have."""

    width = 1
    warm_up_seconds = 0.0

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        self.networks = networks

    def enter(self, slot: int, spec: TrajectorySpec) -> None:
        """The networks were made for this one trajectory, which may enter again for a span."""

    def leave(self, slot: int) -> None:
        """Nothing is shared, so there is nothing to put back."""

    def named(self, slot: int) -> Mapping[str, Tensor]:
        return {
            f"{name}.{key}": tensor
            for name, network in self.networks.items()
            for key, tensor in network.named_parameters()
        }

    def resume_tensors(self, slot: int) -> Mapping[str, Tensor]:
        return self.named(slot)

    def zero_grad(self) -> None:
        for network in self.networks.values():
            network.zero_grad(set_to_none=True)

    def gradients(self) -> list[Tensor]:
        return [one.grad for one in self.named(0).values() if one.grad is not None]

    def aside(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def close(self) -> None:
        """The networks go when nobody holds them."""


@contextlib.contextmanager
def seeded(generator: torch.Generator) -> Iterator[None]:
    """Networks made inside start with weights that depend on the generator alone."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        yield


def shown(pixels: Tensor) -> NDArray[np.float32]:
    """NCHW in [-1, 1] as NHWC float in [0, 1]."""
    images: NDArray[np.float32] = ((pixels + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
    return images
