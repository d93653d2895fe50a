"""Ray as programs see it: on loopback alone, nodes that come and go, and nothing left running.

Every process that is started here, and all that these start, has `MARK` in its environment: so they
are found, whatever session or parent they have.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

MARK = "CHARSWEEP_TEST_OF"
SHORT = {  # health checks on the head: a node is given up after 2 to 3 seconds, not after a minute
    "RAY_health_check_initial_delay_ms": "1000", "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000", "RAY_health_check_failure_threshold": "2",
}  # fmt: skip


class Place:
    """A network of its own with nothing but loopback, where this machine allows it, and a token."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)
        self.folder = Path(tempfile.mkdtemp(prefix="r-", dir="/tmp"))  # a socket's path is short
        self.environment = {
            MARK: self.mark, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1",
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "10", **SHORT,
        }  # fmt: skip
        self.prefix: list[str] = []
        self.started: list[subprocess.Popen[bytes]] = []
        holder = self.popen(["unshare", "--net", "sh", "-c", "ip link set lo up && sleep 9999"])
        time.sleep(0.3)
        if holder.poll() is None:
            self.prefix = ["nsenter", f"--net=/proc/{holder.pid}/ns/net", "--"]

    def popen(
        self, words: Sequence[str], log: Path | None = None, **more: str
    ) -> subprocess.Popen[bytes]:
        """A program in this place, in a session of its own."""
        with (log or Path(os.devnull)).open("ab") as file:
            started = subprocess.Popen(
                [*self.prefix, *words], stdout=file, stderr=file, stdin=subprocess.DEVNULL,
                start_new_session=True, env={**os.environ, **self.environment, **more},
            )  # fmt: skip
        self.started.append(started)
        return started

    def command(self, words: Sequence[str], log: Path, **more: str) -> subprocess.Popen[bytes]:
        """`python -m charsweep`."""
        return self.popen([sys.executable, "-m", "charsweep", *words], log, **more)

    def node(self, *words: str, again: bool = True) -> subprocess.Popen[bytes]:
        """`ray start --block`, once it is up; one after the other, or they trip over each other.

        On a busy machine Ray gives itself up after half a minute: tried once more.
        """
        log = self.folder / f"{secrets.token_hex(2)}.log"
        started = self.popen(
            [str(Path(sys.executable).with_name("ray")), "start", "--block",
             "--disable-usage-stats", "--object-store-memory=100000000",
             f"--temp-dir={self.folder}", *words], log,
        )  # fmt: skip
        while "Ray runtime started" not in log.read_text():
            if started.poll() is not None:
                assert again, log.read_text()
                return self.node(*words, again=False)
            time.sleep(0.2)
        return started

    def processes(self) -> list[psutil.Process]:
        """All that run in this place."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                is_ours = process.environ().get(MARK) == self.mark
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def named(self, *words: str) -> list[psutil.Process]:
        """Those with these words in their command line."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                line = " ".join(process.cmdline())
                if all(word in line for word in words):
                    found.append(process)
        return found

    def below(self, node: subprocess.Popen[bytes]) -> list[psutil.Process]:
        """The processes of a node, the actors and workers on it too."""
        return psutil.Process(node.pid).children(recursive=True)

    def close(self) -> None:
        """End whatever is left."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)
                process.kill()
        for started in self.started:
            started.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def place() -> Iterator[Place]:
    here = Place()
    try:
        yield here
    finally:
        here.close()
