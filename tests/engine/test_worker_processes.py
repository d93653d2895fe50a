"""Several processes at a plan's units, without torch: who is lost, what is raised, who is left."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from helpers import fake_engine
from helpers.small import sweep_of

from charsweep.core.errors import CharsweepError, StoreError, TrainingError
from charsweep.core.store import Store
from charsweep.core.system.signals import Stopped, listening, time_limit
from charsweep.engine.pipes import Pipes
from charsweep.engine.progress import ProgressView
from charsweep.engine.units import Train
from charsweep.engine.workers import WorkersEngine
from charsweep.plan import Plan, plan_work
from charsweep.results import CellResult

GRID = ["+axes.lr=[1e-2,1e-3,1e-4]", "+axes.train_steps=[10,40]", "pack=1", "runtime.threads=1"]


@contextlib.contextmanager
def opened(root: Path, view: ProgressView) -> Iterator[tuple[WorkersEngine, Plan]]:
    """An engine of two, with a grid's plan; nobody may be left working, whatever happens."""
    sweep, store = sweep_of(root, *GRID), Store(root)
    engine = WorkersEngine(sweep, store, view, Pipes(2, 1))
    assert engine.environment == {"device": "fake", "threads": 1}
    both = [psutil.Process(worker.link.pid) for worker in engine.workers]
    try:
        yield engine, plan_work(sweep.cells, store)
    finally:
        engine.close()
        assert not psutil.wait_procs(both, timeout=5)[1]


def executed(root: Path, view: ProgressView) -> list[CellResult]:
    """All results of the grid."""
    with opened(root, view) as (engine, plan):
        return list(engine.execute(plan))


def test_every_cell_comes_once_and_pays_for_its_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one plan after another, by the same processes."""
    fake_engine.install(tmp_path, monkeypatch)
    view = ProgressView()
    with opened(tmp_path, view) as (engine, plan):
        before = [worker.link.pid for worker in engine.workers]
        for batch in (1, 2):
            found = list(engine.execute(plan))
            assert Counter(result.cell for result in found) == Counter(c.key for c in plan.cells)
            assert [result.paid_seconds for result in found] == [1.0] * 6
            assert view._task("steps").completed == 6 * batch
            assert view._task("trajectories").completed == 3 * batch
            assert engine.among_references == {("encoders",): {"dino": 0.5}}
        assert [worker.link.pid for worker in engine.workers] == before
    assert view.workers == 2


def test_who_is_free_is_given_a_further_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the other trains, and never while both do."""
    fake_engine.install(tmp_path, monkeypatch)
    with opened(tmp_path, ProgressView()) as (engine, plan):
        first, *others = (replace(plan, cells=t.cells, trainings=(t,)) for t in plan.trainings)
        training = []

        def more(workers: int) -> Plan | None:
            assert workers == 2
            training.append(sum(isinstance(worker.unit, Train) for worker in engine.workers))
            return others.pop(0) if others else None

        found = list(engine.execute(first, more))
        assert Counter(result.cell for result in found) == Counter(c.key for c in plan.cells)
        assert training[0] == 1
        assert max(training) == 1


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
    with opened(tmp_path, ProgressView()) as (engine, plan):
        with contextlib.closing(engine.execute(plan)) as results:
            next(results)
        assert not engine.workers
    assert not list(Store(tmp_path).folder.rglob(".*.tmp"))


def test_nothing_is_begun_that_would_not_end_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is at work beside it comes to its end, and then the time is up."""
    fake_engine.install(tmp_path, monkeypatch, "no room")
    view = ProgressView()
    with listening(), time_limit(1000), opened(tmp_path, view) as (engine, plan):
        with pytest.raises(Stopped) as stopped:
            list(engine.execute(plan))
        assert stopped.value.is_time_up
    assert view._task("steps").completed > 0
    assert view._task("images").completed == 0
