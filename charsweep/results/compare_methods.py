"""The comparison of methods, each at the setting recommended of its own: the study's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from charsweep.results.cells import CellResult
from charsweep.results.cells_table import (
    axis_entry,
    cost_entry,
    reference_rows,
    score_columns,
    score_entries,
)
from charsweep.results.labels import axis_label, cost_label, level_text, listing, value_text
from charsweep.results.points import SEED, Point, comparable
from charsweep.results.recommendation import RULE, recommend
from charsweep.results.records import Objective, Record
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
from charsweep.results.verdict import objectives_of

FIRST_COSTS = ("size_mb", "train_seconds", "seconds_per_step")
TITLES = {
    "size_mb": "weight size, MB",
    "train_seconds": "run time, s",
    "seconds_per_step": "seconds per step",
}
METHOD = "method"


@dataclass(frozen=True)
class Contender:
    """A method at its recommended setting; without a point when none of its cells finished."""

    method: str
    bases: tuple[str, ...]
    point: Point | None


def contenders(record: Record) -> tuple[Contender, ...]:
    """Each method at its own best of everything else, in the order of the grid."""
    methods: dict[str, list[CellResult]] = {}
    for cell in record.cells:
        methods.setdefault(str(cell.values.get(METHOD, "")), []).append(cell)
    return tuple(
        Contender(
            method or record.sweep.name,
            tuple(dict.fromkeys(cell.base for cell in own if cell.base)),
            recommend(record, own).stand_in,
        )
        for method, own in methods.items()
    )


def comparison_table(record: Record) -> Table | None:
    """Method, base, what it weighs and takes, what it scores: one line each, references below."""
    known = contenders(record)
    if not known:
        return None
    axes = tuple(axis for axis in record.axes if axis not in (METHOD, SEED))
    says_where = bool(axes) or any(contender.point is None for contender in known)
    rest = tuple(name for name in record.costs if name not in FIRST_COSTS and is_asked(name))
    columns = (
        Column(METHOD, "method", number=False),
        Column("base", "base", number=False),
        Column("best_at", "recommended at", number=False, shown=says_where),
        *(Column(axis, axis, shown=False) for axis in axes),
        Column("seeds", "seeds", shown=False),
        *(Column(name, TITLES.get(name) or cost_label(name), kind=COST) for name in FIRST_COSTS),
        *score_columns(record),
        Column("visual_quality", "visual quality", number=False, kind=SCORE),
        *(Column(name, cost_label(name), kind=COST) for name in rest),
    )
    top = best_scores(record, known)
    rows = tuple(
        contender_row(record, contender, axes, rest, top, order)
        for order, contender in enumerate(known)
    )
    title = "Methods, each as recommended" if len(known) > 1 else "The method as recommended"
    return condensed(
        Table(
            "comparison",
            title,
            columns,
            (*rows, *reference_rows(record, columns)),
            notes(record, axes),
            lead=3 if says_where else 2,
        )
    )


def best_scores(record: Record, known: Sequence[Contender]) -> dict[str, float]:
    """The best score among methods on each objective and on the quality ratio, set in bold."""
    top = {}
    for objective in (*objectives_of(record), Objective("quality_ratio", True)):
        points = [c.point for c in known if c.point is not None]
        means = [p.mean(objective.metric) for p in comparable(points, objectives_of(record))]
        scores = [score for score in means if score is not None]
        if len(scores) > 1:
            top[objective.metric] = max(scores) if objective.maximize else min(scores)
    return top


def is_asked(cost: str) -> bool:
    """Whether a cost behind the scores belongs in the comparison: energy does, time paid not."""
    return cost in ("energy_wh", "co2_g")


def contender_row(
    record: Record,
    contender: Contender,
    axes: tuple[str, ...],
    rest: tuple[str, ...],
    top: Mapping[str, float],
    order: int,
) -> TableRow:
    """One method; everything past its name is blank when nothing of it finished."""
    point = contender.point
    values = {} if point is None else point.values
    at = ", ".join(f"{axis} = {value_text(axis, values[axis])}" for axis in axes if axis in values)
    score = {m: None if point is None else point.mean(m) for m in record.metrics}
    gain = {m: None if point is None else point.gain(m) for m in record.metrics}
    cost = {n: None if point is None else point.cost(n) for n in (*FIRST_COSTS, *rest)}
    entries = (
        text_entry(contender.method),
        text_entry(", ".join(contender.bases)),
        TableEntry("no finished cell", "no finished cell", bad=True)
        if point is None
        else text_entry(at),
        *(axis_entry(axis, values) for axis in axes),
        TableEntry(None if point is None else len(point.finished)),
        *(cost_entry(name, cost[name]) for name in FIRST_COSTS),
        *score_entries(record, score, gain, top),
        text_entry(level_text(score.get("quality_ratio"))),
        *(cost_entry(name, cost[name]) for name in rest),
    )
    return TableRow(entries, order=order)


def notes(record: Record, axes: tuple[str, ...]) -> tuple[str, ...]:
    """At what each method stands here."""
    texts = []
    if axes:
        texts.append(
            f"Every method at the {listing([axis_label(axis) for axis in axes], most=6)} "
            f"recommended among its own cells ({RULE}); one that has no prompt score, at its "
            "highest identity."
        )
    seeds = len(record.axes.get(SEED, ()))
    if seeds > 1:
        texts.append(f"Means over {seeds} training seeds.")
    texts.append("Run time is what one cell takes alone; blank where something does not apply.")
    return tuple(texts)
