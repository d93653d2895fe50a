"""Adaptive search: the next cells by what earlier trials told, in batches that share work.

As many trials are asked at once as may share forward passes; each is a cell whose every parameter
is what was suggested. Trials of one trajectory continue what is stored of it. With rungs, a trial
passes through its trajectory's snapshots, and a pruner says at each whether it goes on.

A killed process leaves trials RUNNING. They are gone on with: their parameters are in the study,
and what they have told is there too. One that was killed while it was being asked is told as
failed, and another takes its place.

Each rung is a race: what a pruner goes by is the score on the images that were drawn.

So one worker works, and several where `search.at_once` was typed; else several wait for no batch
(`charsweep.study.asynchronous`).
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from charsweep.config import Range, Sweep
from charsweep.config.variants import VARIED
from charsweep.core.cells import Cell
from charsweep.core.errors import ConfigError
from charsweep.core.plugins import resolve
from charsweep.results import CellResult
from charsweep.results.cells import judged_by
from charsweep.results.unlike import groups
from charsweep.study.place import check_driver
from charsweep.study.rounds import Rounds
from charsweep.study.study import Study
from charsweep.study.trials import Trials

PASSED = "passed"  # user attribute: the rung up to which a trial has been let through


class Search(Study):
    """An adaptive sweep: batches of trials, each chosen from what the ones before have told."""

    unit = "trials"

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.search = sweep.settings.search
        self.space = {name: distribution_of(axis) for name, axis in sweep.axes.items()}
        self.trials = Trials(sweep, sampler_of(sweep, 0), pruner_of(sweep))
        self._asked: dict[str, list[FrozenTrial]] = {}  # by cell
        self._cells: dict[tuple[int, int], Cell] = {}  # by trial and step
        self._race = Rounds((), sweep.settings)  # of the rung
        self._over: set[int] = set()  # trials that are finished or pruned, by number

    @property
    def total(self) -> int:
        return self.search.trials or 0

    def done(self, results: Collection[CellResult]) -> int:
        """Trials, of which several may have a cell, and one a cell at each rung."""
        return len(self._over)

    @property
    def snapshot_steps(self) -> tuple[int, ...]:
        """Where another trial may stop, if another may have the same trajectory at all."""
        axes = self.sweep.axes
        steps = axes.get("train_steps", ())
        for name, axis in axes.items():
            drawn = name in ("inference_steps", "strength") or name.partition(".")[0] == "sampler"
            if isinstance(axis, Range) and not axis.whole and axis.step is None and not drawn:
                return ()
        return tuple(int(step) for step in (steps.values if isinstance(steps, Range) else steps))

    def batches(self) -> Generator[tuple[Cell, ...]]:
        """A batch of trials after the other, each rung by rung."""
        self._look_back()
        while True:
            self._fill()
            running = self._running()
            if not running:
                return
            while running:
                yield from self._rung(running)
                running = self._running()

    def _rung(self, running: list[FrozenTrial]) -> Iterator[tuple[Cell, ...]]:
        """Bring those that lag behind to their next rung, then judge them."""
        stops = {trial.number: self._stop(trial) for trial in running}
        lowest = min(stops.values())
        due = [trial for trial in running if stops[trial.number] == lowest]
        untold = [trial for trial in due if lowest not in trial.intermediate_values]
        if untold and self.is_race:  # those that were told before a kill race once more
            untold = [*due, *self._ended(lowest)]
        self._race = self._race_of([(trial, lowest) for trial in untold])
        yield from self._race.run()
        for trial in self._running():
            if lowest in trial.intermediate_values and self._stop(trial) == lowest:
                self._judge(trial, lowest)

    @property
    def is_race(self) -> bool:
        """Whether trials at the same rung race each other."""
        return bool(self.search.rungs) and self.sweep.settings.by_score

    def _race_of(self, stops: Sequence[tuple[FrozenTrial, int]]) -> Rounds:
        """A race of trials, each at its step; those of one cell run as one."""
        asked: dict[str, list[FrozenTrial]] = {}
        cells = {}
        for trial, step in stops:
            cell = self._cell(trial, step)
            cells[cell.key] = cell
            asked.setdefault(cell.key, []).append(trial)
        self._asked |= asked
        return Rounds(tuple(cells.values()), self.sweep.settings, is_race=self.is_race)

    def _ended(self, step: int) -> list[FrozenTrial]:
        """Of the batch at hand, those that ended at their last step, which is this one."""
        assert self.search.at_once is not None
        asked = [trial for trial in self.trials.all() if set(trial.params) == set(self.space)]
        batch = asked[(len(asked) - 1) // self.search.at_once * self.search.at_once :]
        return [
            trial
            for trial in batch
            if trial.user_attrs.get("state") in ("finished", "left") and self._last(trial) == step
        ]

    def _judge(self, trial: FrozenTrial, rung: int) -> None:
        running = self.trials.open(trial)
        if running.should_prune():
            running.set_user_attr("state", "pruned")
            self.trials.study.tell(trial.number, state=TrialState.PRUNED)
            self._over.add(trial.number)
        else:
            running.set_user_attr(PASSED, rung)

    @property
    def is_further(self) -> bool:
        return self._race.round > 1

    def settle(self, result: CellResult) -> Sequence[CellResult]:
        """Those that have ended with it."""
        return self._race.settle(result)

    def number(self, result: CellResult) -> int:
        return self._asked[result.cell][0].number

    def tell(self, result: CellResult) -> None:
        """Tell a cell's trials their result: for good at their last step, else as a report."""
        for trial in self._asked[result.cell]:
            if trial.state.is_finished() or result.step in trial.intermediate_values:
                continue
            running, cell = self.trials.open(trial), self._cell(trial, result.step)
            running.set_user_attr("cell", cell.key)
            running.set_user_attr("trajectory", cell.trajectory.key)
            goes_on = result.step < self._last(trial) and result.state in ("finished", "left")
            if not goes_on:
                self.trials.tell(trial, result)
                if result.state != "failed":
                    self._over.add(trial.number)
                continue
            (objective,) = self.trials.objectives
            value = result.scores.get(objective)
            if value is None:
                self.trials.give_up([trial])
            else:
                running.report(value, result.step)

    # -- trials --------------------------------------------------------------------------------

    def _look_back(self) -> None:
        """See which trials are over, and give up those that were killed while they were asked."""
        over = (TrialState.COMPLETE, TrialState.PRUNED)
        self._over = {trial.number for trial in self.trials.all() if trial.state in over}
        space = set(self.space)
        self.trials.give_up([trial for trial in self._running() if set(trial.params) != space])

    def _fill(self) -> None:
        """Ask until the batch is full, unless one that was begun is still running."""
        assert self.search.at_once is not None
        self.trials.wait()
        asked = self._count()
        begun = asked % self.search.at_once
        if begun == 0 and self._running():
            return
        self._ask(asked, asked - begun + self.search.at_once)

    def _count(self) -> int:
        """How many have been asked."""
        return sum(set(trial.params) == set(self.space) for trial in self.trials.all())

    def _ask(self, first: int, last: int) -> None:
        """Ask for the trials from one number to before another, as far as any are left.

        The sampler is seeded by how many came before, so that a study that was killed goes on as
        it would have without.
        """
        assert self.search.trials is not None
        for number in range(first, min(last, self.search.trials)):
            self.trials.study.sampler = sampler_of(self.sweep, number)
            self.trials.study.ask(self.space)

    def _running(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials.all() if trial.state == TrialState.RUNNING]

    def _cell(self, trial: FrozenTrial, step: int) -> Cell:
        """The trial's cell at a step."""
        place = trial.number, step
        if place not in self._cells:
            self._cells[place] = self.sweep.cell_at({**trial.params, "train_steps": step})
        return self._cells[place]

    def _stop(self, trial: FrozenTrial) -> int:
        """The next step at which the trial is scored."""
        passed = trial.user_attrs.get(PASSED, 0)
        ahead = [rung for rung in self.search.rungs if passed < rung < self._last(trial)]
        return min(ahead, default=self._last(trial))

    def _last(self, trial: FrozenTrial) -> int:
        return int(trial.params.get("train_steps", self.sweep.settings.train_steps))


