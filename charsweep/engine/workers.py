"""The engine of several workers: it hands out a plan's units, and loads no torch.

Workers are processes of this machine (`charsweep.engine.pipes`) that fill the head's store, or
actors of a Ray cluster (`charsweep.engine.cluster`) with scratch stores, whose entries are copied:
a `Carrier` says who there is and passes on what they say, and all else is the same.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from charsweep.config import Sweep
from charsweep.config.pack_width import FILE as WIDTHS
from charsweep.config.pack_width import unmeasured
from charsweep.core.cells import Cell
from charsweep.core.errors import StoreError, TrainingError
from charsweep.core.keys import digest_of
from charsweep.core.specs import ComposedSpec, SnapshotSpec, Source
from charsweep.core.store import Store
from charsweep.core.store.files import clear_half_written, machine
from charsweep.core.system.signals import deadline, delay_signals, time_is_up
from charsweep.core.system.versions import numerical_versions
from charsweep.engine.copies import Copies, drawing_entries, needed, snapshots_of, teaching_entries
from charsweep.engine.messages import (
    About,
    Broken,
    Done,
    Ended,
    Fetch,
    Hello,
    Lost,
    Measure,
    Message,
    NoRoom,
    Piece,
    Reached,
    Viewed,
)
from charsweep.engine.progress import ProgressView
from charsweep.engine.units import MOST_LOSSES, Agenda, More, Reference, Train, Unit
from charsweep.plan import Plan, Speeds, Training, plan_training
from charsweep.plan.workers import threads_of
from charsweep.results import CellResult
from charsweep.results.cells import result_of

LARGE = 200_000_000  # bytes of a snapshot that stays where it was made until it is wanted
HIRE_SECONDS = 1.0  # between two looks at who has come, and who must go
LEAVE_SECONDS = 60.0  # that what is halted may take to save and send the step at hand
PATIENCE = 30.0  # seconds without anybody who works until that is said


class Link(Protocol):
    """The head's end of the way to one worker."""

    @property
    def place(self) -> str:
        """The machine, in words; "" for this one."""

    def send(self, said: Any) -> None:
        """Say something, and all of it."""

    def halt(self) -> None:
        """Ask it to finish and save the step at hand, and to end."""

    def leave(self) -> None:
        """Wait for its end, and let go of it."""


L = TypeVar("L", bound=Link)


class Carrier(Protocol[L]):
    """What starts workers, and carries what they say."""

    @property
    def shares_store(self) -> bool:
        """Whether they fill the head's own store."""

    @property
    def replaces(self) -> bool:
        """Whether others come in place of those who are lost."""

    @property
    def on_cpu(self) -> bool:
        """Whether they work on CPUs, with threads that are chosen here."""

    @property
    def count(self) -> int:
        """How many may work at once."""

    @property
    def why_nobody(self) -> str:
        """What is waited for while there is none."""

    def hire(self, hello: Hello) -> Sequence[L]:
        """Those who have come since it was asked last, each of whom is told that."""

    def hear(self, links: Sequence[L]) -> Sequence[tuple[L, Message]]:
        """What they say within a moment; `Lost` as the last of each."""

    def leaving(self, links: Sequence[L]) -> Sequence[L]:
        """Those whose machine is about to go."""

    def close(self) -> None:
        """All have been let go of; others can be hired."""


