"""How far a sweep is that a command works on now: cells, steps, time left. Reads files alone."""

from __future__ import annotations

import os
import re
import socket
from collections import Counter
from collections.abc import Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from charsweep.actions.choose.shown import Shown, is_composed
from charsweep.actions.requests import Request, requests_of
from charsweep.core.errors import ConfigError
from charsweep.core.system.console import span
from charsweep.results.facts import failures
from charsweep.results.labels import axis_label, point_text

OWNER = re.compile(r"(\d+) on (.+)")
SURE_FROM = 0.05  # share of the work after which its own pace says more than the plan's


def progress_of(shown: Shown, folder: Path) -> dict[str, Any]:
    """For the page; the numbers are of what has been written so far."""
    sweep = shown.record.sweep
    states: Counter[str] = Counter(cell.state for cell in shown.record.cells)
    total = max(len(shown.record.cells), whole(sweep.plan.get("cells")))
    running = is_running(folder / ".lock")
    ended = sum(states.values()) - states["failed"]
    states["waiting"] = len(shown.waiting)
    left = time_left(shown, ended, total) if running else None
    return {
        "version": shown.version,
        "running": running,
        "finished": bool(sweep.finished) and not running,
        "ended": ended,
        "total": total,
        "states": {state: count for state, count in states.items() if count},
        "left": f"about {span(left)} left" if left is not None else "",
        "asked": [
            f"add {axis_label(one.axis)} {one.value}" if one.axis
            else f"stop {label_of(shown, one.stop)}"
            for one in asked_of(folder)
        ],
        "failures": [{"label": label, "state": state, "reason": reason}
                     for label, state, reason in failures(shown.record)],
    }  # fmt: skip


def asked_of(folder: Path) -> tuple[Request, ...]:
    """What was asked by hand; () where a file of that kind cannot be read: the command says it."""
    try:
        return requests_of(folder)
    except ConfigError:
        return ()


def label_of(shown: Shown, key: str) -> str:
    """A cell in words, whether it has a result or not."""
    cell = shown.waiting.get(key) or shown.cells.get(key)
    return point_text(cell.values, tuple(shown.record.axes)) if cell else key


def is_running(lock: Path) -> bool:
    """Whether the process that its lock file names is alive, and wrote it.

    The lock itself is not tried: a command that begins at that moment would wait for us.
    """
    try:
        owner = OWNER.fullmatch(lock.read_text(encoding="utf-8").strip())
        if owner is None:
            return False
        if owner[2] != socket.gethostname():
            return False  # of another machine's, nothing is known
        return bool(psutil.Process(int(owner[1])).create_time() <= lock.stat().st_mtime + 1)
    except (OSError, ValueError, psutil.Error):
        return False


def time_left(shown: Shown, ended: int, total: int) -> float | None:
    """Seconds; by the plan at first, then by the pace of the training steps."""
    sweep = shown.record.sweep
    if not sweep.started:
        return None
    elapsed = (datetime.now(UTC) - datetime.fromisoformat(sweep.started)).total_seconds()
    needed = whole(sweep.plan.get("steps_needed"))
    if not needed:
        share = ended / total if total else 0.0
    elif sweep.search:
        before = whole(sweep.plan.get("steps_asked")) - needed
        share = (steps_taken(shown.record.store, sweep.sources) - before) / needed
    else:
        share = share_trained(shown, needed)
    return seconds_left(elapsed, min(max(share, 0.0), 1.0), number(sweep.plan.get("seconds")))


def share_trained(shown: Shown, needed: int) -> float:
    """Of the training steps that a grid lacked at first, those that are taken by now; each
    trajectory's once, as far as any cell asks for."""
    ends: dict[str, int] = {}
    asked = [(cell.trajectory, cell.step) for cell in shown.record.cells]
    asked += [(cell.trajectory, cell.step) for cell in shown.waiting.values()]
    for name, step in asked:
        if not is_composed(name):
            ends[name] = max(step, ends.get(name, 0))
    taken = sum(min(rows_in(shown.record.store / name), end) for name, end in ends.items())
    return (taken - (sum(ends.values()) - needed)) / needed


def seconds_left(elapsed: float, share: float, planned: float) -> float:
    """What is left of work of which a share is done."""
    if share < SURE_FROM:
        return max(planned - elapsed, 0.0)
    return elapsed * (1 - share) / share


def steps_taken(store: Path, sources: Set[str]) -> int:
    """The rows of the loss files of these trajectories."""
    rows = 0
    try:
        entries = list(os.scandir(store))
    except OSError:
        return 0
    for entry in entries:
        if entry.name.rpartition("--")[2] in sources:
            rows += rows_in(Path(entry.path))
    return rows


def rows_in(trajectory: Path) -> int:
    """The steps that a trajectory's loss file tells of."""
    try:
        return max((trajectory / "loss.csv").read_bytes().count(b"\n") - 1, 0)
    except OSError:
        return 0


def whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
