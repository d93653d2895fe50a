"""Kill a small sweep at random instants until it is done, again and again, and compare.

    python tests/faults/soak.py --kills 50 --seed 0

Each life of the command ends by kill -9 (alone, or with its tracker), SIGTERM or SIGINT, at an
instant drawn from the time that an undisturbed run takes, every other one from the time after its
training has begun: before that it mostly loads. A life that comes to its end is compared with the
undisturbed run, and the next begins in a new folder. The seed fixes instants and signals.
"""

from __future__ import annotations

import argparse
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from subprocess import Popen

from harness import GRID, assert_equal, ended, finished_stages, kill, quick, start

WAYS = ("kill -9", "kill -9, tracker too", "SIGTERM", "SIGINT")
CODES = {"SIGTERM": (143, -15), "SIGINT": (130, -2)}  # the latter before Python listens
TRAINING = "\ntraining"
STAGES = {  # the last of these words in the log says what was interrupted
    "loading": "loading", "drawing": "drawing or scoring", "training": "training",
    "  lr=": "drawing or scoring", "waiting for MLflow": "tracking", "  estimate": "planning",
}  # fmt: skip


def stage_of(log: Path, root: Path, process: Popen[bytes]) -> str:
    """What the command was at when it was killed."""
    said = [
        stage
        for line in log.read_text(errors="replace").splitlines()
        for words, stage in STAGES.items()
        if line.startswith(words)
    ]
    if list(root.glob(f"sweeps/small/.report.{process.pid}-*")):
        return "report"
    return said[-1] if said else "starting"


def soak(kills: int, seed: int, folder: Path) -> Counter[str]:
    """Returns how many kills met each stage; AssertionError where anything differs."""
    chance, met = random.Random(seed), Counter[str]()
    whole, log = folder / "whole", folder / "whole.log"
    started = time.monotonic()
    assert ended(start(quick(whole, *GRID), log)) == 0, log.read_text()
    seconds = time.monotonic() - started
    print(f"undisturbed: {seconds:.1f} s", flush=True)
    span = {"": seconds, TRAINING: seconds / 3}  # within which it is killed, after that is said
    done = 0
    while met.total() < kills:
        root = folder / f"{done:02d}"
        kept: dict[Path, tuple[int, int]] = {}
        while True:
            last = met.total() >= kills
            way, since = chance.choice(WAYS), chance.choice(list(span))
            instant = chance.uniform(0, span[since])
            log = folder / f"{done:02d}-{met.total():02d}.log"
            began = time.monotonic()
            process = start(quick(root, *GRID), log)
            if last or wait(process, instant, since, log):
                assert ended(process) == 0, log.read_text()
            else:
                end(process, way, log)
            now = finished_stages(root)
            again = [path for path, mark in kept.items() if now.get(path) != mark]
            assert not again, f"made again: {again}\n{log.read_text()}"
            was_new, kept = not kept, now
            if process.returncode == 0:
                if was_new:  # a whole life, faster than the first: the machine is less busy now
                    span[""] = min(span[""], time.monotonic() - began)
                break
            stage = stage_of(log, root, process)
            met[stage] += 1
            after = f"{instant:4.1f} s after {since.strip() or 'start'}"
            print(f"{met.total():3d} {way:<20} {after:<23}: {stage}", flush=True)
        assert_equal(root, whole)
        done += 1
        print(f"sweep {done}: equal to the undisturbed one", flush=True)
    return met


def wait(process: Popen[bytes], seconds: float, since: str, log: Path) -> bool:
    """Whether it has ended so many seconds after its log says `since`."""
    while process.poll() is None and since not in log.read_text(errors="replace"):
        time.sleep(0.01)
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        time.sleep(0.01)
    return process.poll() is not None


def end(process: Popen[bytes], way: str, log: Path) -> None:
    if way.startswith("kill"):
        kill(process, tracker=way != "kill -9")
        return
    process.send_signal(getattr(signal, way))
    code = ended(process)
    assert code in (*CODES[way], 0), f"{code}\n{log.read_text()}"  # 0: it was just about to end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        met = soak(given.kills, given.seed, Path(folder))
    stages = ", ".join(f"{stage} {count}" for stage, count in met.most_common())
    print(f"{met.total()} of {met.total()} kills survived in {time.monotonic() - started:.0f} s")
    print(f"killed in: {stages}")


if __name__ == "__main__":
    main()
