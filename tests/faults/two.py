"""Run two processes on one store at the same moment, and compare with one after the other.

    python tests/faults/two.py --rounds 10

In turn: the same sweep twice; two sweeps that share trajectories; the same sweep twice, of which
one is killed. Every round begins in an empty folder, with no mlflow.db, study.db or store.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from harness import assert_equal, bits, ended, kill, quick, start
from helpers.small import cells_without_times, runs

from charsweep.__main__ import main

RATES = {"small": "+axes.lr=[1e-2,1e-3]", "other": "+axes.lr=[1e-3,1e-4]"}
KINDS = {
    "the same twice": ("small", "small"),
    "trajectories in common": ("small", "other"),
    "one is killed": ("small", "small"),
}
COMMON = ["train_steps=12", "pack=2"]


def words(root: Path, name: str, *more: str) -> list[str]:
    return [*quick(root, *COMMON, *more, RATES[name]), f"name={name}"]


def one_after_the_other(folder: Path, *more: str) -> tuple[Path, Path]:
    """The serial results: of the one sweep, and of both."""
    one, both = folder / "one", folder / "both"
    assert main(words(one, "small", *more)) == 0
    shutil.copytree(one, both)
    moved = [*more, "runtime.tracking=false"]  # MLflow keeps to the folder that it was begun in
    assert main(words(both, "other", *moved)) == 0
    return one, both


def together(
    names: Sequence[str], root: Path, serial: tuple[Path, Path], *more: str,
    killed: float | None = None,
) -> str:  # fmt: skip
    """Begin sweeps at the same moment; returns what they said. AssertionError where one differs.

    The first is killed after `killed` seconds, if that is given.
    """
    logs = [root.with_suffix(f".{number}.log") for number in range(len(names))]
    processes = [
        start(words(root, name, *more), log) for name, log in zip(names, logs, strict=True)
    ]  # fmt: skip
    if killed is not None:
        time.sleep(killed)
        kill(processes[0])
    codes = [ended(process, 300) for process in processes]
    said = "\n".join(log.read_text(errors="replace") for log in logs)
    ends = {0} if killed is None else {0, -9}  # it may have ended before
    assert codes[0] in ends, said
    assert not any(codes[1:]), said
    one, both = serial
    tracked = "runtime.tracking=false" not in more
    if "other" in names:
        ours, theirs = bits(root), bits(both)
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if ours[name] != theirs[name]] == []
        for name in set(names):
            table = f"sweeps/{name}/cells.csv"
            assert cells_without_times(root / table) == cells_without_times(both / table)
        assert not tracked or len(runs(root)) == 4
    else:
        assert_equal(root, one, tracked)
    return said


def rounds() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance, started = random.Random(given.seed), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        serial = one_after_the_other(Path(name))
        for number in range(given.rounds):
            kind = list(KINDS)[number % len(KINDS)]
            killed = chance.uniform(4, 20) if kind == "one is killed" else None
            began = time.monotonic()
            said = together(KINDS[kind], Path(name) / f"{number:02d}", serial, killed=killed)
            waited = len(re.findall("^waiting for .* works on$", said, re.MULTILINE))
            seconds = time.monotonic() - began
            print(f"{number + 1:2d} {kind}: equal ({seconds:.0f} s, {waited} waited)", flush=True)
    print(f"{given.rounds} of {given.rounds} equal, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    rounds()
