"""Races over the images of a finished grid, drawn in other orders: pure functions of its record.

An order is a permutation of the exam's seeds for each prompt, the same for all cells: seeds are
exchangeable, so each order is a race that might as well have been run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from charsweep.results import CellResult, Record, recommend
from charsweep.results.points import SCORE, Point
from charsweep.results.racing import left_behind
from charsweep.study.race import rivals_of


@dataclass(frozen=True)
class Raced:
    """How a race ended: its share of the grid's images, its recommendation beside the grid's."""

    share: float
    same: bool
    alike: bool  # the same, or one that the grid's paired test cannot tell from it


def order_of(chance: np.random.Generator, prompts: int, seeds: int) -> NDArray[np.int64]:
    """Of each prompt its seeds in random order, (prompts, seeds)."""
    return np.array([chance.permutation(seeds) for _ in range(prompts)])


def in_order(cell: CellResult, order: NDArray[np.int64]) -> CellResult:
    """The cell, had its exam's seeds come in another order."""
    scores = {
        name: np.take_along_axis(np.array(rows), order, axis=1).tolist()
        for name, rows in cell.per_image.items()
        if np.shape(rows) == order.shape
    }
    return replace(cell, per_image=scores)


def begun(cell: CellResult, seeds: int) -> CellResult:
    """The cell with the scores of its first seeds alone."""
    return replace(
        cell, per_image={n: [r[:seeds] for r in own] for n, own in cell.per_image.items()}
    )


def race(record: Record, order: NDArray[np.int64], looks: Sequence[int], errors: float) -> Raced:
    """A race of all finished cells of a record that have the exam's images, in that order."""
    prompts, seeds = order.shape
    cells = [one for one in record.cells if np.shape(one.per_image.get(SCORE) or ()) == order.shape]
    running = {one.cell: in_order(one, order) for one in cells}
    left: dict[str, list[int]] = {}
    drawn, before = 0, 0
    for look in looks:
        drawn += len(running) * prompts * (look - before)
        before = look
        for rivals in rivals_of([begun(one, look) for one in running.values()]):
            for keys in left_behind(rivals, len(looks), errors):
                left |= {key: [prompts * look, prompts * seeds] for key in keys}
        running = {key: one for key, one in running.items() if key not in left}
    drawn += len(running) * prompts * (seeds - before)
    ended = [
        replace(one, state="left", left_after=left[one.cell]) if one.cell in left else one
        for one in cells
    ]
    whole, raced = recommend(record, cells), recommend(replace(record, cells=tuple(ended)), ended)
    assert whole.point is not None
    good = [whole.point, *whole.alike]
    return Raced(
        share=drawn / (len(cells) * prompts * seeds),
        same=named(raced.point) == named(whole.point),
        alike=named(raced.point) in map(named, good),
    )


def named(point: Point | None) -> str:
    """A setting in words that tell it from others."""
    return repr(sorted(point.values.items())) if point else ""
