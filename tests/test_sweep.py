"""The command as a person uses it: run, run again, add a value, change the meaning, kill -9."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from small import cells_without_times, command, small

from charsweep.__main__ import main
from charsweep.store import read_losses

RATES = ["+axes.lr=[1e-2,1e-4]"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished sweep: two rates, six steps."""
    root = tmp_path_factory.mktemp("swept")
    done = command(*small(root, "train_steps=6", *RATES))
    assert done.returncode == 0, done.stderr
    assert "report" in done.stdout
    return root


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


def rows(root: Path) -> list[dict[str, str]]:
    with (root / "sweeps/small/cells.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sweep_leaves_everything_a_person_asks_for(swept: Path) -> None:
    folder = swept / "sweeps" / "small"
    cells = rows(swept)
    assert [cell["state"] for cell in cells] == ["finished", "finished"]
    assert [float(cell["lr"]) for cell in cells] == [1e-2, 1e-4]
    for cell in cells:
        for metric in ("clip_i", "clip_t", "dino", "diversity", "copy", "quality_ratio"):
            assert cell[metric] != ""
            assert cell[f"{metric}_gain"] != ""
        assert float(cell["size_mb"]) > 0.05
        assert float(cell["train_seconds"]) > 0
        assert float(cell["peak_memory_mb"]) > 100
        assert (swept / "sweeps/store" / cell["images"] / "003.png").exists()
        losses = read_losses(swept / "sweeps/store" / cell["trajectory"] / "loss.csv")
        assert [row.step for row in losses] == [1, 2, 3, 4, 5, 6]
    page = (folder / "report" / "index.html").read_text()
    assert "a picture of UnicornGirl jumping" in page
    assert json.loads((folder / "plan.json").read_text())["steps_needed"] == 12
    assert [state for _, state in trials(swept)] == ["COMPLETE", "COMPLETE"]
    assert sorted(runs(swept)) == sorted((cell["cell"], "FINISHED") for cell in cells)
    with sqlite3.connect(swept / "mlflow.db") as database:
        (count,) = database.execute("select count(*) from metrics where key = 'loss'").fetchone()
    assert count == 12
    assert {path.name for path in swept.iterdir()} == {"sweeps", "mlruns", "mlflow.db"}


def test_trials_hold_what_ran(swept: Path) -> None:
    import optuna

    study = optuna.load_study(
        study_name="small", storage=f"sqlite:///{swept}/sweeps/small/study.db"
    )
    by_cell = {cell["cell"]: cell for cell in rows(swept)}
    linked = study.user_attrs["mlflow_runs"]
    for trial in study.trials:
        cell = by_cell[trial.user_attrs["cell"]]
        assert trial.params["lr"] == float(cell["lr"])
        assert trial.params["method"] == "dreambooth_lora"
        assert trial.values == [float(cell["dino"]), float(cell["clip_t"])]
        assert trial.user_attrs["trajectory"] in cell["trajectory"]
        assert len(linked[str(trial.number)]) == 32
    assert len(study.directions) == 2


def test_running_again_does_nothing_more(swept: Path) -> None:
    store = swept / "sweeps" / "store"
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    cells = rows(swept)
    started = time.monotonic()
    done = command(*small(swept, "train_steps=6", *RATES))
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()} == before
    assert rows(swept) == cells
    assert len(trials(swept)) == len(runs(swept)) == 2
    assert "training" not in done.stderr
    assert seconds < 60  # 15 s on two idle cores; this only says that nothing was done twice


