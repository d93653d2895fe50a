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
from charsweep.results.cells import SCORE
from charsweep.results.points import Point
from charsweep.results.racing import LEAVING, left_behind
from charsweep.study.rounds import rivals_of


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
    """The cell with the scores of its first seeds alone, as far as these are by image."""
    per_image = {n: [row[:seeds] for row in rows] for n, rows in cell.per_image.items()}
    means = {name: float(np.mean(rows)) for name, rows in per_image.items() if rows}
    return replace(cell, per_image=per_image, scores={**cell.scores, **means})


def raced(
    cells: Sequence[CellResult], looks: Sequence[int], errors: float = LEAVING
) -> list[CellResult]:
    """Stored results as a race of their cells would tell them, which looks after so many seeds."""
    ended = {one.cell: one for one in cells}
    running = [one for one in cells if one.finished and one.per_image.get(SCORE)]
    for look in looks:
        for rivals in rivals_of([begun(one, look) for one in running]):
            for key in (key for keys in left_behind(rivals, len(looks), errors) for key in keys):
                own = begun(ended[key], look)
                drawn, whole = (np.size(one.per_image[SCORE]) for one in (own, ended[key]))
                ended[key] = replace(own, state="left", left_after=[drawn, whole], gains={})
        running = [one for one in running if not ended[one.cell].left]
    return list(ended.values())


def images_drawn(cells: Sequence[CellResult]) -> int:
    """How many images they have drawn of their exam."""
    return sum(np.size(one.per_image.get(SCORE, ())) for one in cells)


def race(record: Record, order: NDArray[np.int64], looks: Sequence[int], errors: float) -> Raced:
    """A race of all finished cells of a record that have the exam's images, in that order."""
    prompts, seeds = order.shape
    cells = [one for one in record.cells if np.shape(one.per_image.get(SCORE) or ()) == order.shape]
    ended = raced([in_order(one, order) for one in cells], looks, errors)
    whole, found = recommend(record, cells), recommend(replace(record, cells=tuple(ended)), ended)
    assert whole.point is not None
    good = [whole.point, *whole.alike]
    return Raced(
        share=images_drawn(ended) / (len(cells) * prompts * seeds),
        same=named(found.point) == named(whole.point),
        alike=named(found.point) in map(named, good),
    )


def named(point: Point | None) -> str:
    """A setting in words that tell it from others."""
    return repr(sorted(point.values.items())) if point else ""
