"""The tables of all cells and of their means over training seeds. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from charsweep.results.candidates import strengths_of
from charsweep.results.cells import CellResult
from charsweep.results.labels import (
    axis_label,
    cost_label,
    cost_text,
    error_text,
    gain_text,
    level_text,
    made_label,
    metric_label,
    score_text,
    value_text,
)
from charsweep.results.points import SEED, Point, known, points_of, ranked
from charsweep.results.preference import Strength
from charsweep.results.records import Objective, Record, Value
from charsweep.results.table import (
    COST,
    REFERENCE,
    SCORE,
    Column,
    Table,
    TableEntry,
    TableRow,
    condensed,
    text_entry,
)
from charsweep.results.unlike import unlike
from charsweep.results.verdict import RECOMMENDED, Verdict, objectives_of

IN_GRID_ORDER = 40  # a longer table is sorted, the recommended one first


def cells_table(record: Record, verdict: Verdict) -> Table:
    """The references, then every cell in grid order, or best first when there are many."""
    others = tuple(dict.fromkeys(name for cell in record.cells for name in cell.values))
    hidden = tuple(axis for axis in others if axis not in record.axes)
    strengths, fitted = strengths_of(record), verdict.recommendation.fitted
    columns = (
        Column("cell", "cell", number=False, shown=False),
        *(Column(axis, axis_label(axis), number=False) for axis in record.axes),
        *(Column(axis, axis, number=False, shown=False) for axis in hidden),
        *(Column(f"made_{name}", made_label(name), number=False) for name in record.made),
        Column("base", "base", number=False, shown=False),
        Column("state", "state", number=False),
        *(Column(n, n, shown=False) for n in ("diverged_at", "error", "mark")),
        *([Column("fitted_score", "fitted score", kind=SCORE)] if fitted else []),
        *score_columns(record, strengths),
        Column("visual_quality", "visual quality", number=False, kind=SCORE),
        *(Column(name, cost_label(name), kind=COST) for name in record.costs),
    )
    top = best_scores(record, [Point({}, (cell,)) for cell in record.cells])
    order = {id(cell): index for index, cell in enumerate(record.cells)}
    cells = tuple(
        cell_row(record, verdict, cell, hidden, top, strengths, order[id(cell)])
        for cell in shown_order(record)
    )
    return condensed(
        Table(
            name="cells",
            title="All cells",
            columns=columns,
            rows=(*reference_rows(record, columns), *cells),
            lead=len(record.axes) + 1,
        )
    )


def score_columns(record: Record, strengths: Mapping[str, Strength]) -> tuple[Column, ...]:
    """What people prefer, where any voted, a column per metric, and for spreadsheets the ends of
    the former's interval and the latters' differences from the untaught base."""
    preference = (
        Column("preference", "preference", kind=SCORE),
        *(Column(f"preference_{end}", f"preference {end}", shown=False) for end in ("low", "high")),
    )
    return (
        *(preference if strengths else ()),
        *(Column(metric, metric_label(metric).short, kind=SCORE) for metric in record.metrics),
        *(Column(f"{metric}_gain", f"{metric} gain", shown=False) for metric in record.metrics),
    )


def score_entries(
    record: Record,
    scores: Mapping[str, float | None],
    gains: Mapping[str, float | None],
    top: Mapping[str, float],
    strengths: Mapping[str, Strength],
    point: Point,
) -> tuple[TableEntry, ...]:
    """What `score_columns` head; the first with two standard errors either way."""
    spans = {metric: point.interval(metric) for metric in record.metrics[:1]}
    shown = [
        TableEntry(
            scores.get(metric),
            score_text(scores.get(metric)) + error_text(spans.get(metric)),
            gain_text(gains.get(metric)),
            best=metric in top and scores.get(metric) == top[metric],
        )
        for metric in record.metrics
    ]
    gained = (TableEntry(gains.get(metric)) for metric in record.metrics)
    return (*(preference_entries(strengths, point) if strengths else ()), *shown, *gained)


def preference_entries(
    strengths: Mapping[str, Strength], point: Point
) -> tuple[TableEntry, TableEntry, TableEntry]:
    """How often people prefer it, with where that lies; blank where nobody voted on it."""
    known = next((strengths[cell.cell] for cell in point.cells if cell.cell in strengths), None)
    if known is None:
        return TableEntry(), TableEntry(), TableEntry()
    span = f"{score_text(known.low)} to {score_text(known.high)}"
    shown = TableEntry(known.value, score_text(known.value), span)
    return shown, TableEntry(known.low), TableEntry(known.high)


def is_sorted(record: Record) -> bool:
    """Whether the table of all cells has the best in front."""
    return len(record.cells) > IN_GRID_ORDER and not unlike(record)


def shown_order(record: Record) -> Sequence[CellResult]:
    """Grid order; of many cells that compare, the best on the first objective in front."""
    if not is_sorted(record):
        return record.cells
    first = objectives_of(record)[0]
    order = [cell for point, _ in ranked(points_of(record), first) for cell in point.cells]
    known = set(map(id, order))
    return [*order, *(cell for cell in record.cells if id(cell) not in known)]


def best_scores(record: Record, points: Sequence[Point]) -> dict[str, float]:
    """The best of the points' scores on each objective and on the quality ratio, set in bold.

    Empty where cells do not compare.
    """
    top: dict[str, float] = {}
    if unlike(record):
        return top
    for objective in (*objectives_of(record), Objective("quality_ratio", True)):
        scores = known(point.mean(objective.metric) for point in points)
        if len(scores) > 1:
            top[objective.metric] = max(scores) if objective.maximize else min(scores)
    return top


def cell_row(
    record: Record,
    verdict: Verdict,
    cell: CellResult,
    hidden: Sequence[str],
    top: Mapping[str, float],
    strengths: Mapping[str, Strength],
    order: int,
) -> TableRow:
    """One cell as a line of the table."""
    marks, fitted = verdict.marks(cell), verdict.recommendation.fitted
    own = fitted.get(cell.cell)
    entries = (
        TableEntry(cell.cell),
        *(axis_entry(axis, cell.values) for axis in (*record.axes, *hidden)),
        *(axis_entry(name, cell.made) for name in record.made),
        TableEntry(cell.base or None),
        state_entry(cell, marks),
        TableEntry(cell.diverged_at),
        TableEntry(cell.error),
        TableEntry("; ".join(marks) or cell.left or None),
        *([TableEntry(own, score_text(own))] if fitted else []),
        *score_entries(record, cell.scores, cell.gains, top, strengths, Point({}, (cell,))),
        text_entry(level_text(cell.scores.get("quality_ratio"))),
        *(cost_entry(name, cell.cost(name)) for name in record.costs),
    )
    return TableRow(entries, "best" if RECOMMENDED in marks else "", order)


def axis_entry(axis: str, values: Mapping[str, Value]) -> TableEntry:
    """The value a cell has on an axis; blank where it has none."""
    return (
        TableEntry(values[axis], value_text(axis, values[axis])) if axis in values else TableEntry()
    )


def cost_entry(name: str, value: float | None) -> TableEntry:
    """A size, a time or an energy."""
    return TableEntry(value, cost_text(name, value))


def state_entry(cell: CellResult, marks: tuple[str, ...]) -> TableEntry:
    """finished, with its marks; when it left a race; or what went wrong and when."""
    if cell.finished:
        return TableEntry(cell.state, "" if marks else cell.state, marks=marks)
    if cell.left:
        return TableEntry(cell.state, cell.left)
    detail = "" if cell.diverged_at is None else f"at step {cell.diverged_at}"
    return TableEntry(cell.state, cell.state, detail, bad=True)


def reference_rows(record: Record, columns: Sequence[Column]) -> tuple[TableRow, ...]:
    """The training images among themselves, the true images and the untaught bases, where known.

    None of cells that do not compare: each has others.
    Their names stand in the first column that readers see, their scores under the metrics.
    """
    if unlike(record):
        return ()
    several = len(record.sweep.bases) > 1
    known = [
        ("drawings among themselves", record.sweep.real),
        ("true pictures", record.sweep.truth.scores if record.sweep.truth else {}),
        *(
            (f"untaught {name}" if several else "untaught base", reference.scores)
            for name, reference in record.sweep.bases.items()
        ),
    ]
    first = next(column.key for column in columns if column.shown)
    rows = []
    for label, scores in known:
        own = {
            first: text_entry(label),
            "visual_quality": text_entry(level_text(scores.get("quality_ratio"))),
            **{m: TableEntry(scores.get(m), score_text(scores.get(m))) for m in record.metrics},
        }
        entries = tuple(own.get(column.key, TableEntry()) for column in columns)
        rows += [TableRow(entries, REFERENCE)] if scores else []
    return tuple(rows)


def seeds_table(record: Record) -> Table | None:
    """Every point with its mean and interval, when the seed is one of the axes."""
    if SEED not in record.axes or len(record.axes[SEED]) < 2:
        return None
    axes = tuple(axis for axis in record.axes if axis != SEED)
    columns = (
        *(Column(axis, axis_label(axis), number=False) for axis in axes),
        Column("finished", "seeds finished", number=False),
        *(Column(metric, metric_label(metric).short) for metric in record.metrics),
        *(
            Column(f"{metric}_{end}", f"{metric} {end}", shown=False)
            for metric in record.metrics
            for end in ("low", "high")
        ),
    )
    rows = tuple(seed_row(record, axes, point) for point in points_of(record))
    title = "Over training seeds: mean, two standard errors either way"
    return condensed(Table("seeds", title, columns, rows, lead=len(axes) + 1))


def seed_row(record: Record, axes: Sequence[str], point: Point) -> TableRow:
    """A point of the grid with the mean over its seeds and where that mean may lie."""
    spans = [point.interval(metric) for metric in record.metrics]
    shown = []
    for metric, span in zip(record.metrics, spans, strict=True):
        score = point.mean(metric)
        text = f"{score_text(span[0])} to {score_text(span[1])}" if span else ""
        shown.append(TableEntry(score, score_text(score), text))
    ends = [TableEntry(span[at] if span else None) for span in spans for at in (0, 1)]
    count = f"{len(point.finished)} of {len(point.cells)}"
    leading = [axis_entry(axis, point.values) for axis in axes]
    return TableRow((*leading, text_entry(count), *shown, *ends))
