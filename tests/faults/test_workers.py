"""Several workers on one machine: the bits of one, whoever is killed, and nobody left running."""

from __future__ import annotations

import json
import random
import re
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import optuna
import psutil
import pytest
from harness import assert_equal, ended, kill, quick, start, steps, until
from helpers.small import trials
from optuna.trial import TrialState

GRID = ["+axes.lr=[1e-2,1e-3]", "+axes.train_steps=[10,80]", "pack=1",
        "runtime.tracking=false", "runtime.threads=1", "runtime.resume_seconds=0.5"]  # fmt: skip


def words(root: Path, workers: int, *more: str) -> list[str]:
    return quick(root, *GRID, f"runtime.workers={workers}", *more)


def workers_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The worker processes of a command."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        if "charsweep.engine.worker" in child.cmdline():
            found.append(child)
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of one worker."""
    root = tmp_path_factory.mktemp("alone")
    log = root / "log"
    assert ended(start(words(root, 1), log)) == 0, log.read_text()
    return root


def all_gone(processes: list[psutil.Process], seconds: float = 10) -> bool:
    """Whether all have ended by then."""
    return not psutil.wait_procs(processes, timeout=seconds)[1]


def begun(
    root: Path, log: Path, *more: str
) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """A command that has begun to train, and its workers."""
    before = steps(root)
    process = start(words(root, 2, *more), log)
    until(lambda: steps(root) > before, process, log)
    return process, workers_of(process)


def test_stopped_and_then_one_is_killed_they_give_the_bits_of_one(
    tmp_path: Path, alone: Path
) -> None:
    log = tmp_path / "log"
    process, both = begun(tmp_path, log)
    process.terminate()
    assert ended(process, 60) == 143, log.read_text()
    assert all_gone(both)
    said = log.read_text()
    assert "by 2 workers" in said
    assert "the step at hand is finished and saved first" in said
    assert re.search("[0-3] of 4 cells are finished", said)
    assert list(tmp_path.glob("sweeps/store/dreambooth*/resume/step-*/resume.json"))

    process, both = begun(tmp_path, log)
    both[0].kill()
    assert ended(process) == 0, log.read_text()
    assert all_gone(both)
    assert "was killed by SIGKILL; the other goes on" in log.read_text()
    assert_equal(tmp_path, alone, tracked=False)


@pytest.mark.slow
def test_both_are_killed(tmp_path: Path, alone: Path) -> None:
    log = tmp_path / "log"
    process, both = begun(tmp_path, log)
    for worker in both:
        worker.kill()
    assert ended(process) == 2
    said = log.read_text()
    assert "TrainingError: worker" in said
    assert "Traceback" not in said
    assert ended(start(words(tmp_path, 2), log)) == 0
    assert_equal(tmp_path, alone, tracked=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130), (signal.SIGALRM, 75)],
)
def test_no_worker_outlives_its_head(number: int, code: int, tmp_path: Path, alone: Path) -> None:
    """SIGALRM: the time is up."""
    log = tmp_path / "log"
    process, both = begun(tmp_path, log, "runtime.stop_after=1h")
    process.send_signal(number)
    assert ended(process, 60) == code, log.read_text()
    assert all_gone(both)
    assert ended(start(words(tmp_path, 2), log)) == 0, log.read_text()
    assert_equal(tmp_path, alone, tracked=False)


SEARCH = ["search=tpe", "search.trials=40", "pack=8", "objectives=[dino]", "metric=[dino]",
          "+axes={lr: {low: 1e-5, high: 1e-1, log: true},"
          " train_steps: {low: 4, high: 20, step: 4}}",
          "runtime.workers=2", "runtime.tracking=false"]  # fmt: skip


@pytest.mark.slow
def test_a_search_that_is_killed_again_and_again_tries_what_was_asked_and_nothing_twice(
    tmp_path: Path,
) -> None:
    """Two workers who wait for no batch, killed with their head, at any moment."""
    chance, log = random.Random(0), tmp_path / "log"
    for _ in range(3):
        before = told(tmp_path)
        process = start(quick(tmp_path, *SEARCH), log)
        until(lambda least=before + 4: told(tmp_path) >= least, process, log)
        time.sleep(chance.uniform(0, 2))
        both = workers_of(process)
        kill(process)
        assert all_gone(both)
    assert told(tmp_path) < 40
    assert ended(start(quick(tmp_path, *SEARCH), log)) == 0, log.read_text()
    known = optuna.load_study(
        study_name="small", storage=f"sqlite:///{tmp_path / 'sweeps/small/study.db'}"
    ).trials
    finished = [trial for trial in known if trial.state == TrialState.COMPLETE]
    assert len(finished) == len({trial.user_attrs["cell"] for trial in finished}) == 40
    assert {trial.state for trial in known} <= {TrialState.COMPLETE, TrialState.FAIL}
    record = json.loads((tmp_path / "sweeps/small/sweep.json").read_text())
    assert record["search"]["repeatable"] is False
    for path in tmp_path.glob("sweeps/store/dreambooth*/provenance.json"):
        runs = json.loads(path.read_text())["runs"]
        trained = [step for run in runs for step in range(run["steps"][0], run["steps"][1] + 1)]
        assert trained == list(range(1, len(trained) + 1))


def told(root: Path) -> int:
    """Trials that have a result."""
    try:
        states = dict(trials(root))
    except sqlite3.OperationalError:  # it is being made
        return 0
    return sum(state == "COMPLETE" for state in states.values())
