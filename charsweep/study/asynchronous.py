"""Adaptive search without batches: a worker is given trials when it is free.

First those that wait: let through a rung, or begun by a command that was killed. Where there are
none, further ones are asked: as many as share a forward pass, towards the end a worker's share of
what is left. A sampler sees the trials that run (TPE takes them for bad ones, so that it asks
elsewhere), and what it sees depends on who was free when: another run of the same command may try
other trials. Each of their results is repeatable all the same.

Rungs are asynchronous halving (ASHA; Li et al. 2020, arXiv 1810.05934). A trial that has reported
at its rung waits for nobody: when next a worker is free it is judged, against all that have
reported there by then, and goes on or is pruned. Trials that are given to a worker together race
each other at their rung, and no others; the study has who they were, so that a race that was
killed ends alike.

A trajectory is trained by one worker at a time. A trial of one that is out waits for it, and then
continues what is stored.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from optuna.trial import FrozenTrial, TrialState

from charsweep.config import Sweep
from charsweep.core.cells import Cell
from charsweep.results import CellResult
from charsweep.study.adaptive import Search
from charsweep.study.rounds import Rounds

RACES = "races"  # user attribute: by rung, the first trial of the race that a trial was in
AHEAD = 2  # packs of trials for each worker that run at most, those that wait included


class AsynchronousSearch(Search):
    """An adaptive sweep whose trials are chosen one pack after the other, for whoever is free."""

    is_repeatable: ClassVar[bool] = False

    def __init__(self, sweep: Sweep, workers: int) -> None:
        super().__init__(sweep)
        self.workers = workers
        trained = [cell.trajectory for cell in sweep.examples if cell.is_trained]
        self.width = max((trajectory.pack for trajectory in trained), default=1)
        self._races: dict[Rounds, Iterator[tuple[Cell, ...]]] = {}  # and what each draws next
        self._is_further = False  # what was given last: a further round of a race
        self._nothing_for = 0  # workers, since the last result

    def batches(self) -> Generator[tuple[Cell, ...]]:
        """What is worked on first; what comes after it is asked for by `next_cells`."""
        self.trials.wait()
        self._look_back()
        self._race_again()
        while cells := self.next_cells(self.workers):
            yield cells

    def next_cells(self, workers: int) -> tuple[Cell, ...]:
        """Cells for one of so many workers who is free; () while there are none."""
        if self._nothing_for == workers:
            return ()
        self.workers = workers
        self.trials.wait()
        cells = self._further_round() or self._further_trials()
        self._nothing_for = 0 if cells else workers
        return cells

    # -- races ---------------------------------------------------------------------------------

    @property
    def is_further(self) -> bool:
        return self._is_further

    def settle(self, result: CellResult) -> Sequence[CellResult]:
        """Those that have ended with it."""
        self._nothing_for = 0
        race = next(race for race in self._races if result.cell in race.out)
        return race.settle(result)

    def _further_round(self) -> tuple[Cell, ...]:
        """What a race draws of which all results so far are known; those that are over go."""
        for race, rounds in list(self._races.items()):
            if race.out:
                continue
            if cells := next(rounds, ()):
                self._is_further = race.round > 1
                return cells
            del self._races[race]
        return ()

    def _begin(self, stops: Sequence[tuple[FrozenTrial, int]]) -> None:
        """Have trials run, each to its step; at a rung as a race, which is noted."""
        if self.is_race:
            first = stops[0][0].number
            for trial, step in stops:
                races = {**_races_of(trial), str(step): first}
                self.trials.open(trial).set_user_attr(RACES, races)
        self._add_race(stops)

    def _add_race(self, stops: Sequence[tuple[FrozenTrial, int]]) -> None:
        race = self._race_of(stops)
        self._races[race] = race.run()

    def _race_again(self) -> None:
        """Begin races that were killed once more, with all who were in them: what they have drawn
        is looked up."""
        known: dict[tuple[int, int], list[FrozenTrial]] = {}
        for trial in self.trials.all():
            if trial.state != TrialState.FAIL:
                for rung, first in _races_of(trial).items():
                    known.setdefault((int(rung), first), []).append(trial)
        for (step, _), trials in sorted(known.items()):
            if any(self._lacks(trial, step) for trial in trials):
                self._add_race([(trial, step) for trial in trials])

    def _lacks(self, trial: FrozenTrial, step: int) -> bool:
        """Whether a trial runs and has not reported at a step."""
        return trial.state == TrialState.RUNNING and step not in trial.intermediate_values

    # -- trials --------------------------------------------------------------------------------

    def _further_trials(self) -> tuple[Cell, ...]:
        """What is worked on first of trials that wait, or of further ones."""
        waiting = self._waiting()
        if told := [one for one in waiting if self._stop(one) in one.intermediate_values]:
            for trial in told:
                self._judge(trial, self._stop(trial))
            waiting = self._waiting()
        if not (due := self._due(waiting)):
            asked, running = self._count(), len(self._running())
            self._ask(asked, asked + self._wanted(asked, running, len(waiting)))
            due = self._due(self._waiting())
        if self.is_race:  # whose trials draw the same at the same rung
            step = min((step for _, step in due), default=0)
            due = [(trial, stop) for trial, stop in due if stop == step]
        if not due:
            return ()
        self._begin(due[: self.width])
        return self._further_round()

    def _wanted(self, asked: int, running: int, waiting: int) -> int:
        """How many more are asked for: as many as share a pass, with those that wait already.

        Of the last ones, no more than a worker's share, unless that is less than half of a pass,
        which takes as long as half of one (see `charsweep.engine.units.HALVED`).
        """
        assert self.search.trials is not None
        share = math.ceil((self.search.trials - asked) / self.workers)
        room = AHEAD * self.workers * self.width - running
        return min(self.width - waiting, max(share, math.ceil(self.width / 2)), room)

    def _waiting(self) -> list[FrozenTrial]:
        """Trials that run, and that nobody works on."""
        out = {
            trial.number
            for race in self._races
            for key in race.running
            for trial in self._asked[key]
        }
        return [trial for trial in self._running() if trial.number not in out]

    def _due(self, waiting: Sequence[FrozenTrial]) -> list[tuple[FrozenTrial, int]]:
        """Those whose trajectory nobody works on, with the step that each is worked on to."""
        busy = {cell.source.key for race in self._races for cell in race.running.values()}
        stops = [(trial, self._stop(trial)) for trial in waiting]
        return [(t, step) for t, step in stops if self._cell(t, step).source.key not in busy]


def _races_of(trial: FrozenTrial) -> Mapping[str, Any]:
    known: Mapping[str, Any] = trial.user_attrs.get(RACES, {})
    return known
