"""Trajectories in, snapshots, loss.csv and resume states out: the training loop.

The loop trains as many trials at once as the method's `Trainable` has slots: one, or a pack that
shares the frozen base's forward and backward pass. Each trial is as if alone: its own draws, loss,
clipping, optimizer, rate, files. Idle slots compute nothing of use, so that the width of a pack,
and with it every bit of a trial, does not depend on who trains beside it.

Losses and gradient norms stay on the device and are fetched in blocks of steps, so that no step
waits for the one before it. A block ends where a snapshot is due, so that nothing is written before
its losses were seen to be finite.

The loop is a generator: it yields after each block, so that whoever runs it can show progress, draw
what is finished, or stop. All randomness is a function of (seed, purpose, step), so a short run is,
bit for bit, a prefix of a long one, and a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charsweep.core.specs import SnapshotSpec
from charsweep.core.store import Store
from charsweep.core.store.losses import LossRow, loss_line, write_losses
from charsweep.core.system.distributed import ALONE, Team
from charsweep.plan import Training, TrainingSpan
from charsweep.train.checkpoint import (
    load_state,
    make_optimizer,
    make_scaler,
    save_snapshot,
    save_state,
)
from charsweep.train.methods import Trainable

FETCH_SECONDS = 0.5  # how long steps are queued before their losses are fetched
FETCH_STEPS = 10  # the same for several processes, whose blocks must end at the same step


@dataclass(frozen=True)
class Trained:
    """What one step did for one trial; `shared` trials shared the time that the row names."""

    training: Training
    row: LossRow
    shared: int
    is_last: bool  # the trial has left its slot


def train(
    trainable: Trainable,
    trainings: Iterator[Training | None],
    store: Store,
    resume_seconds: float,
    team: Team = ALONE,
    fetch_seconds: float = FETCH_SECONDS,
) -> Generator[list[Trained], None, None]:
    """Train each training's spans, yielding after each block of steps what they did for whom.

    Trials enter free slots in the order of `trainings`, which may answer None for "nothing yet". A
    loss or gradient that is not finite ends a trajectory as diverged, which is a result. Resume
    states are written after the last step of a span, about every `resume_seconds`, and when the
    generator is closed while trials are running.
    """
    trials: list[Trial | None] = [None] * trainable.width
    try:
        while True:
            for slot in range(trainable.width):
                if trials[slot] is None and (training := next(trainings, None)):
                    trials[slot] = Trial(training, trainable, slot, store, team)
            running = [trial for trial in trials if trial]
            if not running:
                return

            losses: list[Tensor] = []  # of each step: (parts, width)
            norms: list[Tensor] = []  # of each step: of the trials that run
            started = time.perf_counter()
            while not losses or not (
                any(trial.is_due for trial in running)
                or is_full(len(losses), time.perf_counter() - started, fetch_seconds, team)
            ):
                trainable.zero_grad()
                steps = [trial.step if trial else None for trial in trials]
                shares = [differentiated(share, running) for share in trainable.losses(steps)]
                team.add_up(trainable.gradients())
                losses.append(torch.stack(shares).sum(0).view(-1, trainable.width))
                norms.append(torch.stack([trial.update() for trial in running]))
            team.add_up([whole := torch.stack(losses)])  # each process has those of its samples
            columns = whole.permute(2, 0, 1).tolist()  # here the host waits for the device
            lengths = torch.stack(norms).T.tolist()
            seconds = (time.perf_counter() - started) / len(losses)

            done = []
            for trial, length in zip(running, lengths, strict=True):
                rows = trial.record(columns[trial.slot], length, seconds, resume_seconds)
                if trial.is_done:
                    trial.close()
                    trials[trial.slot] = trial.next_span()
                has_left = trials[trial.slot] is None
                done += [
                    Trained(trial.training, row, len(running), has_left and row is rows[-1])
                    for row in rows
                ]
            yield done
    except GeneratorExit:  # left between two blocks: from here it goes on another time
        for cut_off in trials:
            if cut_off:
                cut_off.save()
        raise
    finally:
        for left in trials:
            if left:
                left.close()


def differentiated(share: Tensor, running: Sequence[Trial]) -> Tensor:
    """Add a share's gradients to those that are there; the share, without its graph."""
    if running[0].scaler is None:
        share.sum().backward()
    else:  # each trial has its own scale, and a free slot has no trial
        columns = share.view(-1, share.shape[-1])
        scaled = [
            trial.scaler.scale(columns[:, trial.slot].sum()) for trial in running if trial.scaler
        ]
        torch.stack(scaled).sum().backward()
    return share.detach()


def is_full(steps: int, seconds: float, fetch_seconds: float, team: Team) -> bool:
    """Whether to fetch: by the clock, which several processes would read differently."""
    return steps == FETCH_STEPS if team.size > 1 else seconds > fetch_seconds


