"""Workers that do units in no time but in their order, for tests of who is idle and who is not.

Their clock is simulated. A pass of training, an image set and a reference take as long as a test
says; the engine, its agenda and the study are the real ones.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from helpers.fake_sweep import result

from charsweep.core.cells import Cell
from charsweep.engine.messages import About, Done, Ended, Hello, Message, Reached
from charsweep.engine.schedule import snapshots
from charsweep.engine.units import Finish, Train
from charsweep.plan import Plan
from charsweep.results import CellResult


class Link:
    """The head's end of the way to a worker that only says what it has done."""

    place = ""

    def __init__(self, crew: Crew) -> None:
        self.crew, self.free_since = crew, crew.clock

    def send(self, said: Any) -> None:
        if isinstance(said, Hello):
            self.crew.say(0.0, self, About({}))
        elif not isinstance(said, Plan):
            self.crew.gaps.append(self.crew.clock - self.free_since)
            self.crew.do(self, said)

    def halt(self) -> None:
        """It does nothing that is not done."""

    def leave(self) -> None:
        """Nothing is held."""


class Crew:
    """A `Carrier` of so many workers; seconds of a pass of training, of a cell and a reference."""

    shares_store, replaces, on_cpu = True, False, True
    why_nobody = "they are all there"

    def __init__(self, count: int, step: float, cell: float, reference: float) -> None:
        self.count, self.step, self.cell, self.reference = count, step, cell, reference
        self.clock = 0.0
        self.gaps: list[float] = []  # between a worker's units, in seconds
        self._links: list[Link] = []
        self._events: list[tuple[float, int, Link, Message]] = []
        self._numbers = itertools.count()

    def hire(self, hello: Hello) -> Sequence[Link]:
        new = [] if self._links else [Link(self) for _ in range(self.count)]
        self._links += new
        for link in new:
            link.send(hello)
        return new

    def hear(self, links: Sequence[Link]) -> Sequence[tuple[Link, Message]]:
        assert self._events, "nobody does anything, and something is waited for"
        self.clock, _, link, message = heapq.heappop(self._events)
        if isinstance(message, Ended):
            link.free_since = self.clock
        return [(link, message)]

    def leaving(self, links: Sequence[Link]) -> Sequence[Link]:
        return []

    def close(self) -> None:
        """Nobody is left."""

    def say(self, seconds: float, link: Link, message: Message) -> None:
        """Have a worker say something after so long."""
        heapq.heappush(self._events, (self.clock + seconds, next(self._numbers), link, message))

    def do(self, link: Link, unit: Any) -> None:
        """Have a worker say what comes of a unit, each at its time."""
        seconds = 0.0
        if isinstance(unit, Train):
            for passes, key, step, is_last in snapshots(unit.pack):
                self.say(passes * self.step, link, Reached(key, {step: 1.0}, is_last))
            seconds = unit.pack.passes * self.step
        elif isinstance(unit, Finish):
            for cell in (cell for training in unit.trainings for cell in training.cells):
                seconds += self.cell
                self.say(seconds, link, Done(cell.key, 0.0, None))
        else:
            seconds = self.reference
        self.say(seconds, link, Ended({}))


def scored(score: Callable[[Cell], float]) -> Callable[..., CellResult]:
    """What stands in for `result_of`: every cell is finished, with that score."""

    def result_of(cell: Cell, store: Any, paid: float, error: str | None = None) -> CellResult:
        found = score(cell)
        images = [[found for _ in cell.images.seeds] for _ in cell.images.prompts]
        return result(
            cell=cell.key, step=cell.step, values=cell.values, base="sdxl", paid_seconds=paid,
            scores={"score": found, "dino": found}, per_image={"score": images},
        )  # fmt: skip

    return result_of


def executed(study: Any, engine: Any, planned: Callable[[Sequence[Cell]], Plan]) -> Iterator[Any]:
    """The main loop without its books: each trial's result as it is told."""

    def more(workers: int) -> Plan | None:
        cells = study.next_cells(workers)
        return planned(cells) if cells else None

    for cells in study.batches():
        for one in engine.execute(planned(cells), None if study.is_repeatable else more):
            for settled in study.settle(one):
                study.tell(settled)
                yield settled
