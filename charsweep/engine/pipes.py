"""Workers of this machine: processes, each at the end of a pair of connected sockets.

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
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from charsweep.core.system.signals import delay_signals
from charsweep.engine.messages import HALT, Hello, Lost, Message

LOOK_SECONDS = 0.2  # between two looks at whether somebody asks for the end


class Process:
    """A worker's process, and this end of its pipe."""

    def __init__(self, threads: int | None) -> None:
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
                    **({"OMP_NUM_THREADS": str(threads)} if threads else {}),
                },
                start_new_session=True,
            )
        self.connection = Connection(ours.detach())
        self.place = ""

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, said: Any) -> None:
        """Say something, and all of it; what has ended meanwhile is noticed elsewhere."""
        with delay_signals(), contextlib.suppress(OSError):
            self.connection.send(said)

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


class Pipes:
    """Starts so many workers here, once."""

    shares_store, replaces, on_cpu = True, False, True
    why_nobody = "workers are starting"

    def __init__(self, count: int, threads: int) -> None:
        self.count, self.threads = count, threads
        self.started = 0

    def hire(self, hello: Hello) -> list[Process]:
        """All workers, while all import what they need; none if they have been started."""
        new = [Process(self.threads) for _ in range(self.count - self.started)]
        self.started += len(new)
        for process in new:
            process.send(hello)
        return new

    def hear(self, links: Sequence[Process]) -> list[tuple[Process, Message]]:
        """What they say within a moment."""
        heard: list[tuple[Process, Message]] = []
        by_connection = {link.connection: link for link in links}
        for connection in wait(list(by_connection), LOOK_SECONDS):
            assert isinstance(connection, Connection)
            link = by_connection[connection]
            try:
                while connection.poll():
                    heard.append((link, connection.recv()))
            except (EOFError, OSError):
                heard.append((link, Lost(link.end)))
        return heard

    def leaving(self, links: Sequence[Process]) -> list[Process]:
        """This machine stays."""
        return []

    def close(self) -> None:
        """All have been let go of; others can be started."""
        self.started = 0