def check(sweep: Sweep) -> None:
    """ConfigError for a sampler or pruner that is none, for trials that would not compare, or for a
    study that cannot be reached, before anything is written."""
    search = sweep.settings.search
    check_driver(sweep)
    if search.sampler is not None:
        sampler_of(sweep, 0)
        pruner_of(sweep)
    is_compared = search.is_race or not sweep.settings.is_grid
    by_exam = {id(cell.exam): cell for cell in sweep.examples}  # which combinations share
    if is_compared and len(groups(map(judged_by, by_exam.values()))) > 1:
        axes = ", ".join(f"axes.{a}" for a in sweep.axes if a.partition(".")[0] in VARIED)
        raise ConfigError(
            f"{axes}: changes what scores are measured by, and search={search.name} compares all "
            "its cells; take it out, and run each of its values under a name of its own, or list "
            "all values and choose search=grid"
        )


def sampler_of(sweep: Sweep, number: int) -> BaseSampler:
    """The sampler that asks for the trial of that number."""
    settings = dict(sweep.settings.search.sampler or {})
    if "seed" in inspect.signature(resolve(str(settings.get("_target_")))).parameters:
        settings = {"seed": sweep.settings.seed + number, **settings}
    sampler: BaseSampler = make(settings, "sampler", BaseSampler)
    return sampler


def pruner_of(sweep: Sweep) -> BasePruner:
    """The pruner that judges at rungs; one that prunes nothing where none is set."""
    settings = sweep.settings.search.pruner
    pruner: BasePruner = make(settings, "pruner", BasePruner) if settings else NopPruner()
    return pruner


def make(settings: Mapping[str, Any], what: str, kind: type) -> Any:
    """An Optuna sampler or pruner as the YAML names it; ConfigError where it is none."""
    own = dict(settings)
    target = str(own.pop("_target_", ""))
    made = resolve(target)
    if not isinstance(made, type) or not issubclass(made, kind):
        raise ConfigError(
            f"search.{what}._target_={target} is no {what} of Optuna's; see conf/search/"
        )
    try:
        return made(**own)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"search.{what}: {target} does not take {own}: {error}; mend search.{what}"
        ) from error


def distribution_of(axis: tuple[Any, ...] | Range) -> BaseDistribution:
    """What Optuna samples an axis from."""
    if not isinstance(axis, Range):
        return CategoricalDistribution(axis)
    if axis.whole:
        step = int(axis.step) if axis.step else 1
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log, step=step)
    return FloatDistribution(float(axis.low), float(axis.high), log=axis.log, step=axis.step)
