"""A pretrained base and a character in, students whose weights or adapters train out.

DreamBooth, LoRA and DreamBooth + LoRA are this one class: they differ in what trains and on which
prompts (Ruiz et al. 2022, arXiv 2208.12242; Hu et al. 2021, arXiv 2106.09685).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from charsweep.core.errors import ConfigError
from charsweep.core.specs import Framing, SnapshotSpec, TrajectorySpec
from charsweep.models.adapter_file import layers_in, padded_rank, parts_of
from charsweep.plan.memory import Held
from charsweep.train.batches import Batch, Desk, Lessons
from charsweep.train.methods import Materials
from charsweep.train.trainable import LowRank, StackedAdapters, read_adapter, trainees

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from charsweep.models.families import Conditioning, Family
    from charsweep.models.pipeline import Base
    from charsweep.models.weights import BaseWeights


@dataclass(frozen=True, config={"extra": "forbid", "allow_inf_nan": False})
class FineTune:
    """What of the base trains, on which prompts, against which loss."""

    version: ClassVar[int] = 2
    prompted: ClassVar[bool] = True
    iterative: ClassVar[bool] = True

    base: str
    trains: Literal["weights", "adapters"]
    prompts: Literal["instance", "captions"]
    text_encoder: bool = False
    adapter: Literal["lora", "dora", "loha", "lokr"] | None = None
    rank: Annotated[int, Field(ge=1, le=1024)] | None = None
    alpha: Annotated[float, Field(gt=0)] | None = None
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    prior_weight: Annotated[float, Field(ge=0)] = 0.0
    class_images: Annotated[int, Field(ge=1, le=10_000)] = 32
    min_snr_gamma: Annotated[float, Field(gt=0)] | None = None
    noise_offset: Annotated[float, Field(ge=0)] = 0.0

    def __post_init__(self) -> None:
        whole = (self.adapter, self.rank, self.alpha, self.target_modules)
        if self.trains == "adapters" and None in whole:
            raise ValueError("trains=adapters needs adapter, rank, alpha and target_modules")
        if self.trains == "weights" and whole != (None, None, None, None):
            raise ValueError(
                "trains=weights takes no adapter, rank, alpha or target_modules; use "
                "trains=adapters"
            )

    @property
    def company(self) -> tuple[object, ...] | None:
        """What trials must share to train in one pack; None if this kind trains alone."""
        low = self.low_rank
        if low is None or low.kind != "lora":
            return None
        return (self.text_encoder, self.prior_weight > 0, low.targets, padded_rank(low.rank))

    def base_precision(self, precision: str) -> str:
        """How the base lies in memory: weights that train are float32 whatever is multiplied."""
        return precision if self.low_rank else "fp32"

    @property
    def low_rank(self) -> LowRank | None:
        """The adapter that trains; None where all weights do."""
        if not (self.adapter and self.rank and self.alpha and self.target_modules):
            return None
        return LowRank(self.adapter, self.rank, self.alpha, self.target_modules)

    def held(self, resolution: int, base: BaseWeights | None) -> Held:
        """What a trial trains; the numbers that pad the rank of plain adapters count too."""
        assert base is not None
        parts, low = base.family.taught(self.text_encoder), self.low_rank
        if low is None:
            there = base.family.taught(True)
            return Held(base.numbers(parts), True, aside=base.numbers(there), parts=parts)
        rank = padded_rank(low.rank) if low.kind == "lora" else low.rank
        layers = (
            weight
            for name in parts
            for _, weight in layers_in(base.shapes.get(name, {}), low.of(name))
        )
        added = (part for weight in layers for part in parts_of(low.kind, rank, weight).values())
        return Held(sum(map(math.prod, added)), parts=parts)

    def taught(self, base: Base) -> dict[str, nn.Module]:
        """The parts of the pipeline that change, by name."""
        names = base.family.taught(self.text_encoder)
        return {name: base.modules[name] for name in names if name in base.modules}

    def check(self, family: Family) -> None:
        """Raise ConfigError for a family of bases that cannot be taught so."""
        if family.is_flow and self.min_snr_gamma is not None:
            raise ConfigError(
                f"method.min_snr_gamma={self.min_snr_gamma:g}: method.base={self.base} is "
                f"{family.title}, trained by flow matching, and min-SNR weighs losses by noise "
                "levels; set method.min_snr_gamma=null"
            )

    def students(self, spec: TrajectorySpec, materials: Materials) -> Students:
        """Slots for as many trials as `spec.pack`, all of this kind; `close` frees the base."""
        return Students(self, spec, materials)

    def fused(self, base: Base, folder: Path) -> contextlib.AbstractContextManager[None]:
        """The base with the snapshot in `folder` added to its weights, until the block ends.

        Two thirds of the time that a wardrobe takes, for image sets that need no company.
        """
        low = self.low_rank
        assert low is not None
        return base.fused(read_adapter(folder, base), low.scale)

    @contextlib.contextmanager
    def wardrobe(
        self, base: Base, width: int, folder_of: Callable[[SnapshotSpec], Path]
    ) -> Iterator[Callable[[int, SnapshotSpec], None]]:
        """The base with `width` slots to put snapshots' adapters in, until the block ends.

        For snapshots whose methods have the same `company`.
        """
        low = self.low_rank
        assert low is not None
        stack = StackedAdapters(low, base, self.taught(base), width)
        worn: dict[int, SnapshotSpec] = {}

        def wear(slot: int, snapshot: SnapshotSpec) -> None:
            if worn.get(slot) != snapshot:
                assert isinstance(snapshot.source, TrajectorySpec)
                own = FineTune(**snapshot.source.method.settings).low_rank
                assert own is not None
                stack.adapters.set(slot, read_adapter(folder_of(snapshot), base), own.scale)
                worn[slot] = snapshot

        try:
            yield wear
        finally:
            stack.close()


class Students:
    """Slots of trials on one base; gives their losses, which share one forward pass."""

    def __init__(self, method: FineTune, spec: TrajectorySpec, materials: Materials) -> None:
        base = materials.base
        assert base is not None
        self.part_names = ()
        self.width, self.base, self.character = spec.pack, base, materials.character
        self.pictures, self.class_pictures = materials.pictures, materials.class_pictures
        self.masks, self.batch_size = materials.masks, spec.batch_size
        self.noising = base.noising()
        self.teaches_text, self.execution = method.text_encoder, materials.execution
        self.autocast = "fp32" if method.low_rank else spec.precision
        self._check_team()
        self.trainees = trainees(method.low_rank, base, method.taught(base), spec.pack)
        self.desks: dict[int, Desk] = {}
        self.kept = self.trainees.named
        self.named, self.zero_grad = self.trainees.named, self.trainees.zero_grad
        self.save, self.aside = self.trainees.save, self.trainees.aside
        self.gradients = self.trainees.gradients
        self.warm_up_seconds = 0.0
        self._undo = contextlib.ExitStack()
        if self.execution.checkpointing:
            self._undo.enter_context(base.checkpointing())
        if self.execution.compile:
            self._undo.enter_context(base.compiled())

    def enter(self, slot: int, spec: TrajectorySpec) -> None:
        """Give a slot to a trajectory: its first weights, its pictures and prompts."""
        method = FineTune(**spec.method.settings)
        count = len(self.pictures)
        captions = list(self.character.captions)
        if method.prompts == "instance":
            captions = [self.character.instance_prompt] * count
        keys = list(self.character.spec.digests)
        lessons = Lessons(
            self.base, spec, "image", keys, self.pictures, captions, spec.framing, self.masks
        )
        prior = None
        if classes := self.class_pictures(spec):
            names = [f"{spec.class_images}/{i}" for i in range(len(classes))]
            prompts = [self.character.class_prompt] * len(classes)
            prior = Lessons(self.base, spec, "class image", names, classes, prompts, Framing())
        self.desks[slot] = Desk(method, lessons, prior)
        self.trainees.enter(slot, method.low_rank, spec.seed)
        if not self.teaches_text:  # all that they are needed for is kept
            self.base.texts(["", *captions, *(prior.captions if prior else ())])
            self.base.put_away(*self.base.family.encoders)
        self.base.put_away("vae")
        if self.execution.compile and not self.warm_up_seconds:
            self._warm_up(slot)

    def _warm_up(self, slot: int) -> None:
        """Compile by one pass that nothing is learnt from, so that no step pays for it."""
        started = time.perf_counter()
        self.zero_grad()
        for share in self.losses([0 if one == slot else None for one in range(self.width)]):
            share.sum().backward()
        self.zero_grad()
        self.warm_up_seconds = time.perf_counter() - started

    def leave(self, slot: int) -> None:
        self.trainees.leave(slot)
        del self.desks[slot]

    def close(self) -> None:
        """Put the base back as it was."""
        for slot in list(self.desks):
            self.leave(slot)
        self._undo.close()
        self.trainees.close()

    def _check_team(self) -> None:
        size = self.execution.team.size
        if self.batch_size < size:
            raise ConfigError(
                f"batch_size={self.batch_size}: {size} processes share a batch, so it must hold "
                f"{size} samples at least; set batch_size={size} or start fewer processes"
            )

    def losses(self, steps: Sequence[int | None]) -> Iterator[Tensor]:
        """The denoising loss of each slot at its step (from 0), shape (width,), in shares.

        With class images, theirs is added, weighted. One step is one update, whatever they are.
        """
        yield from self._shares("lessons", steps)
        if any(desk.prior for desk in self.desks.values()):
            yield from self._shares("prior", steps)

    def _shares(
        self, which: Literal["lessons", "prior"], steps: Sequence[int | None]
    ) -> Iterator[Tensor]:
        """This process's part of the batch's mean loss, a micro-batch at a time.

        Trials at the same step see pictures of one size; those at others may need a pass of theirs.
        """
        batches = {
            slot: self.desks[slot].batch(which, step, self.noising)
            for slot, step in enumerate(steps)
            if step is not None
        }
        for size in dict.fromkeys(batch.latents.shape for batch in batches.values()):
            alike = {slot: b for slot, b in batches.items() if b.latents.shape == size}
            idle = next(iter(alike.values())).idle()
            yield from self._alike([alike.get(slot, idle) for slot in range(self.width)])

    def _alike(self, batches: Sequence[Batch]) -> Iterator[Tensor]:
        """The same of batches whose pictures have one size."""
        import torch

        from charsweep.models.precision import autocast

        # sample i belongs to slot i mod width: see charsweep.train.stacked_lora
        mine = self.execution.team.part(self.batch_size)
        tensors = [
            self.base.send(torch.stack(parts, dim=1)[mine])
            for parts in zip(*(batch.tensors for batch in batches), strict=True)
        ]
        captions = [batch.captions[row] for row in mine for batch in batches]
        most = self.execution.micro_batch or self.batch_size
        for first in range(0, len(mine), most):
            rows = slice(first, first + most)
            words = captions[first * self.width : (first + most) * self.width]
            with autocast(self.autocast, self.base.device):
                each = self._each(words, *(one[rows].flatten(0, 1) for one in tensors))
            yield each.view(-1, self.width).sum(0) / self.batch_size

    def _each(
        self,
        captions: list[str],
        latents: Tensor,
        noise: Tensor,
        timesteps: Tensor,
        weights: Tensor,
        area: Tensor,
        sizes: Tensor,
    ) -> Tensor:
        """Of each sample, the mean squared error of what the base was made to predict."""
        import torch.nn.functional as F

        noisy = self.noising.noised(latents, noise, timesteps)
        predicted = self.base.predict(noisy, timesteps, self._conditioning(captions), sizes)
        target = self.noising.target(latents, noise, timesteps)
        errors = F.mse_loss(predicted, target, reduction="none")
        each = (errors * area[:, None]).mean(dim=(1, 2, 3))
        return each * weights

    def _conditioning(self, captions: list[str]) -> Conditioning:
        if self.teaches_text:
            return self.base.encode(captions)
        return self.base.texts(captions)
