"""`python -m benchmarks.validity`: do charsweep's scores and recommendation agree with the truth?

Teaches the judge, runs the sweeps and plants the planted sets, as far as they are missing (hours of
one core; the same command goes on), and writes benchmarks/VALIDITY.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.validity import report
from benchmarks.validity.characters import CHARACTERS
from benchmarks.validity.judge import train
from benchmarks.validity.sweeps import measured, run
from benchmarks.validity.truth import accuracies

HERE = Path(__file__).parent
NAMES = [who.name for who in CHARACTERS]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.validity", description=__doc__)
    add = made.add_argument
    add(
        "words", nargs="*", metavar="metric=NAME", help="a further metric, by its conf/metric/ name"
    )
    add("--work", type=Path, default=HERE / "work", help="default: benchmarks/validity/work")
    add("--only", choices=NAMES, nargs="+", default=NAMES, help="default: all characters")
    add("--out", type=Path, default=HERE.parent / "VALIDITY.md", help="the page")
    return made


def main(arguments: list[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    judge = train(work / "judge")
    known = work / "judge" / "accuracy.json"
    if not known.exists():
        known.write_text(json.dumps(accuracies(judge), indent=1), encoding="utf-8")
    found = []
    for who in CHARACTERS:
        if who.name in options.only:
            print(f"{who.name}: sweep", flush=True)
            run(who, work, options.words)
            found.append(measured(who, work, options.words, judge))
    report.write(options.out, found, json.loads(known.read_text(encoding="utf-8")))
    print(options.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
