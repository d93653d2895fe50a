"""What a plan takes so many workers, and what the command says of it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from helpers.small import loaded_after, small, sweep_of

from benchmarks import scale
from charsweep.__main__ import main
from charsweep.config import load_settings, load_sweep
from charsweep.core.errors import ConfigError
from charsweep.core.store import Store
from charsweep.engine.schedule import Crew, schedule, snapshots
from charsweep.engine.units import Finish
from charsweep.plan import Plan, Speeds, plan_work

GRID = ["+axes.lr=[1e-1,1e-2,1e-3,1e-4,1e-5,1e-6]", "+axes.train_steps=[20,40,60]",
        "+axes.inference_steps=[2,3,4]", "pack=1"]  # fmt: skip
TABLE = re.compile(r"^  (\d+) +(?:(\d+) min )?(\d+) s +([\d.]+)? +(\d+)%$", re.MULTILINE)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_work(sweep_of(tmp_path, *GRID).cells, Store(tmp_path))


@pytest.fixture
def speeds(tmp_path: Path) -> Speeds:
    return Speeds(Store(tmp_path))


def test_one_worker_is_never_idle_and_more_are_sooner_done(plan: Plan, speeds: Speeds) -> None:
    one, two, four, many = (schedule(plan, speeds, number) for number in (1, 2, 4, 10_000))
    assert one.utilisation == pytest.approx(1.0)
    assert one.seconds > two.seconds > four.seconds > many.seconds
    assert two.utilisation > 0.95
    for made in (one, two, four, many):
        assert made.needed == pytest.approx(one.needed)
        assert made.seconds >= many.longest_seconds
    training = plan.trainings[0]
    assert many.longest_seconds == pytest.approx(60 * speeds.step(training.trajectory))


def test_all_is_done_once_although_workers_are_lost(plan: Plan, speeds: Speeds) -> None:
    crew = Crew(plan, speeds, 5, losing=0.3)
    finished, end = Counter[str](), crew._end

    def ended(unit: object) -> None:
        if isinstance(unit, Finish):
            finished.update(cell.key for one in unit.trainings for cell in one.cells)
        end(unit)  # type: ignore[arg-type]

    crew._end = ended  # type: ignore[method-assign]
    made = crew.run()
    assert finished == Counter(cell.key for cell in plan.cells)
    assert made.lost > 3
    assert made.utilisation < schedule(plan, speeds, 5).utilisation
    assert made.needed == pytest.approx(schedule(plan, speeds, 5).needed)


def test_snapshots_are_there_when_their_slot_has_come_so_far(tmp_path: Path) -> None:
    words = ["+axes.lr=[1e-1,1e-2,1e-3]", "+axes.train_steps=[20,60]", "pack=2"]
    (pack,) = plan_work(sweep_of(tmp_path, *words).cells, Store(tmp_path)).packs
    first, second, third = (training.trajectory.key for training in pack.trainings)
    assert sorted(snapshots(pack)) == sorted(
        [(20, first, 20, False), (60, first, 60, True), (20, second, 20, False),
         (60, second, 60, True), (80, third, 20, False), (120, third, 60, True)]
    )  # fmt: skip


def test_as_many_train_as_it_takes(tmp_path: Path, speeds: Speeds) -> None:
    """32 trajectories and 12 workers: if all but one drew whenever they can, training would end
    last, by a few of them (.91)."""
    words = ["+axes.lr=[1e-1,1e-2,1e-3,1e-4,5e-4,5e-5,1e-5,1e-6]", "pack=1",
             "+axes.train_steps=[100,200,400]", "+axes.method.rank=[1,2,4,8]"]  # fmt: skip
    plan = plan_work(load_sweep([f"root={tmp_path}", *words]).cells, Store(tmp_path))
    assert schedule(plan, speeds, 12).utilisation > 0.95


def test_a_decision_takes_as_long_for_more_cells(tmp_path: Path) -> None:
    """Of units that wait, none is looked at that is not handed out; 64 workers are kept busy."""
    words = [*scale.GRID, "axes.train_steps=[500,1000,1500,2000]", "axes.lr=[1e-3,1e-4]"]
    lost = scale.simulate(8, words, losing=0.05)
    assert lost.cells == 240
    assert lost.schedule.lost > 0
    assert lost.schedule.decisions / lost.dispatching > 500
    assert lost.schedule.utilisation > 0.85
    assert re.fullmatch(r"\| 8 \| 240 \| \d+ \| 0\.\d{3} .*\|", lost.row)


# -- action=plan -----------------------------------------------------------------------------------


def test_a_plan_compares_workers_and_says_what_none_can_shorten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = small(tmp_path, *GRID, "action=plan", "plan.price=3600")
    assert main([*words, "runtime.workers=1,2,64"]) == 0
    said = capsys.readouterr().out
    rows = TABLE.findall(said)
    assert [int(number) for number, *_ in rows] == [1, 2, 64]
    seconds = [60 * int(minutes or 0) + int(rest) for _, minutes, rest, *_ in rows]
    assert seconds[0] > seconds[1] > seconds[2]
    for (number, _, _, cost, busy), took in zip(rows, seconds, strict=True):
        assert float(cost) == pytest.approx(int(number) * took, abs=0.51 * int(number))
        assert (int(busy) > 95) == (int(number) < 64)
    assert "at least" in said
    assert "a trajectory is trained by one of them" in said
    most = int(re.search(r"more +than (\d+) workers cannot help", said)[1])  # type: ignore[index]
    assert 3 < most < 64
    assert main([*words, "runtime.workers=[1, 2]"]) == 0
    assert len(TABLE.findall(capsys.readouterr().out)) == 2
    assert main(words) == 0
    assert "cannot help" not in capsys.readouterr().out


def test_stages_are_compared_one_after_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["+sweep=find", f"root={tmp_path}", "action=plan", "find.over=[lr,steps]",
             "runtime.workers=1,16"]  # fmt: skip
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "16 " in said
    assert "pack=1" in said  # rates train in a pass together


def test_numbers_of_workers_that_nobody_would_compare(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"runtime\.workers=1,2: several are compared"):
        load_settings(small(tmp_path, "runtime.workers=1,2"))
    assert load_settings(small(tmp_path, "runtime.workers=2")).runtime.workers == 2
    search = ["search=tpe", "search.trials=4", "+axes={lr: [1e-3, 1e-2]}", "action=plan"]
    with pytest.raises(ConfigError, match="search=tpe chooses its trials by how others have ended"):
        load_settings(small(tmp_path, *search, "runtime.workers=1,2"))
    load_settings(small(tmp_path, *search, "runtime.workers=1"))
    for odd in ("1,1", "0,2"):
        with pytest.raises(ConfigError, match="workers"):
            load_settings(small(tmp_path, "action=plan", f"runtime.workers={odd}"))


def test_no_torch_and_no_ray_for_a_comparison() -> None:
    loaded = loaded_after("import charsweep.actions.plan, charsweep.engine.schedule")
    assert loaded.isdisjoint({"torch", "ray", "diffusers"})
