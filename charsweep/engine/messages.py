"""What a worker and its head tell each other; both know it by this module, whoever is the program.

It is pickled, which is safe between a command and the processes that it started itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charsweep.config import Sweep
    from charsweep.core.specs import TrajectorySpec

HALT = "halt"


# -- head to worker, who is then given plans and units ---------------------------------------------


@dataclass(frozen=True)
class Hello:
    """What a worker begins with."""

    sweep: Sweep
    left: float | None  # seconds until the time is up; None: it has no end
    root: Path | None  # of the head's store; None: the worker has one of its own, a scratch store
    scratch: Path | None = None  # the folder for that; None: the machine's temporary one
    name: str = ""  # of the head's store: a scratch store of that name is used again
    machine: tuple[str, str] = ("", "")  # the head's
    most_bytes: float = math.inf  # of a snapshot that is sent; larger ones stay


@dataclass(frozen=True)
class Measure:
    """How many trials like these share a pass best: to be measured where they will be trained."""

    specs: tuple[TrajectorySpec, ...]


@dataclass(frozen=True)
class Fetch:
    """A snapshot that stayed with the worker is wanted: its path below the root of the store."""

    entry: str


# -- worker to head --------------------------------------------------------------------------------


@dataclass(frozen=True)
class About:
    """The machine and the versions that a worker has found; the last steps of the resume states
    that its scratch store has, by the folder of their trajectory."""

    environment: Mapping[str, Any]
    states: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Viewed:
    """A call of the head's view."""

    name: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Reached:
    """A trajectory's snapshots that are stored, with the seconds that led to each.

    `last`: it has left; `error`: before its end, and why.
    """

    key: str
    spent: Mapping[int, float]
    last: bool = False
    error: str | None = None


@dataclass(frozen=True)
class Done:
    """A cell whose result can be put together, what it cost, and why it failed, if it has."""

    cell: str
    seconds: float
    error: str | None


@dataclass(frozen=True)
class Ended:
    """A unit is done; of each measure that was used, its references' scores among themselves.

    `speeds`: what a scratch store has measured anew.
    """

    among: Mapping[tuple[object, ...], dict[str, float]]
    speeds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class NoRoom:
    """What comes next would not be done before the time limit: the worker stops there."""


@dataclass(frozen=True)
class Broken:
    """What went wrong, and its traceback."""

    error: BaseException
    trace: str


@dataclass(frozen=True)
class Lost:
    """What is heard of a worker that has ended: how, in words."""

    how: str


# -- both ways, between a head and a scratch store -------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """Bytes to be added to the files of an entry, a folder or a file that appears at once.

    `entry` is a path below the root of the store; the files have names within it, "" where it is
    one itself. `ends`: that was all of it.
    """

    entry: str
    data: tuple[tuple[str, bytes], ...]
    ends: bool


Message = About | Viewed | Reached | Done | Ended | NoRoom | Broken | Lost | Piece
