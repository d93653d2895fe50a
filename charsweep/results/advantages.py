"""Advantages of each method: fastest, lightest, highest on each score. Pure.

Read off the comparison's own numbers, with ties said. With one method the points of its grid are
compared instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from charsweep.results.cells import COSTS
from charsweep.results.compare_methods import contenders
from charsweep.results.labels import cost_label, cost_text, listing, metric_label, score_text
from charsweep.results.points import ERRORS, Point, comparable, difference, points_of
from charsweep.results.records import Record
from charsweep.results.table import Column, Table, TableEntry, TableRow, text_entry
from charsweep.results.unlike import unlike
from charsweep.results.verdict import objectives_of

COST_TIE = 0.05  # of the smallest: a repeated run's time moves by about as much. By hand.


@dataclass(frozen=True)
class Aspect:
    """One count on which contenders are compared."""

    word: str
    name: str  # of a metric or a cost
    maximize: bool = False

    @property
    def is_cost(self) -> bool:
        return self.name in COSTS

    def text(self, value: float) -> str:
        """A figure with its unit."""
        if self.is_cost:
            unit = cost_label(self.name).rpartition(", ")[2]
            return f"{cost_text(self.name, value)} {unit}"
        return f"{metric_label(self.name).short} {score_text(value)}"


@dataclass(frozen=True)
class Advantage:
    """Who is ahead on one count, and who comes next."""

    aspect: Aspect
    ahead: tuple[tuple[str, float], ...]  # the best first, then its ties
    behind: tuple[tuple[str, float], ...]

    @property
    def sentence(self) -> str:
        """ "Fastest: lora, 25 s; next dreambooth, 60 s"."""
        (best, value), *ties = self.ahead
        shown = self.aspect.text(value)
        if not self.behind and ties:
            return f"{self.aspect.word}: no difference to speak of ({shown})."
        tied = f", tied with {listing([label for label, _ in ties], most=3)}" if ties else ""
        if not self.behind:
            return f"{self.aspect.word}: {best}, {shown}."
        label, other = self.behind[0]
        return (
            f"{self.aspect.word}: {best}, {shown}{tied}; next {label}, {self.aspect.text(other)}."
        )


def aspects(record: Record) -> tuple[Aspect, ...]:
    """The counts on which the record has numbers."""
    return (
        Aspect("Highest score", "score", True),
        Aspect("Highest identity", "identity", True),
        Aspect("Shows most of the prompt", "prompt", True),
        Aspect("Fastest to train", "train_seconds"),
        Aspect("Lightest", "size_mb"),
        Aspect("Least energy", "energy_wh"),
    )


def advantages(record: Record) -> tuple[Advantage, ...]:
    """Who is ahead on each count, among methods or among the points of one method."""
    known = [
        (contender.method, contender.point)
        for contender in contenders(record)
        if contender.point is not None
    ]
    if len(known) < 2 and not unlike(record):
        known = [(point.label, point) for point in points_of(record) if point.finished]
    if len(known) < 2:
        return ()
    judged = comparable([point for _, point in known], objectives_of(record))
    ranked_ones = [(label, point) for label, point in known if point in judged]
    found = [
        advantage(known if aspect.is_cost else ranked_ones, aspect) for aspect in aspects(record)
    ]
    return tuple(advantage for advantage in found if advantage is not None)


def advantage(known: Sequence[tuple[str, Point]], aspect: Aspect) -> Advantage | None:
    """The best on one count with its ties; None when fewer than two have the number."""
    valued = [
        (label, point, value)
        for label, point in known
        if (value := point.value(aspect.name)) is not None
    ]
    valued.sort(key=lambda entry: entry[2], reverse=aspect.maximize)
    if len(valued) < 2 or (aspect.name == "quality_ratio" and valued[0][2] <= 0):
        return None
    _, best, top = valued[0]
    near = [close(aspect, best, top, point, value) for _, point, value in valued]
    pairs = [(label, value) for label, _, value in valued]
    ahead = tuple(itertools.compress(pairs, near))
    return Advantage(aspect, ahead, tuple(pair for pair in pairs if pair not in ahead))


def close(aspect: Aspect, best: Point, top: float, point: Point, value: float) -> bool:
    """Whether a point ties with the best."""
    if aspect.is_cost:
        return value - top <= COST_TIE * abs(top)
    ahead = (best, point) if aspect.maximize else (point, best)
    return difference(*ahead, aspect.name).is_within(ERRORS)


def advantages_table(record: Record) -> Table | None:
    """The same as a table; None when nothing can be compared."""
    known = advantages(record)
    if not known:
        return None
    columns = (
        Column("advantage", "advantage", number=False),
        Column("who", "who", number=False),
        Column("value", "figure"),
        Column("measure", "measure", number=False, shown=False),
        Column("next", "next", number=False),
        Column("next_value", "its figure"),
    )
    rows = tuple(advantage_row(advantage) for advantage in known)
    note = (
        "Scores that a paired test over prompts and training seeds cannot tell apart, and costs "
        f"within {COST_TIE:.0%} of the smallest, are ties."
    )
    return Table("advantages", "Advantages", columns, rows, (note,))


def advantage_row(advantage: Advantage) -> TableRow:
    """One count as a line."""
    labels = [label for label, _ in advantage.ahead]
    value = advantage.ahead[0][1]
    alike = len(labels) > 1 and not advantage.behind
    who = "no difference" if alike else listing(labels, most=3)
    behind = advantage.behind[0] if advantage.behind else None
    return TableRow(
        (
            text_entry(advantage.aspect.word),
            TableEntry("; ".join(labels), who),
            TableEntry(value, advantage.aspect.text(value)),
            text_entry(advantage.aspect.name),
            text_entry(behind[0] if behind else ""),
            TableEntry(behind[1], advantage.aspect.text(behind[1])) if behind else TableEntry(),
        )
    )
