"""Methods: the Protocol is `charsweep.core.methods.Method`; here is what one is given and makes.

`FineTune` and `TextualInversion` teach a base, by the loss in `denoising`; `Gan` and `Diffusion`
start from nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from charsweep.core.system.distributed import ALONE, Team

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor

    from charsweep.core.specs import TrajectorySpec
    from charsweep.models.pipeline import LoadedPipeline
    from charsweep.train.company import CompanyMaterials


class ClassImage(NamedTuple):
    """An image of the class, for prior preservation."""

    path: Path
    caption: str


@dataclass(frozen=True)
class Execution:
    """How training is carried out, which changes a result by no more than rounding."""

    checkpointing: bool = False  # activations are made again for the backward pass, not kept
    micro_batch: int | None = None  # samples of a trial in one forward pass; None: its whole batch
    compile: bool = False  # the base's repeated blocks, by torch.compile
    team: Team = ALONE


@dataclass(frozen=True)
class Materials:
    """What a trial learns from, and where."""

    device: torch.device
    base: LoadedPipeline | None
    images: list[Image.Image]  # the training images
    class_images: Callable[[TrajectorySpec], list[ClassImage]]
    execution: Execution = Execution()
    masks: Sequence[Image.Image | None] = ()  # one per training image, or none at all
    teaching_adapter: Path | None = None  # on the base while it is taught
    company: CompanyMaterials | None = None  # of a trajectory on two characters


class Slots(Protocol):
    """Where trainable tensors lie: slots, each free or taken by one trajectory."""

    def enter(self, slot: int, spec: TrajectorySpec) -> None:
        """Give a slot to a trajectory: its first weights, its images and prompts."""
        ...

    def leave(self, slot: int) -> None: ...
    def named(self, slot: int) -> Mapping[str, Tensor]:
        """The slot's trainable tensors by name."""
        ...

    def zero_grad(self) -> None: ...
    def gradients(self) -> Sequence[Tensor]:
        """All gradients, to be added up over processes that share the batch."""
        ...

    def save(self, slot: int, folder: Path) -> None:
        """Write a snapshot's files, as other programs read them."""
        ...

    def aside(self) -> AbstractContextManager[None]:
        """Until the block ends, the base is as it was before, so that others can draw with it."""
        ...

    def close(self) -> None:
        """Put the base back as it was, bit for bit."""
        ...


class SharedSlots(Slots, Protocol):
    """Slots whose trials share a pass."""

    def narrow(self, slots: slice) -> None:
        """Sample i of the next passes belongs to the (i modulo their number)th of these slots."""
        ...


class Trainable(Slots, Protocol):
    """What a method trains: `width` slots."""

    @property
    def width(self) -> int: ...
    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the losses that add up to a trial's loss; () where it is one."""
        ...

    @property
    def warm_up_seconds(self) -> float:
        """What was spent on compiling, in no step's time."""
        ...

    def resume_tensors(self, slot: int) -> Mapping[str, Tensor]:
        """What the slot's trial goes on from: its trainable tensors, and others if need be."""
        ...

    def losses(self, steps: Sequence[int | None]) -> Iterator[Tensor]:
        """The loss of each slot at its step (from 0), shape (width,); None: the slot is free.

        It comes in shares that add up, each of a part of the batch: who differentiates one before
        asking for the next holds the activations of one only. Of a method whose loss has parts:
        shape (parts, width).
        """
        ...
