"""Heat maps of a grid of two axes, one per objective, the scores written in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from charsweep.core.system.names import as_file_name
from charsweep.report.figures.style import BAD, Layout, Margins, Plot, save
from charsweep.results import Point, Record
from charsweep.results.labels import axis_label, metric_label, value_text
from charsweep.results.points import SEED, points_of
from charsweep.results.records import Objective, Value, is_numeric
from charsweep.results.verdict import objectives_of

MOST_VALUES = 24  # of one axis; a larger grid cannot be read
FACETS = 4  # methods, each with a map of its own
MAP = "cividis"  # as even to colour-blind eyes as to others (Nuñez et al. 2018)
# Not the ink of the style: it must stay as it is on a dark page, where the tiles do.
ON_LIGHT, ON_DARK = "#101010", "#fafafa"


@dataclass(frozen=True)
class HeatGrid:
    """The points of one map by row and column; `facet` is the method, if several are shown."""

    rows: str
    columns: str
    row_values: tuple[Value, ...]
    column_values: tuple[Value, ...]
    points: tuple[Point, ...]
    facet: str = ""


def grids_of(record: Record) -> tuple[HeatGrid, ...]:
    """One grid when two axes vary, one per method when it is the third; else none."""
    axes = [axis for axis in record.axes if axis != SEED]
    plane = [axis for axis in axes if axis != "method"] if len(axes) == 3 else axes
    if len(plane) != 2 or any(record.is_searched(axis) for axis in plane):
        return ()
    # Names are read best from left to right, and a page is wider than high.
    first, second = sorted(
        plane, key=lambda axis: (is_numeric(record.axes[axis]), len(record.axes[axis]))
    )
    if max(len(record.axes[axis]) for axis in plane) > MOST_VALUES:
        return ()
    points = points_of(record)
    methods: Sequence[Value] = record.axes["method"] if len(axes) == 3 else (None,)
    if len(methods) > FACETS:
        return ()
    made = []
    for method in methods:
        own = [p for p in points if method is None or p.values.get("method") == method]
        own = [p for p in own if first in p.values and second in p.values]
        rows = tuple(v for v in record.axes[first] if any(p.values[first] == v for p in own))
        columns = tuple(v for v in record.axes[second] if any(p.values[second] == v for p in own))
        if len(rows) > 1 and len(columns) > 1:
            facet = "" if method is None else str(method)
            made.append(HeatGrid(first, second, rows, columns, tuple(own), facet))
    return tuple(made)


def draw_heat_maps(record: Record, folder: Path) -> tuple[Plot, ...]:
    """Write a map for every objective and grid that has scores."""
    return tuple(
        draw_heat_map(grid, objective, folder)
        for grid in grids_of(record)
        for objective in objectives_of(record)
        if any(point.mean(objective.metric) is not None for point in grid.points)
    )


def draw_heat_map(grid: HeatGrid, objective: Objective, folder: Path) -> Plot:
    """Write one map."""
    label = metric_label(objective.metric)
    names = [value_text(grid.rows, value) for value in grid.row_values]
    tile = 0.62 if len(grid.column_values) <= 10 else 0.44
    heads = [value_text(grid.columns, value) for value in grid.column_values]
    tile = max(tile, 0.085 * max(map(len, heads)) if len(heads) <= 10 else 0)
    margins = Margins(left=0.62 + 0.075 * max(map(len, names)), right=0.95, bottom=0.55)
    width = max(4.7, margins.left + margins.right + tile * len(grid.column_values))
    height = margins.top + margins.bottom + max(1.4, 0.4 * len(grid.row_values))
    layout = Layout(width, height, margins)
    figure, (axes,) = layout.new_figure()
    fill(figure, axes, grid, objective)
    axes.set_title(label.long + (f", {grid.facet}" if grid.facet else ""))
    facet = f"-{as_file_name(grid.facet)}" if grid.facet else ""
    alt = f"{label.long} by {axis_label(grid.rows)} and {axis_label(grid.columns)}"
    return save(figure, folder / f"heat-{as_file_name(objective.metric)}{facet}", alt)


def fill(figure: Figure, axes: Axes, grid: HeatGrid, objective: Objective) -> None:
    """The tiles with their figures; a cross where nothing finished, the best one framed."""
    rows, columns = grid.row_values.index, grid.column_values.index
    scores = {
        (rows(point.values[grid.rows]), columns(point.values[grid.columns])): (
            point.mean(objective.metric)
        )
        for point in grid.points
    }
    known = {at: score for at, score in scores.items() if score is not None}
    low, high = min(known.values()), max(known.values())
    middle: dict[str, Any] = {"ha": "center", "va": "center"}
    colours = mpl.colormaps[MAP if objective.maximize else f"{MAP}_r"]
    norm = mpl.colors.Normalize(low, high if high > low else low + 1e-6)
    small = len(grid.column_values) > 10
    for (row, column), score in scores.items():
        if score is None:
            axes.text(column, row, "×", color=BAD, fontsize=11, weight="bold", **middle)
            continue
        shade = colours(norm(score))
        axes.add_patch(mpl.patches.Rectangle((column - 0.5, row - 0.5), 1, 1, fc=shade, ec="none"))
        brightness = 0.299 * shade[0] + 0.587 * shade[1] + 0.114 * shade[2]
        axes.text(
            column, row, f"{score:.2f}" if small else f"{score:.3f}",
            color=ON_LIGHT if brightness > 0.5 else ON_DARK, fontsize=7 if small else 8.5, **middle,
        )  # fmt: skip
    ahead = max(known, key=lambda at: known[at] if objective.maximize else -known[at])
    frame(axes, ahead)
    set_axes(axes, grid)
    box = axes.get_position()
    beside = figure.add_axes((box.x1 + 0.02, box.y0, 0.025, box.height))
    scale = mpl.cm.ScalarMappable(norm, colours)
    bar = figure.colorbar(scale, cax=beside, ticks=[low, high], format="%.2f")
    bar.outline.set_visible(False)


def frame(axes: Axes, at: tuple[int, int]) -> None:
    """A frame around the best tile, seen on bright and dark ones."""
    for colour, width in ((ON_DARK, 3.2), (BAD, 1.8)):
        axes.add_patch(
            mpl.patches.Rectangle(
                (at[1] - 0.5, at[0] - 0.5), 1, 1, fc="none", ec=colour, lw=width, zorder=3,
                clip_on=False,
            )
        )  # fmt: skip


def set_axes(axes: Axes, grid: HeatGrid) -> None:
    """One slot per value, rows upwards as on a plot."""
    axes.set_xlim(-0.5, len(grid.column_values) - 0.5)
    axes.set_ylim(-0.5, len(grid.row_values) - 0.5)
    columns = [value_text(grid.columns, value) for value in grid.column_values]
    every = max(1, round(len(columns) / 12))
    axes.set_xticks(range(0, len(columns), every), columns[::every])
    axes.set_yticks(
        range(len(grid.row_values)), [value_text(grid.rows, v) for v in grid.row_values]
    )
    axes.set_xlabel(axis_label(grid.columns))
    axes.set_ylabel(axis_label(grid.rows))
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
