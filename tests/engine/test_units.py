"""What workers are given of a plan: everything once, trained first, whoever is lost."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.small import sweep_of

from charsweep.config import Sweep
from charsweep.core.errors import TrainingError
from charsweep.core.specs import Source
from charsweep.core.store import Store
from charsweep.engine.units import (
    MOST_LOSSES,
    Agenda,
    Finish,
    Part,
    Reference,
    Train,
    Unit,
    deal,
    halves,
    split,
)
from charsweep.plan import Pack, Plan, Speeds, plan_training, plan_work


def planned(root: Path, *words: str) -> tuple[Sweep, Plan]:
    sweep = sweep_of(root, *words)
    return sweep, plan_work(sweep.cells, Store(root))


def seconds(unit: Unit) -> float:
    """What a unit is said to take: as long as it is good for an order of events."""
    if isinstance(unit, Train):
        return unit.pack.passes
    return 5.0 * (1 if isinstance(unit, Reference) else len(unit.trainings))


class Simulation:
    """Workers that do an agenda's units in no time, in the order of their expected ends."""

    def __init__(self, root: Path, plan: Plan, workers: int) -> None:
        self.agenda = Agenda(plan, Speeds(Store(root)), workers)
        self.sources = {cell.key: cell.trajectory for cell in plan.cells}
        self.busy: dict[int, tuple[float, Unit]] = {}
        self.workers, self.clock = set(range(workers)), 0.0
        self.trained, self.drawn, self.cells = Counter[str](), Counter[str](), Counter[str]()
        self.locked = set[str]()
        self.spent: Counter[tuple[str, int]] = Counter()

    def take(self, source: Source) -> bool:
        return source.key not in self.locked

    def hand_out(self) -> None:
        for worker in sorted(self.workers - self.busy.keys()):
            if unit := self.agenda.next(self.take):
                self.busy[worker] = self.clock + seconds(unit), unit

    def end_next(self) -> None:
        worker = min(self.busy, key=lambda worker: self.busy[worker][0])
        self.clock, unit = self.busy.pop(worker)
        if isinstance(unit, Reference):
            self.drawn[unit.images.key] += 1
            self.agenda.drawn(unit)
        elif isinstance(unit, Finish):
            for training in unit.trainings:
                for scoring in training.scorings:
                    self.drawn[scoring.images.key] += 1
                for cell in training.cells:
                    self.cells[cell.key] += 1
                    self.agenda.finished(self.sources[cell.key])
            for key, known in unit.spent.items():
                self.spent.update({(key, step): number for step, number in known.items()})
        else:
            self.agenda.training -= 1
            for training in unit.pack.trainings:
                self.trained[training.trajectory.key] += 1
                spent = dict.fromkeys(training.snapshots, 1)
                self.agenda.reached(training.trajectory.key, spent, last=True)

    def run(self) -> None:
        while not self.agenda.is_done:
            self.hand_out()
            assert self.busy, "nobody has anything to do"
            self.end_next()


GRID = ["+axes.lr=[1e-1,1e-2,1e-3,1e-4,1e-5]", "+axes.train_steps=[10,40]",
        "+axes.inference_steps=[2,3]", "pack=2"]  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_everything_is_done_once(workers: int, tmp_path: Path) -> None:
    sweep, plan = planned(tmp_path, *GRID)
    made = Simulation(tmp_path, plan, workers)
    made.run()
    assert made.cells == Counter(cell.key for cell in sweep.cells)
    assert made.trained == Counter(t.trajectory.key for t in plan.trainings)
    assert made.drawn == Counter(s.images.key for s in plan.scorings if s.draw or s.scores)
    steps = {(t.trajectory.key, step) for t in plan.trainings for step in t.snapshots}
    assert made.spent == dict.fromkeys(steps, 1)


