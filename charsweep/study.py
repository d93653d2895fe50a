"""Cells in, Optuna trials out: one study per sweep, told in the order of the cells.

A grid is enqueued and then asked, so every trial's parameters are exactly those that run. A trial
is tied to its cell by the user attribute `cell`; a trial that a killed process left RUNNING is
simply gone on with, so no cell ever has two. One process at a time holds a study (file lock).
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from charsweep.config import Sweep
from charsweep.errors import ConfigError, TrackingError
from charsweep.keys import canonical, differences
from charsweep.results import CellResult
from charsweep.specs import Cell

STATES = {
    "finished": TrialState.COMPLETE,
    "diverged": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


@contextlib.contextmanager
def hold(sweep: Sweep) -> Iterator[None]:
    """Keep other processes away from this sweep's folder."""
    sweep.folder.mkdir(parents=True, exist_ok=True)
    with (sweep.folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"sweep {sweep.name} is already running in {sweep.folder}; wait for it, or give "
                "this one another name with name=NAME"
            ) from error
        yield


class Study:
    """The sweep's Optuna study: which cells have been asked, and what they were told."""

    def __init__(self, sweep: Sweep) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.sweep = sweep
        self.objectives = sweep.settings.objectives
        path = sweep.folder / "study.db"
        try:
            storage = RDBStorage(
                f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}}
            )
            self.study = optuna.create_study(
                storage=storage,
                study_name=sweep.name,
                directions=list(self.objectives.values()),
                load_if_exists=True,
            )
        except Exception as error:  # SQLAlchemy's and SQLite's many kinds
            reason = str(error).splitlines()[0]
            raise TrackingError(
                f"cannot open the study {path}: {reason}; move the file away and run the same "
                "command again: finished work is in the store"
            ) from error
        self._check_meaning()
        self._order: list[str] = []
        self._waiting: dict[str, CellResult] = {}
        self._trials: dict[str, FrozenTrial] = {}

    def _check_meaning(self) -> None:
        """A study goes on only if what its numbers mean has not changed."""
        meaning = canonical(self.sweep.meaning)
        known = self.study.user_attrs.get("meaning", {})
        shared = {name: value for name, value in known.items() if name in meaning}
        now = {name: meaning[name] for name in shared}
        if changed := list(differences(shared, now)):
            raise ConfigError(
                f"sweep {self.sweep.name} was begun with other settings, and its results would not "
                "compare (" + "; ".join(changed) + "). Start a new one with name=NAME, or put the "
                f"settings back. Finished work stays in {self.sweep.root / 'sweeps' / 'store'}"
            )
        self.study.set_user_attr("meaning", {**known, **meaning})

    def batches(self) -> Iterator[tuple[Cell, ...]]:
        """Cells to run next; for a grid, all at once."""
        cells = {cell.key: cell for cell in self.sweep.cells}
        self._order = list(cells)
        trials = self._load()
        new = [key for key in cells if key not in trials or _may_be_tried_again(trials[key])]
        for key in new:
            self.study.enqueue_trial(dict(cells[key].values), user_attrs={"cell": key})
        waiting = [key for key, trial in trials.items() if trial.state == TrialState.WAITING]
        spans = _spans(self.sweep.cells)
        for _ in range(len(new) + len(waiting)):
            trial = self.study.ask()
            cell = cells.get(trial.user_attrs.get("cell", ""))
            if cell is None:  # enqueued by an earlier command that asked for more
                self.study.tell(trial, state=TrialState.FAIL)
                continue
            for name, span in spans.items():
                self._suggest(trial, name, span)
            trial.set_user_attr("trajectory", cell.trajectory.key)
        self._trials = self._load()
        yield self.sweep.cells

    def tell(self, result: CellResult) -> None:
        """Tell a result as soon as those of all cells before it have been told."""
        self._waiting[result.cell] = result
        while self._order and self._order[0] in self._waiting:
            self._tell(self._waiting.pop(self._order.pop(0)))

    def _tell(self, result: CellResult) -> None:
        trial = self._trials[result.cell]
        if trial.state.is_finished():
            return
        state = STATES[result.state]
        values = [result.scores.get(name) for name in self.objectives]
        if state == TrialState.COMPLETE and None in values:
            state = TrialState.FAIL  # an objective that does not apply to this method
        self._note(trial, "state", result.state)
        if result.error:
            self._note(trial, "error", result.error)
        if state == TrialState.COMPLETE:
            self.study.tell(trial.number, [value for value in values if value is not None])
        else:
            self.study.tell(trial.number, state=state)

    def numbered(self, result: CellResult) -> CellResult:
        """The result with its trial's number."""
        return replace(result, trial=self._trials[result.cell].number)

    def link_runs(self, runs: Mapping[str, str]) -> None:
        """Write each trial's MLflow run on the study: a trial that was told takes no more words."""
        linked = {
            str(trial.number): runs[key] for key, trial in self._load().items() if key in runs
        }
        if linked != self.study.user_attrs.get("mlflow_runs"):
            self.study.set_user_attr("mlflow_runs", linked)

    def _note(self, trial: FrozenTrial, name: str, value: str) -> None:
        """Set a user attribute of a trial that runs."""
        self.study._storage.set_trial_user_attr(trial._trial_id, name, value)

    def _load(self) -> dict[str, FrozenTrial]:
        """The latest trial of every cell."""
        trials = self.study.get_trials(deepcopy=False)
        return {t.user_attrs["cell"]: t for t in trials if "cell" in t.user_attrs}

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


def _spans(cells: Sequence[Cell]) -> dict[str, tuple[Any, ...]]:
    """All values of each parameter, in the order they come up."""
    spans: dict[str, dict[Any, None]] = {}
    for cell in cells:
        for name, value in cell.values.items():
            spans.setdefault(name, {})[value] = None
    return {name: tuple(values) for name, values in spans.items()}