@dataclass(eq=False)
class Worker:
    """Who works, and what at."""

    number: int
    link: Link
    copies: Copies | None  # None: it fills the head's store
    joined = False  # it has said what it is
    has_time = True
    leaving = False
    unit: Unit | None = None
    done: set[str] = field(default_factory=set)  # keys of the unit's cells and trajectories
    states: dict[str, int] = field(default_factory=dict)  # steps of what it has trained itself

    @property
    def is_free(self) -> bool:
        return self.joined and self.unit is None and self.has_time and not self.leaving

    @property
    def lacks_work(self) -> bool:
        """Whether it trains nothing, and could."""
        can_work = self.joined and self.has_time and not self.leaving
        return can_work and not isinstance(self.unit, Train)

    @property
    def name(self) -> str:
        return f"worker {self.number}" + (f" on {self.link.place}" if self.link.place else "")

    def halt(self) -> None:
        self.leaving = True
        self.link.halt()

    def near(self, training: Training) -> bool:
        """Whether it has that trajectory's last state, or the snapshot of its first cell."""
        if self.copies is None:
            return False
        store, spec = self.copies.store, training.source
        own = store.snapshot(SnapshotSpec(spec, training.cells[0].step))
        return store.source(spec).name in self.states or self.copies.has(own)


class WorkersEngine:
    """Executes plans with several workers; its head does nothing but hand out and listen."""

    def __init__(
        self, sweep: Sweep, store: Store, view: ProgressView, carrier: Carrier[Any]
    ) -> None:
        self.sweep, self.store, self.view, self.carrier = sweep, store, view, carrier
        self.speeds = Speeds(store)
        self.environment: Mapping[str, Any] = {}
        self.among_references: dict[tuple[object, ...], dict[str, float]] = {}  # by measure
        self.workers: list[Worker] = []
        self._plans: list[Plan] = []  # those at hand
        self._held: dict[tuple[str, int], int] = {}  # with whom a trajectory's snapshot stayed
        self._number = self._stillborn = 0  # so many have come; so many ended before they joined
        self._looked = self._worked = time.monotonic()
        self._start()

    # -- who works ---------------------------------------------------------------------------------

    def _start(self) -> None:
        """Start workers; returns when one is ready."""
        self.view.workers = self.carrier.count
        count = self.carrier.count
        self.view.doing(f"starting {count} worker{'s' if count > 1 else ''}")
        self._looked, self._worked, self._stillborn = 0.0, time.monotonic(), 0
        try:
            while not any(worker.joined for worker in self.workers):
                self._look_around()
                for worker, message in self._hear():
                    self._note(worker, message)
            self.view.rests()
        except BaseException:
            self.close()
            raise

    def _hello(self) -> Hello:
        """What a worker begins with; not the words, in which a password may stand."""
        runtime, end = self.sweep.settings.runtime, deadline()
        changed: dict[str, Any] = {}
        if self.carrier.on_cpu:
            changed = {"threads": threads_of(self.sweep, "cpu") or 1, "device": "cpu"}
        own = self.sweep.settings.model_copy(update={"runtime": runtime.model_copy(update=changed)})
        versions = sorted(numerical_versions().items())
        return Hello(
            replace(
                self.sweep, settings=own, typed=(), resolved={}, cells=(), parts=(), examples=()
            ),
            None if end is None else end - time.monotonic(),
            self.store.root if self.carrier.shares_store else None,
            None if runtime.scratch is None else Path(runtime.scratch),
            digest_of(f"{machine()} {self.store.root} {versions}".encode())[:12],
            machine(),
            math.inf if runtime.bring == "all" or self._composes else LARGE,
        )

    @property
    def _composes(self) -> bool:
        """Whether adapters are put together here, for which all must have come."""
        return any(isinstance(cell.source, ComposedSpec) for cell in self.sweep.cells)

    def _look_around(self) -> None:
        """Now and then: hire whoever has come, and halt those whose machine is about to go."""
        if time.monotonic() - self._looked < HIRE_SECONDS:
            return
        self._looked = time.monotonic()
        links = [worker.link for worker in self.workers if not worker.leaving]
        for link in self.carrier.leaving(links):
            worker = next(worker for worker in self.workers if worker.link is link)
            self.view.say(f"{worker.name} leaves, because its machine is about to go")
            worker.halt()
        for link in self.carrier.hire(self._hello()):
            self._number += 1
            own = None if self.carrier.shares_store else Copies(self.store, str(self._number))
            self.workers.append(Worker(self._number, link, own))
        if any(worker.joined for worker in self.workers):
            self._worked = time.monotonic()
        elif time.monotonic() - self._worked > PATIENCE:
            self.view.say(f"nobody works yet: {self.carrier.why_nobody}")
            self._worked = time.monotonic() + 9 * PATIENCE  # once in five minutes

    def _welcome(self, worker: Worker, about: About) -> None:
        """Somebody is ready: what all units need goes there."""
        self.environment = self.environment or about.environment
        worker.joined, worker.states = True, dict(about.states)
        if worker.copies:
            own = self.sweep.teaching_adapters
            for path, entry in (*drawing_entries(self.sweep.drawings), *teaching_entries(own)):
                self._send(worker, worker.copies.send_as(path, entry))
            self._send(worker, worker.copies.pieces([self.speeds.path]))
        for plan in self._plans:
            worker.link.send(plan)
        if self.carrier.replaces:
            self.view.workers = sum(one.joined for one in self.workers)

    def _send(self, worker: Worker, pieces: Iterator[Piece]) -> None:
        for piece in pieces:
            worker.link.send(piece)

    def _give(self, worker: Worker, unit: Unit) -> None:
        worker.unit, worker.done = unit, set()
        if worker.copies:
            self._send(worker, worker.copies.pieces(needed(unit, self.store, worker.states)))
            self._send(worker, worker.copies.told(snapshots_of(unit, self.store)))
        worker.link.send(unit)

    def _lose(self, worker: Worker, how: str) -> None:
        """Go on without a worker; TrainingError where it was the last, or none can begin."""
        self.workers.remove(worker)
        self.view.workers = max(1, len(self.workers))
        self.view.rests(worker.number)
        worker.link.leave()
        if worker.copies:
            worker.copies.drop()
        if worker.leaving:
            return
        self._stillborn = 0 if worker.joined else self._stillborn + 1
        if self.carrier.replaces and self._stillborn < MOST_LOSSES:
            self.view.say(f"{worker.name} {how}; its work is done by others")
        elif self.workers and not self.carrier.replaces:
            self.view.say(f"{worker.name} {how}; the other goes on")
        else:
            raise TrainingError(
                f"{worker.name} {how}, and no other is left; what is finished is in the store: run "
                "the same command again, with runtime.workers=1 if memory was short"
            )

    def close(self) -> None:
        """Let each finish and save the step at hand; returns when all have ended."""
        for worker in self.workers:
            worker.halt()
        if not self.carrier.shares_store:
            self._take_last()
        for worker in self.workers:
            worker.link.leave()
            if worker.copies:
                worker.copies.drop()
        self.workers, self._held = [], {}
        self.carrier.close()

    def _take_last(self) -> None:
        """The states that are sent on leaving; where they cannot be written, that is said."""
        left, end = list(self.workers), time.monotonic() + LEAVE_SECONDS
        while left and time.monotonic() < end:
            for link, message in self.carrier.hear([worker.link for worker in left]):
                worker = next(worker for worker in self.workers if worker.link is link)
                if isinstance(message, Piece) and worker.copies:
                    try:
                        worker.copies.take(message)
                    except StoreError as error:
                        self.view.say(str(error))
                        return
                elif isinstance(message, Lost):
                    left.remove(worker)

    # -- what is done ------------------------------------------------------------------------------

    def execute(self, plan: Plan, more: More | None = None) -> Generator[CellResult, None, None]:
        """Do the plan, yielding each cell as it is finished, diverged or failed.

        `more` is asked for a further plan whenever nothing is left to hand out and a worker is
        free, or draws, which is over soon: asking takes a second.
        """
        if not self.workers:  # they were stopped in the middle of a plan
            self._start()
        self._send_plan(plan)
        agenda = Agenda(plan, self.speeds, self.carrier.count, is_open=more is not None)
        with contextlib.closing(Leases(self.store)) as leases:
            try:
                yield from self._do(agenda, leases, more)
            finally:
                self._plans = []
                if any(worker.unit for worker in self.workers):
                    self.close()

    def _send_plan(self, plan: Plan) -> None:
        """Have all workers know a plan, those too who join later."""
        self._plans.append(plan)
        for worker in self.workers:
            if worker.joined:
                worker.link.send(plan)

    def _add_further(self, agenda: Agenda, more: More | None) -> bool:
        """Ask for a further plan, if nothing is left for one who is free, or soon will be."""
        lacking = sum(worker.lacks_work for worker in self.workers)
        if more is None or not agenda.is_short_for(lacking):
            return False
        if further := more(self.carrier.count):
            self._send_plan(further)
            agenda.add(further)
        return further is not None

    def _do(self, agenda: Agenda, leases: Leases, more: More | None) -> Iterator[CellResult]:
        while True:
            self._look_around()
            for worker in self.workers:
                if not worker.is_free:
                    continue
                if unit := agenda.next(leases.take, worker.near, worker.number):
                    self._give(worker, unit)
            if self._add_further(agenda, more) and any(worker.is_free for worker in self.workers):
                continue
            if agenda.is_done and not any(worker.unit for worker in self.workers):
                return
            joined = [worker for worker in self.workers if worker.joined and not worker.leaving]
            if joined and all(worker.unit is None for worker in self.workers):
                if not all(worker.has_time for worker in joined):
                    time_is_up()
                if len(joined) == len(self.workers):
                    leases.wait_for(agenda.locked_out)
                    continue
            for worker, message in self._hear():
                if isinstance(message, Done):
                    worker.done.add(message.cell)
                    cell = agenda.cells[message.cell]
                    yield self._finish(cell, message.seconds, message.error, agenda, leases)
                else:
                    self._note(worker, message, agenda, leases)
            while agenda.given_up:
                cell, why = agenda.given_up.pop()
                yield self._finish(cell, 0.0, why, agenda, leases)

    def _finish(
        self, cell: Cell, seconds: float, error: str | None, agenda: Agenda, leases: Leases
    ) -> CellResult:
        if agenda.finished(cell.source):
            leases.drop(cell.source)
            self.view.advance("trajectories")
        return result_of(cell, self.store, seconds, error)

    def _hear(self) -> list[tuple[Worker, Message]]:
        """What workers say within a moment."""
        by_link = {worker.link: worker for worker in self.workers}
        with delay_signals():
            heard = self.carrier.hear([worker.link for worker in self.workers])
        return [(by_link[link], message) for link, message in heard]

    def _note(
        self,
        worker: Worker,
        message: Message,
        agenda: Agenda | None = None,
        leases: Leases | None = None,
    ) -> None:
        """What is heard, but for results; of a plan, unless none is at hand."""
        match message:
            case About():
                self._welcome(worker, message)
            case Viewed():
                self._show(worker, message)
            case Piece():
                assert worker.copies
                worker.copies.take(message)
            case Reached(key, spent, last, error):
                if last:
                    worker.done.add(key)
                if agenda:
                    agenda.reached(key, spent, last, error, partial(self._holder, worker))
            case Ended(among, speeds):
                self.among_references.update(among)
                self.speeds.add(speeds)
                unit, worker.unit = worker.unit, None
                self.view.rests(worker.number)
                if agenda and isinstance(unit, Train):
                    agenda.training -= 1
                if agenda and leases and isinstance(unit, Reference) and agenda.drawn(unit):
                    leases.drop(unit.images.snapshot.source)
            case NoRoom():
                worker.unit, worker.has_time = None, False
                self.view.rests(worker.number)
            case Broken():
                raise _with_trace(message)
            case Lost(how):
                if worker.unit and agenda:
                    agenda.take_back(worker.unit, worker.done, "" if worker.leaving else how)
                self._lose(worker, how)
                if agenda and worker.copies:
                    self._held = {w: n for w, n in self._held.items() if n != worker.number}
                    agenda.train_again(self._is_gone, self._plan_again)
                if leases:
                    leases.clear()
            case Done():
                raise AssertionError("a cell of no plan")

    # -- snapshots that stay with a worker ---------------------------------------------------------

    def _holder(self, worker: Worker, training: Training) -> int | None:
        """The worker, if the snapshot of a training's cells stayed with it."""
        spec = SnapshotSpec(training.source, training.cells[0].step)
        if self.store.held_by(spec) is None:
            return None
        self._held[training.source.key, spec.step] = worker.number
        return worker.number

    def _is_gone(self, training: Training) -> bool:
        spec = SnapshotSpec(training.source, training.cells[0].step)
        is_held = self.store.held_by(spec) is not None
        return is_held and (training.source.key, spec.step) not in self._held

    def _plan_again(self, training: Training) -> Training:
        return plan_training(training.cells, self.store, training.snapshot_steps)

    def fetch(self, spec: SnapshotSpec) -> None:
        """Bring a snapshot that stayed with a worker, if that is still there."""
        number = self._held.get((spec.source.key, spec.step))
        holder = next((worker for worker in self.workers if worker.number == number), None)
        if holder is None:
            return
        folder = self.store.snapshot(spec)
        holder.link.send(Fetch(folder.relative_to(self.store.root).as_posix()))
        while holder in self.workers and self.store.held_by(spec):
            for worker, message in self._hear():
                self._note(worker, message)

    def measure_widths(self) -> None:
        """Have a worker measure the widths of packs that are not known yet."""
        worker = next(worker for worker in self.workers if worker.joined)
        path = self.store.folder / WIDTHS
        if worker.copies and path.exists():
            self._send(worker, worker.copies.pieces([path]))
        worker.link.send(Measure(self.sweep.unmeasured))
        while unmeasured(self.sweep.examples, self.sweep.settings, self.store):
            for other, message in self._hear():
                self._note(other, message)
                if isinstance(message, Lost) and other is worker:
                    raise TrainingError(
                        f"{worker.name} {message.how} while it measured how many trials share a "
                        "pass best; run the same command again, or set pack=1"
                    )

    def _show(self, worker: Worker, call: Viewed) -> None:
        match call.name:
            case "steps":
                for seconds, loss in call.arguments:
                    self.view.step(seconds, loss)
            case "expect":
                self.view.expect(**dict(call.arguments))
            case "doing":
                self.view.doing(str(call.arguments[0]), by=worker.number)
            case "say":
                self.view.say(*call.arguments)
            case "advance":
                self.view.advance(*call.arguments)