def test_what_two_exams_judge_is_drawn_by_one(tmp_path: Path) -> None:
    _, plan = planned(tmp_path, *GRID)
    first, *others = plan.references
    again = replace(plan, references=(first, *others, replace(first, draw=False)))
    agenda = Agenda(again, Speeds(Store(tmp_path)), 2)
    own = [unit for unit in agenda.references if unit.images.key == first.images.key]
    assert [len(unit.scorings) for unit in own] == [2]
    assert len(agenda.references) == len(plan.references)


def test_one_trains_while_the_other_draws_what_is_trained(tmp_path: Path) -> None:
    _, plan = planned(tmp_path, *GRID)
    made = Simulation(tmp_path, plan, 2)
    made.hand_out()
    kinds = [type(unit) for _, unit in made.busy.values()]
    assert kinds == [Train, Reference]
    while made.agenda.packs:  # as long as anything is left to train, somebody trains
        assert any(isinstance(unit, Train) for _, unit in made.busy.values())
        made.end_next()
        made.hand_out()


def test_a_snapshot_is_drawn_while_its_trajectory_goes_on(tmp_path: Path) -> None:
    _, plan = planned(tmp_path, "train_steps=40", "+axes.train_steps=[10,40]")
    made = Simulation(tmp_path, plan, 2)
    made.hand_out()
    while made.agenda.references or len(made.busy) > 1:
        made.busy[0], kept = (float("inf"), made.busy[0][1]), made.busy[0]
        made.end_next()
        made.busy[0] = kept
        made.hand_out()
    assert made.agenda.next(made.take) is None
    (training,) = plan.trainings
    made.agenda.reached(training.trajectory.key, {10: 1.0}, last=False)
    unit = made.agenda.next(made.take)
    assert isinstance(unit, Finish)
    assert [cell.step for part in unit.trainings for cell in part.cells] == [10]
    assert unit.spent == {training.trajectory.key: {10: 1.0}}
    assert made.agenda.next(made.take) is None


def test_what_a_lost_worker_has_not_done_is_handed_out_again(tmp_path: Path) -> None:
    sweep, plan = planned(tmp_path, *GRID)
    made = Simulation(tmp_path, plan, 3)
    for turn in range(200):
        made.hand_out()
        if turn % 3 == 0 and made.busy and turn < 40:
            worker = sorted(made.busy)[turn % len(made.busy)]
            made.agenda.take_back(made.busy.pop(worker)[1], set())
        elif made.busy:
            made.end_next()
        if made.agenda.is_done:
            break
    assert made.cells == Counter(cell.key for cell in sweep.cells)
    assert set(made.drawn.values()) == {1}
    assert set(made.spent.values()) == {1}


def test_what_another_command_works_on_is_passed_over(tmp_path: Path) -> None:
    sweep, plan = planned(tmp_path, *GRID)
    made = Simulation(tmp_path, plan, 2)
    held = plan.trainings[1].trajectory
    made.locked = {held.key}
    made.hand_out()
    while made.busy:
        made.end_next()
        made.hand_out()
    assert not made.agenda.is_done
    assert made.agenda.locked_out == held
    assert set(made.cells) == {c.key for c in sweep.cells if c.trajectory.key != held.key}
    made.locked = set()
    made.run()
    assert made.cells == Counter(cell.key for cell in sweep.cells)


def test_packs_are_cut_where_no_slot_idles_by_it(tmp_path: Path) -> None:
    _, plan = planned(tmp_path, *GRID)
    (pack,) = plan.packs
    assert split(pack, 1) == [pack]
    assert [len(part.trainings) for part in split(pack, 2)] == [2, 2, 1]
    assert all(part.width == 2 for part in split(pack, 2))


