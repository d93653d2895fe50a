"""A process that does units of a plan for the head: a `LocalEngine` at the end of a pipe.

    head -> worker   the `Sweep`, the root and the deadline; then plans, units, and "halt"
    worker -> head   `About`, then what its view and its engine tell, each as it happens

The head keeps the locks, the books and the order of things; a worker only fills the store. It ends
when the pipe closes, at once and wherever it stands, so that none outlives a head that was killed;
"halt" lets it finish and save the step at hand, as a signal does. A terminal's signals do not reach
it: it has a session of its own. Started, not forked: torch's threads do not survive a fork.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Generator, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charsweep.config import Sweep
from charsweep.core.specs import Source
from charsweep.core.store import Store
from charsweep.core.system.signals import Stopped, listening
from charsweep.engine.messages import HALT, About, Broken, Ended, Message, NoRoom, Reached, Viewed
from charsweep.engine.units import Finish, Reference, Unit
from charsweep.plan import Plan

if TYPE_CHECKING:
    from charsweep.engine.local import LocalEngine

SECONDS = 0.2  # for which steps are gathered into one message


class HeldStore(Store):
    """The store of a worker, whose head holds the locks."""

    @contextlib.contextmanager
    def lock(self, spec: Source, *, wait: bool = True) -> Iterator[bool]:
        yield True


class Relay:
    """A `View` that passes everything on to the head's."""

    def __init__(self, connection: Connection) -> None:
        self.now = ""
        self._connection = connection
        self._steps: list[tuple[float, float]] = []
        self._sent = time.monotonic()

    def tell(self, message: Message) -> None:
        """Send a message, after the steps before it."""
        self._flush()
        self._connection.send(message)

    def expect(self, **totals: int) -> None:
        self.tell(Viewed("expect", tuple(totals.items())))

    def doing(self, what: str) -> None:
        self.now = what
        self.tell(Viewed("doing", (what,)))

    def say(self, text: str) -> None:
        self.tell(Viewed("say", (text,)))

    def step(self, seconds: float, loss: float) -> None:
        self._steps.append((seconds, loss))
        if time.monotonic() - self._sent > SECONDS:
            self._flush()

    def advance(self, name: str, count: int = 1, seconds: float = 0.0) -> None:
        self.tell(Viewed("advance", (name, count, seconds)))

    def _flush(self) -> None:
        if self._steps:
            self._connection.send(Viewed("steps", tuple(self._steps)))
            self._steps.clear()
        self._sent = time.monotonic()


def main(descriptor: int) -> int:
    """Work until the head closes the pipe or says "halt"; the exit code."""
    connection = Connection(descriptor)
    view = Relay(connection)
    units: queue.SimpleQueue[Any] = queue.SimpleQueue()
    try:
        sweep, root, end = connection.recv()
        with listening(aloud=False, end=end):
            threading.Thread(target=listen, args=(connection, units), daemon=True).start()
            work(sweep, root, view, units)
    except (Stopped, EOFError, BrokenPipeError, ConnectionResetError):
        pass
    except BaseException as error:
        _tell_broken(view, error)
        return 1
    return 0


def listen(connection: Connection, units: queue.SimpleQueue[Any]) -> None:
    """Hear the head while the main thread works."""
    while True:
        try:
            said = connection.recv()
        except (EOFError, OSError):
            os._exit(1)
        if said == HALT:
            os.kill(os.getpid(), signal.SIGTERM)
        units.put(said)


def work(sweep: Sweep, root: Path, view: Relay, units: queue.SimpleQueue[Any]) -> None:
    """Do what comes, one after the other."""
    from charsweep.engine.local import LocalEngine

    engine = LocalEngine(sweep, HeldStore(root), view)
    view.tell(About(engine.environment))
    while (unit := units.get()) != HALT:
        if isinstance(unit, Plan):
            engine.prepare(unit)
            continue
        try:
            with engine.short_of_memory(), contextlib.closing(do(unit, engine)) as messages:
                for message in messages:
                    view.tell(message)
        except Stopped as stopped:
            if not stopped.is_time_up:
                raise
            view.tell(NoRoom())
        else:
            view.tell(Ended(engine.among_references))


def do(unit: Unit, engine: LocalEngine) -> Generator[Message]:
    """Do one unit; what the head must know of it."""
    if isinstance(unit, Reference):
        for scoring in unit.scorings:
            engine.score(scoring)
    elif isinstance(unit, Finish):
        yield from engine.finish(
            unit.trainings, {key: dict(known) for key, known in unit.spent.items()}, unit.errors
        )
    else:
        with contextlib.closing(engine.packs.train(unit.pack)) as told:
            for news in told:
                left = {training.trajectory.key for training in news.left}
                for key in news.spent.keys() | left:
                    spent, error = news.spent.get(key, {}), news.errors.get(key)
                    yield Reached(key, spent, key in left, error)


def _tell_broken(view: Relay, error: BaseException) -> None:
    """The error itself, or where it cannot be sent, its words."""
    trace = traceback.format_exc()
    with contextlib.suppress(OSError):
        try:
            view.tell(Broken(error, trace))
        except OSError:
            raise
        except Exception:
            view.tell(Broken(RuntimeError(f"{type(error).__name__}: {error}"), trace))


if __name__ == "__main__":
    code = main(int(sys.argv[1]))
    sys.stderr.flush()
    os._exit(code)  # everything is on disk; torch's threads would take their time
