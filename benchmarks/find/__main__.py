"""`python -m benchmarks.find`: does `+sweep=find` find what a grid would, and for how much of it?

For every character and training seed: the search in an empty store, by the clock; then the grid of
nine rates × six numbers of steps × three strengths on top of it; then the truth of both by the
judge of `benchmarks.validity`. What came out is kept in benchmarks/find/outcomes.json and shown in
benchmarks/FIND.md; hours of one core, and the same command goes on.

`--race` has the grid raced before it is drawn whole. `--simulate FOLDER` trains nothing: it runs
the same rule on the sweeps of `benchmarks.validity` that lie there (seven rates × 200, 500 and
1,000 steps), where a rate that they lack counts as diverged, or as the nearest that they have past
the rates that teach anything. Their stages race after each of the seeds that their exams have.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.find.outcomes import by_hand, keep, page, read
from benchmarks.find.real import measure
from benchmarks.find.stored import simulate
from benchmarks.validity.characters import CHARACTERS
from benchmarks.validity.judge import train

HERE = Path(__file__).parent
NAMES = [who.name for who in CHARACTERS]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.find", description=__doc__)
    add = made.add_argument
    add("--work", type=Path, default=HERE / "work", help="default: benchmarks/find/work")
    add("--judge", type=Path, default=HERE.parent / "validity" / "work" / "judge")
    add("--only", choices=NAMES, nargs="*", default=NAMES, help="default: all characters")
    add("--seeds", type=int, nargs="*", default=[0, 1, 2], help="training seeds; default: 0 1 2")
    add("--race", action="store_true", help="race the grids first")
    add("--again", action="store_true", help="measure what is kept, too")
    add("--simulate", type=Path, metavar="FOLDER", help="what benchmarks.validity has worked in")
    add("--outcomes", type=Path, default=HERE / "outcomes.json", help="what is kept")
    add("--out", type=Path, default=HERE.parent / "FIND.md", help="the page")
    return made


def main(arguments: list[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    judge = train(options.judge.resolve())
    work: Path = options.work.resolve()
    kept = read(options.outcomes)
    known = {(one.who, one.seed) for one in kept if not one.simulated and not options.again}
    if options.simulate:
        folder = options.simulate.resolve()
        for who in CHARACTERS:
            kept = keep(options.outcomes, simulate(who, folder, judge))
    else:
        for seed in options.seeds:
            for who in CHARACTERS:
                if who.name in options.only and (who.name, seed) not in known:
                    print(f"{who.name}, seed {seed}", flush=True)
                    kept = keep(options.outcomes, [measure(who, seed, work, judge, options.race)])
    options.out.write_text(page(kept, by_hand(options.out)), encoding="utf-8")
    print(options.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
