"""What a tuning plot draws along one axis: lines, bands, references. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from charsweep.results import CellResult, Record
from charsweep.results.labels import axis_label, point_text, value_text
from charsweep.results.points import SEED, interval, known, mean
from charsweep.results.records import Value, by_values, is_numeric

MOST_LINES = 8


@dataclass(frozen=True)
class Mark:
    """A score at one position: the mean of its cells, two standard errors either way."""

    x: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Ended:
    """Cells that gave no score at one position."""

    x: float
    state: str
    count: int
    total: int


@dataclass(frozen=True)
class LinePlan:
    """Which lines an axis gets: one per combination of the others, or thin ones and means."""

    axis: str
    values: tuple[Value, ...]
    log: bool
    colour_values: tuple[Value, ...]  # numbers decide for an ordered palette
    groups: tuple[tuple[str, int, tuple[CellResult, ...]], ...]  # label, colour, cells: bold
    thin: tuple[tuple[int, tuple[CellResult, ...]], ...]  # colour, cells: faint
    title: str  # of the legend

    @property
    def numeric(self) -> bool:
        """Whether the axis is a scale and not a list of names."""
        return is_numeric(self.values)

    def x(self, cell: CellResult) -> float:
        """Where a cell stands: its value, or its rank among categories."""
        value = cell.values[self.axis]
        return float(value) if self.numeric and value is not None else self.values.index(value)


def plan_lines(record: Record, axis: str) -> LinePlan:
    """Decide how the cells split into lines along `axis`."""
    values = record.axes[axis]
    others = [name for name in record.axes if name not in (axis, SEED)]
    cells = [cell for cell in record.cells if axis in cell.values]
    combos = by_values(cells, others)
    numbers = [float(value or 0) for value in values] if is_numeric(values) else [0.0]
    log = min(numbers) > 0 and (axis == "lr" or max(numbers) / min(numbers) >= 100)
    few = len(combos) <= MOST_LINES
    by = next((name for name in others if is_short(record, name, cells)), None)
    if few and len(others) != 1:  # every combination of two or more axes is a line of its own
        lines = tuple(
            (point_text(own[0].values, others), index, tuple(own))
            for index, own in enumerate(combos)
        )
        return LinePlan(axis, values, log, tuple(label for label, _, _ in lines), lines, (), "")
    if by is None:  # no axis has few enough values to be told apart by colour
        thin = tuple((0, tuple(own)) for own in combos)
        return LinePlan(axis, values, log, ("all",), (("mean", 0, tuple(cells)),), thin, "")
    known = record.axes[by]
    if any(by not in cell.values for cell in cells) and None not in known:
        known = (*known, None)  # a method that has no such axis gets a colour of its own
    colour = {value: index for index, value in enumerate(known)}
    groups = tuple(
        (value_text(by, value), colour[value], tuple(own))
        for own in by_values(cells, [by])
        for value in [own[0].values.get(by)]
    )
    thin = () if few else tuple((colour[own[0].values.get(by)], tuple(own)) for own in combos)
    title = axis_label(by) if few else f"{axis_label(by)} (mean over the rest)"
    return LinePlan(axis, values, log, known, groups, thin, title)


def is_short(record: Record, axis: str, cells: Sequence[CellResult]) -> bool:
    """Whether the values of an axis, or the lack of one, can be told apart by colour."""
    lacks = any(axis not in cell.values for cell in cells)
    return len(record.axes[axis]) + lacks <= MOST_LINES


def marks_of(plan: LinePlan, cells: Sequence[CellResult], metric: str) -> tuple[Mark, ...]:
    """The scores of some cells by position."""
    at: dict[float, list[CellResult]] = {}
    for cell in cells:
        if cell.scores.get(metric) is not None:
            at.setdefault(plan.x(cell), []).append(cell)
    marks = []
    for x, own in sorted(at.items()):
        middle = mean(known(cell.scores[metric] for cell in own)) or 0.0
        marks.append(Mark(x, middle, *(interval(own, metric) or (middle, middle))))
    return tuple(marks)


def ended_of(plan: LinePlan) -> tuple[Ended, ...]:
    """Where cells diverged or failed, and how many of how many."""
    cells = [cell for _, _, own in plan.groups for cell in own]
    together = {plan.x(own[0]): own for own in by_values(cells, [plan.axis])}
    return tuple(
        Ended(x, state, count, len(own))
        for x, own in sorted(together.items())
        for state in ("diverged", "failed")
        if (count := sum(cell.state == state for cell in own))
    )


def base_marks(record: Record, plan: LinePlan, metric: str) -> Mapping[str, tuple[Mark, ...]]:
    """The untaught base's score by base and position, read back from the cells' gains.

    A base drawn with more inference steps scores otherwise, so its line need not be flat.
    """
    at: dict[str, dict[float, list[float]]] = {}
    for cell in record.cells:
        score, gain = cell.scores.get(metric), cell.gains.get(metric)
        if score is not None and gain is not None and plan.axis in cell.values:
            at.setdefault(cell.base, {}).setdefault(plan.x(cell), []).append(score - gain)
    for name, reference in record.sweep.bases.items():
        if name not in at and metric in reference.scores:
            at[name] = {0.0: [reference.scores[metric]]}
    return {
        name: tuple(Mark(x, mean(own) or 0.0, min(own), max(own)) for x, own in sorted(by.items()))
        for name, by in at.items()
    }
