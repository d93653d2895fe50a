"""Handlers of SIGINT, SIGTERM and SIGHUP: an orderly end; a second signal ends at once.

What is on disk is whole at every instant (see `store`), so most work is broken off where it stands:
`Stopped` is raised there. What must come to the end of its step first is `held`, and `Stopped` is
raised behind it. The second signal is the system's own: it ends even a call that never returns.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHOW_CURSOR = "\x1b[?25h"  # a live view hides it, and the second signal leaves no time to show it


class Stopped(KeyboardInterrupt):
    """Somebody asked for the end; not an `Exception`, so that nothing goes on after it."""

    def __init__(self, number: int) -> None:
        self.name = signal.Signals(number).name
        super().__init__(self.name)
        self.code = 128 + number  # as a shell has it


class _Request:
    """What this process has been asked: signals are the process's own, and so is this."""

    number: int | None = None
    held = False
    aloud = True


_request = _Request()


@contextlib.contextmanager
def listening(aloud: bool = True) -> Iterator[None]:
    """Take the signals that ask for an end, but for those that are ignored on purpose (nohup).

    Of several processes that a launcher started, one answers `aloud`.
    """
    _request.number, _request.held, _request.aloud = None, False, aloud
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
    held = "; the step at hand is finished and saved first" if _request.held else ""
    shown = SHOW_CURSOR if os.isatty(2) else ""
    words = f"{shown}\nstopping ({signal.Signals(number).name}){held}; once more stops at once\n"
    if _request.aloud:
        with contextlib.suppress(OSError):  # the terminal may be gone
            os.write(2, words.encode())
    if not _request.held:
        check()


def check() -> None:
    """Raise `Stopped` if somebody has asked for the end."""
    if _request.number is not None:
        raise Stopped(_request.number)


@contextlib.contextmanager
def delay_signals() -> Iterator[None]:
    """Let the block come to its end before `Stopped` is raised."""
    check()
    _request.held = True
    try:
        yield
    finally:
        _request.held = False
    check()


def pause(seconds: float) -> None:
    """Wait; also where the end is held back."""
    time.sleep(seconds)
    check()
