"""Where a study is kept: in a SQLite file of the sweep's folder, or in PostgreSQL, for several.

On a server, one command at a time works on a study: it holds an advisory lock on a connection of
its own, which the server lets go of when that connection ends, however it does. So nobody has to
find out whether an owner is still alive, and trials need no heartbeat.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import Connection, NullPool, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from charsweep.config import Sweep
from charsweep.core.errors import ConfigError, TrackingError
from charsweep.core.store.files import replacing
from charsweep.core.system.redact import redacted
from charsweep.core.system.signals import pause
from charsweep.core.system.sqlite import address_of, check_whole, unusable, wait_until_free

FAILURES = (SQLAlchemyError, StorageInternalError)  # what a database that does not do raises
DRIVER = "postgresql+psycopg"
LOOK_SECONDS = 1.0  # between two looks at a server that does not answer
GRACE = 2.0  # seconds in which a server notices that a process was killed
PATIENCE = 600.0  # seconds that it is waited for
OPENING, STUDY = 0x63737730, 0x63737731  # the first of a lock's two numbers: what it is on
# What notices within a minute that the other side is gone: here, and on the server.
CONNECT = {"connect_timeout": 10, "keepalives_idle": 20, "keepalives_interval": 10,
           "keepalives_count": 3, "tcp_user_timeout": 50_000}  # fmt: skip
KEEP = ("set tcp_keepalives_idle = 20", "set tcp_keepalives_interval = 10",
        "set tcp_keepalives_count = 3")  # fmt: skip
HOLDER = """
    select application_name from pg_stat_activity join pg_locks using (pid)
    where locktype = 'advisory' and granted and objsubid = 2 and classid = :what
    and objid::bigint = hashtext(:name)::bigint & 4294967295
    and database = (select oid from pg_database where datname = current_database())
"""


class Place(Protocol):
    """Where one sweep's study is kept; its text says so to people, without a password."""

    is_shared: bool  # whether studies of others are kept there too

    def exists(self) -> bool:
        """Whether a study may be there already."""

    def hold(self) -> None:
        """Keep other commands away from the study; TrackingError says who has it."""

    def open(self) -> RDBStorage:
        """Optuna's storage there."""

    def wait(self) -> None:
        """Wait as long as it cannot be used; before much is asked or told."""

    def is_away(self) -> bool:
        """Whether it has gone while it was used, and may come back."""

    def unusable(self, reason: str) -> TrackingError:
        """The error that says why it cannot be used, and what to do."""

    def close(self) -> None:
        """Let others have the study."""


def place_of(sweep: Sweep) -> Place:
    """Where the sweep's settings say."""
    if sweep.settings.study:
        return Server(sweep.settings.study, sweep.name)
    return File(sweep.folder / "study.db")


class File:
    """A SQLite file; whoever holds the sweep's folder holds it."""

    is_shared = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        return self.path.exists()

    def hold(self) -> None: ...

    def open(self) -> RDBStorage:
        """TrackingError for a torn one.

        A new one is made under a temporary name: a process that is killed meanwhile would leave a
        file that Optuna can neither use nor mend.
        """
        if not self.path.exists():
            with replacing(self.path) as temporary:
                RDBStorage(address_of(temporary)).engine.dispose()
        wait_until_free(self.path)
        check_whole(self.path)
        return RDBStorage(address_of(self.path), engine_kwargs={"connect_args": {"timeout": 60}})

    def wait(self) -> None:
        wait_until_free(self.path)

    def is_away(self) -> bool:
        return False

    def unusable(self, reason: str) -> TrackingError:
        return unusable(self.path, reason)

    def close(self) -> None: ...


