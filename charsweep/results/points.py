"""Points of the grid: cells that differ only in their training seed, and what tells them apart.

Images of one prompt resemble each other, and so do those of one training seed. So a mean over
images has two errors: that over prompts (each the mean of its exam seeds) and, where there are
several, that over training seeds; their variances add. Two points are compared image by image: by
the differences between images of the same prompt, exam seed and training seed, which the prompts'
being easy or hard does not enter. They differ if the mean difference exceeds two standard errors.
What left a race is compared by the images that it drew, the first of every prompt. A score of two
characters is the worst of several; where those of two points are not of the same images, nothing
pairs them, and the variances of both add.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charsweep.results.cells import COSTS, SCORE, CellResult
from charsweep.results.labels import listing, point_text, value_text
from charsweep.results.records import Objective, Record, Value, by_values

SEED = "seed"
STRENGTH = "strength"  # at which a cell draws; 1 where its values say none
ERRORS = 2  # standard errors: what an interval spans either way, and what tells two points apart
SAME = 0.005  # of a mean: less is no difference, however sure it is that there is one


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
    def left(self) -> bool:
        """Whether it left a race: worse than another beyond doubt, by its first images."""
        return not self.finished and any(cell.left for cell in self.cells)

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
        """Two standard errors either way of the mean; None without a score or an error."""
        return interval(self.finished, metric)

    def gain(self, metric: str) -> float | None:
        """The mean difference from the untaught base on the same exam."""
        return mean(known(cell.gains.get(metric) for cell in self.finished))

    @property
    def is_taught(self) -> bool:
        """Whether its score is further above the untaught base's than chance would do."""
        span, gain = self.interval(SCORE), self.gain(SCORE)
        return span is None or gain is None or gain > (span[1] - span[0]) / 2

    def cost(self, name: str) -> float | None:
        """The mean size, time or memory over the finished seeds."""
        return mean(known(cell.cost(name) for cell in self.finished))

    @property
    def price(self) -> tuple[float, float, float]:
        """What it takes, most important first: training steps, inference steps, MB of weights."""
        steps = max(cell.step * cell.trainings for cell in self.finished)
        drawn = max(cell.values.get("inference_steps") or 1 for cell in self.finished)
        return steps, drawn, round(self.cost("size_mb") or 0.0, 2)

    def value(self, name: str) -> float | None:
        """The mean of a metric or of a cost."""
        return self.cost(name) if name in COSTS else self.mean(name)


def known(values: Iterable[float | None]) -> tuple[float, ...]:
    """The values without the gaps."""
    return tuple(value for value in values if value is not None)


def mean(values: Sequence[float]) -> float | None:
    """The mean, or None of nothing."""
    return sum(values) / len(values) if values else None


def units(cell: CellResult, metric: str, seeds: int | None = None) -> NDArray[np.float64] | None:
    """A score by prompt (P,); of one prompt, by image; of a whole image set (1,); None without.

    `seeds`: of the first so many images of each prompt alone.
    """
    score, images = cell.scores.get(metric), cell.per_image.get(metric)
    if score is None:
        return None
    if not images:
        return np.array([score])
    by_prompt = np.array(images, dtype=np.float64)[:, :seeds]
    return np.asarray(by_prompt[0] if len(by_prompt) == 1 else by_prompt.mean(axis=1))


def seeds_drawn(cell: CellResult, metric: str) -> int | None:
    """How many images of each prompt have the score; None where none has one of its own."""
    images = cell.per_image.get(metric)
    return len(images[0]) if images else None


def measured_by(cell: CellResult, metric: str) -> str:
    """By which of several a score is measured, which are of other images; empty for any other."""
    return cell.worst if metric == SCORE else ""


def error_of(groups: Sequence[NDArray[np.float64]]) -> float | None:
    """The standard error of the mean of scores, each group of them (training seeds, prompts) of
    other images; None of a single score."""
    if sum(rows.size for rows in groups) < 2:
        return None
    count = sum(len(rows) for rows in groups)
    variances = [(len(rows) / count) ** 2 * variance_of_mean(rows.mean(axis=0)) for rows in groups]
    of_seeds = variance_of_mean(np.concatenate([rows.mean(axis=1) for rows in groups]))
    return math.sqrt(sum(variances) + of_seeds)


def variance_of_mean(values: NDArray[np.float64]) -> float:
    """Of the mean of some values, as far as these tell."""
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0


