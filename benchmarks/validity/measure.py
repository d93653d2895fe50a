"""How well scores and recommendations agree with the truth: pure functions of arrays.

A `Row` is one image set with its truth and its scores, image by image. A rule picks one of several
rows and says whether it is sure; what a pick is worth is told by the truth alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
WORSE = 0.05  # of truth: what counts as a bad pick


@dataclass(frozen=True)
class Row:
    """An image set: its truth by image (N,), and by metric its scores (N,), or (1,) of the set."""

    name: str
    truth: Array
    scores: Mapping[str, Array]

    def mean(self, metric: str) -> float:
        """NaN where the metric does not apply."""
        return float(self.scores[metric].mean()) if metric in self.scores else float("nan")


class Pick(NamedTuple):
    """How much truth is lost against the best there, and whether the rule was sure."""

    regret: float
    sure: bool


Rule = Callable[[Sequence[Row]], tuple[int, bool]]  # the picked row's index, and whether it is sure


def highest(metric: str) -> Rule:
    """The rule that picks the highest mean score, always sure."""
    return lambda rows: (int(np.argmax([row.mean(metric) for row in rows])), True)


def ranks(values: Sequence[float]) -> Array:
    """Ranks from 0; equal values share the mean of theirs."""
    array = np.asarray(values, dtype=np.float64)
    below = (array[None, :] < array[:, None]).sum(axis=1)
    equal = (array[None, :] == array[:, None]).sum(axis=1)
    return np.asarray(below + (equal - 1) / 2, dtype=np.float64)


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Rank correlation in [-1, 1]; NaN where either is the same throughout, or has a NaN."""
    if np.isnan([*first, *second]).any():
        return float("nan")
    a, b = (one - one.mean() for one in (ranks(first), ranks(second)))
    spread = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / spread if spread > 0 else float("nan")


def agreement(rows: Sequence[Row], metric: str) -> float:
    """Spearman of a metric's means with those of the truth."""
    return spearman([row.mean(metric) for row in rows], [float(r.truth.mean()) for r in rows])


def picks(rows: Sequence[Row], rule: Rule, size: int, draws: int = 300) -> list[Pick]:
    """What the rule picks from random sub-sweeps of `size` rows; from all of them once."""
    found = []
    for draw in range(draws if size < len(rows) else 1):
        order = np.random.default_rng([size, draw]).permutation(len(rows))[:size]
        some = [rows[index] for index in sorted(order)]
        truths = [float(row.truth.mean()) for row in some]
        index, sure = rule(some)
        found.append(Pick(max(truths) - truths[index], sure))
    return found


def regret(found: Sequence[Pick]) -> float:
    """Mean loss of truth."""
    return float(np.mean([pick.regret for pick in found]))


def share_worse(found: Sequence[Pick]) -> float:
    """Share of picks that are truly `WORSE` or more below the best."""
    return float(np.mean([pick.regret >= WORSE for pick in found]))


def calibration(found: Sequence[Pick]) -> dict[str, tuple[int, float]]:
    """Of "sure" and "unsure" picks: how many, and the share that are not worse (NaN of none)."""
    groups = {"sure": [p for p in found if p.sure], "unsure": [p for p in found if not p.sure]}
    return {
        name: (len(group), 1 - share_worse(group) if group else float("nan"))
        for name, group in groups.items()
    }


def power(
    by_seed: Sequence[Sequence[Row]], metric: str, images: int, seeds: int, draws: int = 300
) -> float:
    """Share of picks not worse, by the highest mean over so many images and training seeds.

    `by_seed`: for each training seed, the rows of the same settings in the same order. The truth is
    that over all images and seeds.
    """
    truth = np.mean([[row.truth.mean() for row in rows] for rows in by_seed], axis=0)
    scores = np.array([[row.scores[metric] for row in rows] for rows in by_seed])
    good = 0
    for draw in range(draws):
        rng = np.random.default_rng([images, seeds, draw])
        of_seeds = rng.permutation(len(by_seed))[:seeds]
        of_images = rng.permutation(scores.shape[2])[:images]
        seen = scores[of_seeds][:, :, of_images].mean(axis=(0, 2))
        good += bool(truth.max() - truth[int(seen.argmax())] < WORSE)
    return good / draws
