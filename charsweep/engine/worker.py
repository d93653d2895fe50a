"""A process that does units of a plan for the head: a `LocalEngine` at the end of a pipe.

    head -> worker   `Hello`; then plans, units, and "halt"
    worker -> head   `About`, then what its view and its engine tell, each as it happens

The head keeps the locks, the books and the order of things; a worker only fills the store: the
head's own, or on another machine a scratch store, whose entries it sends before it tells of them.
It ends when the pipe closes, at once and wherever it stands, so that none outlives a head that was
killed; "halt" lets it finish and save the step at hand, as a signal does. A terminal's signals do
not reach it: it has a session of its own. Started, not forked: torch's threads do not survive a
fork.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charsweep.config import Sweep
from charsweep.config.pack_width import FILE as WIDTHS
from charsweep.core.errors import CharsweepError, ConfigError, ModelsError
from charsweep.core.specs import Source
from charsweep.core.store import Store
from charsweep.core.store.files import clear_half_written, machine
from charsweep.core.system.locks import locked
from charsweep.core.system.signals import Stopped, delay_signals, listening
from charsweep.engine.copies import Copies, drawings_at, sources_of, stored, teaching_at
from charsweep.engine.messages import (
    HALT,
    About,
    Broken,
    Done,
    Ended,
    Fetch,
    Hello,
    Measure,
    Message,
    NoRoom,
    Piece,
    Reached,
    Viewed,
)
from charsweep.engine.units import Finish, Reference, Unit
from charsweep.models.families import Family
from charsweep.models.weights import Weights, find_weights
from charsweep.plan import Plan, Speeds
from charsweep.results import CellResult

if TYPE_CHECKING:
    from charsweep.engine.local import LocalEngine

SECONDS = 0.2  # for which steps are gathered into one message
STATES = 5  # of so many resume states that are written, the head gets one
SHARE = 20  # times as long as sending them took, they are not sent again


class HeldStore(Store):
    """The store of a worker, whose head holds the locks."""

    @contextlib.contextmanager
    def lock(self, spec: Source, *, wait: bool = True) -> Iterator[bool]:
        yield True


class Relay:
    """A `View` that passes everything on to the head's; before that, from a scratch store, what
    the head's lacks."""

    def __init__(self, connection: Connection) -> None:
        self.now, self.is_stopped = "", False
        self.copies: Copies | None = None  # of a scratch store
        self.state_seconds = 0.0  # between two resume states that are sent
        self.sources: Iterable[Source] = ()  # of the unit at hand
        self._connection = connection
        self._steps: list[tuple[float, float]] = []
        self._sent = self._stated = time.monotonic()

    def tell(self, message: Message) -> None:
        """Send a message, after the steps before it."""
        self._flush()
        self._send(message)

    def send_stored(self, states: bool) -> None:
        """Send what has been stored, resume states if wanted; nothing where the store is shared."""
        if self.copies is None:
            return
        store, started = self.copies.store, time.monotonic()
        for source in self.sources:
            for piece in self.copies.pieces(stored(store.source(source), states)):
                self._send(piece)
        if states:  # large ones less often
            now = time.monotonic()
            self._stated = now + SHARE * (now - started)

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
        if time.monotonic() - self._stated > self.state_seconds:
            self.send_stored(states=True)

    def advance(self, name: str, count: int = 1, seconds: float = 0.0) -> None:
        self.tell(Viewed("advance", (name, count, seconds)))

    def _flush(self) -> None:
        if self._steps:
            self._send(Viewed("steps", tuple(self._steps)))
            self._steps.clear()
        self._sent = time.monotonic()

    def _send(self, message: Message) -> None:
        """All of a message: half of one would spoil those after it."""
        with contextlib.nullcontext() if self.is_stopped else delay_signals():
            self._connection.send(message)


def main(descriptor: int) -> int:
    """Work until the head closes the pipe or says "halt"; the exit code."""
    connection = Connection(descriptor)
    view = Relay(connection)
    try:
        hello: Hello = connection.recv()
        end = None if hello.left is None else time.monotonic() + hello.left
        with listening(aloud=False, end=end), at_home(hello, view) as (sweep, store):
            units: queue.SimpleQueue[Any] = queue.SimpleQueue()
            told = (connection, view.copies, units)
            threading.Thread(target=listen, args=told, daemon=True).start()
            work(sweep, store, view, units)
    except (Stopped, EOFError, BrokenPipeError, ConnectionResetError):
        pass
    except BaseException as error:
        _tell_broken(view, error)
        return 1
    return 0


def listen(connection: Connection, copies: Copies | None, units: queue.SimpleQueue[Any]) -> None:
    """Hear the head while the main thread works."""
    while True:
        try:
            said = connection.recv()
        except (EOFError, OSError):
            os._exit(1)
        if isinstance(said, Piece):
            assert copies is not None
            try:
                copies.take(said)
                continue
            except Exception as error:  # the disk is full: the main thread tells of it
                said = error
        if said == HALT:
            os.kill(os.getpid(), signal.SIGTERM)
        units.put(said)


