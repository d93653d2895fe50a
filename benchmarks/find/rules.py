"""`python -m benchmarks.find.rules`: which rule for the best setting names what is truly best?

On grids that `benchmarks.find` has stored, and on sweeps of `benchmarks.validity`, where these are
given: what each rule picks from random sub-sweeps, and how much truth that loses against the best
of these. Of settings with more exam seeds than two, the scores are those of the first two and truth
is judged by the others; else by the images that the scores are of. Trains and draws nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.find.truths import truths
from benchmarks.racing.simulate import begun
from benchmarks.validity.characters import CHARACTERS
from benchmarks.validity.judge import Judge, train
from benchmarks.validity.measure import Pick, Row, picks, regret, share_worse
from charsweep.core.store import Store
from charsweep.results import CellResult, read_results
from charsweep.results.cells import IDENTITY, SCORE
from charsweep.results.choice import chosen
from charsweep.results.points import Point, difference

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
        judged = [truths(cell, who, store, judge) for cell in cells]
        yield [
            (Point(cell.values, (begun(cell, SHOWN),)), Row(cell.cell, beyond(true), {}))
            for cell, true in zip(cells, judged, strict=True)
        ]


def seeds_in(file: Path) -> int:
    """How many exam seeds the cells of a sweep have scores of."""
    rows = [cell.per_image.get(SCORE) or [[]] for cell in read_results(file).values()]
    return max((len(own[0]) for own in rows), default=0)


def beyond(true: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of truths (prompts, seeds) the mean of those seeds that are not scored; of all where none
    is left."""
    return np.array([true[:, SHOWN:].mean() if true.shape[1] > SHOWN else true.mean()])


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
    grids = sorted(options.work.glob("*-*/sweeps/grid/cells.jsonl"))
    kinds = {
        "grids, judged by other images": [file for file in grids if seeds_in(file) > SHOWN],
        "grids": [file for file in grids if seeds_in(file) <= SHOWN],
        "coarse sweeps": sorted(options.sweeps.glob("sweeps/*/cells.jsonl"))
        if options.sweeps
        else [],
    }
    for kind, files in kinds.items():
        sweeps = [
            settings
            for file in files
            for settings in settings_in(file.parent, Store(file.parents[2]), judge)
        ]
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
