"""Workers with scratch stores: the bits of one process, and large snapshots stay with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.small import ONE_IMAGE, execute, snapshot_bytes, sweep_of

from charsweep.actions.stored_cell import stored_images
from charsweep.core.errors import StoreError
from charsweep.core.specs import SnapshotSpec
from charsweep.core.store import Store
from charsweep.engine import workers
from charsweep.engine.pipes import Pipes
from charsweep.engine.progress import ProgressView
from charsweep.engine.workers import WorkersEngine
from charsweep.plan import plan_work
from charsweep.results import CellResult

FULL = [*ONE_IMAGE, "method=dreambooth", "method.prior_weight=0",
        "+axes.train_steps=[2,4]", "runtime.threads=1"]  # fmt: skip


class ScratchPipes(Pipes):
    """Workers of this machine that behave as if they were elsewhere."""

    shares_store = False


@contextlib.contextmanager
def opened(root: Path, scratch: Path, *words: str) -> Iterator[WorkersEngine]:
    sweep = sweep_of(root, *FULL, f"runtime.scratch={scratch}", *words)
    store = Store(root, whole=sweep.settings.runtime.bring == "all")
    engine = WorkersEngine(sweep, store, ProgressView(), ScratchPipes(1, 1))
    with contextlib.closing(engine):
        yield engine


def done(engine: WorkersEngine) -> list[CellResult]:
    return list(engine.execute(plan_work(engine.sweep.cells, engine.store)))


@pytest.mark.slow
def test_large_snapshots_stay_until_they_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scored like all others; fetched one by one, or sent by a worker who finds them again."""
    monkeypatch.setattr(workers, "LARGE", 1000)
    root, scratch, alone = tmp_path / "head", tmp_path / "scratch", tmp_path / "alone"
    with opened(root, scratch) as engine:
        results = done(engine)
        cells = {result.step: result for result in results}
        store = engine.store
        first, last = (SnapshotSpec(c.trajectory, c.step) for c in engine.sweep.cells)
        assert store.held_by(first)
        assert store.held_by(last)
        assert {path.name for path in store.snapshot(first).iterdir() if path.is_file()} == {
            "snapshot.json"
        }
        assert plan_work(engine.sweep.cells, store).is_done
        engine.fetch(last)
        assert store.held_by(last) is None
    with pytest.raises(StoreError, match=r"stayed with a worker on .*runtime\.bring=all"):
        stored_images(cells[2], Store(root))
    stored_images(cells[4], Store(root))

    with opened(root, scratch, "runtime.bring=all") as engine:  # the remedy
        plan = plan_work(engine.sweep.cells, engine.store)
        assert plan.trainings[0].snapshots == (2,)
        list(engine.execute(plan))
        assert engine.view._task("steps").completed == 0  # nothing was trained anew
    stored_images(cells[2], Store(root))

    _, local, expected = execute(alone, *FULL)
    for spec in (first, last):
        assert snapshot_bytes(local.snapshot(spec)) == snapshot_bytes(store.snapshot(spec))
    costs = {"train_seconds": 0, "paid_seconds": 0, "sample_seconds": 0, "seconds_per_step": 0,
             "peak_memory_mb": 0}  # fmt: skip
    by_cell = {result.cell: replace(result, **costs) for result in results}
    assert by_cell == {result.cell: replace(result, **costs) for result in expected}
