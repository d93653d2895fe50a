"""Several workers on one machine: the bits of one, whoever is killed, and nobody left running."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from harness import assert_equal, ended, quick, start, steps, until

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