def test_one_pack_is_halved_for_who_would_have_nothing_to_train(tmp_path: Path) -> None:
    _, plan = planned(tmp_path, "+axes.lr=[1e-1,1e-2,1e-3]", "train_steps=10", "pack=4")
    assert [len(part.trainings) for part in Agenda(plan, Speeds(Store(tmp_path)), 1).packs] == [3]
    agenda = Agenda(plan, Speeds(Store(tmp_path)), 2)
    assert [len(part.trainings) for part in agenda.packs] == [2, 1]
    assert all(part.width == 4 for part in agenda.packs)
    (pack,) = plan.packs
    two = replace(pack, trainings=pack.trainings[:2])
    assert halves(two) == [two]  # fills half of the slots already


def test_a_pack_of_unlike_lengths_refills_its_slots(tmp_path: Path) -> None:
    """A long one and four short ones: cut in chunks, slots would idle beside the long one."""
    short = planned(tmp_path, "+axes.lr=[1e-1,2e-1,3e-1,4e-1]", "train_steps=10", "pack=2")[1]
    long = planned(tmp_path, "lr=5e-1", "train_steps=60", "pack=2")[1]
    pack = Pack(2, (*long.trainings, *short.trainings))
    assert pack.passes == 60
    assert split(pack, 2) == [pack]  # the long one takes as long as all others after another
    (first, second) = deal(pack, 2)
    assert [len(part.trainings) for part in (first, second)] == [3, 2]


def to_draw(agenda: Agenda) -> list[Part]:
    return [*agenda.blocked, *(part for ready in agenda.ready.values() for part in ready)]


def test_what_costs_three_workers_is_given_up(tmp_path: Path) -> None:
    """Its cells fail, and say why; what was trained before is drawn. A lost reference ends all."""
    _, plan = planned(tmp_path, "+axes.lr=[1e-2,1e-3]", "train_steps=10", "pack=1")
    agenda = Agenda(plan, Speeds(Store(tmp_path)), 2)
    first = agenda.packs[0].trainings[0].trajectory
    for _ in range(MOST_LOSSES):
        unit = agenda.next(lambda source: source.key == first.key)
        assert isinstance(unit, Train)
        agenda.take_back(unit, set(), "was lost: no memory")
    assert agenda.training == 0
    assert len(agenda.packs) == 1
    (part,) = to_draw(agenda)
    assert (
        "3 workers were lost at it, the last one because it was lost: no memory"
        in (agenda.errors[part.key])
    )
    agenda.undrawn.clear()
    agenda.references.clear()
    for _ in range(MOST_LOSSES):
        unit = agenda.next(lambda source: source.key == first.key)
        assert isinstance(unit, Finish)
        agenda.take_back(unit, set(), "was killed")
    ((cell, why),) = agenda.given_up
    assert cell.trajectory == first
    assert why.endswith("because it was killed")
    assert not to_draw(agenda)

    other = Agenda(plan, Speeds(Store(tmp_path)), 2)
    reference = other.references[0]
    for _ in range(MOST_LOSSES - 1):
        other.take_back(reference, set(), "was killed")
    with pytest.raises(TrainingError, match="3 workers were lost at it"):
        other.take_back(reference, set(), "was killed")


def test_who_has_the_files_of_a_unit_gets_it(tmp_path: Path) -> None:
    """Of training, the trajectory that it has the state of; else the longest first."""
    _, plan = planned(tmp_path, "+axes.lr=[1e-2,1e-3,1e-4]", "train_steps=10", "pack=1")
    agenda = Agenda(plan, Speeds(Store(tmp_path)), 2)
    wanted = agenda.packs[-1].trainings[0]
    unit = agenda.next(lambda _: True, lambda training: training == wanted)
    assert isinstance(unit, Train)
    assert unit.pack.trainings == (wanted,)
    agenda.references.clear()
    agenda.undrawn.clear()
    agenda.packs.clear()
    for training in plan.trainings:
        agenda.reached(training.trajectory.key, {10: 1.0}, last=True)
    unit = agenda.next(lambda _: True, lambda training: training.trajectory == wanted.trajectory)
    assert isinstance(unit, Finish)
    assert unit.trainings[0].trajectory == wanted.trajectory


