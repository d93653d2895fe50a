"""The sweep's folder in, what it shows now out: read again when its files have changed."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from charsweep.actions.choose.shown import Shown, shown
from charsweep.core.errors import CharsweepError
from charsweep.core.keys import digest_of
from charsweep.report.figures.contact_sheets import image_files
from charsweep.results.read import load_cells

FILES = ("sweep.json", "cells.jsonl")
LEAST_SECONDS = 2.0  # between two readings: a large sweep that is running changes all the time


class Reader:
    """Keeps what was read last; safe for several threads."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder, self.store = folder, store
        self._lock = threading.Lock()
        self._read_at = time.monotonic()
        self._shown = self._read()

    def now(self) -> Shown:
        """The sweep as it is, or was a moment ago; StoreError only for one never read."""
        with self._lock:
            if time.monotonic() - self._read_at > LEAST_SECONDS:
                if self._version() != self._shown.version:
                    try:
                        self._shown = self._read()
                    except CharsweepError:  # half of a pair of files is new: the next time, then
                        pass
                self._read_at = time.monotonic()
            return self._shown

    def _read(self) -> Shown:
        version = self._version()
        image_files.cache_clear()
        return shown(load_cells(self.folder, self.store), version)

    def _version(self) -> str:
        stats = []
        for name in FILES:
            try:
                found = (self.folder / name).stat()
                stats.append(f"{found.st_mtime_ns} {found.st_size}")
            except FileNotFoundError:
                stats.append("none")
        return digest_of(" ".join(stats).encode())[:12]
