"""The rule of a race: which settings are worse than the leader beyond doubt, by the images so far.

All settings draw the same images, that is the same prompts with the same noise, round after round;
those that this rule names draw no more (Maron and Moore 1994, "Hoeffding races"; with a paired test
as in F-Race, Birattari et al. 2002). The leader has the highest mean; every other is compared with
it image by image, by a one-sided paired t test. Bounds that assume no distribution (Hoeffding,
Bernstein) exceed the whole range of a score at 64 images, so they would let nothing leave.

Its level is that of `errors` standard errors of a normal variable (3: .00135), shared among the
looks that a race takes (Bonferroni), so that looking often does not make leaving likelier. A lead
counts as far as it exceeds what is no difference (`points.SAME`), however sure it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from charsweep.results.points import SAME

Name = TypeVar("Name")
LEAVING = 3.0  # standard errors below the leader at which a setting leaves


def left_behind(
    scores: Mapping[Name, NDArray[np.float64]], looks: int, errors: float = LEAVING
) -> tuple[Name, ...]:
    """The settings that leave the race, of their scores by image (N,), the same N images for all.

    `looks` is how often a race of this length looks; of fewer than two images nothing can be said.
    """
    if not scores or len(next(iter(scores.values()))) < 2:
        return ()
    leader = max(scores.values(), key=lambda own: own.mean())
    return tuple(
        name for name, own in scores.items() if is_worse(leader - own, looks=looks, errors=errors)
    )


def is_worse(lead: NDArray[np.float64], looks: int, errors: float) -> bool:
    """Whether a lead, image by image (N,), is a difference by more than chance allows."""
    from scipy.special import ndtr, stdtr

    mean, error = float(lead.mean()) - SAME, float(lead.std(ddof=1)) / len(lead) ** 0.5
    if mean <= 0 or error == 0:
        return mean > 0
    return bool(stdtr(len(lead) - 1, -mean / error) < ndtr(-errors) / looks)
