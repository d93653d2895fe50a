"""Trajectories in, snapshots, loss.csv and resume states out: the training loop.

The loop trains as many trials at once as the method's students have slots: one, or a pack that
shares the frozen base's forward and backward pass. Each trial is as if alone: its own draws, loss,
clipping, optimizer, rate, files. Idle slots compute nothing of use, so that the width of a pack,
and with it every bit of a trial, does not depend on who trains beside it.

The loop is a generator: it yields after each step, so that whoever runs it can show progress, draw
what is finished, or stop. All randomness is a function of (seed, purpose, step), so a short run is,
bit for bit, a prefix of a long one, and a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from charsweep.errors import ConfigError, StoreError
from charsweep.plan import Piece, Training
from charsweep.plugins import resolve
from charsweep.specs import SnapshotSpec, TrajectorySpec
from charsweep.store import LossRow, Store, loss_line, new_folder, write_losses


class Students(Protocol):
    """What a method trains: `width` slots, each free or taken by one trajectory."""

    @property
    def width(self) -> int: ...
    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the losses that add up to a trial's loss; () where it is one."""
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
    def losses(self, steps: Sequence[int | None]) -> Tensor:
        """The loss of each slot at its step (from 0), shape (width,); None: the slot is free.

        Of a method whose loss has parts: shape (parts, width).
        """
        ...

    def save(self, slot: int, folder: Path) -> None: ...


@dataclass(frozen=True)
class Trained:
    """What one step did for one trial; `shared` trials shared the time that the row names."""

    training: Training
    row: LossRow
    shared: int
    is_last: bool  # the trial has left its slot


def train(
    students: Students, trainings: Iterator[Training | None], store: Store, resume_seconds: float
) -> Iterator[list[Trained]]:
    """Train each training's pieces, yielding after each step what it did for whom.

    Trials enter free slots in the order of `trainings`, which may answer None for "nothing yet". A
    loss or gradient that is not finite ends a trajectory as diverged, which is a result. Resume
    states are written after the last step of a piece and about every `resume_seconds`.
    """
    trials: list[Trial | None] = [None] * students.width
    try:
        while True:
            for slot in range(students.width):
                if trials[slot] is None and (training := next(trainings, None)):
                    trials[slot] = Trial(training, students, slot, store)
            running = [trial for trial in trials if trial]
            if not running:
                return

            started = time.perf_counter()
            students.zero_grad()
            losses = students.losses([trial.step if trial else None for trial in trials])
            losses.sum().backward()
            norms = [
                torch.nn.utils.clip_grad_norm_(trial.parameters, trial.spec.max_grad_norm)
                for trial in running
            ]
            parts, norm = losses.view(-1, students.width).tolist(), torch.stack(norms).tolist()
            loss = [sum(column) for column in zip(*parts, strict=True)]
            rows = []
            for trial, length in zip(running, norm, strict=True):
                lr = trial.set_rate()
                trial.diverged = not (math.isfinite(loss[trial.slot]) and math.isfinite(length))
                if not trial.diverged:
                    trial.optimizer.step()
                trial.step += 1
                own = [part[trial.slot] for part in parts]
                named = dict(zip(students.part_names, own, strict=False))  # one loss has no name
                rows.append(LossRow(trial.step, loss[trial.slot], lr, length, 0.0, named))
            seconds = time.perf_counter() - started

            done = []
            for trial, row in zip(running, rows, strict=True):
                row = replace(row, seconds=seconds)
                trial.record(row, store, resume_seconds)
                if trial.is_done:
                    trial.close()
                    trials[trial.slot] = trial.next_piece(store)
                is_last = trials[trial.slot] is None
                done.append(Trained(trial.training, row, len(running), is_last))
            yield done
    finally:
        for left in trials:
            if left:
                left.close()


