"""The engine of several processes on one machine: it hands out a plan's units, and loads no torch.

A worker that is killed is not replaced, because want of memory is the likeliest reason: the others
do its work, from what the store has of it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from charsweep.config import Sweep
from charsweep.core.errors import TrainingError
from charsweep.core.specs import Source
from charsweep.core.store import Store
from charsweep.core.store.files import clear_half_written
from charsweep.core.system.signals import deadline, delay_signals, time_is_up
from charsweep.engine.messages import HALT, About, Broken, Ended, Message, NoRoom, Reached, Viewed
from charsweep.engine.progress import ProgressView
from charsweep.engine.units import Agenda, Reference, Train, Unit
from charsweep.plan import Plan, Speeds
from charsweep.plan.workers import threads_of
from charsweep.results import CellResult

LOOK_SECONDS = 0.2  # between two looks at whether somebody asks for the end


class Lost:
    """What is heard of a worker that has ended unasked."""


class Worker:
    """One process and what it is at."""

    def __init__(self, number: int, threads: int) -> None:
        self.number, self.has_time = number, True
        self.unit: Unit | None = None
        self.done: set[str] = set()  # keys of the unit's cells and trajectories
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "charsweep.engine.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path),
                    "OMP_NUM_THREADS": str(threads),
                },
                start_new_session=True,
            )
        self.connection = Connection(ours.detach())

    def send(self, said: Any) -> None:
        """Say something, and all of it; what has ended meanwhile is noticed elsewhere."""
        with delay_signals(), contextlib.suppress(OSError):
            self.connection.send(said)

    def give(self, unit: Unit) -> None:
        self.unit, self.done = unit, set()
        self.send(unit)

    def halt(self) -> None:
        """Ask it to finish and save the step at hand, and to end."""
        with contextlib.suppress(OSError):
            self.connection.send(HALT)

    def leave(self) -> None:
        """Wait for its end, and let go of it."""
        with contextlib.suppress(OSError):
            while os.read(self.connection.fileno(), 1 << 16):  # it may wait for us to listen
                pass
        self.connection.close()
        self.process.wait()

    @property
    def end(self) -> str:
        """How it ended, in words."""
        code = self.process.wait()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"


class WorkersEngine:
    """Executes plans with several workers; its head does nothing but hand out and listen."""

    def __init__(self, sweep: Sweep, store: Store, view: ProgressView, workers: int) -> None:
        self.sweep, self.store, self.view, self.count = sweep, store, view, workers
        self.speeds = Speeds(store)
        self.environment: Mapping[str, Any] = {}
        self.among_references: dict[tuple[object, ...], dict[str, float]] = {}  # by measure
        self.workers: list[Worker] = []
        self._start()

    def _start(self) -> None:
        """Start all workers; returns when one is ready."""
        runtime = self.sweep.settings.runtime
        threads = threads_of(self.sweep, "cpu") or 1
        own = self.sweep.settings.model_copy(
            update={"runtime": runtime.model_copy(update={"threads": threads})}
        )
        needed = replace(self.sweep, settings=own, cells=(), parts=(), examples=())
        self.view.workers, ready = self.count, False
        self.view.doing(f"starting {self.count} workers")
        try:
            self.workers += [Worker(number, threads) for number in range(1, self.count + 1)]
            for worker in self.workers:  # while all import what they need
                worker.send((needed, self.store.root, deadline()))
            while not ready:
                for worker, message in self._hear():
                    if isinstance(message, About):
                        self.environment, ready = message.environment, True
                    elif isinstance(message, Broken):
                        raise _with_trace(message)
                    elif isinstance(message, Lost):
                        self._lose(worker)
            self.view.rests()
        except BaseException:
            self.close()
            raise

    def execute(self, plan: Plan) -> Generator[CellResult, None, None]:
        """Do the plan, yielding each cell as it is finished, diverged or failed."""
        if not self.workers:  # they were stopped in the middle of a plan
            self._start()
        for worker in self.workers:
            worker.send(plan)
        agenda = Agenda(plan, self.speeds, len(self.workers))
        with contextlib.closing(Leases(self.store)) as leases:
            try:
                yield from self._do(agenda, leases)
            finally:
                if any(worker.unit for worker in self.workers):
                    self.close()

    def _do(self, agenda: Agenda, leases: Leases) -> Iterator[CellResult]:
        sources = {cell.key: cell.source for cell in agenda.plan.cells}
        while not agenda.is_done or any(worker.unit for worker in self.workers):
            for worker in self.workers:
                free = worker.unit is None and worker.has_time
                if free and (unit := agenda.next(leases.take)):
                    worker.give(unit)
            if all(worker.unit is None for worker in self.workers):
                if not all(worker.has_time for worker in self.workers):
                    time_is_up()
                leases.wait_for(agenda.locked_out)
                continue
            for worker, message in self._hear():
                if isinstance(message, CellResult):
                    worker.done.add(message.cell)
                    source = sources[message.cell]
                    if agenda.finished(source):
                        leases.drop(source)
                        self.view.advance("trajectories")
                    yield message
                else:
                    self._note(worker, message, agenda, leases)

    def close(self) -> None:
        """Let each finish and save the step at hand; returns when all have ended."""
        for worker in self.workers:
            worker.halt()
        for worker in self.workers:
            worker.leave()
        self.workers = []

    def _hear(self) -> list[tuple[Worker, Message | Lost]]:
        """What workers say within a moment."""
        heard: list[tuple[Worker, Message | Lost]] = []
        with delay_signals():
            by_connection = {worker.connection: worker for worker in self.workers}
            for connection in wait(list(by_connection), LOOK_SECONDS):
                assert isinstance(connection, Connection)
                worker = by_connection[connection]
                try:
                    while connection.poll():
                        heard.append((worker, connection.recv()))
                except (EOFError, OSError):
                    heard.append((worker, Lost()))
        return heard

    def _note(
        self, worker: Worker, message: Message | Lost, agenda: Agenda, leases: Leases
    ) -> None:
        """What is heard, but for results."""
        match message:
            case Viewed():
                self._show(worker, message)
            case Reached(key, spent, last, error):
                if last:
                    worker.done.add(key)
                agenda.reached(key, spent, last, error)
            case Ended(among):
                self.among_references.update(among)
                unit, worker.unit = worker.unit, None
                self.view.rests(worker.number)
                if isinstance(unit, Train):
                    agenda.training -= 1
                if isinstance(unit, Reference) and agenda.drawn(unit):
                    leases.drop(unit.images.snapshot.source)
            case NoRoom():
                worker.unit, worker.has_time = None, False
                self.view.rests(worker.number)
            case Broken():
                raise _with_trace(message)
            case Lost():
                if worker.unit:
                    agenda.take_back(worker.unit, worker.done)
                self._lose(worker)
                leases.clear()

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

    def _lose(self, worker: Worker) -> None:
        """Go on without a worker; TrainingError where it was the last."""
        self.workers.remove(worker)
        self.view.workers = max(1, len(self.workers))
        self.view.rests(worker.number)
        worker.leave()
        if self.workers:
            self.view.say(f"worker {worker.number} {worker.end}; the other goes on")
            return
        raise TrainingError(
            f"worker {worker.number} {worker.end}, and no other is left; what is finished is "
            "in the store: run the same command again, with runtime.workers=1 if memory was short"
        )


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
