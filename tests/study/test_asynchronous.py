"""Searches whose workers wait for no batch: who is idle, who is judged when, what a kill leaves."""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from helpers.simulated import Crew, executed, scored
from helpers.small import sweep_of
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from charsweep.config import Sweep
from charsweep.core.cells import Cell
from charsweep.core.store import Store
from charsweep.engine import workers as engine_of_several
from charsweep.engine.progress import ProgressView
from charsweep.engine.workers import WorkersEngine
from charsweep.plan import plan_work
from charsweep.plan.workers import is_asynchronous
from charsweep.study import place
from charsweep.study.adaptive import Search
from charsweep.study.asynchronous import AsynchronousSearch

QUIET = ["objectives=[dino]", "metric=[dino]", "runtime.threads=1"]
LR = "lr: {low: 1e-5, high: 1e-1, log: true}"
TPE = ["search=tpe", "search.trials=24", f"+axes={{{LR}}}", *QUIET]
HALVING = ["search=halving", "search.trials=6", "search.rungs=[2,4]", "train_steps=6", "pack=2",
           f"+axes={{{LR}}}", *QUIET]  # fmt: skip


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies that outlive their `Search`, but not the test."""
    known: defaultdict[Path, InMemoryStorage] = defaultdict(InMemoryStorage)
    monkeypatch.setattr(place.File, "open", lambda self: known[self.path])
    monkeypatch.setattr(place.File, "wait", lambda self: None)


def opened(root: Path, *words: str) -> Sweep:
    sweep = sweep_of(root, *words)
    sweep.folder.mkdir(parents=True, exist_ok=True)
    return sweep


def score(cell: Cell) -> float:
    """Best at a rate of 1e-3, and better the longer it is trained."""
    return 1 - abs(math.log10(cell.values["lr"]) + 3) / 10 + cell.step / 1000


def tell(study: Search, cells: Sequence[Cell], drawn: Any = score) -> None:
    """The results of some cells."""
    for cell in cells:
        for settled in study.settle(scored(drawn)(cell, None, 0.0)):
            study.tell(settled)


def trials_of(study: Search) -> list[Any]:
    return study.trials.study.get_trials(deepcopy=False)


def rates(cells: Sequence[Cell]) -> list[float]:
    return [cell.values["lr"] for cell in cells]


# -- nobody is idle --------------------------------------------------------------------------------


def simulated(
    study: Search, monkeypatch: pytest.MonkeyPatch, workers: int, cell: float = 3.0
) -> Crew:
    """So many workers at a search, by a simulated clock."""
    crew, store = Crew(workers, step=0.02, cell=cell, reference=0.5), Store(study.sweep.root)
    monkeypatch.setattr(engine_of_several, "result_of", scored(score))
    engine = WorkersEngine(study.sweep, store, ProgressView(), crew)
    planned = partial(plan_work, store=store, snapshot_steps=study.snapshot_steps)
    told = list(executed(study, engine, planned))
    assert len({result.cell for result in told}) == study.search.trials
    assert {trial.state for trial in trials_of(study)} == {TrialState.COMPLETE}
    return crew


UNLIKE = ["search.trials=40", f"+axes={{{LR}, train_steps: {{low: 100, high: 1000, step: 50}}}}"]


def test_no_worker_is_idle_while_trials_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of lengths between 100 and 1,000 steps; in batches the same workers wait for each other."""
    words = [*TPE, *UNLIKE]
    crew = simulated(AsynchronousSearch(opened(tmp_path / "free", *words), 2), monkeypatch, 2)
    assert max(crew.gaps) < 1.0
    waits = simulated(Search(opened(tmp_path / "batches", *words)), monkeypatch, 2)
    assert max(waits.gaps) > 5.0
    assert crew.clock < 0.8 * waits.clock


def test_a_pack_is_as_wide_as_a_pass_and_the_last_ones_are_shared_out(tmp_path: Path) -> None:
    study = AsynchronousSearch(opened(tmp_path, *TPE, "search.trials=22"), 2)
    given = [next(study.batches())]
    while cells := study.next_cells(2):
        given.append(cells)
    assert [len(cells) for cells in given] == [8, 7, 4, 3]


# -- one worker, and batches that were typed -------------------------------------------------------