class Trial:
    """One trajectory in its slot: its step, its optimizer, its open loss.csv."""

    def __init__(
        self, training: Training, students: Students, slot: int, store: Store, piece: int = 0
    ) -> None:
        self.training, self.spec = training, training.trajectory
        self.piece: Piece = training.pieces[piece]
        self._number = piece
        self.students, self.slot = students, slot
        students.enter(slot, self.spec)
        self.named = students.named(slot)
        self.parameters = list(self.named.values())
        self.optimizer = make_optimizer(self.spec, self.parameters)
        self.schedule = resolve(self.spec.schedule.target)(**self.spec.schedule.settings)
        folder = store.open_trajectory(self.spec)
        self.stored = store.resume_step(self.spec)  # up to here loss.csv has its rows
        rows = [row for row in store.losses(self.spec) if row.step <= self.stored]
        if self.piece.start:
            load_state(
                store.resume(self.spec, self.piece.start), students.kept(slot), self.optimizer
            )
        write_losses(folder / "loss.csv", rows, students.part_names)
        self.file = (folder / "loss.csv").open("a", encoding="utf-8", newline="")
        self.step = self.piece.start
        self.diverged = False
        self.saved = time.monotonic()

    @property
    def is_done(self) -> bool:
        return self.diverged or self.step == self.piece.stop

    def set_rate(self) -> float:
        """The learning rate of the next step, given to the optimizer."""
        lr: float = self.spec.learning_rate * self.schedule(self.step, self.spec.horizon)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def record(self, row: LossRow, store: Store, resume_seconds: float) -> None:
        """Write the step's row, and its snapshot and resume state where they are due."""
        if row.step > self.stored:  # a stretch trained again has its rows already
            self.file.write(loss_line(row) + "\n")
        if self.diverged:
            self.file.flush()
            store.mark_diverged(self.spec, row.step)
            return
        if row.step in self.piece.snapshots:
            save_snapshot(SnapshotSpec(self.spec, row.step), self.students, self.slot, store)
        is_due = self.is_done or time.monotonic() - self.saved > resume_seconds
        if row.step > self.stored and is_due:
            self.file.flush()
            kept = self.students.kept(self.slot)
            save_state(store, self.spec, row.step, kept, self.optimizer)
            self.saved = time.monotonic()

    def next_piece(self, store: Store) -> Trial | None:
        if self.diverged or self._number + 1 == len(self.training.pieces):
            return None
        return Trial(self.training, self.students, self.slot, store, self._number + 1)

    def close(self) -> None:
        self.file.close()
        self.students.leave(self.slot)


def make_optimizer(spec: TrajectorySpec, parameters: list[Tensor]) -> torch.optim.Optimizer:
    settings = dict(spec.optimizer.settings)
    kind = resolve(spec.optimizer.target)
    if not isinstance(kind, type) or not issubclass(kind, torch.optim.Optimizer):
        raise ConfigError(
            f"optimizer._target_={spec.optimizer.target} is no torch optimizer; "
            "torch.optim.AdamW is one"
        )
    try:
        return kind(parameters, **{**settings, "lr": spec.learning_rate})
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"optimizer {spec.optimizer.target} does not take {settings}: {error}; "
            "mend optimizer.* or choose another file of conf/optimizer/"
        ) from error


def save_snapshot(spec: SnapshotSpec, students: Students, slot: int, store: Store) -> None:
    """Write the weights of one step as other programs read them; the manifest comes last."""
    manifest: dict[str, Any] = {"spec": {"step": spec.step}}
    with new_folder(store.snapshot(spec), "snapshot.json", manifest) as folder:
        students.save(slot, folder)
        files = [path for path in folder.rglob("*") if path.is_file()]
        manifest["bytes"] = sum(path.stat().st_size for path in files)


def save_state(
    store: Store,
    spec: TrajectorySpec,
    step: int,
    named: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write what is needed to go on after `step`, then drop the older state."""
    state = optimizer.state_dict()["state"]
    tensors = {f"weight/{name}": tensor for name, tensor in named.items()}
    numbers: dict[str, Any] = {}
    for index, fields in state.items():
        for name, value in fields.items():
            place = f"optimizer/{index}/{name}"
            if isinstance(value, Tensor):
                tensors[place] = value
            else:
                numbers[place] = value
    with new_folder(store.resume(spec, step), "resume.json", {"step": step}) as folder:
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, folder / "state.safetensors")
        (folder / "numbers.json").write_text(json.dumps(numbers), encoding="utf-8")
    store.commit_resume(spec, step)


def load_state(folder: Path, named: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    """Put weights and optimizer back as `save_state` found them."""
    try:
        tensors = load_file(folder / "state.safetensors")
        numbers = json.loads((folder / "numbers.json").read_text(encoding="utf-8"))
        with torch.no_grad():
            for name, tensor in named.items():
                tensor.copy_(tensors.pop(f"weight/{name}"))
        state: dict[int, dict[str, Any]] = {}
        for place, value in {**tensors, **numbers}.items():
            _, index, name = place.split("/")
            state.setdefault(int(index), {})[name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except Exception as error:
        raise StoreError(
            f"cannot resume from {folder}: {error}; delete that folder and run the same command "
            "again"
        ) from error
