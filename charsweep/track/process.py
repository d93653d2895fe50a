"""The tracker: a process of its own that logs finished cells to MLflow beside the work.

`run.py` only starts that process and says when nothing more will come. The process reads what is
on disk anyhow (`sweep.json`, `cells.jsonl`, the store), so the same code follows a sweep that
runs, catches up after `kill -9`, and rebuilds MLflow from a finished sweep:

    python -m charsweep.track sweeps/lr_grid

Rejected: logging from the training loop (importing MLflow takes 4 s, and 1,400 cells with 2,000
losses each are minutes of SQLite) and MLflow's asynchronous logging (it does not batch, and what it
had not written dies with the process).

MLflow may go away meanwhile and come back: the sweep does not wait for it, the process tries again
until the sweep has ended, and what is still missing then is delivered by the next command, or by
the line above. Nothing has to be kept for that: the store is the buffer, `runs.json` the receipt.

The two talk through a pipe: a byte means that no more cells will come, its closing that the
parent is gone. So a parent that is killed, even by `kill -9`, stops its tracker after the cell at
hand, and the next run goes on from there.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import Self

from charsweep.core.errors import CharsweepError, TrackingError
from charsweep.core.store.files import read_json, unwritable
from charsweep.core.system.console import out
from charsweep.core.system.locks import locked
from charsweep.core.system.redact import redacted
from charsweep.results import CellResult, read_results
from charsweep.track.server import AGAIN, UnreachableError, hush, public, reach, tracking_uri

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds between two tries to reach MLflow
# What MLflow's own clients read; a sweep has an experiment of its own, and each cell a run.
IGNORED = ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID")
LAST_PATIENCE = 30.0  # seconds: how long a sweep that has ended waits for one that went away


def start(
    sweep_folder: Path, store_folder: Path, uri: str | None = None, niceness: int = 10
) -> Tracker:
    """Start following `cells.jsonl`; returns at once. `uri` as configured, if it is."""
    sweep_folder, store_folder = sweep_folder.resolve(), store_folder.resolve()
    uri = tracking_uri(sweep_folder.parent.parent, uri)
    for name in IGNORED:
        if value := os.environ.get(name):
            out(f"{name}={value} is ignored: a sweep is the experiment of its own name, name=")
    command = [sys.executable, "-m", "charsweep.track", "--follow", f"--nice={niceness}"]
    path = sweep_folder / "tracking.log"
    try:
        log = path.open("wb")
    except OSError as error:
        raise unwritable(path, error) from error
    with log:
        process = subprocess.Popen(
            [*command, str(sweep_folder), str(store_folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, "MLFLOW_TRACKING_URI": uri},  # not in `ps`: may hold a password
            start_new_session=True,  # Ctrl-C is for the parent to handle
        )
    return Tracker(sweep_folder, process)


class Tracker:
    """The running tracker of one sweep; leaving the `with` block stops it."""

    def __init__(self, sweep_folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.sweep_folder = sweep_folder
        self._process = process

    def problem(self) -> str | None:
        """What went wrong, in one line, if the tracker has given up; the sweep can go on."""
        if self._process.poll() in (None, 0):
            return None
        text = (self.sweep_folder / "tracking.log").read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else f"the tracker stopped with {self._process.returncode}"

    def wait(self, progress: Callable[[int, int], None] | None = None) -> str | None:
        """Say that no more cells come, wait until MLflow has all; returns `problem()`.

        `progress(logged, cells)` is called about twice a second.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(b"e")
            self._process.stdin.flush()
        total = len(read_results(self.sweep_folder / "cells.jsonl"))
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.5)
            if progress:
                progress(len(read_runs(self.sweep_folder)), total)
            if self._process.poll() is not None:
                self.close()
                return self.problem()

    def close(self, patience: float = 60.0) -> None:
        """Stop after the cell that is being logged; the next run logs the rest."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=patience)
        except subprocess.TimeoutExpired:  # a server that no longer answers
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def rebuild(
    sweep_folder: Path,
    store_folder: Path,
    uri: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, str]:
    """Log all cells that MLflow does not have, and return the run of each; TrackingError."""
    with start(sweep_folder, store_folder, uri, niceness=0) as tracker:
        if problem := tracker.wait(progress):
            raise TrackingError(problem)
    return read_runs(sweep_folder)


def fetch(
    name: str,
    sweep_folder: Path,
    uri: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a sweep's folder from MLflow alone; returns what stands in for the store.

    `write_report(sweep_folder, fetch(name, sweep_folder))` is the report. `progress(fetched,
    cells)` is called after each cell. TrackingError when MLflow, the sweep, or what it should hold
    is not there, and when `sweep_folder` is a sweep's own.
    """
    hush()
    uri = tracking_uri(sweep_folder.parent.parent, uri)
    reach(uri)
    from charsweep.track import fetch as way_back  # imports MLflow: seconds

    try:
        return way_back.fetch(name, sweep_folder.resolve(), uri, progress)
    except CharsweepError:
        raise
    except Exception as error:
        raise explained(error, uri) from error


def read_runs(sweep_folder: Path) -> dict[str, str]:
    """Cell key -> MLflow run id, of the cells that MLflow has completely."""
    path = sweep_folder / "runs.json"
    return dict(read_json(path, "cells")["cells"]) if path.exists() else {}