def test_batches_try_what_plain_optuna_tries(tmp_path: Path) -> None:
    """With one worker, and where at_once was typed: the same trials in the same order."""
    study = Search(opened(tmp_path, *TPE))
    for cells in study.batches():
        tell(study, cells)
    plain = optuna.create_study(direction="maximize")
    space = {"lr": optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True)}
    for first in range(0, 24, 8):
        batch = []
        for number in range(first, first + 8):
            plain.sampler = TPESampler(n_startup_trials=8, seed=number)
            batch.append(plain.ask(space))
        for trial in batch:
            cell = study.sweep.cell_at(trial.params)
            plain.tell(trial, score(cell))
    assert [t.params for t in trials_of(study)] == [t.params for t in plain.trials]


@pytest.mark.parametrize(
    ("words", "workers", "expected"),
    [
        (TPE, 2, True), (TPE, 1, False), ([*TPE, "search.at_once=8"], 2, False),
        (["+axes.lr=[1e-3]"], 2, False), (["search=find"], 2, False),
    ],
)  # fmt: skip
def test_several_wait_for_no_batch_unless_one_was_typed(
    words: list[str], workers: int, expected: bool, tmp_path: Path
) -> None:
    assert is_asynchronous(sweep_of(tmp_path, *words), workers) == expected


# -- rungs -----------------------------------------------------------------------------------------


def test_a_trial_is_judged_when_it_has_reported_and_waits_for_nobody(tmp_path: Path) -> None:
    """Two of six have reported, two are at work: the better goes on before a new one is asked."""
    study = AsynchronousSearch(opened(tmp_path, *HALVING), 2)
    first, second = next(study.batches()), study.next_cells(2)
    assert [cell.step for cell in (*first, *second)] == [2] * 4
    tell(study, first)
    (promoted,) = study.next_cells(2)
    best = max(first, key=score)
    assert (promoted.step, promoted.trajectory) == (4, best.trajectory)
    states = [trial.state.name for trial in trials_of(study)]
    assert sorted(states[:2]) == ["PRUNED", "RUNNING"]
    assert states[2:] == ["RUNNING"] * 2  # of whom nobody has heard

    tell(study, (promoted,))
    (last,) = study.next_cells(2)  # alone at its rung, it goes on, to the end
    assert last.step == 6
    assert [cell.step for cell in study.next_cells(2)] == [2]  # and there are new ones


def test_who_is_better_than_what_has_been_heard_goes_on(tmp_path: Path) -> None:
    study = AsynchronousSearch(opened(tmp_path, *HALVING, "search.trials=12"), 3)
    (a, b), (c, d), (e, f) = next(study.batches()), study.next_cells(3), study.next_cells(3)
    values = [0.1, 0.2, 0.5, 0.4, 0.15, 0.3]
    by_rate = dict(zip(rates([a, b, c, d, e, f]), values, strict=True))
    for two, expected in (((a, b), [b]), ((c, d), [c, d]), ((e, f), [f])):
        tell(study, two, lambda cell: by_rate[cell.values["lr"]])
        assert rates(study.next_cells(3)) == rates(expected)


# -- races -----------------------------------------------------------------------------------------

RACE = ["search=halving", "search.trials=16", "search.rungs=[2]", "train_steps=4", "pack=4",
        "exam.seeds=[0,1,2,3]", "metric=[score,identity,prompt,dino]",
        f"+axes={{{LR}}}"]  # fmt: skip


def drawn(cell: Cell) -> float:
    """So far apart that the first images tell the best of four from the others."""
    return float(1e6 * cell.values["lr"] % 1)


def ended(study: Search) -> dict[int, str]:
    return {t.number: t.user_attrs["state"] for t in trials_of(study) if "state" in t.user_attrs}


def test_trials_that_were_begun_together_race_each_other_and_no_others(tmp_path: Path) -> None:
    """One race is in its second round while another has not ended its first."""
    study = AsynchronousSearch(opened(tmp_path, *RACE), 2)
    first, second = next(study.batches()), study.next_cells(2)
    assert [len(first), len(second)] == [4, 4]
    assert {len(cell.images.seeds) for cell in (*first, *second)} == {2}
    tell(study, first, drawn)
    (leader,) = study.next_cells(2)
    assert len(leader.images.seeds) == 4
    assert leader.values == max(first, key=drawn).values
    assert study.is_further
    assert {cell.step for cell in study.next_cells(2)} == {4}  # who has left, but not as the worst
    tell(study, second, drawn)
    (other,) = (cell for cell in study.next_cells(2) if len(cell.images.seeds) == 4)
    assert other.values == max(second, key=drawn).values


