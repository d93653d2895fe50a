"""Small sweeps on the embedded models, a second or two each, for the tests of the spine."""

from __future__ import annotations

import csv
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from charsweep.config import Sweep, load_sweep
from charsweep.core.specs import EncoderSpec, Plugin
from charsweep.core.store import Store
from charsweep.models.weights import BaseWeights, Weights, find_base
from charsweep.plan import plan_work

EXAM = [
    "exam=quick",
    "exam.prompts=['a picture of {subject} jumping','a picture of {subject} on the beach']",
    "exam.seeds=[0,1]",
    "inference_steps=2",
    "sampler.batch_width=4",
]
ONE_IMAGE = [  # where only the training matters
    "exam.prompts=['a picture of {subject} jumping']", "exam.seeds=[0]", "inference_steps=1",
    "sampler.batch_width=1",
]  # fmt: skip
TIMES = ("train_seconds", "paid_seconds", "sample_seconds", "seconds_per_step", "peak_memory_mb",
         "energy_wh", "co2_g")  # fmt: skip


def small(root: Path, *overrides: str) -> list[str]:
    """Overrides of a sweep that trains few steps and draws four images of two steps each."""
    return [f"root={root}", "name=small", *EXAM, *overrides]


def sweep_of(root: Path, *overrides: str) -> Sweep:
    return load_sweep(small(root, *overrides))


def family(name: str) -> Plugin:
    """The family of bases that `sd15` and `sdxl` stand for."""
    made = {"sd15": "StableDiffusion", "sdxl": "StableDiffusionXL"}[name]
    return Plugin(name, made, 1, {})


def base_named(sweep: Sweep, name: str) -> BaseWeights:
    """The base of that name, of a sweep that has one."""
    (found,) = (base for base in sweep.bases.values() if base.plugin.name == name)
    return found


def encoder_named(sweep: Sweep, name: str) -> tuple[EncoderSpec, Weights]:
    """The encoder of that name, of a sweep that has one."""
    (found,) = (pair for pair in sweep.encoders.items() if pair[0].name == name)
    return found


def weights_at(path: Path) -> BaseWeights:
    """A base in a folder called sd15 or sdxl, as planning finds it."""
    return find_base(str(path), path.parent, family(path.name))


def execute(root: Path, *overrides: str) -> tuple[Sweep, Store, list[Any]]:
    """Run a sweep's plan in this process, without Optuna, MLflow and report."""
    from charsweep.engine.local import LocalEngine
    from charsweep.engine.progress import ProgressView

    sweep, store = sweep_of(root, *overrides), Store(root)
    with ProgressView() as view:
        plan = plan_work(sweep.cells, store)
        results = list(LocalEngine(sweep, store, view).execute(plan))
    return sweep, store, results


def command(
    *words: str, cwd: Path | None = None, timeout: float = 300, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`python -m charsweep` as a person types it."""
    return subprocess.run(
        [sys.executable, "-m", "charsweep", *words],
        cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


def loaded_after(code: str) -> set[str]:
    """Names of the top-level modules that a new interpreter holds after running `code`."""
    told = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def snapshot_bytes(folder: Path) -> dict[str, bytes]:
    """All files below a snapshot's folder, as bytes; not images.json, which holds a time."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "images.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


def cells_without_times(path: Path) -> list[dict[str, str]]:
    """Rows of cells.csv, all but their times."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: row[name] for name in row if name not in TIMES} for row in rows]


def trials(root: Path) -> list[tuple[int, str]]:
    with sqlite3.connect(root / "sweeps/small/study.db") as database:
        return database.execute("select number, state from trials order by number").fetchall()


def runs(root: Path) -> list[tuple[str, str]]:
    """Cell key and status of every MLflow run that is not deleted."""
    with sqlite3.connect(root / "mlflow.db") as database:
        return database.execute(
            "select tags.value, runs.status from runs join tags on tags.run_uuid = runs.run_uuid "
            "where tags.key = 'charsweep.cell' and runs.lifecycle_stage = 'active'"
        ).fetchall()
