"""The settings that people are asked about, and what their votes say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from charsweep.results.cells import CellResult
from charsweep.results.choice import Bounds, chosen, keeps, on_each_base
from charsweep.results.parts import comparable
from charsweep.results.points import Point, points_of, with_score
from charsweep.results.preference import Candidate, Preferences, Strength, preferences
from charsweep.results.records import Record
from charsweep.results.unlike import unlike

LEAST, MOST = 6, 24  # settings that are voted on first, where there are so many


def candidates_of(
    record: Record, cells: Sequence[CellResult] | None = None
) -> tuple[Candidate, ...]:
    """The settings that can be voted for; none where cells do not compare: ask of each part.

    Those that may be recommended: with a score, within the constraints, as far as there are any.
    """
    if unlike(record, cells):
        return ()
    points = [point for point in points_of(record, cells) if point.finished]
    scored = with_score(points)
    constraints: Mapping[str, Bounds] = record.sweep.settings.get("constraints") or {}
    own = [point for point in scored if keeps(point, constraints)] or scored or points
    rivals = {id(point) for point in (rivals_of(scored and own) or own[:MOST])}
    return tuple(
        Candidate(
            tuple(cell.cell for cell in point.finished), point.label, point.price,
            id(point) in rivals,
        )
        for point in own
    )  # fmt: skip


def rivals_of(points: Sequence[Point]) -> list[Point]:
    """Of each base, the recommended setting and those that scores cannot tell from it, at most
    `MOST`; where these are few, those of the next scores too: a person may see it otherwise."""
    found = []
    for group in on_each_base(points):
        one = chosen(group)
        found += [one.best, *one.alike, *one.others][: max(LEAST, min(1 + len(one.alike), MOST))]
    return found


def preferences_of(record: Record, cells: Sequence[CellResult] | None = None) -> Preferences:
    """What the record's votes say of its settings."""
    return preferences(record.votes, candidates_of(record, cells) if record.votes else ())


def strengths_of(record: Record) -> dict[str, Strength]:
    """How often people prefer each cell that was voted on; of cells that do not compare, among
    those that do."""
    parts = comparable(record) if unlike(record) else (record,)
    return {key: one for part in parts for key, one in preferences_of(part).strengths.items()}