def test_an_added_value_trains_only_that_one(swept: Path) -> None:
    done = command(*small(swept, "train_steps=6", "+axes.lr=[1e-2,1e-4,1e-3]"))
    assert done.returncode == 0, done.stderr
    assert "6 to train" in done.stdout
    assert "3 (2 stored already)" in done.stdout
    assert [float(cell["lr"]) for cell in rows(swept)] == [1e-2, 1e-4, 1e-3]
    assert [state for _, state in trials(swept)] == ["COMPLETE"] * 3
    assert len(runs(swept)) == 3


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("method.rank=8", "rank: 4 is not 8"),
        ("character.class_noun=boy", "class_noun"),
        ("sampler.guidance_scale=3", "guidance_scale"),
        ("models.bases.sdxl.path=embedded:weights/sd15", "base.sdxl"),
        ("max_grad_norm=0.5", "max_grad_norm"),
    ],
)
def test_a_changed_meaning_is_refused(
    changed: str, said: str, swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (swept / "sweeps/small/study.db").read_bytes()
    assert main([*small(swept, "train_steps=6", *RATES), changed, "runtime.tracking=false"]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert "name=NAME" in message
    assert (swept / "sweeps/small/study.db").read_bytes() == before


def test_everything_can_be_rebuilt_from_the_store(swept: Path) -> None:
    cells, logged = rows(swept), sorted(runs(swept))
    (swept / "mlflow.db").unlink()
    for path in (swept / "sweeps/small/report").rglob("*.html"):
        path.unlink()
    words = small(swept, "train_steps=6", "+axes.lr=[1e-2,1e-4,1e-3]", "action=report")
    done = command(*words)
    assert done.returncode == 0, done.stderr
    assert rows(swept) == cells
    assert sorted(runs(swept)) == logged
    assert (swept / "sweeps/small/report/index.html").exists()


def test_a_held_sweep_is_not_run_twice_at_once(
    swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import fcntl

    with (swept / "sweeps/small/.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert main(small(swept, "train_steps=6", *RATES)) == 2
    assert "already running" in capsys.readouterr().err


# -- kill -9 ---------------------------------------------------------------------------------------

GRID = ["+axes.lr=[1e-2,1e-3]", "+axes.train_steps=[5,15]", "runtime.resume_seconds=0.001"]


def in_training(root: Path) -> bool:
    return any(root.glob("sweeps/store/*/resume/step-000002/resume.json")) or any(
        root.glob("sweeps/store/*/resume/step-00000[3-9]/resume.json")
    )


def in_sampling(root: Path) -> bool:
    return any(root.glob("sweeps/store/dreambooth*/step-*/.base2*.tmp/00*.png"))


def in_scoring(root: Path) -> bool:
    return any(root.glob("sweeps/store/dreambooth*/step-*/base2*/scores/*.json"))


def in_tracking(root: Path) -> bool:
    path = root / "sweeps/small/runs.json"
    return path.exists() and len(json.loads(path.read_text())) > 0


def killed_when(root: Path, reached: Callable[[Path], bool]) -> None:
    """Start the command in a session of its own and kill it, trackers and all, at that point."""
    process = subprocess.Popen(
        [sys.executable, "-m", "charsweep", *small(root, *GRID)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 200
    try:
        while not reached(root):
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < until
            time.sleep(0.002)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_killed_at_every_stage_it_ends_as_if_never_killed(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = command(*small(whole, *GRID))
    assert done.returncode == 0, done.stderr
    for stage in (in_training, in_sampling, in_scoring, in_tracking):
        killed_when(killed, stage)
    done = command(*small(killed, *GRID))
    assert done.returncode == 0, done.stderr

    table = "sweeps/small/cells.csv"
    assert cells_without_times(killed / table) == cells_without_times(whole / table)
    assert trials(killed) == trials(whole) == [(n, "COMPLETE") for n in range(4)]
    assert sorted(runs(killed)) == sorted(runs(whole))
    assert len(runs(killed)) == 4
    for path in sorted(whole.glob("sweeps/store/*/loss.csv")):
        other = killed / path.relative_to(whole)
        ours, theirs = read_losses(path), read_losses(other)
        assert [(r.step, r.loss, r.grad_norm) for r in ours] == [
            (r.step, r.loss, r.grad_norm) for r in theirs
        ]
    for path in sorted(whole.rglob("*.png")):
        if "store" in path.parts:
            assert path.read_bytes() == (killed / path.relative_to(whole)).read_bytes()
    for path in sorted(whole.rglob("pytorch_lora_weights.safetensors")):
        assert path.read_bytes() == (killed / path.relative_to(whole)).read_bytes()
    assert not list(killed.glob("sweeps/store/**/.*.tmp"))
