"""An Optuna study: its trials by number and by cell, and what parameters matter.

A trial is tied to its cell by the user attribute `cell`. One process at a time holds a study; the
others wait.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from charsweep.config import Sweep
from charsweep.core.cells import Cell
from charsweep.core.errors import ConfigError
from charsweep.core.keys import canonical, differences
from charsweep.core.specs import ADAPTER
from charsweep.core.store.files import clear_abandoned, unwritable
from charsweep.core.system.locks import locked
from charsweep.results import CellResult, Recommendation
from charsweep.results.preference import Strength
from charsweep.study.place import FAILURES, place_of, reason_of

STATES = {
    "finished": TrialState.COMPLETE,
    "left": TrialState.PRUNED,
    "diverged": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
UNFINISHED: tuple[str, ...] = ("failed", "left")  # states of cells that a grid works on again
LEAST_FOR_IMPORTANCE = 4  # finished trials; fewer say nothing about parameters


@contextlib.contextmanager
def lock_sweep(sweep: Sweep) -> Iterator[bool]:
    """Keep other processes away from this sweep's folder; wait for one that is there already.

    Gives whether there was one, which may have done some of the work.
    """
    with contextlib.ExitStack() as held:
        try:
            sweep.folder.mkdir(parents=True, exist_ok=True)
            path, name = sweep.folder / ".lock", f"sweep {sweep.name}"
            is_free = held.enter_context(locked(path, name, wait=False))
            if not is_free:
                held.enter_context(locked(path, name))
            clear_abandoned(sweep.folder)
        except OSError as error:
            raise unwritable(sweep.folder, error) from error
        yield not is_free


@contextlib.contextmanager
def study_errors(sweep: Sweep) -> Iterator[None]:
    """TrackingError for what its database cannot do in the block: a full disk, a lock that stays,
    a server that is away."""
    try:
        yield
    except FAILURES as error:
        raise place_of(sweep).unusable(reason_of(error)) from error


class Trials:
    """The trials of a sweep's study."""

    def __init__(
        self, sweep: Sweep, sampler: BaseSampler | None = None, pruner: BasePruner | None = None
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.sweep = sweep
        self.objectives = sweep.settings.objectives
        self.place = place_of(sweep)
        self.place.hold()
        try:
            self.study = self._opened(sampler, pruner)
            self._check_meaning()
        except BaseException:
            self.close()
            raise

    def _opened(self, sampler: BaseSampler | None, pruner: BasePruner | None) -> optuna.Study:
        """The study, made or gone on with."""
        try:
            storage = self.place.open()
            if self.sweep.settings.search.sampler is None and not self.place.is_shared:
                self._forget_other_objectives(storage)
            return optuna.create_study(
                storage=storage,
                study_name=self.sweep.name,
                directions=list(self.objectives.values()),
                sampler=sampler,
                pruner=pruner,
                load_if_exists=True,
            )
        except (RuntimeError, ValueError) as error:  # another Optuna's file, or another study's
            raise self.place.unusable(str(error)) from error

    def close(self) -> None:
        """Let others have the study."""
        self.place.close()

    def _forget_other_objectives(self, storage: RDBStorage) -> None:
        """A grid's trials are told anew, from the store, where the study has other objectives."""
        for known in optuna.get_all_study_summaries(storage):
            then = known.user_attrs.get("meaning", {}).get("objectives")
            if then not in (None, canonical(self.sweep.meaning["objectives"])):
                optuna.delete_study(study_name=known.study_name, storage=storage)

    def wait(self) -> None:
        """Wait for whoever else has locked the study's file, or for its server to come back."""
        self.place.wait()

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

    def all(self) -> list[FrozenTrial]:
        """In the order they were asked; not to be changed."""
        return self.study.get_trials(deepcopy=False)

    def by_cell(self) -> dict[str, FrozenTrial]:
        """The latest trial of every cell."""
        return {t.user_attrs["cell"]: t for t in self.all() if "cell" in t.user_attrs}

    def check_space(self, space: Mapping[str, BaseDistribution]) -> None:
        """ConfigError for an axis whose values Optuna cannot put beside those of earlier trials."""
        known = {n: span for trial in self.all() for n, span in trial.distributions.items()}
        for name, span in space.items():
            try:
                check_distribution_compatibility(known.get(name, span), span)
            except ValueError as error:
                raise ConfigError(
                    f"axes.{name}: the study {self.sweep.name} was begun with another set of "
                    "words, which Optuna cannot extend; start a new one with name=NAME"
                ) from error

    def open(self, trial: FrozenTrial) -> optuna.Trial:
        """A trial that runs, to be noted on and reported to."""
        return optuna.Trial(self.study, trial._trial_id)

    def add(self, cell: Cell, result: CellResult, space: dict[str, BaseDistribution]) -> None:
        """Add a finished trial with the result of its cell."""
        state, values = self._outcome(result)
        trial = optuna.create_trial(
            state=state,
            values=values,
            params={name: cell.values[name] for name in space},
            distributions=space,
            user_attrs={"cell": cell.key, "trajectory": cell.source.key, **_notes(result)},
            constraints=self._excesses(result),
            intermediate_values=self._so_far(result),
        )
        assert trial.datetime_complete is not None
        spent = timedelta(seconds=result.paid_seconds + (result.sample_seconds or 0.0))
        trial.datetime_start = trial.datetime_complete - spent
        self._add(trial)

    def _add(self, trial: FrozenTrial) -> None:
        """Add a trial, once, however often its server goes away meanwhile."""
        while True:
            self.wait()
            try:
                self.study.add_trial(trial)
                return
            except FAILURES:
                if not self.place.is_away():
                    raise
            self.wait()
            if any(known.datetime_complete == trial.datetime_complete for known in self.all()):
                return

    def tell(self, trial: FrozenTrial, result: CellResult) -> None:
        """End a trial with the result of its cell."""
        self.wait()
        state, values = self._outcome(result)
        running = self.open(trial)
        for name, excess in self._excesses(result).items():
            if name not in running.constraints:  # told before a kill
                running.set_constraint(name, excess)
        for name, text in _notes(result).items():
            running.set_user_attr(name, text)
        self.study.tell(trial.number, values, state=None if values else state)

    def give_up(self, trials: Sequence[FrozenTrial]) -> None:
        """Tell trials that will have no result as failed."""
        for trial in trials:
            self.study.tell(trial.number, state=TrialState.FAIL)

    def _outcome(self, result: CellResult) -> tuple[TrialState, list[float] | None]:
        """A trial's state and its values, one for every objective, by its cell's result."""
        state = STATES[result.state]
        scores = [result.scores.get(name) for name in self.objectives]
        values = [score for score in scores if score is not None]
        if state != TrialState.COMPLETE:
            return state, None
        if len(values) < len(scores):  # an objective that does not apply to this method
            return TrialState.FAIL, None
        return state, values

    def _so_far(self, result: CellResult) -> dict[int, float]:
        """The objective of one that left a race, by how many of its images were drawn."""
        (objective, *_) = self.objectives
        value = result.scores.get(objective)
        return {result.left_after[0]: value} if result.left and value is not None else {}

    def _excesses(self, result: CellResult) -> dict[str, float]:
        """By constraint, how far its score lies outside; at most 0 within."""
        return {
            name: bounds.excess(score)
            for name, bounds in self.sweep.settings.constraints.items()
            if (score := result.scores.get(name)) is not None
        }

    def link_runs(self, runs: Mapping[str, str]) -> None:
        """Write each trial's MLflow run on the study: a trial that was told takes no more words."""
        self.wait()
        linked = {
            str(trial.number): runs[key] for key, trial in self.by_cell().items() if key in runs
        }
        if linked != self.study.user_attrs.get("mlflow_runs"):
            self.study.set_user_attr("mlflow_runs", linked)

    def note_recommended(self, found: Recommendation, strengths: Mapping[str, Strength]) -> None:
        """Write on the study which cell is recommended, and why, and what people prefer."""
        self.wait()
        note(self.study, found, strengths)

    def importances(self) -> dict[str, dict[str, float]]:
        """By objective, the share of its variance that each parameter explains.

        By Optuna's default, PED-ANOVA (Watanabe et al. 2023, arXiv 2304.10255); {} where there are
        too few finished trials, or only one parameter varies.
        """
        self.wait()
        done = [trial for trial in self.all() if trial.state == TrialState.COMPLETE]
        names = {name for trial in done for name in trial.params}
        varied = [n for n in sorted(names) if len({trial.params.get(n) for trial in done}) > 1]
        if len(done) < LEAST_FOR_IMPORTANCE or len(varied) < 2:
            return {}
        found = {}
        for index, (name, way) in enumerate(self.objectives.items()):
            weights = self._weigh(index, -1.0 if way == "maximize" else 1.0, varied)
            if weights and sum(weights.values()) > 0:
                found[name] = weights
        return found

    def _weigh(self, index: int, sign: float, varied: list[str]) -> dict[str, float]:
        """Of one objective, times `sign`: the evaluator asks what makes a low value."""

        def target(trial: FrozenTrial) -> float:
            return sign * float(trial.values[index])

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # that it asks for a low one
                weights = optuna.importance.get_param_importances(
                    self.study, params=varied, target=target
                )
        except (ValueError, RuntimeError):  # no trial has all of them: the methods differ
            return {}
        return {name: float(w) for name, w in weights.items() if math.isfinite(w)}


def note_votes(sweep: Sweep, found: Recommendation, strengths: Mapping[str, Strength]) -> None:
    """The same on the sweep's study, if there is one, whatever it was begun with."""
    place = place_of(sweep)
    if not place.exists():
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with contextlib.closing(place):
            note(optuna.load_study(study_name=sweep.name, storage=place.open()), found, strengths)
    except (RuntimeError, ValueError, KeyError) as error:
        if not (place.is_shared and isinstance(error, KeyError)):  # it was begun elsewhere
            raise place.unusable(str(error)) from error


def note(study: optuna.Study, found: Recommendation, strengths: Mapping[str, Strength]) -> None:
    """Write as user attributes what has changed. Preferences lie under the trials' numbers: a trial
    that was told takes no more words."""
    value: dict[str, Any] = {
        "cell": found.cell.cell if found.cell else None,
        "sentence": found.sentence,
        "sure": found.sure,
    }
    if found.each:  # of cells that do not all compare
        value["each"] = {name: own.cell.cell for name, own in found.each if own.cell}
    numbers = {t.user_attrs.get("cell"): t.number for t in study.get_trials(deepcopy=False)}
    preferred = {
        str(numbers[cell]): one.fields for cell, one in strengths.items() if cell in numbers
    }
    for name, now in {"recommended": value, "preference": preferred}.items():
        if now != study.user_attrs.get(name, {}):
            study.set_user_attr(name, now)


def stands(trial: FrozenTrial, unfinished: Sequence[str] = UNFINISHED) -> bool:
    """Whether it is its cell's result, and not in a state that is tried, and told, again."""
    failed = "failed" if trial.state == TrialState.FAIL else None
    return trial.state.is_finished() and trial.user_attrs.get("state", failed) not in unfinished


def tells(trial: FrozenTrial, result: CellResult) -> bool:
    """Whether it says what a result does: of the whole cell, or of one that has left a race."""
    return stands(trial, UNFINISHED[:1] if result.left else UNFINISHED)


def images_drawn(trial: FrozenTrial) -> int | None:
    """Of a cell that has left a race, after how many images; None for any other."""
    has_left = trial.user_attrs.get("state") == "left"
    return max(trial.intermediate_values, default=None) if has_left else None


def _notes(result: CellResult) -> dict[str, str]:
    """What a trial's user attributes say of its cell's result."""
    own = {"error": result.error or "", ADAPTER: str(result.values.get(ADAPTER, ""))}
    return {"state": result.state} | {name: text for name, text in own.items() if text}
