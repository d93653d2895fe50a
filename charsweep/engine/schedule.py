"""How long a plan takes so many workers: the `Agenda` itself hands out its units, but in no time.

A unit takes its expected seconds, by `Speeds`; a pack's snapshots are there in between, as they are
in truth. What a worker waits for, its start, and bytes on their way are not in it. No torch, and no
processes.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from charsweep.core.specs import Source
from charsweep.engine.units import Agenda, Finish, Reference, Train, Unit
from charsweep.plan import Pack, Plan, Speeds


@dataclass(frozen=True)
class Schedule:
    """What became of a plan: all in seconds, but for the counts."""

    workers: int
    seconds: float  # until the last unit has ended
    needed: float  # of all workers together, without what was lost
    decisions: int  # asked for a unit
    lost: int  # units
    longest: Train | None  # of the units of training, which no worker can shorten
    longest_seconds: float

    @property
    def utilisation(self) -> float:
        """The share of the workers' time in which something was done that stays done."""
        return self.needed / (self.workers * self.seconds) if self.seconds else 1.0


@dataclass
class Crew:
    """Workers that only say what they have done, in the order in which they would.

    Of their units the share `losing` is lost, at any moment of it, with all that the pack at hand
    had trained; another worker is there at once.
    """

    plan: Plan
    speeds: Speeds
    workers: int
    losing: float = 0.0
    seed: int = 0
    agenda: Agenda = field(init=False)
    clock: float = 0.0
    needed: float = 0.0
    decisions: int = 0
    lost: int = 0

    def __post_init__(self) -> None:
        self.agenda = Agenda(self.plan, self.speeds, self.workers)
        self._chance = random.Random(self.seed)
        self._sources = {cell.key: cell.source for cell in self.plan.cells}
        self._events: list[tuple[float, int, Any]] = []  # when, and what is to be called then
        self._numbers = count()
        self._free = self.workers
        self._longest: tuple[float, Train | None] = (0.0, None)

    def run(self) -> Schedule:
        """All of the plan."""
        while not self.agenda.is_done:
            while self._free and (unit := self._next()):
                self._free -= 1
                self._begin(unit)
            self.clock, _, happens = heapq.heappop(self._events)
            happens()
        seconds, unit = self._longest
        return Schedule(
            self.workers, self.clock, self.needed, self.decisions, self.lost, unit, seconds
        )

    def _next(self) -> Unit | None:
        self.decisions += 1
        return self.agenda.next(_ours)

    def _at(self, seconds: float, happens: Any) -> None:
        heapq.heappush(self._events, (self.clock + seconds, next(self._numbers), happens))

    def _begin(self, unit: Unit) -> None:
        seconds = self._seconds(unit)
        if isinstance(unit, Train) and seconds > self._longest[0]:
            self._longest = seconds, unit
        if self.losing and self._chance.random() < self.losing:
            self._at(self._chance.uniform(0, seconds), lambda: self._lose(unit))
            return
        self.needed += seconds
        if isinstance(unit, Train):
            step = self.agenda.seconds_of_pass(unit.pack)
            for at, key, reached, last in snapshots(unit.pack):
                self._at(at * step, _call(self.agenda.reached, key, {reached: step}, last))
        self._at(seconds, lambda: self._end(unit))

    def _seconds(self, unit: Unit) -> float:
        if isinstance(unit, Train):
            return self.agenda.seconds(unit.pack)
        trainings = unit.trainings if isinstance(unit, Finish) else ()
        scorings = unit.scorings if isinstance(unit, Reference) else ()
        every = (*scorings, *(scoring for training in trainings for scoring in training.scorings))
        return sum(map(self.agenda.seconds_to_score, every))

    def _end(self, unit: Unit) -> None:
        self._free += 1
        if isinstance(unit, Train):
            self.agenda.training -= 1
        elif isinstance(unit, Reference):
            self.agenda.drawn(unit)
        else:
            for training in unit.trainings:
                for cell in training.cells:
                    self.agenda.finished(self._sources[cell.key])

    def _lose(self, unit: Unit) -> None:
        self._free += 1
        self.lost += 1
        self.agenda.take_back(unit, set())


def schedule(plan: Plan, speeds: Speeds, workers: int) -> Schedule:
    """How long a plan is expected to take so many workers."""
    return Crew(plan, speeds, workers).run()


def snapshots(pack: Pack) -> Iterator[tuple[int, str, int, bool]]:
    """After how many passes a trajectory has which snapshot, and whether that is its last."""
    slots = [0] * pack.width  # at which pass each falls free
    for training in pack.trainings:
        passes, key = slots[0], training.trajectory.key
        for span in training.spans:
            for step in span.snapshots:
                is_last = span is training.spans[-1] and step == span.stop
                yield passes + step - span.start, key, step, is_last
            passes += span.stop - span.start
        heapq.heapreplace(slots, passes)


def _ours(_: Source) -> bool:
    return True


def _call(what: Any, *words: Any) -> Any:
    return lambda: what(*words)