class Server:
    """A PostgreSQL database, whose studies are told apart by the names of their sweeps."""

    is_shared = True

    def __init__(self, address: str, name: str) -> None:
        self.url, self.name = make_url(address).set(drivername=DRIVER), name
        self._holding: Connection | None = None
        self._opened: list[RDBStorage] = []
        self._one_at_a_time = threading.RLock()  # trials are told on a thread of their own

    def __str__(self) -> str:
        return redacted(self.url.render_as_string())

    def exists(self) -> bool:
        return True

    def hold(self) -> None:
        connection = self._connect()
        try:
            for setting in KEEP:
                connection.execute(text(setting))
            lock = {"what": STUDY, "name": self.name}
            query = text("select pg_try_advisory_lock(:what, hashtext(:name))")
            end = time.monotonic() + GRACE
            while not connection.scalar(query, lock):
                if time.monotonic() > end:
                    raise self._held_by(connection.scalar(text(HOLDER), lock) or "another command")
                pause(GRACE / 10)
        except BaseException:
            connection.close()
            raise
        self._holding = connection

    def _held_by(self, holder: str) -> TrackingError:
        return TrackingError(
            f"the study {self.name} at {self} is worked on by {holder}; wait for its end, or begin "
            "another with name=NAME"
        )

    def open(self) -> RDBStorage:
        """Whatever is asked of it waits for a server that is away.

        Two commands at once do not make the tables of a new database.
        """
        with self._alone_in(OPENING):
            storage = RDBStorage(
                self.url.render_as_string(hide_password=False),
                engine_kwargs={"pool_pre_ping": True, "connect_args": CONNECT},
            )
        event.listen(storage.engine, "do_connect", lambda *_: self.wait())
        self._opened.append(storage)
        return storage

    def wait(self) -> None:
        """At most for `PATIENCE`; then the study is held again. TrackingError if another has it."""
        with self._one_at_a_time:
            if not self.is_away():
                return
            self._let_go()
            sys.stderr.write(f"waiting for {self}, which does not answer\n")
            end = time.monotonic() + PATIENCE
            while True:
                try:
                    self.hold()
                    return
                except DBAPIError as error:
                    if time.monotonic() > end:
                        raise self.unusable(reason_of(error)) from error
                pause(LOOK_SECONDS)

    def is_away(self) -> bool:
        with self._one_at_a_time:
            try:
                return self._holding is not None and self._holding.scalar(text("select 1")) != 1
            except SQLAlchemyError:
                return True

    def unusable(self, reason: str) -> TrackingError:
        return TrackingError(
            f"cannot use the study at {self}: {redacted(reason.splitlines()[0])}; mend that, and "
            "run the same command again: finished work is in the store"
        )

    def close(self) -> None:
        self._let_go()
        while self._opened:
            self._opened.pop().engine.dispose()

    def _let_go(self) -> None:
        with self._one_at_a_time:
            if self._holding is not None:
                self._holding.close()
            self._holding = None

    def _connect(self) -> Connection:
        """A connection by itself, which is shown on the server with this process and its host."""
        told = {**CONNECT, "application_name": f"process {os.getpid()} on {socket.gethostname()}"}
        engine = create_engine(
            self.url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=told
        )
        return engine.connect()

    @contextmanager
    def _alone_in(self, what: int) -> Iterator[None]:
        with self._connect() as connection:
            connection.execute(text("select pg_advisory_lock(:what, 0)"), {"what": what})
            yield


def check_driver(sweep: Sweep) -> None:
    """ConfigError where a study is to be kept on a server, and what speaks to it is absent."""
    if sweep.settings.study and find_spec("psycopg") is None:
        raise ConfigError(
            f"study={redacted(sweep.settings.study)} needs psycopg: "
            "pip install 'charsweep[postgres]'; study=null keeps study.db in the sweep's folder"
        )


def reason_of(error: Exception) -> str:
    """Why a database does not do, in its driver's own words."""
    own = error.orig if isinstance(error, DBAPIError) else error.__cause__
    own = own.orig if isinstance(own, DBAPIError) else own
    return str(own or error).strip() or type(error).__name__
