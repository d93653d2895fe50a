"""`python -m benchmarks.scale`: how the head of a sweep bears many workers, simulated.

The plan of a real sweep is handed out by the engine's own `Agenda`, to workers that train and draw
nothing and only say after how long they would have. Each case is a process of its own, so that its
peak of memory is.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from charsweep.config import load_sweep
from charsweep.core.store import Store
from charsweep.engine.schedule import Crew, Schedule
from charsweep.plan import Speeds, plan_work

GRID = ["+sweep=full_grid", "models=random", "pack=4"]  # 4,200 cells; step times of one GPU
CASES = ((64, 1), (1000, 24))  # workers, and training seeds of each cell
LOSING = 0.02  # of the units


@dataclass(frozen=True)
class Case:
    """One simulation, with what it took the head; seconds of its CPU."""

    cells: int
    losing: float
    schedule: Schedule
    planning: float
    dispatching: float
    peak_bytes: int

    @property
    def row(self) -> str:
        made = self.schedule
        return (
            f"| {made.workers:,} | {self.cells:,} | {made.lost:,} | {made.utilisation:.3f} "
            f"| {made.seconds / 3600:.1f} | {made.decisions:,} "
            f"| {made.decisions / self.dispatching:,.0f} | {self.planning:.0f} "
            f"| {self.dispatching:.1f} | {self.peak_bytes / 1e9:.2f} |"
        )


HEAD = """\
| workers | cells | units lost | utilisation | hours, simulated | decisions | a second | planning, s | handing out, s | head's peak, GB |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""  # noqa: E501  # a table's row


def simulate(workers: int, words: list[str], losing: float) -> Case:
    """A sweep of these words on so many workers, of whose units the share `losing` is lost."""
    with tempfile.TemporaryDirectory() as root:
        began = time.process_time()
        cells = load_sweep([f"root={root}", *words]).cells
        store = Store(Path(root))
        plan = plan_work(cells, store)
        planned = time.process_time()
        made = Crew(plan, Speeds(store), workers, losing).run()
        done = time.process_time()
    scale = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    return Case(len(cells), losing, made, planned - began, done - planned, peak)


def row(workers: int, words: list[str], losing: float) -> str:
    """The same as a row of the table: another process is sent no more than that."""
    return simulate(workers, words, losing).row


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--workers", type=int, help="of one case; default: 64, and 1,000")
    parser.add_argument("--seeds", type=int, default=1, help="of that case: times 4,200 cells")
    parser.add_argument("words", nargs="*", default=GRID, help="of another sweep than full_grid")
    given = parser.parse_args(arguments)
    cases = [(given.workers, given.seeds)] if given.workers else CASES
    print(HEAD)
    for workers, seeds in cases:
        words = [*given.words, *([f"seeds={seeds}"] if seeds > 1 else [])]
        for losing in (0.0, LOSING):
            with multiprocessing.get_context("spawn").Pool(1) as own:
                print(own.apply(row, (workers, words, losing)), flush=True)


if __name__ == "__main__":
    main()
