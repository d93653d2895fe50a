"""How many processes share a plan's work, and with how many threads each."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.small import sweep_of

from charsweep.config.settings import Runtime
from charsweep.core.errors import ConfigError
from charsweep.core.store import Store
from charsweep.core.system.hardware import Card, cores
from charsweep.plan import Speeds, memory, plan_work
from charsweep.plan.memory import Need, Place
from charsweep.plan.workers import LEAST_SECONDS, threads_for, workers_for

CPU = Card("CPU", 16 * 10**9, device="cpu")
GPU = Card("NVIDIA L4", 24 * 10**9, (8, 9))
LONG = 10 * LEAST_SECONDS


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return sweep_of(tmp_path).settings.runtime


@pytest.fixture
def needs(tmp_path: Path) -> list[Need]:
    sweep, store = sweep_of(tmp_path), Store(tmp_path)
    place = Place(sweep.bases, Speeds(store), CPU)
    plan = plan_work(sweep.cells, store)
    return memory.needs_of(memory.works_of(plan, place, sweep.settings.runtime), place)


def test_two_where_cores_time_and_memory_allow(runtime: Runtime, needs: list[Need]) -> None:
    assert workers_for(runtime, LONG, needs, CPU, 2) == 2
    assert workers_for(runtime, LONG, needs, CPU, 64) == 2
    assert workers_for(runtime, LONG, needs, CPU, 1) == 1
    assert workers_for(runtime, LEAST_SECONDS / 2, needs, CPU, 2) == 1
    assert workers_for(runtime, LONG, needs, GPU, 8) == 1
    assert workers_for(runtime, LONG, needs, None, 8) == 1
    most = max(need.bytes for need in needs)
    small = Card("CPU", 2 * most, device="cpu")
    assert workers_for(runtime, LONG, needs, small, 2) == 1


def test_what_cannot_be_is_refused_and_the_remedy_works(
    runtime: Runtime, needs: list[Need]
) -> None:
    def with_workers(number: int | None) -> Runtime:
        return runtime.model_copy(update={"workers": number})

    assert workers_for(with_workers(3), 0, needs, CPU, 1) == 3
    with pytest.raises(ConfigError, match=r"workers=2: NVIDIA L4 is worked on by one process"):
        workers_for(with_workers(2), LONG, needs, GPU, 8)
    assert workers_for(with_workers(None), LONG, needs, GPU, 8) == 1
    with pytest.raises(ConfigError, match=r"workers=64: each would take .* of memory"):
        workers_for(with_workers(64), LONG, needs, CPU, 64)
    assert workers_for(with_workers(None), LONG, needs, CPU, 64) == 2
    assert workers_for(with_workers(1), LONG, needs, GPU, 8) == 1


def test_threads_do_not_depend_on_whether_one_works_or_two(runtime: Runtime) -> None:
    def threads(number: int | None, cores: int) -> int | None:
        return threads_for(runtime.model_copy(update={"workers": number}), "cpu", cores)

    for number in (None, 1, 2):
        assert [threads(number, cores) for cores in (1, 2, 8)] == [1, 1, 4]
    assert threads(8, 8) == 1
    assert threads_for(runtime, "cuda", 8) is None
    own = runtime.model_copy(update={"threads": 3})
    assert threads_for(own, "cpu", 2) == threads_for(own, "cuda", 2) == 3


def test_cores_are_as_many_as_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert cores() == 6
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert cores() >= 1
