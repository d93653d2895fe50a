"""Contact sheets over two axes: one prompt and exam seed, an image per pair of values.

With one axis its values stand against the exam's seeds instead. The prompt and all other axes are
held: the first prompt, and the recommended cell's values.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from charsweep.core.system.names import as_file_name
from charsweep.report.figures.contact_sheets import (
    ContactSheet,
    Tile,
    around,
    centre_cell,
    heading,
    missing,
    place_of,
    tile_of,
)
from charsweep.results import CellResult, Record, Verdict
from charsweep.results.labels import axis_label, point_text
from charsweep.results.records import Value, evenly

MOST_GRIDS = 4
MOST_ROWS, MOST_COLUMNS = 20, 12
MOST_SEEDS = 8
# These two say most: how training length and rate trade off, and what is left to chance.
FIRST_PAIRS = (("train_steps", "lr"), ("inference_steps", "seed"))


def picture_grids(record: Record, verdict: Verdict) -> tuple[ContactSheet, ...]:
    """The grids of a record; none without a prompt or a cell."""
    centre = centre_cell(record, verdict)
    if centre is None or not record.sweep.prompts:
        return ()
    axes = [axis for axis in record.axes if record.is_listed(axis) and axis in centre.values]
    if len(axes) == 1 and len(record.axes[axes[0]]) > 1 and len(record.sweep.seeds) > 1:
        return (seeds_grid(record, verdict, centre, axes[0]),)
    made = [pair_grid(record, centre, *pair) for pair in ordered_pairs(axes)]
    return tuple(grid for grid in made if grid is not None)[:MOST_GRIDS]


def ordered_pairs(axes: Sequence[str]) -> list[tuple[str, str]]:
    """Every pair once, the telling ones in front."""
    first = [pair for pair in FIRST_PAIRS if set(pair) <= set(axes)]
    known = [set(pair) for pair in first]
    return [*first, *(pair for pair in itertools.combinations(axes, 2) if set(pair) not in known)]


def pair_grid(record: Record, centre: CellResult, first: str, second: str) -> ContactSheet | None:
    """Rows × columns of two axes; None when fewer than two of either have a cell."""
    plane = around(record, centre, first, second)
    values = {
        axis: tuple(
            v for v in record.axes[axis] if any(c.values[axis] == v for c in plane.values())
        )
        for axis in (first, second)
    }
    if min(map(len, values.values())) < 2:
        return None
    rows, columns = laid_out(values)
    down = evenly(values[rows], MOST_ROWS, centre.values[rows])
    across = evenly(values[columns], MOST_COLUMNS, centre.values[columns])
    plane = around(record, centre, rows, columns)
    tiles = tuple(
        tuple(first_image(record, plane.get((row, column))) for column in across) for row in down
    )
    return ContactSheet(
        name=f"grid-{as_file_name(rows)}-{as_file_name(columns)}",
        title=f"{axis_label(rows)} × {axis_label(columns)}",
        columns=tuple(heading(columns, value) for value in across),
        rows=tuple(heading(rows, value) for value in down),
        tiles=tiles,
        caption=caption(record, centre, (first, second), "first seed of the exam"),
        is_grid=True,
    )


def laid_out(values: Mapping[str, Sequence[Value]]) -> tuple[str, str]:
    """Which axis runs down and which across: the longer one down, unless a row can hold it."""
    short, long = sorted(values, key=lambda axis: len(values[axis]))
    slim = 2 * len(values[short]) < len(values[long]) <= MOST_COLUMNS
    if len(values[short]) == len(values[long]):
        return short, long
    return (short, long) if slim else (long, short)


def first_image(record: Record, cell: CellResult | None) -> Tile:
    """The first prompt's first image of a cell."""
    if cell is None:
        return Tile(None, "not tried")
    return tile_of(record.store, cell.images, 0, 0, missing(cell))


def seeds_grid(record: Record, verdict: Verdict, centre: CellResult, axis: str) -> ContactSheet:
    """The exam's seeds × the values of the one axis."""
    along = around(record, centre, axis)
    tried = [value for value in record.axes[axis] if (value,) in along]
    across = evenly(tried, MOST_COLUMNS, centre.values[axis])
    cells = [along[value,] for value in across]
    seeds = record.sweep.seeds[:MOST_SEEDS]
    tiles = tuple(
        tuple(tile_of(record.store, cell.images, 0, seed, missing(cell)) for cell in cells)
        for seed in range(len(seeds))
    )
    return ContactSheet(
        name=f"grid-exam_seed-{as_file_name(axis)}",
        title=f"seed of the exam × {axis_label(axis)}",
        chosen=place_of(verdict.recommendation.cell, cells),
        columns=tuple(heading(axis, value) for value in across),
        rows=tuple(f"exam seed {seed}" for seed in seeds),
        tiles=tiles,
        caption=caption(record, centre, (axis,), ""),
        is_grid=True,
    )


def caption(record: Record, centre: CellResult, shown: Sequence[str], seed: str) -> str:
    """What is held: the prompt, the exam's seed, the recommended cell's other values."""
    held = tuple(axis for axis in record.axes if axis not in shown and axis in centre.values)
    parts = [f"Prompt: {record.sweep.prompts[0]}", seed]
    parts += [f"held at {point_text(centre.values, held)}"] if held else []
    return "; ".join(part for part in parts if part) + "."
