"""Several processes at a plan's units, without torch: who is lost, what is raised, who is left."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import psutil
import pytest
from helpers import fake_engine
from helpers.small import sweep_of

from charsweep.core.errors import CharsweepError, StoreError, TrainingError
from charsweep.core.store import Store
from charsweep.engine.progress import ProgressView
from charsweep.engine.workers import WorkersEngine
from charsweep.plan import plan_work
from charsweep.results import CellResult

GRID = ["+axes.lr=[1e-2,1e-3,1e-4]", "+axes.train_steps=[10,40]", "pack=1", "runtime.threads=1"]


def executed(root: Path, view: ProgressView, leave_after: int | None = None) -> list[CellResult]:
    """The results of a grid; nobody may be left working, whatever happens."""
    sweep, store = sweep_of(root, *GRID), Store(root)
    plan = plan_work(sweep.cells, store)
    engine = WorkersEngine(sweep, store, view, 2)
    assert engine.environment == {"device": "fake", "threads": 1}
    both = [psutil.Process(worker.process.pid) for worker in engine.workers]
    found = []
    try:
        results = engine.execute(plan)
        for result in results:
            found.append(result)
            if len(found) == leave_after:
                results.close()
                break
        else:
            assert engine.among_references == {("encoders",): {"dino": 0.5}}
            assert not any(worker.unit for worker in engine.workers)  # ready for the next plan
    finally:
        engine.close()
        assert not psutil.wait_procs(both, timeout=5)[1]
    return found


def test_every_cell_comes_once_and_pays_for_its_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_engine.install(tmp_path, monkeypatch)
    view = ProgressView()
    found = executed(tmp_path, view)
    cells = sweep_of(tmp_path, *GRID).cells
    assert Counter(result.cell for result in found) == Counter(cell.key for cell in cells)
    assert [result.paid_seconds for result in found] == [1.0] * 6
    assert view._task("steps").completed == 6
    assert view.workers == 2


def test_one_is_lost_and_the_other_does_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fake_engine.install(tmp_path, monkeypatch, "die once")
    found = executed(tmp_path, ProgressView())
    assert len({result.cell for result in found}) == len(found) == 6
    assert "was killed by SIGKILL; the other goes on" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("what", "error", "words"),
    [
        ("die", TrainingError, "and no other is left; what is finished is in the store"),
        ("raise", StoreError, "the disk is full"),
        ("refuse", StoreError, "no such optimizer"),
    ],
)
def test_what_goes_wrong_is_one_error_of_the_head(
    what: str, error: type[CharsweepError], words: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    fake_engine.install(tmp_path, monkeypatch, what)
    with pytest.raises(error, match=words):
        executed(tmp_path, ProgressView())


def test_who_is_left_in_the_middle_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_engine.install(tmp_path, monkeypatch)
    assert len(executed(tmp_path, ProgressView(), leave_after=1)) == 1
    assert not list(Store(tmp_path).folder.rglob(".*.tmp"))
