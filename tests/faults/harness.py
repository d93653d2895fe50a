"""Sweeps as real processes, to be killed and broken from outside, and how they are compared."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts beside are run without pytest

import psutil
from helpers.small import cells_without_times, runs, trials

from charsweep.core.store.losses import read_losses

QUICK = [
    "exam=quick",
    "exam.prompts=['a picture of {subject} jumping','a picture of {subject} on the beach']",
    "exam.seeds=[0]", "sampler.batch_width=2", "inference_steps=2", "method.rank=2",
    "runtime.energy=false",
]  # fmt: skip
GRID = ["+axes.lr=[1e-2,1e-3]", "+axes.train_steps=[20,60]", "pack=2",
        "runtime.resume_seconds=0.001"]  # fmt: skip
FINISHED = ("snapshot.json", "images.json", "scores/*.json")  # a stage has ended when it is there


def quick(root: Path, *words: str) -> list[str]:
    """The words of a sweep that is trained, drawn and scored within seconds."""
    return [f"root={root}", "name=small", *QUICK, *words]


def start(words: list[str], log: Path, **environment: str) -> subprocess.Popen[bytes]:
    """`python -m charsweep` in a session of its own, writing to `log`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:  # which a child would inherit
            signal.signal(number, signal.SIG_DFL)
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "charsweep", *words], stdout=file, stderr=file,
            start_new_session=True, env={**os.environ, **environment},
        )  # fmt: skip


def ended(process: subprocess.Popen[bytes], seconds: float = 400) -> int:
    """The exit code, by when it must have ended."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        kill(process)
        raise


def until(reached: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for a moment in the process's life."""
    end = time.monotonic() + 200
    while not reached():
        assert process.poll() is None, f"it ended before that:\n{log.read_text()}"
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.002)


def kill(process: subprocess.Popen[bytes], tracker: bool = True) -> None:
    """kill -9, at will with the tracker beside it."""
    children = psutil.Process(process.pid).children(recursive=True) if tracker else []
    process.kill()
    for child in children:
        child.kill()
    process.wait()


def steps(root: Path, kind: str = "dreambooth*") -> int:
    """Lines of losses that have reached the disk, of all trajectories."""
    files = root.glob(f"sweeps/store/{kind}/loss.csv")
    return sum(max(0, path.read_bytes().count(b"\n") - 1) for path in files)


def finished_stages(root: Path) -> dict[Path, tuple[int, int]]:
    """What has been finished, with what tells whether it was made again: inode, time."""
    found = {}
    for pattern in FINISHED:
        for path in root.glob(f"sweeps/store/**/{pattern}"):
            if not any(part.startswith(".") for part in path.relative_to(root).parts):
                found[path] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found


def bits(root: Path) -> dict[str, bytes]:
    """Weights and images, and losses as numbers, by their place in the store."""
    store = root / "sweeps/store"
    found = {
        path.relative_to(store).as_posix(): path.read_bytes()
        for pattern in ("**/*.png", "*/step-*/*.safetensors")
        for path in sorted(store.glob(pattern))
    }
    for path in sorted(store.glob("*/loss.csv")):
        rows = [(row.step, row.loss, row.lr, row.grad_norm) for row in read_losses(path)]
        found[path.relative_to(store).as_posix()] = repr(rows).encode()
    return found


def assert_equal(one: Path, other: Path, tracked: bool = True) -> None:
    """The same weights, images, losses, scores, trials and runs, bit for bit; times aside."""
    ours, theirs = bits(one), bits(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    table = "sweeps/small/cells.csv"
    assert cells_without_times(one / table) == cells_without_times(other / table)
    assert trials(one) == trials(other)
    if tracked:
        assert sorted(runs(one)) == sorted(runs(other))
    assert not list(one.glob("sweeps/**/.*.tmp*"))
