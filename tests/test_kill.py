"""kill -9 in training, sampling, scoring and tracking, then the same command: nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from small import cells_without_times, command, runs, small, trials

from charsweep.store import read_losses

GRID = ["+axes.lr=[1e-2,1e-3]", "+axes.train_steps=[5,15]", "runtime.resume_seconds=0.001"]


def in_training(root: Path) -> bool:
    return any(root.glob("sweeps/store/*/resume/step-000002/resume.json")) or any(
        root.glob("sweeps/store/*/resume/step-00000[3-9]/resume.json")
    )


def in_sampling(root: Path) -> bool:
    """The four image sets are drawn one after the other, then scored: some are there, not all."""
    return 1 <= len(list(root.glob("sweeps/store/dreambooth*/step-*/base2*/images.json"))) < 4


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
