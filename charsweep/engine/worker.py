"""A process that does units of a plan for the head: a `LocalEngine` at the end of a pipe.

    head -> worker   the `Sweep` and the root; then plans, units, and "halt"
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
from charsweep.engine.messages import HALT, About, Broken, Ended, Message, Reached, Viewed
from charsweep.engine.units import Finish, Reference, Train, Unit
from charsweep.plan import Plan

if TYPE_CHECKING:
    from charsweep.engine.local import LocalEngine, TrainingNews

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
        with listening(aloud=False):
            sweep, root = connection.recv()
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
        with engine.short_of_memory(), contextlib.closing(do(unit, engine)) as messages:
            for message in messages:
                view.tell(message)
        view.tell(Ended(engine.among_references))


def do(unit: Unit, engine: LocalEngine) -> Generator[Message]:
    """Do one unit; what the head must know of it."""
    if isinstance(unit, Reference):
        engine.score(unit.scoring)
    elif isinstance(unit, Finish):
        yield from engine.finish(
            unit.trainings, {key: dict(known) for key, known in unit.spent.items()}, unit.errors
        )
    else:
        assert isinstance(unit, Train)
        told = set[tuple[str, int]]()
        with contextlib.closing(engine.train(unit.pack)) as trained:
            for news in trained:
                yield from _reached(news, told)


def _reached(news: TrainingNews, told: set[tuple[str, int]]) -> Iterator[Reached]:
    """Each second of training is told, and paid, once."""
    for key, spent in news.reached.items():
        yield Reached(key, spent)
        told |= {(key, step) for step in spent}
    for training in news.left:
        key = training.trajectory.key
        spent = {s: t for s, t in news.spent.get(key, {}).items() if (key, s) not in told}
        yield Reached(key, spent, True, news.errors.get(key))


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
