"""An engine that does a plan's units in no time and without torch, for the workers of tests.

`install` has worker processes use it in place of `charsweep.engine.local`; what the environment's
FAKE says happens to the first of them that trains.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from charsweep.core.errors import StoreError
from charsweep.core.system.signals import check_room
from charsweep.results import CellResult
from charsweep.results.cells import result_of

WHY = "nothing was drawn"


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, what: str = "") -> None:
    """For the workers that are started from now on."""
    lines = "import sys\nimport helpers.fake_engine\n"
    lines += "sys.modules['charsweep.engine.local'] = helpers.fake_engine\n"
    (folder / "sitecustomize.py").write_text(lines)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("FAKE", what)
    monkeypatch.setenv("FAKE_ONCE", str(folder / "once"))


def _first() -> bool:
    """Whether nobody has asked before."""
    try:
        Path(os.environ["FAKE_ONCE"]).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class LocalEngine:
    def __init__(self, sweep: Any, store: Any, view: Any) -> None:
        self.store, self.view, self.packs = store, view, self
        self.environment = {"device": "fake", "threads": sweep.settings.runtime.threads}

    def prepare(self, plan: Any) -> None:
        if os.environ["FAKE"] == "refuse":
            raise StoreError("no such optimizer")

    def short_of_memory(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    @property
    def among_references(self) -> Any:
        return {("encoders",): {"dino": 0.5}}

    def score(self, scoring: Any) -> None:
        if os.environ["FAKE"] == "no room":
            check_room(3600.0)
        self.view.advance("images")

    def finish(self, trainings: Any, spent: Any, errors: Any) -> Iterator[CellResult]:
        for training in trainings:
            known = spent.get(training.trajectory.key, {})
            for cell in training.cells:
                time.sleep(0.01)
                yield result_of(cell, self.store, known.pop(cell.step, 0.0), WHY)

    def train(self, pack: Any) -> Iterator[Any]:
        what = os.environ["FAKE"]
        if what == "die" or (what == "die once" and _first()):
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "raise":
            raise StoreError("the disk is full")
        for training in pack.trainings:
            key = training.trajectory.key
            for step in training.snapshots:
                time.sleep(0.02)
                self.view.step(0.1, 1.0)
                left = (training,) if step == training.snapshots[-1] else ()
                yield SimpleNamespace(left=left, spent={key: {step: 1.0}}, errors={})
