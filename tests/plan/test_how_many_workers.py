"""How many processes share a sweep's work, and with how many threads each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.small import sweep_of
from pydantic import ValidationError

from charsweep.config import Sweep
from charsweep.config.settings.runtime import Runtime
from charsweep.core.errors import ConfigError
from charsweep.core.store import Store
from charsweep.core.system.hardware import Card, cores
from charsweep.plan import Speeds, cost, memory, plan_work, workers
from charsweep.plan.memory import Place
from charsweep.plan.workers import EACH, check_cluster, refuse_workers, threads_of, workers_of

CPU = Card("CPU", 16 * 10**9, device="cpu")
GPU = Card("NVIDIA L4", 24 * 10**9, (8, 9))


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return sweep_of(tmp_path, "+axes.lr=[1e-2,1e-3]", "train_steps=100")


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine of eight cores, unless the test says otherwise."""
    machine(monkeypatch, 8)
    return monkeypatch


def machine(patch: pytest.MonkeyPatch, cores: int, card: Card | None = CPU) -> None:
    patch.setattr(workers, "cores", lambda: cores)
    patch.setattr(workers, "find_card", lambda _: card)
    patch.setattr(workers, "machine_memory", lambda: card.memory_bytes if card else 16 * 10**9)


def told(sweep: Sweep, **runtime: int | str) -> Sweep:
    own = sweep.settings.runtime.model_copy(update=runtime)
    return replace(sweep, settings=sweep.settings.model_copy(update={"runtime": own}))


def test_two_where_cores_and_memory_allow(sweep: Sweep, on: pytest.MonkeyPatch) -> None:
    for number, card, expected in (
        (2, CPU, 2), (64, CPU, 2), (1, CPU, 1), (8, GPU, 1), (8, None, 1),
        (8, Card("CPU", 2 * EACH - 1, device="cpu"), 1),
    ):  # fmt: skip
        machine(on, number, card)
        assert workers_of(sweep) == expected
        assert workers_of(told(sweep, workers=1)) == 1


def test_threads_do_not_depend_on_whether_one_works_or_two(
    sweep: Sweep, on: pytest.MonkeyPatch
) -> None:
    for one in (sweep, told(sweep, workers=1), told(sweep, workers=2)):
        for number, expected in ((2, 1), (8, 4)):
            machine(on, number)
            assert threads_of(one, "cpu") == expected
        assert threads_of(one, "cuda") is None
        assert threads_of(told(one, threads=3), "cpu") == 3
    assert threads_of(told(sweep, workers=8), "cpu") == 1


def test_large_models_and_single_cores_have_what_torch_chooses(
    sweep: Sweep, on: pytest.MonkeyPatch
) -> None:
    machine(on, 1)
    assert threads_of(sweep, "cpu") is None
    machine(on, 8)
    on.setattr(workers, "SMALL", 1000)
    assert (workers_of(sweep), threads_of(sweep, "cpu")) == (1, None)
    assert threads_of(told(sweep, workers=2), "cpu") == 4


def test_what_cannot_be_is_refused_and_the_remedies_work(
    sweep: Sweep, tmp_path: Path, on: pytest.MonkeyPatch
) -> None:
    machine(on, 8, GPU)
    with pytest.raises(ConfigError, match="workers=2: NVIDIA L4 is worked on by one process"):
        workers_of(told(sweep, workers=2))
    assert workers_of(sweep) == 1
    machine(on, 8, CPU)  # which runtime.device=cpu makes of it
    assert workers_of(told(sweep, workers=2)) == 2

    place = Place(sweep.bases, Speeds(Store(tmp_path)), CPU)
    plan = plan_work(sweep.cells, Store(tmp_path))
    needs = memory.needs_of(memory.works_of(plan, place, sweep.settings.runtime), place)
    with pytest.raises(ConfigError, match=r"workers=64: each would take .* of memory"):
        refuse_workers(workers_of(told(sweep, workers=64)), needs, place)
    refuse_workers(workers_of(sweep), needs, place)


def test_a_plan_takes_as_long_as_its_workers_do(tmp_path: Path) -> None:
    """But for its longest trajectory, at which only one can work."""
    sweep = sweep_of(tmp_path, "+axes.lr=[1e-2,1e-3]", "train_steps=10", "inference_steps=50")
    store = Store(tmp_path)
    plan = plan_work(sweep.cells, store)
    one, two, many = (
        float(cost.summary(plan, store, sweep.bases, number)["seconds"]) for number in (1, 2, 999)
    )
    longest = 10 * Speeds(store).step(plan.trainings[0].trajectory)
    assert two == pytest.approx(one / 2, abs=0.1)
    assert many == pytest.approx(longest, abs=0.1)
    assert longest < two


def test_cores_are_as_many_as_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert cores() == 6
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert cores() >= 1


def runtime_of(sweep: Sweep, **changed: object) -> Runtime:
    """The settings as if these had been typed."""
    return Runtime.model_validate(sweep.settings.runtime.model_dump() | changed)


def test_a_cluster_is_asked_for_in_one_of_three_ways(sweep: Sweep, tmp_path: Path) -> None:
    for cluster in ("local", "auto", "10.0.0.7:6379", "head.lab.example:6379", "[::1]:6379"):
        assert runtime_of(sweep, cluster=cluster).cluster == cluster
    assert runtime_of(sweep, workers="auto").workers is None
    for wrong in ("here", "10.0.0.7", "ray://10.0.0.7:10001", ":6379"):
        with pytest.raises(ValidationError):
            runtime_of(sweep, cluster=wrong)
    with pytest.raises(ConfigError, match=r"runtime.cluster=here: should be local .* or HOST:PORT"):
        sweep_of(tmp_path, "runtime.cluster=here")


def test_without_ray_or_its_token_there_is_one_message(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each remedy works."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(workers, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'charsweep\[ray\]'"):
        check_cluster(runtime_of(sweep, cluster="local"))
    check_cluster(runtime_of(sweep, workers=2))
    monkeypatch.setattr(workers, "find_spec", lambda _: object())
    check_cluster(runtime_of(sweep, cluster="local"))
    check_cluster(runtime_of(sweep, cluster="127.0.0.1:6379"))
    for cluster in ("auto", "10.0.0.7:6379"):
        with pytest.raises(ConfigError, match=r"no token .* is known here.*ray get-auth-token"):
            check_cluster(runtime_of(sweep, cluster=cluster))
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    check_cluster(runtime_of(sweep, cluster="auto"))


def test_cards_of_this_machine_have_a_worker_each(sweep: Sweep, on: pytest.MonkeyPatch) -> None:
    machine(on, 8, GPU)
    on.setattr(workers, "count_cards", lambda _: 2)
    here = told(sweep, cluster="local")
    assert workers_of(here) == 2
    assert workers_of(told(here, workers=1)) == 1
    with pytest.raises(ConfigError, match=r"has 2 of NVIDIA L4, .* set runtime.workers=2"):
        workers_of(told(here, workers=3))
    assert workers_of(told(here, workers=2)) == 2
    assert workers_of(told(sweep, cluster="10.0.0.7:6379", workers=64)) == 64
