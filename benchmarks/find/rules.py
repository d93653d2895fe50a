"""`python -m benchmarks.find.rules`: which rule for the best setting names what is truly best?

On grids that `benchmarks.find` has stored, and on sweeps of `benchmarks.validity`, where these are
given: what each rule picks from random sub-sweeps, and how much truth that loses against the best
of these. Scores are those of the first two exam seeds. Grids of a character with several training
seeds are judged by each other: what a setting is worth is the mean truth of the same setting with
the other seeds, of which the scores know nothing. All else is judged by its own images, by which
the luckiest looks better than it is. Trains and draws nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.find.truths import truth
from benchmarks.racing.simulate import begun
from benchmarks.validity.characters import CHARACTERS
from benchmarks.validity.judge import Judge, train
from benchmarks.validity.measure import Pick, Row, picks, regret, share_worse
from charsweep.core.store import Store
from charsweep.results import CellResult, read_results
from charsweep.results.cells import IDENTITY, SCORE
from charsweep.results.choice import chosen
from charsweep.results.points import SEED, Point, difference

HERE = Path(__file__).parent
SIZES, DRAWS = (3, 7, 21, 60, 162), 120
SHOWN = 2  # exam seeds that are scored
Choose = Callable[[Sequence[Point]], Point]
Settings = Sequence[tuple[Point, Row]]  # of one sweep, and what each is worth


def cheapest(of_score: float, of_identity: float | None = None) -> Choose:
    """The cheapest within so many standard errors of the highest score, then of the identity."""

    def choose(points: Sequence[Point]) -> Point:
        level = within(points, SCORE, of_score)
        alike = level if of_identity is None else within(level, IDENTITY, of_identity)
        return min(alike, key=lambda point: point.price)

    return choose


def within(points: Sequence[Point], metric: str, errors: float) -> list[Point]:
    best = highest(points, metric)
    return [point for point in points if difference(best, point, metric).is_within(errors)]


def highest(points: Sequence[Point], metric: str) -> Point:
    return max(points, key=lambda point: point.mean(metric) or 0.0)


RULES: Mapping[str, Choose] = {
    "as recommended": lambda points: chosen(points).best,
    "highest score": lambda points: highest(points, SCORE),
    "cheapest within 1/2 error of the score, 1 of the identity": cheapest(0.5, 1),
    "cheapest within 1 error of the score": cheapest(1),
}


def settings_in(sweep: Path, store: Store, judge: Judge) -> Iterator[Settings]:
    """The settings of a sweep with a score, those of each training seed by themselves."""
    who = next((one for one in CHARACTERS if one.name in (sweep.name, _name(sweep))), None)
    if who is None:
        return
    by_seed: dict[int, list[CellResult]] = {}
    for cell in read_results(sweep / "cells.jsonl").values():
        if cell.images and cell.scores.get(SCORE) is not None:
            by_seed.setdefault(int(str(cell.values.get("seed", 0))), []).append(cell)
    for cells in by_seed.values():
        worth = [truth(cell, who, store, judge) for cell in cells]
        yield [
            (Point(cell.values, (begun(cell, SHOWN),)), Row(cell.cell, np.array([true]), {}))
            for cell, true in zip(cells, worth, strict=True)
        ]


def judged_elsewhere(grids: Sequence[Settings]) -> list[Settings]:
    """Grids of one character, each judged by those with other training seeds."""
    worth = [{_setting(point): row.truth for point, row in grid} for grid in grids]
    return [
        [
            (point, Row(row.name, np.mean([own[_setting(point)] for own in others], axis=0), {}))
            for point, row in grid
        ]
        for grid, others in ((grid, worth[:at] + worth[at + 1 :]) for at, grid in enumerate(grids))
    ]


def _setting(point: Point) -> tuple[object, ...]:
    """The values of a point but for its training seed."""
    return tuple(value for axis, value in sorted(point.values.items()) if axis != SEED)


def _name(sweep: Path) -> str:
    """Whose grid it is that lies in NAME-SEED/sweeps/grid."""
    return sweep.parents[1].name.rpartition("-")[0]


def lost(sweeps: Sequence[Settings], choose: Choose, size: int) -> list[Pick]:
    """What the rule loses in sub-sweeps of a size, of all sweeps that have so many settings."""
    found: list[Pick] = []
    for settings in sweeps:
        point_of = {row.name: point for point, row in settings}

        def rule(rows: Sequence[Row], point_of: Mapping[str, Point] = point_of) -> tuple[int, bool]:
            points = [point_of[row.name] for row in rows]
            return points.index(choose(points)), True

        if len(settings) >= size:
            found += picks([row for _, row in settings], rule, size, DRAWS)
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.find.rules", description=__doc__)
    add = parser.add_argument
    add("--work", type=Path, default=HERE / "work", help="default: benchmarks/find/work")
    add("--judge", type=Path, default=HERE.parent / "validity" / "work" / "judge")
    add("--sweeps", type=Path, metavar="FOLDER", help="what benchmarks.validity has worked in")
    options = parser.parse_args(arguments)
    judge = train(options.judge)
    of_one: dict[str, list[Settings]] = {}
    for file in sorted(options.work.glob("*-*/sweeps/grid/cells.jsonl")):
        found = settings_in(file.parent, Store(file.parents[2]), judge)
        of_one.setdefault(_name(file.parent), []).extend(found)
    coarse = sorted(options.sweeps.glob("sweeps/*/cells.jsonl")) if options.sweeps else []
    kinds = {
        "grids, judged by other training seeds": [
            one for grids in of_one.values() if len(grids) > 1 for one in judged_elsewhere(grids)
        ],
        "grids": [grids[0] for grids in of_one.values() if len(grids) == 1],
        "coarse sweeps": [
            settings
            for file in coarse
            for settings in settings_in(file.parent, Store(file.parents[2]), judge)
        ],
    }
    for kind, sweeps in kinds.items():
        if sweeps:
            print(f"| {len(sweeps)} {kind}: truth lost, share of picks .05 worse | "
                  + " | ".join(f"of {size}" for size in SIZES) + " |")  # fmt: skip
            print("|---" + "|---:" * len(SIZES) + "|")
        for name, choose in RULES.items() if sweeps else ():
            known = [lost(sweeps, choose, size) for size in SIZES]
            texts = [f"{regret(own):.3f}, {share_worse(own):.2f}" if own else "" for own in known]
            print(f"| {name} | {' | '.join(texts)} |")


if __name__ == "__main__":
    main()
