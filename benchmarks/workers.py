"""`python -m benchmarks.workers`: the same grid by one worker and by two, here and on Ray.

Twelve trajectories at pack=1, drawn and scored, one thread for each worker, each time in an empty
folder. Measured from the first trained step to the end of the command, its report included: what
Ray and imports take to start is said apart. Nothing else may run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RATES = ",".join(f"{rate}e-4" for rate in range(1, 13))
GRID = [f"+axes.lr=[{RATES}]", "pack=1", "exam=quick", "inference_steps=10", "name=grid"]
GRID += ["runtime.tracking=false", "runtime.threads=1"]
WAYS = {
    "1 here": ["runtime.workers=1"],
    "2 here": ["runtime.workers=2"],
    "1 on Ray": ["runtime.workers=1", "runtime.cluster=local"],
    "2 on Ray": ["runtime.workers=2", "runtime.cluster=local"],
}


def seconds_of(words: list[str], steps: int) -> tuple[float, float]:
    """Of one command: until its first step, and from there to its end."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        scratch = [f"runtime.scratch={root / 'scratch'}"] if "cluster" in words[-1] else []
        asked = [*GRID, f"train_steps={steps}", f"root={root}", *words, *scratch]
        began = time.monotonic()
        with (root / "log").open("wb") as log:
            done = subprocess.Popen(
                [sys.executable, "-m", "charsweep", *asked], stdout=log, stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            while done.poll() is None and not any(root.rglob("dreambooth*/loss.csv")):
                time.sleep(0.05)
            first = time.monotonic()
            if done.wait():
                raise SystemExit((root / "log").read_text())
        return first - began, time.monotonic() - first


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100, help="of each trajectory")
    parser.add_argument("--ways", nargs="*", choices=list(WAYS), default=list(WAYS))
    options = parser.parse_args()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in options.ways}
    for number in range(options.rounds):
        for name in taken:
            taken[name].append(seconds_of(WAYS[name], options.steps))
            start, rest = taken[name][-1]
            print(f"round {number + 1}: {name}: {rest:.1f} s after {start:.1f} s", flush=True)
    print("\n| workers | start | from the first step | times as fast as the first |")
    print("|---|---:|---:|---:|")
    alone = next(iter(taken.values()))
    for name, rounds in taken.items():
        starts, rests = (statistics.median(part) for part in zip(*rounds, strict=True))
        ratios = [one[1] / own[1] for one, own in zip(alone, rounds, strict=True)]
        told = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {name} | {starts:.1f} s | {rests:.1f} s | {told} |")


if __name__ == "__main__":
    main()
