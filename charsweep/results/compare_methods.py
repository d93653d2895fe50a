"""The comparison of methods, each at the setting recommended of its own: the study's table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from charsweep.core.specs import ADAPTER
from charsweep.results.candidates import strengths_of
from charsweep.results.cells_table import (
    axis_entry,
    best_scores,
    cost_entry,
    reference_rows,
    score_columns,
    score_entries,
)
from charsweep.results.labels import axis_label, cost_label, level_text, listing, value_text
from charsweep.results.points import SEED, Point, comparable
from charsweep.results.preference import Strength
from charsweep.results.recommendation import RULE, recommend
from charsweep.results.records import Record, by_values
from charsweep.results.table import (
    COST,
    SCORE,
    Column,
    Table,
    TableEntry,
    TableRow,
    condensed,
    text_entry,
)
from charsweep.results.unlike import unlike
from charsweep.results.verdict import objectives_of

FIRST_COSTS = ("size_mb", "train_seconds", "seconds_per_step")
MORE_COSTS = ("energy_wh", "co2_g")  # behind the scores
TITLES = {
    "size_mb": "weight size, MB",
    "train_seconds": "run time, s",
    "seconds_per_step": "seconds per step",
}
METHOD = "method"


@dataclass(frozen=True)
class Contender:
    """A method, or an adapter from elsewhere, at its recommended setting; without a point when none
    of its cells finished."""

    method: str
    bases: tuple[str, ...]
    point: Point | None


def contenders(record: Record) -> tuple[Contender, ...]:
    """Each method, and each adapter from elsewhere, at its own best of everything else, in the
    order of the grid.

    None where cells do not compare.
    """
    if unlike(record):
        return ()
    return tuple(
        Contender(
            str(own[0].values.get(ADAPTER) or own[0].values.get(METHOD) or record.sweep.name),
            tuple(dict.fromkeys(cell.base for cell in shown if cell.base)),
            point,
        )
        for own in by_values(record.cells, [METHOD, ADAPTER])
        for point in [recommend(record, own).stand_in]
        for shown in [point.cells if point else own]
    )


def comparison_table(record: Record) -> Table | None:
    """Method, base, what it weighs and takes, what it scores: one line each, references below."""
    known = contenders(record)
    if not known:
        return None
    axes = tuple(axis for axis in record.axes if axis not in (METHOD, ADAPTER, SEED))
    trained = any(ADAPTER not in cell.values for cell in record.cells)
    says_where = bool(axes) or any(contender.point is None for contender in known)
    rest = tuple(name for name in record.costs if name in MORE_COSTS)
    strengths = strengths_of(record)
    columns = (
        Column(METHOD, METHOD if trained else ADAPTER, number=False),
        Column("base", "base", number=False),
        Column("best_at", "recommended at", number=False, shown=says_where),
        *(Column(axis, axis, shown=False) for axis in axes),
        Column("seeds", "seeds", shown=False),
        *(Column(name, TITLES.get(name) or cost_label(name), kind=COST) for name in FIRST_COSTS),
        *score_columns(record, strengths),
        Column("visual_quality", "visual quality", number=False, kind=SCORE),
        *(Column(name, cost_label(name), kind=COST) for name in rest),
    )
    points = [contender.point for contender in known if contender.point is not None]
    top = best_scores(record, comparable(points, objectives_of(record)))
    rows = tuple(contender_row(record, one, axes, rest, top, strengths) for one in known)
    what = "method" if trained else "adapter"
    title = (
        f"{what.title()}s, each as recommended" if len(known) > 1 else f"The {what} as recommended"
    )
    return condensed(
        Table(
            "comparison",
            title,
            columns,
            (*rows, *reference_rows(record, columns)),
            notes(record, axes, what),
            lead=3 if says_where else 2,
        )
    )


def contender_row(
    record: Record,
    contender: Contender,
    axes: tuple[str, ...],
    rest: tuple[str, ...],
    top: Mapping[str, float],
    strengths: Mapping[str, Strength],
) -> TableRow:
    """One method; everything past its name is blank when nothing of it finished."""
    point = contender.point or Point({}, ())
    values = point.values
    at = ", ".join(f"{axis} = {value_text(axis, values[axis])}" for axis in axes if axis in values)
    score = {metric: point.mean(metric) for metric in record.metrics}
    gain = {metric: point.gain(metric) for metric in record.metrics}
    entries = (
        text_entry(contender.method),
        text_entry(", ".join(contender.bases)),
        text_entry(at)
        if contender.point
        else TableEntry("no finished cell", "no finished cell", bad=True),
        *(axis_entry(axis, values) for axis in axes),
        TableEntry(len(point.finished) or None),
        *(cost_entry(name, point.cost(name)) for name in FIRST_COSTS),
        *score_entries(record, score, gain, top, strengths, point),
        text_entry(level_text(score.get("quality_ratio"))),
        *(cost_entry(name, point.cost(name)) for name in rest),
    )
    return TableRow(entries)


def notes(record: Record, axes: tuple[str, ...], what: str) -> tuple[str, ...]:
    """At what each method, or adapter, stands here."""
    texts = []
    if axes:
        texts.append(
            f"Every {what} at the {listing([axis_label(axis) for axis in axes], most=6)} "
            f"recommended among its own cells ({RULE}); one that has no prompt score, at its "
            "highest identity."
        )
    seeds = len(record.axes.get(SEED, ()))
    if seeds > 1:
        texts.append(f"Means over {seeds} training seeds.")
    texts.append("Run time is what one cell takes alone; blank where something does not apply.")
    return tuple(texts)
