"""`action=export` of one cell, in a process of its own while the page stays at hand."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Any, Literal

from charsweep.core.errors import ConfigError
from charsweep.core.system.redact import redacted

State = Literal["none", "running", "done", "failed"]


@dataclass(frozen=True)
class Export:
    """The export that was asked for last."""

    state: State = "none"
    cell: str = ""
    path: str = ""  # of what it wrote
    problem: str = ""


class Exporter:
    """One export at a time."""

    def __init__(self, name: str, root: str) -> None:
        self.words = ["action=export", f"name={name}", f"root={root}"]
        self.last = Export()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def start(self, cell: str) -> Export:
        """Begin; ConfigError while another is running."""
        with self._lock:
            if self.last.state == "running":
                raise ConfigError(f"{self.last.cell} is being exported; wait until that is done")
            self.last = Export("running", cell)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "charsweep", *self.words, f"export.cell={cell}"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, process_group=0,  # Ctrl-C is for us to handle
            )  # fmt: skip
            threading.Thread(target=self._wait, args=(cell, self._process), daemon=True).start()
            return self.last

    def _wait(self, cell: str, process: subprocess.Popen[str]) -> None:
        said, complaint = process.communicate()
        if process.returncode == 0:
            lines = [line for line in said.splitlines() if line.startswith("export ")]
            path = lines[-1].removeprefix("export").strip() if lines else ""
            self.last = Export("done", cell, path)
        else:
            words = complaint.strip() or f"it ended with {process.returncode}"
            self.last = Export("failed", cell, problem=redacted(words))

    def stop(self) -> None:
        """End what is running."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=15)

    def told(self) -> dict[str, Any]:
        """For the page."""
        last = self.last
        return {"state": last.state, "cell": last.cell, "path": last.path, "problem": last.problem}
