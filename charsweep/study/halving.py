"""Successive halving by rungs of training steps, as an Optuna pruner."""

from __future__ import annotations

from dataclasses import dataclass

import optuna
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial


@dataclass
class Halving(BasePruner):
    """Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943): the best share goes on.

    A trial is judged against all that have reached the same rung. A batch reports before any of it
    is judged, so that the first ones are not let through for want of others to compare with; where
    workers wait for no batch, this is the rule of ASHA (Li et al. 2020, arXiv 1810.05934), but that
    a trial which does not go on at once never does.
    """

    keep: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.keep < 1:
            raise ValueError(f"keep={self.keep} should lie between 0 and 1")

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        assert step is not None
        told = [t.intermediate_values for t in study.get_trials(deepcopy=False)]
        reached = sorted(values[step] for values in told if step in values)
        if study.direction == StudyDirection.MAXIMIZE:
            reached.reverse()
        place = reached.index(trial.intermediate_values[step])
        return place >= max(1, round(self.keep * len(reached)))
