"""The response surface of the score: what settings are worth, without the chance of their images.

Settings that differ little in their numbers draw alike, so all together say more of each of them
than its own images do, and of many the highest score owes part of its height to chance. The surface
is a quadratic in the axes that are numbers, fitted to the scores of all settings near the best (Box
and Wilson 1951, "On the experimental attainment of optimum conditions"). All its coefficients but
the constant are shrunk, as much as makes the scores likeliest (MacKay 1992, "Bayesian
interpolation"), so that it is as flat as the scores allow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charsweep.results.cells import SCORE
from charsweep.results.points import ERRORS, SAME, SEED, Point, difference
from charsweep.results.records import is_numeric

# The first two were set on six grids of 162 settings and looked at on seven more
# (benchmarks/FIND.md), the next two on simulated scores of cliffs and of nothing but noise.
NEAR = 0.7  # of the highest score: settings below it say nothing of the top
ENOUGH = 1.5  # settings for each coefficient; fewer are not smoothed
LEAST = 12  # settings of a surface: over one axis a cliff would bend it
FLAT = 0.02  # from its lowest to its highest: such a surface names nothing
MOSTLY = 0.75  # of the settings with one value of an axis: it is hardly tried along that axis
SHRINKING = np.logspace(-3, 3, 25)  # variance of a score's noise over that of a coefficient


@dataclass(frozen=True, eq=False)
class Surface:
    """Settings that differ in numbers alone, and the scores (N,) that the surface gives them."""

    points: tuple[Point, ...]
    scores: NDArray[np.float64]

    @property
    def level(self) -> tuple[Point, ...]:
        """Those within `SAME` of the highest on it, of those that their own images cannot tell from
        the highest score."""
        leader = max(self.points, key=lambda point: point.mean(SCORE) or 0.0)
        known = [
            (point, score)
            for point, score in zip(self.points, self.scores, strict=True)
            if difference(leader, point, SCORE).is_within(ERRORS)
        ]
        highest = max(score for _, score in known)
        return tuple(point for point, score in known if score >= highest - SAME)

    def score(self, point: Point) -> float | None:
        """What it gives one of its settings; None for any other."""
        known = zip(self.points, self.scores, strict=True)
        return next((float(score) for own, score in known if own is point), None)


def near_best(points: Sequence[Point]) -> list[Point]:
    """Of points with a score, those that have at least `NEAR` of the highest; none of zeros."""
    highest = max((point.mean(SCORE) or 0.0 for point in points), default=0.0)
    return [point for point in points if (point.mean(SCORE) or 0.0) >= NEAR * highest > 0]


def surfaces(points: Sequence[Point]) -> tuple[Surface, ...]:
    """The surfaces over points with a score near the best: one for all that differ in numbers
    alone, where they are enough."""
    near = near_best(points)
    if not near:
        return ()
    axes = [axis for axis in near[0].values if axis != SEED and _is_tried(axis, near)]
    groups: dict[tuple[object, ...], list[Point]] = {}
    for point in near:
        held = [(axis, value) for axis, value in point.values.items() if axis not in axes]
        groups.setdefault(tuple(held), []).append(point)
    found = (_surface(own, axes) for own in groups.values())
    return tuple(one for one in found if one is not None)


def _is_tried(axis: str, points: Sequence[Point]) -> bool:
    """Whether it is a number, and not nearly always the same."""
    values = [point.values.get(axis) for point in points]
    if any(value is None for value in values):
        return False
    known = [value for value in values if value is not None]
    return is_numeric(known) and Counter(known).most_common(1)[0][1] <= MOSTLY * len(points)


def _surface(points: Sequence[Point], axes: Sequence[str]) -> Surface | None:
    """The surface over points that differ in some axes alone; None where these are too few, or
    the surface is flat."""
    rows = np.array([[point.values[axis] for axis in axes] for point in points], dtype=np.float64)
    terms = quadratic(rows)
    if not terms.shape[1] or len(points) < max(LEAST, ENOUGH * (1 + terms.shape[1])):
        return None
    scores = smoothed(terms, np.array([point.mean(SCORE) for point in points], dtype=np.float64))
    return Surface(tuple(points), scores) if np.ptp(scores) > FLAT else None


def quadratic(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The terms of a quadratic but for its constant, (N, T), of N rows of A numbers (N, A).

    On a logarithmic scale where all of a column are above 0; with a square where it has more than
    two values; all of mean 0 and standard deviation 1.
    """
    columns = [np.log(column) if (column > 0).all() else column for column in rows.T]
    units = [(column - column.mean()) / column.std() for column in columns if np.ptp(column) > 0]
    terms = [*units]
    for at, unit in enumerate(units):
        if len(np.unique(unit)) > 2:
            terms.append(unit**2)
        terms += [unit * other for other in units[:at]]
    scaled = [(term - term.mean()) / term.std() for term in terms if np.ptp(term) > 1e-9]
    return np.stack(scaled, axis=1) if scaled else np.zeros((len(rows), 0))


def smoothed(terms: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores (N,) by ridge regression on terms (N, T) of mean 0, whose shrinking is that of the
    highest marginal likelihood."""
    mean, freedom = scores.mean(), len(scores) - 1
    directions, sizes, _ = np.linalg.svd(terms, full_matrices=False)
    along = directions.T @ (scores - mean)
    beside = float(((scores - mean) ** 2).sum() - (along**2).sum())  # what no term says
    spread = [1 + sizes**2 / ratio for ratio in SHRINKING]
    likelihood = [
        -freedom * np.log(max(float((along**2 / own).sum()) + beside, 1e-12)) - np.log(own).sum()
        for own in spread
    ]
    best = spread[int(np.argmax(likelihood))]
    return np.asarray(mean + directions @ ((1 - 1 / best) * along))
