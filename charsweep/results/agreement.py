"""How far each metric agrees with people: the share of decided pairs that it ranks as they did.

A metric that scores images ranks the two that were shown; any other, their cells. Pairs that it
gives the same value do not count, so each share has a number of pairs of its own; where the true
share may lie is Wilson's interval (1927) at 95 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from charsweep.results.candidates import preferences_of
from charsweep.results.cells import SCORE, CellResult
from charsweep.results.labels import listing, metric_label
from charsweep.results.records import Record
from charsweep.results.table import Column, Table, TableEntry, TableRow
from charsweep.results.unlike import unlike
from charsweep.results.votes import Vote

Z = 1.959964  # standard errors either way that hold 95 %


@dataclass(frozen=True)
class Agreement:
    """One metric beside the votes."""

    metric: str
    agreed: int
    told: int  # decided pairs that it gives different values

    @property
    def share(self) -> float:
        return self.agreed / self.told

    @property
    def interval(self) -> tuple[float, float]:
        """Where the share lies with 95 %."""
        n, share = self.told, self.share
        middle = share + Z**2 / (2 * n)
        half = Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
        return (middle - half) / (1 + Z**2 / n), (middle + half) / (1 + Z**2 / n)

    @property
    def is_more_than_chance(self) -> bool:
        return self.interval[0] > 0.5


def agreements(record: Record) -> tuple[Agreement, ...]:
    """Every metric that tells any decided pair apart, the most to be trusted first."""
    pairs = decided(record)
    found = []
    for metric in record.metrics:
        known = [told for pair in pairs if (told := agrees(record, metric, *pair)) is not None]
        found += [Agreement(metric, sum(known), len(known))] if known else []
    return tuple(sorted(found, key=lambda one: one.interval[0], reverse=True))


Decided = tuple[Vote, CellResult, CellResult]  # the preferred cell, and the other


def decided(record: Record) -> list[Decided]:
    """The votes for one of two cells of the record."""
    cells = {cell.cell: cell for cell in record.cells if cell.finished}
    return [
        (vote, cells[vote.winner], cells[vote.loser])
        for vote in record.votes
        if vote.winner in cells and vote.loser in cells
    ]


def agrees(
    record: Record, metric: str, vote: Vote, preferred: CellResult, other: CellResult
) -> bool | None:
    """Whether a metric ranks the two as the voter did; None where it does not tell them apart."""
    values = [value_of(record, cell, metric, vote) for cell in (preferred, other)]
    if None in values or values[0] == values[1]:
        return None
    return (values[0] > values[1]) == metric_label(metric).higher_is_better  # type: ignore[operator]


def value_of(record: Record, cell: CellResult, metric: str, vote: Vote) -> float | None:
    """What a metric says of the image that was shown; of its cell, where it reads no such image."""
    sweep, rows = record.part_of(cell).sweep, cell.per_image.get(metric) or ()
    is_exam = len(rows) == len(sweep.prompts) and all(len(r) == len(sweep.seeds) for r in rows)
    is_shown = vote.prompt < len(rows) and vote.seed in sweep.seeds
    of_exam = metric_label(metric).of_exam and (
        metric != SCORE or cell.worst in ("", f"first_{SCORE}")
    )
    if of_exam and is_exam and is_shown:
        return rows[vote.prompt][sweep.seeds.index(vote.seed)]
    return cell.scores.get(metric)


# -- in words --------------------------------------------------------------------------------------


def votes_said(record: Record) -> tuple[str, ...]:
    """What the votes say of the settings and of the metrics, in sentences; none without votes."""
    if not decided(record):
        return ()
    found = [] if unlike(record) else [preferences_of(record)]
    says = [one.says for one in found if one.votes]
    return (*says, *trust(record, is_telling=not any(one.nothing for one in found)))


def trust(record: Record, is_telling: bool) -> list[str]:
    """Which number to trust for this character."""
    known = agreements(record)
    if not known or not is_telling:
        return []
    first, (low, high) = known[0], known[0].interval
    ahead = [one for one in known if (one.agreed, one.told) == (first.agreed, first.told)]
    labels = listing([metric_label(one.metric).short for one in ahead])
    told = f"{first.agreed} of {first.told} decided pairs as people did"
    told += f" ({first.share:.0%}; {low:.0%} to {high:.0%})"
    if not first.is_more_than_chance:
        return [
            f"No score agrees with the votes by more than chance would; {labels} ranked {told}."
        ]
    if len(ahead) == 1:
        return [f"The number to trust for this character is {labels}: it ranks {told}."]
    return [f"The numbers to trust for this character are {labels}: each ranks {told}."]


def agreement_table(record: Record) -> Table | None:
    """A line per metric; None without votes that decided."""
    known = agreements(record)
    if not known:
        return None
    columns = (
        Column("metric", "score", number=False),
        Column("share", "agrees with people"),
        Column("low", "at least, 95 %"),
        Column("high", "at most, 95 %"),
        Column("agreed", "pairs ranked alike"),
        Column("told", "pairs told apart"),
    )
    return Table("agreement", "How far each score agrees with people", columns,
                 tuple(map(agreement_row, known)), notes(record))  # fmt: skip


def agreement_row(known: Agreement) -> TableRow:
    shares = [TableEntry(value, f"{value:.0%}") for value in (known.share, *known.interval)]
    counts = [TableEntry(count, str(count)) for count in (known.agreed, known.told)]
    name = TableEntry(known.metric, metric_label(known.metric).short)
    return TableRow((name, *shares, *counts), "best" if known.is_more_than_chance else "")


def notes(record: Record) -> tuple[str, ...]:
    """What was counted."""
    pairs = decided(record)
    voters = len({vote.voter for vote, _, _ in pairs})
    by = f"{voters} people" if voters > 1 else "one person"
    return (
        f"{len(pairs)} decided pairs, by {by}. Half of them would be ranked alike by chance; "
        "marked are scores that agree more often than that.",
    )