def error(cells: Sequence[CellResult], metric: str) -> float | None:
    """The standard error of the mean score of some cells; None where it cannot be known."""
    groups: dict[str, list[NDArray[np.float64]]] = {}
    for cell in cells:
        if (row := units(cell, metric)) is not None:
            groups.setdefault(measured_by(cell, metric), []).append(row)
    if any(len({len(row) for row in rows}) > 1 for rows in groups.values()):
        return None
    return error_of([np.array(rows) for rows in groups.values()])


def interval(cells: Sequence[CellResult], metric: str) -> tuple[float, float] | None:
    """Two standard errors either way of the mean score of some cells; None where there is none."""
    half = error(cells, metric)
    if half is None:
        return None
    rows = (units(cell, metric) for cell in cells)
    middle = float(np.mean([row.mean() for row in rows if row is not None]))
    return middle - ERRORS * half, middle + ERRORS * half


@dataclass(frozen=True)
class Difference:
    """How much higher one point's mean score is than another's, and the error of that."""

    value: float
    error: float | None  # None: one number each, of which none can be known

    def is_within(self, errors: float) -> bool:
        """Whether it is nothing, or at most so many standard errors; without an error, none is.

        Images that hardly differ, such as those in 50 and 100 inference steps, have an error so
        small that what nobody sees would be told apart.
        """
        if self.error is None:
            return self.value <= 1e-9
        return self.value <= max(SAME, errors * self.error)


def difference(higher: Point, lower: Point, metric: str) -> Difference:
    """Of two points that have the score, image by image, of the training seeds that both have.

    By the images that all have drawn: a race has the others draw no more than the first ones.
    """
    every = (*higher.finished, *lower.finished)
    if len({measured_by(cell, metric) for cell in every if metric in cell.scores}) > 1:
        return _unpaired(higher, lower, metric)
    drawn = known(seeds_drawn(c, metric) for point in (higher, lower) for c in point.finished)
    common = int(min(drawn)) if drawn else None
    ours, theirs = (
        {
            cell.values.get(SEED): row
            for cell in point.finished
            if (row := units(cell, metric, common)) is not None
        }
        for point in (higher, lower)
    )
    shared = [seed for seed in ours if seed in theirs]
    pairs = [(ours[seed], theirs[seed]) for seed in shared]
    if not pairs:  # no training seed in common
        pairs = [(np.mean(list(ours.values()), axis=0), np.mean(list(theirs.values()), axis=0))]
    if any(len(a) != len(b) for a, b in pairs):  # judged by other exams
        return Difference((higher.mean(metric) or 0.0) - (lower.mean(metric) or 0.0), None)
    rows = np.array([a - b for a, b in pairs])
    return Difference(float(rows.mean()), error_of([rows]))


def _unpaired(higher: Point, lower: Point, metric: str) -> Difference:
    """The difference of two means over unlike images."""
    value = (higher.mean(metric) or 0.0) - (lower.mean(metric) or 0.0)
    errors = [error(point.finished, metric) for point in (higher, lower)]
    return Difference(value, None if None in errors else math.hypot(*filter(None, errors)))


def points_of(record: Record, cells: Sequence[CellResult] | None = None) -> tuple[Point, ...]:
    """The record's points in the order of the grid."""
    axes = tuple(axis for axis in record.axes if axis != SEED)
    return tuple(
        Point(
            {axis: own[0].values[axis] for axis in axes if axis in own[0].values},
            tuple(own),
        )
        for own in by_values(record.cells if cells is None else cells, axes)
    )


def which(record: Record, cells: Sequence[CellResult]) -> str:
    """Some cells in few words: "all with lr = 1e-1" where that says it, else their labels."""
    for axis in record.axes:
        values = dict.fromkeys(cell.values.get(axis) for cell in cells)
        alike = [cell for cell in record.cells if cell.values.get(axis) in values]
        if len(alike) == len(cells) > len(values):
            texts = [f"{axis} = {value_text(axis, value)}" for value in values]
            if len(alike) < len(record.cells):
                return f"all with {listing(texts)}"
    axes = tuple(axis for axis in record.axes if axis != SEED) or tuple(record.axes)
    labels = dict.fromkeys(point_text(cell.values, axes) for cell in cells)
    return listing(tuple(labels), most=3)


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
