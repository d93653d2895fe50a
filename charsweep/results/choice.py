"""The rule of the recommendation as far as scores go: which of some settings is the best.

`charsweep.results.recommendation` says what the rule is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from charsweep.results.cells import IDENTITY, SCORE
from charsweep.results.points import ERRORS, Point, difference, ranked
from charsweep.results.records import Objective
from charsweep.results.surface import Surface, near_best, surfaces

Bounds = Mapping[str, float | None]  # least and most
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


@dataclass(frozen=True)
class Choice:
    """Of points with a score the recommended one, and what was in question beside it."""

    best: Point
    alike: tuple[Point, ...]  # not worse by the paired test, nor than the highest score
    others: tuple[Point, ...]
    level: tuple[Point, ...]  # as high in score, on its surface if there is one; it among them
    surface: Surface | None  # that it was named by
    surfaces: tuple[Surface, ...]  # all of them

    @property
    def fitted(self) -> float | None:
        """What the surface gives it."""
        return self.surface.score(self.best) if self.surface else None

    @property
    def fitted_cells(self) -> dict[str, float]:
        """What surfaces give every setting's cells, by their names."""
        return {
            cell.cell: float(score)
            for surface in self.surfaces
            for point, score in zip(surface.points, surface.scores, strict=True)
            for cell in point.finished
        }

    @property
    def less_alike(self) -> tuple[Point, ...]:
        """Those as high in score and no dearer, but lower in identity."""
        kept = {id(point) for point in most_alike(self.level)}
        return tuple(p for p in self.level if id(p) not in kept and p.price <= self.best.price)


def chosen(points: Sequence[Point]) -> Choice:
    """The rule among points that have a score.

    Of every surface one is named, of those that it gives the highest scores. These compete, by
    their own scores, with what is near the best but on no surface.
    """
    order = [point for point, _ in ranked(points, Objective(SCORE, True))]
    good = [point for point in order if difference(order[0], point, SCORE).is_within(ERRORS)]
    found = surfaces(order)
    named = {id(taken_of(surface.level)): surface for surface in found}
    smoothed = {id(point) for surface in found for point in surface.points}
    near = near_best(good) or good
    rivals = [point for point in near if id(point) in named or id(point) not in smoothed]
    level = level_with(rivals[0], rivals)
    best = taken_of(level)
    surface = named.get(id(best))
    alike = [p for p in good if p is not best and difference(best, p, SCORE).is_within(ERRORS)]
    kept = {id(point) for point in (best, *alike)}
    return Choice(
        best,
        tuple(alike),
        tuple(point for point in order if id(point) not in kept),
        surface.level if surface else tuple(level),
        surface,
        found,
    )


def taken_of(level: Sequence[Point]) -> Point:
    """Of points as high in score: the cheapest of those most alike; of equals the first."""
    return min(most_alike(level), key=lambda point: point.price)


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
