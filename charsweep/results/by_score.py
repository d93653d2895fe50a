"""The rule of the recommendation as far as scores go: the best settings, and those in question.

`charsweep.results.recommendation` says what the rule is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from charsweep.results.cells import IDENTITY, SCORE, CellResult
from charsweep.results.parts import comparable
from charsweep.results.points import ERRORS, Point, difference, points_of, ranked, with_score
from charsweep.results.preference import Candidate, Preferences, Strength, preferences
from charsweep.results.reasons import Bounds
from charsweep.results.records import Objective, Record
from charsweep.results.unlike import unlike

LEAST, MOST = 6, 24  # settings that are voted on first, where there are so many
LEVEL, AS_LIKE = 0.5, 1.0  # standard errors below the highest score, and the highest identity


def on_each_base(points: Sequence[Point]) -> list[list[Point]]:
    """The points by the base that they are taught on."""
    together: dict[str, list[Point]] = {}
    for point in points:
        together.setdefault(point.finished[0].base, []).append(point)
    return list(together.values())


def keeps(point: Point, constraints: Mapping[str, Bounds]) -> bool:
    """Whether all its mean scores keep to them; one that it lacks does."""
    for name, bounds in constraints.items():
        score, least, most = point.mean(name), bounds.get("least"), bounds.get("most")
        if score is not None and (
            (least is not None and score < least) or (most is not None and score > most)
        ):
            return False
    return True


def chosen(points: Sequence[Point]) -> tuple[Point, tuple[Point, ...], tuple[Point, ...]]:
    """Of points with a score: the recommended one, those as good as the best, and the others."""
    order = [point for point, _ in ranked(points, Objective(SCORE, True))]
    best = order[0]
    cheapest = min(most_alike(level_with(best, order)), key=lambda point: point.price)
    good = [point for point in order if difference(best, point, SCORE).is_within(ERRORS)]
    alike = tuple(point for point in good if point is not cheapest)
    return cheapest, alike, tuple(point for point in order if point not in good)


def level_with(best: Point, points: Sequence[Point]) -> list[Point]:
    """Of points, those within `LEVEL` standard errors of the highest score."""
    return [point for point in points if difference(best, point, SCORE).is_within(LEVEL)]


def most_alike(points: Sequence[Point], errors: float = AS_LIKE) -> list[Point]:
    """Of points, those within so many standard errors of the highest identity.

    All of them where any has none by image, or where the score is no product with it: of two
    characters it is the worst of several.
    """
    cells = [cell for point in points for cell in point.finished]
    if any(cell.worst or not cell.per_image.get(IDENTITY) for cell in cells):
        return list(points)
    best = max(points, key=lambda point: point.mean(IDENTITY) or 0.0)
    return [point for point in points if difference(best, point, IDENTITY).is_within(errors)]


def less_alike(taken: Point, alike: Sequence[Point]) -> tuple[Point, ...]:
    """Those that are level in score with the best and no dearer than what was taken: they are
    lower in identity."""
    order = [point for point, _ in ranked([taken, *alike], Objective(SCORE, True))]
    level = level_with(order[0], order)
    kept = {id(point) for point in most_alike(level)}
    return tuple(p for p in level if id(p) not in kept and p.price <= taken.price)


# -- votes -----------------------------------------------------------------------------------------


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
        best, alike, others = chosen(group)
        found += [best, *alike, *others][: max(LEAST, min(1 + len(alike), MOST))]
    return found


def preferences_of(record: Record, cells: Sequence[CellResult] | None = None) -> Preferences:
    """What the record's votes say of its settings."""
    return preferences(record.votes, candidates_of(record, cells) if record.votes else ())


def strengths_of(record: Record) -> dict[str, Strength]:
    """How often people prefer each cell that was voted on; of cells that do not compare, among
    those that do."""
    parts = comparable(record) if unlike(record) else (record,)
    return {key: one for part in parts for key, one in preferences_of(part).strengths.items()}
