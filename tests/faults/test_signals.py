"""Ctrl-C, SIGTERM and kill -9 in every stage, then the same command: nothing is lost or redone."""

from __future__ import annotations

import json
import signal
import sqlite3
from pathlib import Path

import pytest
from harness import (
    assert_equal,
    ended,
    finished_stages,
    kill,
    quick,
    start,
    steps,
    until,
)
from helpers.small import runs

from charsweep.__main__ import main
from charsweep.core.store.losses import read_losses

STEPS = 150  # some seconds, of which a block takes half a one
LONG = ["+axes.lr=[1e-2,1e-3]", f"train_steps={STEPS}", "pack=2", "runtime.resume_seconds=0.01"]


def parent_status(root: Path) -> str:
    with sqlite3.connect(root / "mlflow.db") as database:
        ((status,),) = database.execute("select status from runs where name = 'small'")
    return str(status)


@pytest.mark.slow
def test_stopped_and_killed_it_ends_as_if_never_disturbed(tmp_path: Path) -> None:
    """SIGTERM in training, kill -9 in drawing, SIGINT in tracking; tracker and all."""
    whole, root, log = tmp_path / "whole", tmp_path / "disturbed", tmp_path / "log"
    assert main(quick(whole, *LONG, "runtime.tracking=false")) == 0
    words = quick(root, *LONG)

    process = start(words, log)
    until(lambda: steps(root) > 0, process, log)
    process.terminate()
    assert ended(process) == 143
    said = log.read_text()
    assert "stopping (SIGTERM); the step at hand is finished and saved first" in said
    assert "0 of 2 cells are finished" in said
    assert said.rstrip().endswith(
        "'+axes.lr=[1e-2,1e-3]' train_steps=150 pack=2 runtime.resume_seconds=0.01"
    )
    for path in root.glob("sweeps/store/dreambooth*/loss.csv"):
        (state,) = (path.parent / "resume").iterdir()
        last = read_losses(path)[-1].step
        assert 0 < last < STEPS
        assert state.name == f"step-{last:06d}"
        assert (
            json.loads((path.parent / "provenance.json").read_text())["runs"][0]["steps"][1] == last
        )
    assert parent_status(root) == "KILLED"

    kept = finished_stages(root)
    process = start(words, log)
    until(
        lambda: list(root.glob("sweeps/store/dreambooth*/step-*/base2*/images.json")), process, log
    )
    kill(process)
    log.unlink()
    process = start(words, log)
    until(lambda: "waiting for MLflow" in log.read_text(), process, log)
    process.send_signal(signal.SIGINT)
    assert ended(process) == 130
    now = finished_stages(root)
    assert kept.items() <= now.items()

    assert ended(start(words, log)) == 0, log.read_text()
    assert now.items() <= finished_stages(root).items()
    assert_equal(root, whole, tracked=False)
    lines = (root / "sweeps/small/cells.jsonl").read_text(encoding="utf-8").splitlines()
    cells = [json.loads(line) for line in lines]
    assert sorted(runs(root)) == sorted((cell["cell"], "FINISHED") for cell in cells)
    assert parent_status(root) == "FINISHED"


@pytest.mark.slow
def test_a_second_signal_ends_at_once_and_every_other_stage_is_left_at_the_first(
    tmp_path: Path,
) -> None:
    root, log = tmp_path / "root", tmp_path / "log"
    words = quick(root, *LONG, "runtime.tracking=false")

    process = start(words, log)
    until(lambda: "estimate" in log.read_text(), process, log)  # imports and loading are next
    process.send_signal(signal.SIGINT)
    assert ended(process, 30) == 130
    assert "to go on, run it again:" in log.read_text()

    log.unlink()
    process = start(words, log)
    until(lambda: steps(root) > 0, process, log)
    process.terminate()
    until(lambda: "stopping (SIGTERM)" in log.read_text(), process, log)
    process.send_signal(signal.SIGINT)
    assert ended(process, 5) == -signal.SIGINT

    log.unlink()
    process = start(words, log)
    until(lambda: list(root.glob("sweeps/small/.report.*")), process, log)
    process.send_signal(signal.SIGHUP)
    assert ended(process, 30) == 129
    assert not (root / "sweeps/small/report").exists()
    assert not list(root.glob("sweeps/small/.report.*"))

    log.unlink()
    assert ended(start(words, log)) == 0
    assert "\ntraining " not in log.read_text()
    assert (root / "sweeps/small/report/index.html").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_random_instants(tmp_path: Path) -> None:
    from soak import soak

    assert soak(6, 1, tmp_path).total() == 6