def is_delivered(sweep_folder: Path, cells: Set[str]) -> bool:
    """Whether MLflow has all of these cells, and what the sweep ended with."""
    path = sweep_folder / "runs.json"
    if not path.exists():
        return False
    runs = read_json(path, "cells", "status")
    whole: bool = runs["status"] == "FINISHED"
    return whole and cells <= runs["cells"].keys()


# -- the process that logs -------------------------------------------------------------------------


class Parent:
    """The process that feeds us, heard through our standard input."""

    def __init__(self, follow: bool) -> None:
        self.ended = not follow  # no more cells will come
        self.gone = False  # nobody waits for us any more
        self._listening = follow
        self._process = os.getppid()

    def listen(self, seconds: float) -> bool:
        """Wait for news, at most that long; whether somebody still waits for us."""
        if not self._listening:
            time.sleep(seconds)
        elif select.select([0], [], [], seconds)[0]:
            heard = os.read(0, 64)
            self.ended |= bool(heard)
            self.gone |= not heard
        # A forked worker may still hold the pipe open, hence the second sign of a dead parent.
        self.gone |= self._listening and os.getppid() != self._process
        return not self.gone


@contextlib.contextmanager
def only_one(sweep_folder: Path, parent: Parent) -> Iterator[None]:
    """Wait for another tracker of this sweep to finish the cell at hand."""
    while parent.listen(0):
        with locked(sweep_folder / "tracking.lock", "MLflow", wait=False) as ours:
            if ours:
                yield
                return
        parent.listen(0.5)
    yield


def deliver(sweep_folder: Path, store_folder: Path, parent: Parent) -> None:
    """Do as `follow` says, and begin again when MLflow has gone away in the course of it.

    What it lacks then is known: the runs that are not whole, and the cells that have none. So
    nothing is kept in memory, nothing is lost, and nothing is logged twice.
    """
    wait, until = FIRST_WAIT, None
    while True:
        try:
            return follow(sweep_folder, store_folder, parent)
        except Exception as error:
            passes = isinstance(error, UnreachableError) or _is_outside(error)
            if parent.gone or not passes:
                raise
            if parent.ended:
                until = until or time.monotonic() + LAST_PATIENCE
                if time.monotonic() > until or not read_runs(sweep_folder):
                    raise
            said = explained(error, os.environ["MLFLOW_TRACKING_URI"])
            print(redacted(str(said)), file=sys.stderr, flush=True)
        parent.listen(wait)
        wait = min(2 * wait, LONGEST_WAIT)


def follow(sweep_folder: Path, store_folder: Path, parent: Parent) -> None:
    """Log each finished cell that MLflow does not have, until the parent has no more."""
    reach(os.environ["MLFLOW_TRACKING_URI"])
    from charsweep.track.cell_runs import Experiment  # imports MLflow: seconds

    if not parent.listen(0):
        return None
    experiment = Experiment(sweep_folder, store_folder, os.environ["MLFLOW_TRACKING_URI"])
    seen: dict[str, CellResult] = {}
    before = None
    while parent.listen(0):
        ended = parent.ended  # before reading: what was written before the end is read
        now = _written(sweep_folder / "cells.jsonl")
        results = read_results(sweep_folder / "cells.jsonl") if now != before else {}
        before = now
        fresh = [result for cell, result in results.items() if seen.get(cell) != result]
        for result in fresh:
            if not parent.listen(0):
                break
            experiment.log(result)
            seen[result.cell] = result
        else:
            if ended:
                return experiment.close("FINISHED")
            parent.listen(0.5)
    return experiment.close("KILLED")


def _written(path: Path) -> tuple[int, int] | None:
    """Changes whenever the file does."""
    if not path.exists():
        return None
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m charsweep.track")
    parser.add_argument("sweep_folder", type=Path)
    parser.add_argument("store_folder", type=Path, nargs="?", help="beside the sweep's folder")
    parser.add_argument("--follow", action="store_true", help="until standard input says the end")
    parser.add_argument("--nice", type=int, default=0, help="how far to step back for training")
    given = parser.parse_args(arguments)
    sweep_folder = given.sweep_folder.resolve()
    store_folder = (given.store_folder or sweep_folder.parent / "store").resolve()
    root = sweep_folder.parent.parent
    hush()
    parent = Parent(given.follow)
    try:
        os.environ["MLFLOW_TRACKING_URI"] = tracking_uri(root)
        os.chdir(root)  # MLflow's default artifact folder is ./mlruns
        os.nice(given.nice)
        with only_one(sweep_folder, parent):
            if not parent.gone:
                deliver(sweep_folder, store_folder, parent)
    except Exception as error:
        said = explained(error, os.environ.get("MLFLOW_TRACKING_URI", ""))
        print(redacted(str(said)), file=sys.stderr)
        return 2
    return 0


def _is_outside(error: Exception) -> bool:
    """Whether it comes from MLflow, its database or the network, and is no bug of ours."""
    return isinstance(error, OSError) or type(error).__module__.startswith(
        ("mlflow", "sqlalchemy", "requests", "urllib3")
    )


def explained(error: Exception, uri: str) -> CharsweepError:
    """One line that says where, what and what to do; before it the traceback of a bug of ours."""
    if isinstance(error, CharsweepError):
        return error
    if not _is_outside(error) or os.environ.get("CHARSWEEP_DEBUG"):
        sys.stderr.write(redacted(traceback.format_exc()))
    what = (str(error).strip().splitlines() or [""])[0][:300] or type(error).__name__
    return TrackingError(
        f"MLflow at {public(uri)}: {what}; mend that (a broken mlflow.db can be moved away) and "
        f"{AGAIN}"
    )
