"""One whole run, timed: which share of it is spent in the steps themselves.

Where Hydra, MLflow and Optuna are installed it is the command that a person types, with MLflow's
process beside it; else the loop alone. Both are read off what they leave in the store: the seconds
of `loss.csv` are the steps', and the loop lasts from the trajectory's `spec.json` to the resume
state of its last step. What lies between is logging, snapshots and resume states.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.speed.ours import Ours
from benchmarks.speed.task import FIRST_RATE, SNAPSHOTS, Task
from charsweep.core.errors import TrainingError
from charsweep.core.store import Store
from charsweep.core.store.losses import read_losses

NEEDED = ("hydra", "mlflow", "optuna")


@dataclass(frozen=True)
class Whole:
    """A run's steps and snapshots; seconds in all, in its steps, and of the command, if any."""

    steps: int
    snapshots: int
    seconds: float
    step_seconds: float
    command_seconds: float | None

    @property
    def share(self) -> float:
        return self.step_seconds / self.seconds


def whole_run(task: Task, steps: int) -> Whole:
    """Train `steps` steps with a snapshot every 100, one trial alone."""
    snapshots = (*range(SNAPSHOTS, steps, SNAPSHOTS), steps)
    with tempfile.TemporaryDirectory() as folder:
        root, seconds = Path(folder), None
        if all(find_spec(name) for name in NEEDED):
            seconds = command(task, snapshots, root)
        else:
            with contextlib.closing(Ours(task, 1, snapshots, root)) as loop:
                loop.advance(steps)
        return read(Store(root), steps, seconds)


def command(task: Task, snapshots: tuple[int, ...], root: Path) -> float:
    """Run it as a sweep of one image per snapshot; seconds."""
    words = [
        f"root={root}", "name=whole", f"models={task.models}", f"method={task.method.name}",
        f"method.base={task.method.settings['base']}", f"resolution={task.resolution}",
        f"precision={task.precision}", f"lr={FIRST_RATE}", "pack=1", f"train_steps={snapshots[-1]}",
        f"+axes.train_steps=[{','.join(map(str, snapshots))}]", "inference_steps=1",
        "exam.prompts=['a picture of {subject}']", "exam.seeds=[0]", "sampler.batch_width=1",
        "metric=[clip_i]", "objectives=[clip_i]", f"runtime.device={task.device.type}",
        f"runtime.threads={task.threads or 'null'}", "runtime.tracking_uri=null",
    ]  # fmt: skip
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "charsweep", *words], capture_output=True, text=True, check=False,
        env={name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"},
    )  # fmt: skip
    if done.returncode:
        raise TrainingError(f"python -m charsweep {' '.join(words)} failed: {done.stderr[-2000:]}")
    return time.perf_counter() - started


def read(store: Store, steps: int, command_seconds: float | None) -> Whole:
    """What the run left in the store."""
    (csv,) = store.folder.glob("*/loss.csv")
    (state,) = csv.parent.glob("resume/*/resume.json")
    started, ended = ((csv.parent / "spec.json").stat().st_mtime, state.stat().st_mtime)
    rows = read_losses(csv)
    snapshots = len(list(csv.parent.glob("step-*/snapshot.json")))
    spent = sum(row.seconds for row in rows)
    return Whole(steps, snapshots, ended - started, spent, command_seconds)
