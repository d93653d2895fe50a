"""The denoising loss of trials on one base (Ho et al. 2020, equation 14), several in one pass."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from charsweep.config.pack_width import name_of
from charsweep.core.errors import ConfigError
from charsweep.core.methods import method_of
from charsweep.core.specs import Framing, TrajectorySpec
from charsweep.core.system.images import open_image
from charsweep.models.conditioning import Conditioning
from charsweep.models.precision import autocast
from charsweep.train.batches import Batch, Images, Shown, TrainingImages, TrialBatches
from charsweep.train.company import CompanyImages, company_images
from charsweep.train.methods import ClassImage, Materials, SharedSlots
from charsweep.train.narrowing import Narrowing


class DenoisingTrainable:
    """Slots of trials on one base, whose losses share one forward pass.

    `written` gives a slot's captions as the base must read them for its weights to have a part.
    """

    part_names = ()

    def __init__(
        self,
        spec: TrajectorySpec,
        materials: Materials,
        weights: SharedSlots,
        written: Callable[[int, list[str]], list[str]] | None = None,
    ) -> None:
        base, method = materials.base, method_of(spec.method)
        assert base is not None
        self.width, self.base = spec.pack, base
        self.images, self.class_images = materials.images, materials.class_images
        self.masks, self.batch_size = materials.masks, spec.batch_size
        self.company = materials.company
        self.noising = base.family.noising(base.pipeline)
        self.teaches_text = not set(base.family.encoders).isdisjoint(method.taught(base.family))
        self.execution = materials.execution
        self.autocast = spec.precision if method.trains_base else "fp32"
        self._check_team()
        self.weights, self.written = weights, written
        self.batches: dict[int, TrialBatches] = {}
        self.named = self.resume_tensors = weights.named
        self.zero_grad, self.gradients = weights.zero_grad, weights.gradients
        self.save = weights.save
        self.teaching_adapter, self._on_base = materials.teaching_adapter, contextlib.ExitStack()
        if self.teaching_adapter:
            with weights.aside():
                self._put_on()
        self.warm_up_seconds = 0.0
        self.slots = slice(0, self.width)  # of a pass
        self.narrowing = self._narrowing(spec)
        self._undo = contextlib.ExitStack()
        if self.execution.checkpointing:
            self._undo.enter_context(base.checkpointing())
        if self.execution.compile:
            self._undo.enter_context(base.compiled())

    def _put_on(self) -> None:
        """Add the teaching adapter to the base's weights, if there is one."""
        if self.teaching_adapter:
            self._on_base.enter_context(self.base.changed(self.teaching_adapter))

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        with self.weights.aside():
            self._on_base.close()
            try:
                yield
            finally:
                self._put_on()

    def enter(self, slot: int, spec: TrajectorySpec) -> None:
        method = method_of(spec.method)
        self.weights.enter(slot, spec)
        captions = list(method.captions(spec.character))
        if self.written:
            captions = self.written(slot, captions)
        one = TrainingImages(
            self.base, spec, "image", spec.character.digests, self.images, captions, spec.framing,
            self.masks, method.caption_changes,
        )  # fmt: skip
        images: Shown = one
        if self.company:
            images = company_images(self.base, spec, one, self.company)
        prior = self._prior(spec)
        self.batches[slot] = TrialBatches(method.loss, images, prior)
        if not self.teaches_text:
            self.base.texts(["", *images.captions, *(prior.captions if prior else ())])
            if not method.caption_changes.shuffle:  # else these are not all
                self.base.put_away(*self.base.family.encoders)
        self.base.put_away("vae")
        if self.execution.compile and not self.warm_up_seconds:
            self._warm_up(slot)

    def _prior(self, spec: TrajectorySpec) -> Shown | None:
        """The images of the class; of two characters' classes, by turns."""
        own = self._of_class("class image", spec, spec.class_images, self.class_images)
        company = spec.company
        if own is None or company is None or company.class_images == spec.class_images:
            return own
        assert self.company is not None
        of_other = self.company.class_images
        other = self._of_class("other class image", spec, company.class_images, of_other)
        return CompanyImages(own, other) if other else own

    def _of_class(
        self,
        purpose: str,
        spec: TrajectorySpec,
        key: str | None,
        found: Callable[[TrajectorySpec], Sequence[ClassImage]],
    ) -> TrainingImages | None:
        if not (classes := found(spec)):
            return None
        names = [f"{key}/{i}" for i in range(len(classes))]
        opened = (open_image(image.path) for image in classes)  # one after the other
        prompts = [image.caption for image in classes]
        return TrainingImages(self.base, spec, purpose, names, opened, prompts, Framing())

    def _warm_up(self, slot: int) -> None:
        """Compile by one pass that nothing is learnt from, so that no step pays for it."""
        started = time.perf_counter()
        self.zero_grad()
        for share in self.losses([0 if one == slot else None for one in range(self.width)]):
            share.sum().backward()
        self.zero_grad()
        self.warm_up_seconds = time.perf_counter() - started

    def leave(self, slot: int) -> None:
        self.weights.leave(slot)
        del self.batches[slot]

    def close(self) -> None:
        for slot in list(self.batches):
            self.leave(slot)
        self._undo.close()
        self.weights.close()
        self._on_base.close()

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
        slots = self.narrowing.slots(steps) if self.narrowing else slice(0, self.width)
        yield from self._losses(steps, slots)

    def _losses(self, steps: Sequence[int | None], slots: slice) -> Iterator[Tensor]:
        """By passes of some slots, in which all trials lie."""
        self.slots = slots
        self.weights.narrow(slots)
        yield from self._shares("images", steps)
        if any(batches.prior for batches in self.batches.values()):
            yield from self._shares("prior", steps)

    def _narrowing(self, spec: TrajectorySpec) -> Narrowing | None:
        """None where passes differ too much for two to tell of all, or are shared or compiled."""
        own = self.execution
        unlike = spec.framing.crop == "buckets" or (spec.company and spec.company.joint_share)
        if own.team.size > 1 or own.compile or unlike or self.width == 1:
            return None
        kind = f"{name_of(spec)} {own.micro_batch} {spec.class_images is not None}"
        return Narrowing(kind, self.width, self._gradients_of)

    def _gradients_of(self, steps: Sequence[int | None], slots: slice) -> list[Tensor]:
        """Losses and gradients of all slots in a pass of these; nothing is left of it."""
        self.zero_grad()
        losses = []
        for share in self._losses(steps, slots):
            share.sum().backward()
            losses.append(share.detach())
        found = [*losses, *(gradient.clone() for gradient in self.gradients())]
        self.zero_grad()
        return found

    def _shares(self, which: Images, steps: Sequence[int | None]) -> Iterator[Tensor]:
        """This process's part of the batch's mean loss, a micro-batch at a time.

        Trials at the same step see images of one size; those at others may need a pass of theirs.
        """
        batches = {
            slot: self.batches[slot].batch(which, step, self.noising)
            for slot, step in enumerate(steps)
            if step is not None
        }
        for size in dict.fromkeys(batch.latents.shape for batch in batches.values()):
            alike = {slot: b for slot, b in batches.items() if b.latents.shape == size}
            idle = next(iter(alike.values())).idle()
            passed = range(self.width)[self.slots]
            free = (self.slots.start, self.width - self.slots.stop)
            for share in self._alike([alike.get(slot, idle) for slot in passed]):
                yield F.pad(share, free) if any(free) else share

    def _alike(self, batches: Sequence[Batch]) -> Iterator[Tensor]:
        """The same of batches whose images have one size."""
        # sample i belongs to slot i mod their number: see charsweep.train.stacked_lora
        width = len(batches)
        mine = self.execution.team.part(self.batch_size)
        tensors = [
            self.base.send(torch.stack(parts, dim=1)[mine])
            for parts in zip(*(batch.tensors for batch in batches), strict=True)
        ]
        captions = [batch.captions[row] for row in mine for batch in batches]
        most = self.execution.micro_batch or self.batch_size
        for first in range(0, len(mine), most):
            rows = slice(first, first + most)
            words = captions[first * width : (first + most) * width]
            with autocast(self.autocast, self.base.device):
                each = self._each(words, *(one[rows].flatten(0, 1) for one in tensors))
            yield each.view(-1, width).sum(0) / self.batch_size

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
        noisy = self.noising.noised(latents, noise, timesteps)
        predicted = self.base.predict(noisy, timesteps, self._conditioning(captions), sizes)
        target = self.noising.target(latents, noise, timesteps)
        errors = F.mse_loss(predicted, target, reduction="none")
        each = (errors * area[:, None]).mean(dim=(1, 2, 3))
        return each * weights

    def _conditioning(self, captions: list[str]) -> Conditioning:
        if self.teaches_text:
            return self.base.encode(captions)
        return self.base.texts(captions, keep=False)
