"""The `Study` of a sweep, and that of a grid: Optuna trials told in the order of the cells.

A grid is enqueued and then asked, so every trial's parameters are exactly those that run. A trial
that a killed process left RUNNING is simply gone on with, so no cell ever has two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from charsweep.config import Sweep
from charsweep.core.errors import ConfigError
from charsweep.core.specs import Cell
from charsweep.results import CellResult
from charsweep.study.adaptive import Search
from charsweep.study.trials import Trials, spans_of


class Grid:
    """All cells of a grid at once."""

    snapshot_steps = ()  # of a trajectory, kept although no cell has asked for them yet

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.trials = Trials(sweep)
        self._order: list[str] = []
        self._waiting: dict[str, CellResult] = {}
        self._known: dict[str, FrozenTrial] = {}

    def batches(self) -> Iterator[tuple[Cell, ...]]:
        """Cells to run next, until there are no more; all of a batch are told before the next."""
        cells = {cell.key: cell for cell in self.sweep.cells}
        study = self.trials.study
        self.trials.wait_for_file()
        self._order = list(cells)
        known = self.trials.by_cell()
        new = [key for key in cells if key not in known or _may_be_tried_again(known[key])]
        for key in new:
            study.enqueue_trial(dict(cells[key].values), user_attrs={"cell": key})
        waiting = [key for key, trial in known.items() if trial.state == TrialState.WAITING]
        spans = spans_of([cell.values for cell in self.sweep.cells])
        for _ in range(len(new) + len(waiting)):
            trial = study.ask()
            if trial.user_attrs.get("cell") not in cells:  # an earlier command asked for more
                study.tell(trial, state=TrialState.FAIL)
        self._known = self.trials.by_cell()
        for key, cell in cells.items():
            if "trajectory" not in self._known[key].user_attrs:  # asked just now, or torn then
                self._describe(self.trials.open(self._known[key]), cell, spans)
        yield self.sweep.cells

    def number(self, result: CellResult) -> int:
        """The trial that the result's cell belongs to."""
        return self._known[result.cell].number

    def tell(self, result: CellResult) -> None:
        """Tell a result as soon as those of all cells before it have been told."""
        self._waiting[result.cell] = result
        while self._order and self._order[0] in self._waiting:
            key = self._order.pop(0)
            if not self._known[key].state.is_finished():
                self.trials.tell(self._known[key], self._waiting.pop(key))

    def _describe(
        self, trial: optuna.Trial, cell: Cell, spans: Mapping[str, tuple[Any, ...]]
    ) -> None:
        """Give the trial its cell's parameters; that of its trajectory is the last word."""
        for name in cell.values:
            self._suggest(trial, name, spans[name])
        trial.set_user_attr("trajectory", cell.trajectory.key)

    def _suggest(self, trial: optuna.Trial, name: str, values: tuple[Any, ...]) -> None:
        """Read an enqueued parameter; numbers as ranges, which a later grid may widen."""
        try:
            if any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
                trial.suggest_categorical(name, values)
            elif all(isinstance(value, int) for value in values):
                trial.suggest_int(name, min(values), max(values))
            else:
                trial.suggest_float(name, min(values), max(values))
        except ValueError as error:
            raise ConfigError(
                f"axes.{name}: the study {self.sweep.name} was begun with another set of words, "
                "which Optuna cannot extend; start a new one with name=NAME"
            ) from error


def _may_be_tried_again(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and trial.user_attrs.get("state") == "failed"


Study = Grid | Search  # which cells are to be run next, and what became of them


def open_study(sweep: Sweep) -> Study:
    """The sweep's study, made or gone on with; ConfigError where its meaning has changed."""
    return Grid(sweep) if sweep.settings.search.is_grid else Search(sweep)