def work(sweep: Sweep, store: Store, view: Relay, units: queue.SimpleQueue[Any]) -> None:
    """Do what comes, one after the other."""
    from charsweep.engine.local import LocalEngine

    engine = LocalEngine(sweep, store, view)
    states = {}
    if view.copies:
        folders = (path.parents[2] for path in store.folder.glob("*/resume/step-*/resume.json"))
        states = {folder.name: _last_state(folder) for folder in folders}
    view.tell(About(engine.environment, states))
    while (unit := units.get()) != HALT:
        if isinstance(unit, Exception):
            raise unit
        if isinstance(unit, Plan):
            engine.prepare(unit)
            continue
        if isinstance(unit, Fetch):
            assert view.copies
            for piece in view.copies.fetched(unit.entry):
                view.tell(piece)
            continue
        if isinstance(unit, Measure):
            measure(unit, sweep, store, view)
            continue
        view.sources, before = sources_of(unit), Speeds(store).known
        try:
            with engine.short_of_memory(), contextlib.closing(do(unit, engine)) as messages:
                for message in messages:
                    view.send_stored(states=isinstance(message, Reached) and message.last)
                    view.tell(message)
        except Stopped as stopped:
            if not stopped.is_time_up:
                raise
            view.is_stopped = True
            view.tell(NoRoom())
        else:
            view.send_stored(states=False)
            measured = dict(Speeds(store).known.items() - before.items()) if view.copies else {}
            view.tell(Ended(engine.among_references, measured))


def measure(unit: Measure, sweep: Sweep, store: Store, view: Relay) -> None:
    """Measure widths of packs, and send them."""
    from charsweep.engine.measure_pack_width import measure_width

    assert view.copies
    for spec in unit.specs:
        measure_width(sweep, spec, store, view.say)
    for piece in view.copies.pieces([store.folder / WIDTHS]):
        view.tell(piece)


def _last_state(folder: Path) -> int:
    return max(int(path.name.removeprefix("step-")) for path in folder.glob("resume/step-*"))


def do(unit: Unit, engine: LocalEngine) -> Generator[Message]:
    """Do one unit; what the head must know of it."""
    if isinstance(unit, Reference):
        for scoring in unit.scorings:
            engine.score(scoring)
    elif isinstance(unit, Finish):
        spent = {key: dict(known) for key, known in unit.spent.items()}
        for result in engine.finish(unit.trainings, spent, unit.errors):
            yield _done(result)
    else:
        with contextlib.closing(engine.packs.train(unit.pack)) as told:
            for news in told:
                left = {training.trajectory.key for training in news.left}
                for key in news.spent.keys() | left:
                    known, error = news.spent.get(key, {}), news.errors.get(key)
                    yield Reached(key, known, key in left, error)


def _done(result: CellResult) -> Done:
    return Done(result.cell, result.paid_seconds, result.error)


# -- a worker's own place --------------------------------------------------------------------------


@contextlib.contextmanager
def at_home(hello: Hello, view: Relay) -> Iterator[tuple[Sweep, Store]]:
    """The sweep with what it needs as it lies here, and the store to fill: the head's, or a scratch
    store, which goes at the end if all of it was sent."""
    if hello.root is not None:
        yield hello.sweep, HeldStore(hello.root)
        return
    with scratch_store(hello) as store:
        runtime = hello.sweep.settings.runtime
        view.copies = copies = Copies(store, most_bytes=hello.most_bytes)
        view.state_seconds = STATES * runtime.resume_seconds
        try:
            yield moved(hello, store), store
        except Stopped:
            view.is_stopped = True
            view.send_stored(states=True)
            if not copies.keeps:
                shutil.rmtree(store.root / "sweeps", ignore_errors=True)
            raise


@contextlib.contextmanager
def scratch_store(hello: Hello) -> Iterator[Store]:
    """The first scratch store for this head's store that no other worker of the machine uses.

    Its lock stays: a file that others may have opened must not be deleted.
    """
    home = Path(tempfile.gettempdir()) / f"charsweep-{os.getuid()}"
    home = hello.scratch.expanduser() if hello.scratch else home
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if home.stat().st_uid != os.getuid():
        raise ConfigError(
            f"runtime.scratch: {home} belongs to somebody else; set runtime.scratch to a folder of "
            "your own"
        )
    for number in itertools.count(1):
        root = home / hello.name / str(number)
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / ".lock", f"{root}", wait=False) as ours:
            if ours:
                clear_half_written(root)
                yield HeldStore(root)
                return


def moved(hello: Hello, store: Store) -> Sweep:
    """The sweep with this machine's weights, and the drawings that are sent."""
    sweep, is_elsewhere = hello.sweep, hello.machine != machine()
    if is_elsewhere:
        made = store.made_weights
        bases = {
            key: replace(
                base,
                pipeline=found_here(base.pipeline, made, base.family),
                vae=base.vae and found_here(base.vae, made),
            )
            for key, base in sweep.bases.items()
        }
        encoders = {spec: found_here(own, made) for spec, own in sweep.encoders.items()}
        taught_on = teaching_at(store.root, sweep.teaching_adapters)
        sweep = replace(sweep, bases=bases, encoders=encoders, teaching_adapters=taught_on)
    vars(sweep)["drawings"] = drawings_at(store.root, hello.sweep.drawings)
    return sweep


def found_here(weights: Weights, made: Path, family: Family | None = None) -> Weights:
    """The same weights on this machine; ModelsError where they are others, or none."""
    is_path = weights.source == "disk" and not weights.name.startswith("embedded:")
    name = str(weights.path) if is_path else weights.name
    here = find_weights(name, weights.what, made, weights.variant or None, family)
    if here.digest != weights.digest:
        raise ModelsError(
            f"{name} holds other weights on {os.uname().nodename} than where the command is run; "
            "put the same files there"
        )
    return here


def _tell_broken(view: Relay, error: BaseException) -> None:
    """The error itself, or where it cannot be sent, its words; of another machine, which."""
    trace = traceback.format_exc()
    if view.copies and isinstance(error, CharsweepError):
        where = f"on {os.uname().nodename}, whose scratch store is {view.copies.store.root}"
        error = type(error)(f"{where} (runtime.scratch): {error}")
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
