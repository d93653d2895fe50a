"""What a worker tells its head; both know it by this module, whichever of them is the program.

It is pickled, which is safe between a command and the processes that it started itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from charsweep.results import CellResult

HALT = "halt"


@dataclass(frozen=True)
class About:
    """The machine and the versions that a worker has found."""

    environment: Mapping[str, Any]


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
class Ended:
    """A unit is done; of each measure that was used, its references' scores among themselves."""

    among: Mapping[tuple[object, ...], dict[str, float]]


@dataclass(frozen=True)
class NoRoom:
    """What comes next would not be done before the time limit: the worker stops there."""


@dataclass(frozen=True)
class Broken:
    """What went wrong, and its traceback."""

    error: BaseException
    trace: str


Message = About | Viewed | Reached | CellResult | Ended | NoRoom | Broken
