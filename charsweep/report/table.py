"""A record in, the comparison out: rows for the page, and table.csv with every figure whole."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from charsweep.report.data import COSTS, CellRow, Objective, Record
from charsweep.report.groups import SEED, Point, points_of, ranked
from charsweep.report.labels import (
    COSTS as COST_LABELS,
)
from charsweep.report.labels import (
    axis_label,
    cost_text,
    gain_text,
    level_text,
    metric_label,
    score_text,
    value_text,
)
from charsweep.report.verdict import Verdict, objectives_of

IN_GRID_ORDER = 40  # a longer table is sorted, best first


@dataclass(frozen=True)
class Figure:
    """One number of a row: as it is, as it reads, its difference from the base."""

    value: float | None
    text: str
    gain: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """One line of the comparison table."""

    label: str  # of a reference row
    values: tuple[str, ...]
    state: str
    detail: str
    marks: tuple[str, ...]
    scores: tuple[Figure, ...]
    level: str
    costs: tuple[Figure, ...]


@dataclass(frozen=True)
class SeedRow:
    """A point of the grid with the mean over its seeds and the 95 % interval of that."""

    values: tuple[str, ...]
    seeds: str
    scores: tuple[tuple[str, str], ...]  # mean, "low to high"


@dataclass(frozen=True)
class MethodRow:
    """A method at its own best values of everything else."""

    method: str
    at: str
    scores: tuple[Figure, ...]
    level: str
    costs: tuple[Figure, ...]


def columns(record: Record) -> tuple[str, ...]:
    """The headings of the varied axes."""
    return tuple(axis_label(axis) for axis in record.axes)


def metric_columns(record: Record) -> tuple[str, ...]:
    """The headings of the scores."""
    return tuple(metric_label(metric).short for metric in record.metrics)


def cost_columns() -> tuple[str, ...]:
    """The headings of sizes and times."""
    return tuple(COST_LABELS[name] for name in COSTS)


def rows(record: Record, verdict: Verdict) -> tuple[Row, ...]:
    """The references, then every cell in grid order, or best first when there are many."""
    cells: Sequence[CellRow] = record.cells
    if len(cells) > IN_GRID_ORDER:
        first = objectives_of(record)[0]
        order = [cell for point, _ in ranked(points_of(record), first) for cell in point.cells]
        known = set(map(id, order))
        cells = [*order, *(cell for cell in record.cells if id(cell) not in known)]
    top = best_scores(record)
    return (
        *reference_rows(record),
        *(cell_row(record, verdict, cell, top) for cell in cells),
    )


def best_scores(record: Record) -> dict[str, float]:
    """The best score of a single cell on each objective and on the quality ratio."""
    top = {}
    for one in (*objectives_of(record), Objective("quality_ratio", True)):
        scores = [cell.scores[one.metric] for cell in record.cells if one.metric in cell.scores]
        if len(scores) > 1:
            top[one.metric] = max(scores) if one.maximize else min(scores)
    return top


def cell_row(record: Record, verdict: Verdict, cell: CellRow, top: dict[str, float]) -> Row:
    """One cell as a line of the table."""
    detail = "" if cell.diverged_at is None else f"at step {cell.diverged_at}"
    return Row(
        label="",
        values=tuple(
            value_text(axis, cell.values[axis]) if axis in cell.values else ""
            for axis in record.axes
        ),
        state=cell.state,
        detail=detail,
        marks=verdict.marks(cell),
        scores=tuple(
            Figure(
                cell.scores.get(metric),
                score_text(cell.scores.get(metric)),
                gain_text(cell.gains.get(metric)),
                metric in top and cell.scores.get(metric) == top[metric],
            )
            for metric in record.metrics
        ),
        level=level_text(cell.scores.get("quality_ratio")),
        costs=tuple(
            Figure(cell.costs.get(name), cost_text(name, cell.costs.get(name))) for name in COSTS
        ),
    )


def reference_rows(record: Record) -> list[Row]:
    """The drawings among themselves, the true pictures and the untaught bases, where known."""
    several = len(record.sweep.bases) > 1
    known = [
        ("drawings among themselves", record.sweep.real),
        ("true pictures", record.sweep.truth.scores if record.sweep.truth else {}),
        *(
            (f"untaught {name}" if several else "untaught base", reference.scores)
            for name, reference in record.sweep.bases.items()
        ),
    ]
    return [
        Row(
            label=label,
            values=(),
            state="",
            detail="",
            marks=(),
            scores=tuple(
                Figure(scores.get(metric), score_text(scores.get(metric)))
                for metric in record.metrics
            ),
            level=level_text(scores.get("quality_ratio")),
            costs=tuple(Figure(None, "") for _ in COSTS),
        )
        for label, scores in known
        if scores
    ]


def seed_rows(record: Record) -> tuple[SeedRow, ...]:
    """Every point with its mean and interval, when the seed is one of the axes."""
    if SEED not in record.axes or len(record.axes[SEED]) < 2:
        return ()

    def row(point: Point) -> SeedRow:
        scores = []
        for metric in record.metrics:
            own = point.interval(metric)
            span = f"{score_text(own[0])} to {score_text(own[1])}" if own else ""
            scores.append((score_text(point.mean(metric)), span))
        count = f"{len(point.finished)} of {len(point.cells)}"
        values = tuple(value_text(axis, value) for axis, value in point.values.items())
        return SeedRow(values or ("all",), count, tuple(scores))

    return tuple(row(point) for point in points_of(record))


def method_rows(record: Record) -> tuple[MethodRow, ...]:
    """Methods compared each at its own best of everything else, when the method varies."""
    if len(record.axes) < 2 or "method" not in record.axes:
        return ()
    first = objectives_of(record)[0]
    found = []
    for method in record.axes["method"]:
        own = [cell for cell in record.cells if cell.values.get("method") == method]
        order = ranked(points_of(record, own), first)
        if not order:
            found.append(MethodRow(str(method), "no finished cell", (), "", ()))
            continue
        point = order[0][0]
        others = ", ".join(
            f"{axis} = {value_text(axis, value)}"
            for axis, value in point.values.items()
            if axis != "method"
        )
        scores = tuple(
            Figure(score, score_text(score), gain_text(point.gain(metric)))
            for metric in record.metrics
            for score in [point.mean(metric)]
        )
        costs = tuple(
            Figure(cost, cost_text(name, cost)) for name in COSTS for cost in [point.cost(name)]
        )
        level = level_text(point.mean("quality_ratio"))
        found.append(MethodRow(str(method), others, scores, level, costs))
    return tuple(found)


def write_csv(record: Record, verdict: Verdict, path: Path) -> None:
    """Every cell in grid order with unrounded figures; blank where something does not apply."""
    axes = tuple(dict.fromkeys([*record.axes, *(n for cell in record.cells for n in cell.values)]))
    gains = [f"{metric}_gain" for metric in record.metrics]
    header = ["cell", *axes, "base", "state", "diverged_at", "error", "mark"]
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow([*header, *record.metrics, *gains, "visual_quality", *COSTS])
        for cell in record.cells:
            out.writerow(
                [
                    cell.cell,
                    *(cell.values.get(axis) for axis in axes),
                    cell.base,
                    cell.state,
                    cell.diverged_at,
                    cell.error,
                    "; ".join(verdict.marks(cell)),
                    *(cell.scores.get(metric) for metric in record.metrics),
                    *(cell.gains.get(metric) for metric in record.metrics),
                    level_text(cell.scores.get("quality_ratio")),
                    *(cell.costs.get(name) for name in COSTS),
                ]
            )
