"""Advisory file locks (flock): one process at a time works on a trajectory or a sweep.

The system lets go of a lock when its process dies, however it does, so that nobody has to find out
whether an owner is still alive.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from charsweep.core.system.signals import pause

LOOK_SECONDS = 0.1  # between two looks at a lock that another process holds


@contextlib.contextmanager
def locked(path: Path, what: str, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file; `what` says in a message what is waited for.

    Gives False at once, without the lock, where another process holds it and `wait` is not set.
    """
    with path.open("a+", encoding="utf-8") as file:
        if not _try(file):
            if not wait:
                yield False
                return
            sys.stderr.write(f"waiting for {what}, which {_owner(file)} works on\n")
            while not _try(file):
                pause(LOOK_SECONDS)
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield True


def _try(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(file: TextIO) -> str:
    file.seek(0)
    owner = file.read().strip().removesuffix(f" on {socket.gethostname()}")
    return f"process {owner}" if owner else "another process"
