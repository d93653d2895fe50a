"""Methods: drawings and perhaps a base in, something that trains out. Reached through conf/method/.

A method is a frozen dataclass whose fields are the settings of its YAML file. It has

    version     a number that changes when the method's numbers do; part of every key
    prompted    whether its images follow prompts
    iterative   whether it draws in inference steps, by a sampler
    company     what trials must share to train, and to be drawn, in one forward pass (any values
                that compare), or None: each trains and is drawn alone
    students    makes the slots that `charsweep.train.loop` trains (its `Students`)
    fused       for methods with a company: a base that one snapshot has been added to
    wardrobe    for methods with a company: a base whose images each wear their own snapshot

One with a field `base` teaches that base, and its snapshots are drawn through it; it looks at the
training images as `TrajectorySpec.framing` says. It has also

    base_precision  in which the base lies in memory while it is taught
    check       raises ConfigError for a family of bases (`models.families`) that it cannot teach

One without starts from nothing, looks at their middle squares, and has also

    painter     for a snapshot's folder, draws its images (a `charsweep.evaluate.sample.Paint`)
    snapshot_bytes  about what a snapshot takes on disk
    loading     optional: Python that makes `image` of a snapshot in the current folder

Either may say what planning knows of its memory; without, it is known when it has been measured:

    held        for a resolution and the base's weights (or None), the numbers that a trial holds
                (`charsweep.plan.memory.Held`)

A method imports torch only inside its functions, because planning reads it too. `FineTune` is one
with a base, `Gan` and `Diffusion` are without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from charsweep.core.system.distributed import ALONE, Team

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor

    from charsweep.character.load import Character
    from charsweep.core.specs import TrajectorySpec
    from charsweep.models.pipeline import Base


@dataclass(frozen=True)
class Execution:
    """How training is carried out, which changes a result by no more than rounding."""

    checkpointing: bool = False  # activations are made again for the backward pass, not kept
    micro_batch: int | None = None  # samples of a trial in one forward pass; None: its whole batch
    compile: bool = False  # the base's repeated blocks, by torch.compile
    team: Team = ALONE


@dataclass(frozen=True)
class Materials:
    """What students learn from, and where."""

    device: torch.device
    base: Base | None
    character: Character
    pictures: list[Image.Image]
    class_pictures: Callable[[TrajectorySpec], list[Image.Image]]
    execution: Execution = Execution()
    masks: Sequence[Image.Image | None] = ()  # one per picture, or none at all


class Students(Protocol):
    """What a method trains: `width` slots, each free or taken by one trajectory."""

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

    def enter(self, slot: int, spec: TrajectorySpec) -> None: ...
    def leave(self, slot: int) -> None: ...
    def named(self, slot: int) -> Mapping[str, Tensor]:
        """The slot's trainable tensors by name."""
        ...

    def kept(self, slot: int) -> Mapping[str, Tensor]:
        """What the slot's trial goes on from: its trainable tensors, and others if need be."""
        ...

    def zero_grad(self) -> None: ...
    def losses(self, steps: Sequence[int | None]) -> Iterator[Tensor]:
        """The loss of each slot at its step (from 0), shape (width,); None: the slot is free.

        It comes in shares that add up, each of a part of the batch: who differentiates one before
        asking for the next holds the activations of one only. Of a method whose loss has parts:
        shape (parts, width).
        """
        ...

    def gradients(self) -> Sequence[Tensor]:
        """All gradients, to be added up over processes that share the batch."""
        ...

    def save(self, slot: int, folder: Path) -> None: ...