class Trial:
    """One trajectory in its slot: its step, its optimizer, its open loss.csv."""

    def __init__(
        self,
        training: Training,
        trainable: Trainable,
        slot: int,
        store: Store,
        team: Team,
        span: int = 0,
    ) -> None:
        self.training, self.spec = training, training.trajectory
        self.span: TrainingSpan = training.spans[span]
        self._number = span
        self.trainable, self.slot, self.store, self.team = trainable, slot, store, team
        trainable.enter(slot, self.spec)
        named = trainable.named(slot)
        self.parameters = list(named.values())
        self.optimizer = make_optimizer(self.spec, named)
        self.learning_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.scaler = make_scaler(self.spec, self.parameters[0].device)
        self.schedule = self.spec.schedule.made
        self.stored = store.resume_step(self.spec)
        if self.span.start:
            folder = store.resume(self.spec, self.span.start)
            load_state(folder, trainable.resume_tensors(slot), self.optimizer, self.scaler)
        self.file, self.recorded = None, 0  # up to where loss.csv has its rows
        if team.leads:
            known = self.stored or store.last_snapshot(self.spec)
            rows = [row for row in store.losses(self.spec) if row.step <= known]
            self.recorded = len(rows)
            path = store.open_trajectory(self.spec) / "loss.csv"
            write_losses(path, rows, trainable.part_names)
            self.file = path.open("a", encoding="utf-8", newline="")
        self.step = self.span.start
        self.rates: list[float] = []  # of the steps since the last block
        self.diverged = False
        self.saved = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether a snapshot is: the last one is the span's end."""
        return self.step in self.span.snapshots

    @property
    def is_done(self) -> bool:
        return self.diverged or self.step == self.span.stop

    def update(self) -> Tensor:
        """Take one step along the gradients, clipped; their norm before that, on the device."""
        factor = self.schedule(self.step, self.spec.horizon)
        for group, rate in zip(self.optimizer.param_groups, self.learning_rates, strict=True):
            group["lr"] = rate * factor
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.spec.max_grad_norm)
        if self.scaler:  # leaves out a step whose gradients overflowed
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()
        self.rates.append(self.spec.learning_rate * factor)
        self.step += 1
        return norm

    def record(
        self,
        losses: Sequence[Sequence[float]],
        norms: Sequence[float],
        seconds: float,
        resume_seconds: float,
    ) -> list[LossRow]:
        """A block's rows, written; and the snapshot and resume state, where they are due.

        `losses` has the parts of each step's loss. The rows end at the one that shows divergence.
        """
        rows, first = [], self.step - len(losses)
        for number, (parts, norm, rate) in enumerate(
            zip(losses, norms, self.rates, strict=True), 1
        ):
            named = dict(zip(self.trainable.part_names, parts, strict=False))  # one has no name
            row = LossRow(first + number, sum(parts), rate, norm, seconds, named)
            rows.append(row)
            self.diverged = not math.isfinite(row.loss) or (
                self.scaler is None and not math.isfinite(norm)  # which a scaler expects at times
            )
            if self.diverged:
                self.step = row.step
                break
        self.rates.clear()
        if self.file:
            self._write(rows, resume_seconds)
        return rows

    def _write(self, rows: Sequence[LossRow], resume_seconds: float) -> None:
        assert self.file
        for row in rows:
            if row.step > self.recorded:  # a stretch trained again has its rows already
                self.file.write(loss_line(row) + "\n")
        if self.diverged:
            self._flush()
            self.store.mark_diverged(self.spec, self.step)
            return
        if self.is_due:
            self._flush()
            save_snapshot(SnapshotSpec(self.spec, self.step), self.trainable, self.slot, self.store)
        if self.is_done or time.monotonic() - self.saved > resume_seconds:
            self.save()

    def _flush(self) -> None:
        """Have the rows on disk: weights whose losses are lost with the process are of no use."""
        assert self.file
        self.file.flush()
        os.fsync(self.file.fileno())

    def save(self) -> None:
        """Write the resume state of the step at hand, unless one of a later step is there."""
        if self.file and self.step > self.stored:
            self._flush()
            tensors = self.trainable.resume_tensors(self.slot)
            save_state(self.store, self.spec, self.step, tensors, self.optimizer, self.scaler)
            self.saved = time.monotonic()

    def next_span(self) -> Trial | None:
        if self.diverged or self._number + 1 == len(self.training.spans):
            return None
        return Trial(
            self.training, self.trainable, self.slot, self.store, self.team, self._number + 1
        )

    def close(self) -> None:
        if self.file:
            self.file.close()
        self.trainable.leave(self.slot)
