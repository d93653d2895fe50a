"""The address of a SQLite file, and checks before its use: it may be held, a copy may be torn."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from pathlib import Path

from sqlalchemy import URL, make_url

from charsweep.core.errors import TrackingError
from charsweep.core.system.signals import pause

LOOK_SECONDS = 0.5  # between two looks at a file that another program holds


def address_of(path: Path) -> str:
    """The file as libraries are told of it, whatever letters its folders have."""
    return URL.create("sqlite", database=str(path)).render_as_string()


def path_in(address: str) -> Path | None:
    """The file that an address names; None for what is no SQLite file."""
    if not address.startswith("sqlite:///"):
        return None
    return Path(make_url(address).database or "")


def wait_until_free(path: Path) -> None:
    """Wait as long as another program holds the file: a sweep does not end for a browser of it."""
    if not path.exists():
        return
    said = False
    with contextlib.closing(sqlite3.connect(path, timeout=0.2, isolation_level=None)) as database:
        while True:
            try:
                database.execute("BEGIN IMMEDIATE")
                database.execute("ROLLBACK")
                return
            except sqlite3.Error as error:
                if "locked" not in str(error):
                    return  # what is wrong with it is said by whoever uses it
            if not said:
                sys.stderr.write(f"waiting for {path}, which another program has locked\n")
                said = True
            pause(LOOK_SECONDS)


def check_whole(path: Path) -> None:
    """TrackingError for a file that SQLite finds torn."""
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as database:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        found = str(error)
    if found != "ok":
        raise unusable(path, found)


def unusable(path: Path, reason: str) -> TrackingError:
    """The TrackingError that says why a study cannot be used, and what to do."""
    return TrackingError(
        f"cannot use the study {path}: {reason.splitlines()[0]}; mend that, or move the file away, "
        "and run the same command again: finished work is in the store"
    )
