"""Points of the grid: cells that differ only in their seed, with means, intervals and ties."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from charsweep.results.cells import COSTS, CellResult
from charsweep.results.labels import point_text
from charsweep.results.records import Objective, Record, Value, by_values

SEED = "seed"
# One seed is noise: .02 DINO is what scoring anew or another card moves. CLIP-T of SD spans only
# about .25 to .33, so half of DINO's; the others like DINO. By hand.
TIES = {"clip_t": 0.01}
TIE = 0.02


@dataclass(frozen=True)
class Point:
    """One point of the grid with its seeds; scores are means over the finished ones."""

    values: Mapping[str, Value]  # of the varied axes except the seed
    cells: tuple[CellResult, ...]

    @property
    def finished(self) -> tuple[CellResult, ...]:
        """The seeds that have scores."""
        return tuple(cell for cell in self.cells if cell.finished)

    @property
    def label(self) -> str:
        """The point in words: "lr = 1e-3, method = lora"."""
        return point_text(self.values, tuple(self.values))

    def scores(self, metric: str) -> tuple[float, ...]:
        """The scores of the finished seeds that have one."""
        return known(cell.scores.get(metric) for cell in self.finished)

    def mean(self, metric: str) -> float | None:
        """The mean score over the finished seeds."""
        return mean(self.scores(metric))

    def interval(self, metric: str) -> tuple[float, float] | None:
        """The 95 % interval of the mean score; None without a score."""
        scores = self.scores(metric)
        return interval(scores) if scores else None

    def gain(self, metric: str) -> float | None:
        """The mean difference from the untaught base on the same exam."""
        return mean(known(cell.gains.get(metric) for cell in self.finished))

    def cost(self, name: str) -> float | None:
        """The mean size, time or memory over the finished seeds."""
        return mean(known(cell.cost(name) for cell in self.finished))

    def value(self, name: str) -> float | None:
        """The mean of a metric or of a cost."""
        return self.cost(name) if name in COSTS else self.mean(name)


def known(values: Iterable[float | None]) -> tuple[float, ...]:
    """The values without the gaps."""
    return tuple(value for value in values if value is not None)


def mean(values: Sequence[float]) -> float | None:
    """The mean, or None of nothing."""
    return sum(values) / len(values) if values else None


@lru_cache(maxsize=65_536)
def interval(values: tuple[float, ...]) -> tuple[float, float]:
    """The 95 % interval of the mean by the bootstrap's percentiles (Efron 1979).

    10,000 resamples from a fixed seed, so that a report is the same each time. Of one value it is
    that value; of a handful it is rough, and rather too narrow than too wide.
    """
    if len(values) < 2:
        return values[0], values[0]
    chosen = np.random.default_rng(0).integers(len(values), size=(10_000, len(values)))
    means = np.asarray(values)[chosen].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def points_of(record: Record, cells: Sequence[CellResult] | None = None) -> tuple[Point, ...]:
    """The record's points in the order of the grid."""
    axes = tuple(axis for axis in record.axes if axis != SEED)
    return tuple(
        Point({axis: own[0].values[axis] for axis in axes if axis in own[0].values}, tuple(own))
        for own in by_values(record.cells if cells is None else cells, axes)
    )


def comparable(points: Sequence[Point], objectives: Sequence[Objective]) -> tuple[Point, ...]:
    """The points that have every objective which any point has.

    What reads no prompts has no score for following them; free of that task, it is not better at
    the others.
    """
    asked = [o for o in objectives if any(point.mean(o.metric) is not None for point in points)]
    whole = tuple(p for p in points if all(p.mean(o.metric) is not None for o in asked))
    return whole or tuple(points)


def ranked(points: Sequence[Point], objective: Objective) -> list[tuple[Point, float]]:
    """The points that have the score, best first."""
    known = [
        (point, score) for point in points if (score := point.mean(objective.metric)) is not None
    ]
    return sorted(known, key=lambda pair: pair[1], reverse=objective.maximize)


def tie_width(metric: str) -> float:
    """Differences smaller than this are ties on one seed."""
    return TIES.get(metric, TIE)


def is_tie(best: Point, top: float, point: Point, score: float, metric: str) -> bool:
    """Whether two means are too close to tell apart: by the width of ties, or by their seeds."""
    # Rounded: .80 - .78 in floating point is a hair less than .02.
    if round(abs(top - score), 6) < tie_width(metric):
        return True
    ours, theirs = best.interval(metric), point.interval(metric)
    several = len(best.scores(metric)) > 1 and len(point.scores(metric)) > 1
    return bool(several and ours and theirs and ours[0] <= theirs[1] and theirs[0] <= ours[1])


def pareto(points: Sequence[Point], objectives: Sequence[Objective]) -> tuple[Point, ...]:
    """The points that no other point equals or beats on every objective and beats on one.

    An objective may be a cost.
    """
    rows = [
        (point, [point.value(objective.metric) for objective in objectives]) for point in points
    ]
    known = [(point, row) for point, row in rows if None not in row]
    signs = [1 if objective.maximize else -1 for objective in objectives]
    worth = np.array([row for _, row in known], dtype=np.float64).reshape(-1, len(signs)) * signs
    return tuple(
        point
        for (point, _), own in zip(known, worth, strict=True)
        if not ((worth >= own).all(axis=1) & (worth > own).any(axis=1)).any()
    )