def test_weights_that_went_with_their_worker_are_made_again(tmp_path: Path) -> None:
    """Nobody else could draw from them."""
    sweep, plan = planned(tmp_path, "+axes.lr=[1e-2]", "+axes.train_steps=[10,20]", "pack=1")
    agenda, (training,) = Agenda(plan, Speeds(Store(tmp_path)), 2), plan.trainings
    agenda.references.clear()
    agenda.undrawn.clear()
    unit = agenda.next(lambda _: True)
    assert isinstance(unit, Train)
    agenda.reached(training.trajectory.key, {10: 1.0, 20: 1.0}, True, by=lambda _: 1)
    agenda.training -= 1
    assert agenda.next(lambda _: True, worker=2) is None
    drawn = agenda.next(lambda _: True, worker=1)
    assert isinstance(drawn, Finish)

    agenda.take_back(drawn, {sweep.cells[0].key}, "was killed")
    agenda.train_again(
        lambda one: True, lambda one: plan_training(one.cells, Store(tmp_path), (10,))
    )
    again = agenda.next(lambda _: True, worker=2)
    assert isinstance(again, Train)
    assert [cell.step for cell in again.pack.trainings[0].cells] == [20]
    agenda.reached(training.trajectory.key, {20: 1.0}, True, by=lambda _: 2)
    agenda.training -= 1
    last = agenda.next(lambda _: True, worker=2)
    assert isinstance(last, Finish)
    assert [cell.step for one in last.trainings for cell in one.cells] == [20]


def test_a_further_plan_waits_for_what_is_on_its_way_and_draws_nothing_twice(
    tmp_path: Path,
) -> None:
    """Added while the references of the first are drawn, which it lacks too."""
    _, first = planned(tmp_path, "+axes.lr=[1e-2,1e-3]", "train_steps=10", "pack=2")
    _, second = planned(tmp_path, "+axes.lr=[1e-4,1e-5,1e-6]", "train_steps=10", "pack=2")
    made = Simulation(tmp_path, first, 2)
    made.agenda = Agenda(first, Speeds(Store(tmp_path)), 2, is_open=True)
    made.sources |= {cell.key: cell.trajectory for cell in second.cells}
    assert len(made.agenda.packs) == 1  # none is halved: there will be others
    made.hand_out()
    assert not made.agenda.is_short_for(1)  # one trains, one draws the first of two references
    made.agenda.add(second)
    made.run()
    cells = (*first.cells, *second.cells)
    assert made.cells == Counter(cell.key for cell in cells)
    wanted = {s.images.key for plan in (first, second) for s in plan.scorings}
    assert made.drawn == Counter(wanted)
    assert made.agenda.is_short_for(1)


def test_references_that_are_wanted_for_further_scores_are_drawn_by_one_at_a_time(
    tmp_path: Path,
) -> None:
    _, plan = planned(tmp_path, "lr=1e-2", "train_steps=10")
    few = tuple(replace(s, scores=s.scores[:1]) for s in plan.references if len(s.scores) > 1)
    less = replace(plan, references=few[:1], trainings=(), cells=())
    agenda = Agenda(less, Speeds(Store(tmp_path)), 2, is_open=True)
    first = agenda.next(lambda _: True)
    assert isinstance(first, Reference)
    agenda.add(replace(less, references=few[:1]))  # what is on its way
    assert not agenda.references
    whole = next(s for s in plan.references if s.images.key == first.images.key)
    agenda.add(replace(less, references=(whole,)))
    assert agenda.next(lambda _: True) is None
    assert not agenda.is_done
    agenda.drawn(first)
    assert agenda.undrawn
    second = agenda.next(lambda _: True)
    assert isinstance(second, Reference)
    agenda.drawn(second)
    assert agenda.is_done
    assert not agenda.undrawn
