"""An orderly end for SIGINT, SIGTERM, SIGHUP and a time limit; a second signal ends at once.

What is on disk is whole at every instant (see `store`), so most work is broken off where it stands:
`Stopped` is raised there. What must come to the end of its step first is `held`, and `Stopped` is
raised behind it. The second signal is the system's own: it ends even a call that never returns.

A time limit is an alarm (SIGALRM), so that it reaches whatever takes long, a step, a download or a
report. Rejected: looking at the clock between two pieces of work, of which one may take minutes.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ASKED = signal.SIGUSR1  # of a program to itself: something is asked of it in a file
LOOK_SECONDS = 1.0  # between two looks at what may be asked
MORE_TO_DO = 75  # exit code of one whose time is up: EX_TEMPFAIL of sysexits.h, "try again"
SHOW_CURSOR = "\x1b[?25h"  # a live view hides it, and the second signal leaves no time to show it


class Stopped(KeyboardInterrupt):
    """Somebody asked for the end; not an `Exception`, so that nothing goes on after it."""

    def __init__(self, number: int) -> None:
        self.is_time_up = number == signal.SIGALRM
        self.is_asked = number == ASKED  # to begin anew with what is asked
        self.name = name_of(number)
        super().__init__(self.name)
        self.code = MORE_TO_DO if self.is_time_up else 128 + number  # as a shell has it


def name_of(number: int) -> str:
    """What has asked for the end."""
    if number == ASKED:
        return "a request"
    return "runtime.stop_after" if number == signal.SIGALRM else signal.Signals(number).name


class _Request:
    """What this process has been asked: signals are the process's own, and so is this."""

    number: int | None = None
    began = time.monotonic()  # the command at hand
    end: float | None = None  # of its time, on the same clock
    held = False
    aloud = True


_request = _Request()


@contextlib.contextmanager
def listening(aloud: bool = True, end: float | None = None) -> Iterator[None]:
    """Take the signals that ask for an end, but for those that are ignored on purpose (nohup).

    Of several processes that a launcher started, one answers `aloud`. `end` is the `deadline` of
    another process, whose alarm is not this one's.
    """
    _request.number, _request.held, _request.aloud = None, False, aloud
    _request.began, _request.end = time.monotonic(), end
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    taken = {number: how for number, how in before.items() if how is not signal.SIG_IGN}
    for number in taken:
        signal.signal(number, _hear)
    try:
        yield
    finally:
        for number, how in taken.items():
            signal.signal(number, how)


def _hear(number: int, _: FrameType | None) -> None:
    for other in SIGNALS:
        if signal.getsignal(other) is _hear:
            signal.signal(other, signal.SIG_DFL)
    _request.number = number
    _tell(number, SHOW_CURSOR if os.isatty(2) else "", "; once more stops at once")
    if not _request.held:
        check()


def _ring(number: int, _: FrameType | None) -> None:
    if _request.number is not None:  # it is ending already
        return
    _request.number = number
    _tell(number)
    if not _request.held:
        check()


def _tell(number: int, before: str = "", after: str = "") -> None:
    held = "; the step at hand is finished and saved first" if _request.held else ""
    words = f"{before}\nstopping ({name_of(number)}){held}{after}\n"
    if _request.aloud:
        with contextlib.suppress(OSError):  # the terminal may be gone
            os.write(2, words.encode())


def check() -> None:
    """Raise `Stopped` if somebody has asked for the end."""
    if _request.number is not None:
        raise Stopped(_request.number)


@contextlib.contextmanager
def delay_signals() -> Iterator[None]:
    """Let the block come to its end before `Stopped` is raised; of blocks within, the outermost."""
    if _request.held:
        yield
        return
    check()
    _request.held = True
    try:
        yield
    finally:
        _request.held = False
    check()


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise `Stopped` in the block so many seconds after the command's start; None: never.

    One within another is the earlier one.
    """
    outer = _request.end
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _request.end = min(_request.began + seconds, outer or math.inf)
    before = signal.signal(signal.SIGALRM, _ring)
    other, entered = signal.setitimer(signal.ITIMER_REAL, _left(_request.end))[0], time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        _request.end = outer
        if _request.number == signal.SIGALRM:
            _request.number = None
        if other:  # somebody's alarm, or the limit around this one
            signal.setitimer(signal.ITIMER_REAL, _left(entered + other))


@contextlib.contextmanager
def stopped_when(condition: Callable[[], bool]) -> Iterator[None]:
    """Raise `Stopped` in the block soon after a condition holds, which is asked for in a thread."""
    main = threading.main_thread()
    if threading.current_thread() is not main:
        yield
        return
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            if condition():
                signal.pthread_kill(main.ident or 0, ASKED)
                return

    before = signal.signal(ASKED, _ring)
    looking = threading.Thread(target=look, name="requests", daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()
        signal.signal(ASKED, before)
        if _request.number == ASKED:
            _request.number = None


def _left(end: float) -> float:
    """Seconds until a time, for an alarm: never none at all, which would be no alarm."""
    return max(end - time.monotonic(), 1e-3)


def deadline() -> float | None:
    """When the time is up, on the clock that all processes of a machine share; None: never."""
    return _request.end


def check_room(seconds: float) -> None:
    """Raise `Stopped` if what takes so long would not come to its end within the time limit."""
    if _request.end is not None and time.monotonic() + seconds > _request.end:
        time_is_up()


def time_is_up() -> None:
    """Raise `Stopped` as if the time limit had been reached."""
    _ring(signal.SIGALRM, None)
    check()


def pause(seconds: float) -> None:
    """Wait; also where the end is held back."""
    time.sleep(seconds)
    check()
