"""One trajectory in, snapshots, loss.csv and a resume state out: the training loop.

The loop is a generator: it yields each step as it is done, so that whoever runs it can show
progress or stop it between steps. All randomness is a function of (seed, purpose, step), so a
short run is, bit for bit, a prefix of a long one, and a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from charsweep.errors import ConfigError, StoreError
from charsweep.plan import Piece
from charsweep.plugins import resolve
from charsweep.specs import SnapshotSpec, TrajectorySpec
from charsweep.store import LossRow, Store, loss_line, new_folder, write_losses


class Student(Protocol):
    """What a method trains; `named` are its trainable tensors by name."""

    named: Mapping[str, Tensor]

    @property
    def parameters(self) -> list[Tensor]: ...
    def loss(self, step: int) -> Tensor: ...
    def save(self, folder: Path) -> None: ...


def train(
    spec: TrajectorySpec, piece: Piece, student: Student, store: Store, resume_seconds: float
) -> Iterator[LossRow]:
    """Train from `piece.start` to its last snapshot, yielding each step.

    A loss or gradient that is not finite ends the trajectory as diverged, which is a result. The
    resume state is written after the last step and about every `resume_seconds`.
    """
    optimizer = make_optimizer(spec, student.parameters)
    schedule = resolve(spec.schedule.target)(**spec.schedule.settings)
    folder = store.open_trajectory(spec)
    stored = store.resume_step(spec)
    rows = [row for row in store.losses(spec) if row.step <= stored]
    if piece.start:
        load_state(store.resume(spec, piece.start), student, optimizer)
    write_losses(folder / "loss.csv", rows)
    saved = time.monotonic()

    with (folder / "loss.csv").open("a", encoding="utf-8", newline="") as losses:
        for step in range(piece.start + 1, piece.stop + 1):
            started = time.perf_counter()
            lr = spec.learning_rate * schedule(step - 1, spec.horizon)
            for group in optimizer.param_groups:
                group["lr"] = lr

            optimizer.zero_grad(set_to_none=True)
            loss = student.loss(step - 1)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(student.parameters, spec.max_grad_norm)
            value, length = loss.item(), norm.item()
            diverged = not (math.isfinite(value) and math.isfinite(length))
            if not diverged:
                optimizer.step()

            row = LossRow(step, value, lr, length, time.perf_counter() - started)
            if step > stored:  # a stretch trained again has its rows already
                losses.write(loss_line(row) + "\n")
            yield row

            if diverged:
                losses.flush()
                store.mark_diverged(spec, step)
                return
            if step in piece.snapshots:
                save_snapshot(SnapshotSpec(spec, step), student, store)
            is_last = step == piece.stop
            if step > stored and (is_last or time.monotonic() - saved > resume_seconds):
                losses.flush()
                save_state(store, spec, step, student, optimizer)
                saved = time.monotonic()


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


def save_snapshot(spec: SnapshotSpec, student: Student, store: Store) -> None:
    """Write the weights of one step as other programs read them; the manifest comes last."""
    manifest: dict[str, Any] = {"spec": {"step": spec.step}}
    with new_folder(store.snapshot(spec), "snapshot.json", manifest) as folder:
        student.save(folder)
        files = [path for path in folder.rglob("*") if path.is_file()]
        manifest["bytes"] = sum(path.stat().st_size for path in files)


def save_state(
    store: Store,
    spec: TrajectorySpec,
    step: int,
    student: Student,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write what is needed to go on after `step`, then drop the older state."""
    state = optimizer.state_dict()["state"]
    tensors = {f"weight/{name}": tensor for name, tensor in student.named.items()}
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


def load_state(folder: Path, student: Student, optimizer: torch.optim.Optimizer) -> None:
    """Put weights and optimizer back as `save_state` found them."""
    try:
        tensors = load_file(folder / "state.safetensors")
        numbers = json.loads((folder / "numbers.json").read_text(encoding="utf-8"))
        with torch.no_grad():
            for name, tensor in student.named.items():
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