def test_a_race_that_was_killed_ends_alike(tmp_path: Path) -> None:
    """Half of its first round is told, or all of it and the losers have left."""

    def reported(study: Search) -> list[dict[int, float]]:
        return [dict(trial.intermediate_values) for trial in trials_of(study)[:4]]

    whole = AsynchronousSearch(opened(tmp_path / "whole", *RACE), 1)
    first = next(whole.batches())
    tell(whole, first, drawn)
    tell(whole, whole.next_cells(1), drawn)
    for known in (2, 4):
        sweep = opened(tmp_path / str(known), *RACE)
        killed = AsynchronousSearch(sweep, 1)
        tell(killed, next(killed.batches())[:known], drawn)
        killed.close()
        again = AsynchronousSearch(sweep, 1)
        cells = next(again.batches())
        assert rates(cells) == rates(first)
        tell(again, cells, drawn)
        tell(again, again.next_cells(1), drawn)
        assert reported(again) == reported(whole)


# -- what waits ------------------------------------------------------------------------------------


def test_a_trial_waits_for_its_trajectory(tmp_path: Path) -> None:
    """Of one rate, what another is training: it is not trained twice, and no more are asked."""
    axes = "+axes={lr: [1e-3], train_steps: {low: 2, high: 40, step: 2}}"
    words = [axes if word.startswith("+axes") else word for word in TPE]
    study = AsynchronousSearch(opened(tmp_path, *words), 2)
    first = next(study.batches())
    assert len(first) > 1
    assert study.next_cells(2) == ()
    assert len(trials_of(study)) <= 16
    tell(study, first)
    second = study.next_cells(2)
    assert second
    assert study.next_cells(2) == ()


def test_what_runs_is_gone_on_with(tmp_path: Path) -> None:
    """Killed again and again, at any moment: all trials are told once, and none is lost."""
    chance, told = random.Random(0), list[str]()
    for _ in range(50):
        study = AsynchronousSearch(opened(tmp_path, *TPE), 2)
        out = [cells for cells in cells_given(study) if cells]
        if not out:
            break
        chance.shuffle(out)
        for cells in out[: chance.randrange(3)]:
            some = cells[: chance.randrange(1, 9)]
            tell(study, some)
            told += [cell.key for cell in some]
        study.close()
    trials = trials_of(study)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 24
    assert len({trial.params["lr"] for trial in trials}) == 24
    assert len(told) == len(set(told)) == 24


def cells_given(study: AsynchronousSearch) -> Iterator[tuple[Cell, ...]]:
    """What two workers are given who have nothing yet."""
    yield next(study.batches(), ())
    yield study.next_cells(2)


# -- what is said ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("more", "words"), [([], "no: "), (["search.at_once=2"], "yes: ")])
def test_the_record_and_the_report_say_whether_it_is_repeatable(
    more: list[str], words: str, tmp_path: Path
) -> None:
    from charsweep.actions.main_loop import Run
    from charsweep.core.system.distributed import ALONE
    from charsweep.results import facts, load_record

    sweep = opened(tmp_path, *TPE, *more)
    store = Store(tmp_path)
    made = Run(sweep, store, ALONE, plan_work((), store), None, 2)
    assert made.study.is_repeatable == (words == "yes: ")
    made.study.close()
    (sweep.folder / "sweep.json").write_text(json.dumps(made.record))
    (sweep.folder / "cells.jsonl").touch()
    said = dict(facts.asked(load_record(sweep.folder, store.folder)))
    assert said["repeatable"].startswith(words)
    assert said["search"] == ("tpe, trials 24, at_once 2" if more else "tpe, trials 24")

    later = Run(sweep, store, ALONE, plan_work((), store), None, 1)  # by one: what was, was
    assert later.record["search"]["repeatable"] == (words == "yes: ")
    later.study.close()


@pytest.mark.parametrize(
    ("workers", "words"), [(1, "24 trials, 8 at a time"), (2, "24 trials, asked for when")]
)
def test_the_plan_promises_no_batches_where_there_are_none(
    workers: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from charsweep.actions.plan import show_plan

    show_plan(sweep_of(tmp_path, *TPE, f"runtime.workers={workers}"))
    assert words in capsys.readouterr().out
