"""Several workers on one machine: the bits of one, whoever is killed, and nobody left running."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from harness import assert_equal, ended, quick, start, steps, until

GRID = ["+axes.lr=[1e-2,1e-3]", "+axes.train_steps=[10,80]", "pack=1",
        "runtime.tracking=false", "runtime.threads=1", "runtime.resume_seconds=0.5"]  # fmt: skip


def words(root: Path, workers: int, *more: str) -> list[str]:
    return quick(root, *GRID, f"runtime.workers={workers}", *more)


def workers_of(process: psutil.Popen) -> list[psutil.Process]:
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


def test_two_workers_give_the_bits_of_one(tmp_path: Path, alone: Path) -> None:
    log = tmp_path / "log"
    process = start(words(tmp_path, 2), log)
    until(lambda: len(workers_of(process)) == 2, process, log)
    both = workers_of(process)
    assert ended(process) == 0, log.read_text()
    assert all_gone(both)
    assert "by 2 workers" in log.read_text()
    assert_equal(tmp_path, alone, tracked=False)


def test_one_is_killed_and_the_other_does_its_work(tmp_path: Path, alone: Path) -> None:
    log = tmp_path / "log"
    process = start(words(tmp_path, 2), log)
    until(lambda: steps(tmp_path) > 0, process, log)
    workers_of(process)[0].kill()
    assert ended(process) == 0, log.read_text()
    assert "was killed by SIGKILL; the other goes on" in log.read_text()
    assert_equal(tmp_path, alone, tracked=False)


def test_both_are_killed(tmp_path: Path, alone: Path) -> None:
    log = tmp_path / "log"
    process = start(words(tmp_path, 2), log)
    until(lambda: steps(tmp_path) > 0, process, log)
    for worker in workers_of(process):
        worker.kill()
    assert ended(process) == 2
    said = log.read_text()
    assert "TrainingError: worker" in said
    assert "Traceback" not in said
    assert ended(start(words(tmp_path, 2), log)) == 0
    assert_equal(tmp_path, alone, tracked=False)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_its_head(tmp_path: Path, alone: Path, number: int) -> None:
    log = tmp_path / "log"
    process = start(words(tmp_path, 2), log)
    until(lambda: steps(tmp_path) > 0, process, log)
    both = workers_of(process)
    began = time.monotonic()
    os.kill(process.pid, number)
    code = ended(process, 60)
    assert code == (-number if number == signal.SIGKILL else 128 + number), log.read_text()
    assert all_gone(both)
    assert time.monotonic() - began < 60
    if number != signal.SIGKILL:
        said = log.read_text()
        assert "the step at hand is finished and saved first" in said
        assert "of 4 cells are finished" in said
        assert list(tmp_path.glob("sweeps/store/dreambooth*/resume/step-*/resume.json"))
    assert ended(start(words(tmp_path, 2), log)) == 0, log.read_text()
    assert_equal(tmp_path, alone, tracked=False)