class Leases:
    """The locks of the sources that are being worked on."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._held: dict[str, tuple[contextlib.ExitStack, Path]] = {}

    def take(self, source: Source) -> bool:
        """Whether a source is ours, or can be at once."""
        if source.key in self._held:
            return True
        stack = contextlib.ExitStack()
        if not stack.enter_context(self.store.lock(source, wait=False)):
            stack.close()
            return False
        self._held[source.key] = stack, self.store.source(source)
        return True

    def clear(self) -> None:
        """Drop what one who was killed has left half-written."""
        for _, folder in self._held.values():
            clear_half_written(folder)

    def drop(self, source: Source) -> None:
        """Let others have a source: all is done."""
        if held := self._held.pop(source.key, None):
            held[0].close()

    def wait_for(self, source: Source | None) -> None:
        """Wait for what another command works on, holding nothing: none waits in a circle."""
        assert source is not None, "nothing can be done, and nothing is waited for"
        self.close()
        with self.store.lock(source):
            pass

    def close(self) -> None:
        """Let go of all."""
        for stack, _ in self._held.values():
            stack.close()
        self._held.clear()


def _with_trace(broken: Broken) -> BaseException:
    """A worker's error, with where it was raised."""
    broken.error.add_note(broken.trace)
    return broken.error
