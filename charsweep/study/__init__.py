"""Which cells come next, as trials of an Optuna study; the only room that knows Optuna."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from charsweep.config import Sweep
from charsweep.core.cells import Cell
from charsweep.study.adaptive import Search, check
from charsweep.study.asynchronous import AsynchronousSearch
from charsweep.study.composed import ComposedGrid, is_composed
from charsweep.study.find import Find
from charsweep.study.grid import Grid
from charsweep.study.race import Race
from charsweep.study.study import Study
from charsweep.study.trials import lock_sweep, note_votes, study_errors

__all__ = ["Find", "Study", "check", "lock_sweep", "note_votes", "open_study", "study_errors"]


def open_study(
    sweep: Sweep,
    seconds_for: Callable[[Sequence[Cell]], float],
    stages: Sequence[Mapping[str, Any]] = (),
    workers: int | None = None,
) -> Study:
    """The sweep's study, made or gone on with; ConfigError where its meaning has changed.

    `seconds_for` says what cells would take, and `stages` what earlier commands have recorded.
    `workers`: so many are given trials of an adaptive search when they are free; None: in batches.
    """
    if sweep.settings.find:
        return Find(sweep, seconds_for, stages)
    if sweep.settings.search.is_race:
        return Race(sweep)
    if sweep.settings.is_grid:
        return ComposedGrid(sweep) if any(map(is_composed, sweep.cells)) else Grid(sweep)
    return Search(sweep) if workers is None else AsynchronousSearch(sweep, workers)
