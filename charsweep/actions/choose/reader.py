"""The sweep's folder in, what it shows now out: read again when its files have changed."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

from charsweep.actions.choose.shown import Shown, shown, with_votes
from charsweep.core.errors import CharsweepError
from charsweep.core.keys import digest_of
from charsweep.report.figures.contact_sheets import image_files
from charsweep.results.cells import ASKED, read_asked
from charsweep.results.read import load_cells
from charsweep.results.votes import FILE, Votes

CELLS = ("sweep.json", "cells.jsonl", ASKED)
LEAST_SECONDS = 2.0  # between two readings: a large sweep that is running changes all the time


class Reader:
    """Keeps what was read last; safe for several threads."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder, self.store = folder, store
        self.votes = Votes(folder / FILE)
        self._lock = threading.Lock()
        self._of_cells = self._stamp(*CELLS)
        self._of_votes = self._stamp(FILE)
        self._shown = shown(load_cells(folder, store), read_asked(folder), self._version())
        self._read_at = time.monotonic()

    def now(self) -> Shown:
        """The sweep as it is, or was a moment ago."""
        with self._lock:
            if time.monotonic() - self._read_at > LEAST_SECONDS:
                with contextlib.suppress(CharsweepError):  # one of two files is new: the next time
                    self._read()
                self._read_at = time.monotonic()
            return self._shown

    def _read(self) -> None:
        of_cells, of_votes = self._stamp(*CELLS), self._stamp(FILE)
        if (of_cells, of_votes) == (self._of_cells, self._of_votes):
            return
        if of_cells != self._of_cells:
            image_files.cache_clear()
            found, asked = load_cells(self.folder, self.store), read_asked(self.folder)
            self._of_cells, self._of_votes = of_cells, of_votes
            self._shown = shown(found, asked, self._version())
        else:
            votes = self.votes.read()
            self._of_votes = of_votes
            self._shown = with_votes(self._shown, votes, self._version())

    def _version(self) -> str:
        return digest_of(f"{self._of_cells} {self._of_votes}".encode())[:12]

    def _stamp(self, *names: str) -> tuple[tuple[int, int] | None, ...]:
        """When files were written last, and how large they are."""
        stats: list[tuple[int, int] | None] = []
        for name in names:
            try:
                found = (self.folder / name).stat()
                stats.append((found.st_mtime_ns, found.st_size))
            except FileNotFoundError:
                stats.append(None)
        return tuple(stats)
