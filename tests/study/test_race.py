"""Races: who leaves, that the others have a grid's bits, and that a grid completes who left."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from helpers.small import pictures, sweep_of
from numpy.typing import NDArray

from charsweep.actions import main_loop
from charsweep.actions.run import run as run_whole
from charsweep.config import Sweep
from charsweep.core.cells import Cell
from charsweep.core.errors import ConfigError
from charsweep.core.store import Store
from charsweep.evaluate import sample
from charsweep.plan import plan_work
from charsweep.results.cells import read_results
from charsweep.results.racing import left_behind
from charsweep.study import race, rounds
from charsweep.track import values

QUIET = ["runtime.tracking=false", "runtime.energy=false", "metric=[score,identity,prompt,dino]"]
GRID = ["train_steps=2", "exam.seeds=[0,1,2,3]", "+axes.lr=[1e-3,1e-6,1e-1]", *QUIET]
RACE = [*GRID, "search=race"]  # four images of eight are looked at: a batch
WORDS = "left the race after 4 of 8 images"


# -- the rule --------------------------------------------------------------------------------------


def scores(chance: np.random.Generator, *means: float) -> dict[int, NDArray[np.float64]]:
    """Settings with such means, on 64 images of which some are hard for all."""
    hard = chance.normal(0, 0.2, 64)
    return {n: mean + hard + chance.normal(0, 0.1, 64) for n, mean in enumerate(means)}


def races(
    chance: np.random.Generator, means: tuple[float, ...], number: int
) -> Iterator[dict[int, int]]:
    """By setting, after how many images it left, of some races with three looks."""
    for _ in range(number):
        running, left = scores(chance, *means), {}
        for images in (16, 32, 48):
            for name in left_behind({n: own[:images] for n, own in running.items()}, looks=3):
                del running[name]
                left[name] = images
        yield left


def test_a_setting_as_good_as_the_leader_hardly_ever_leaves() -> None:
    """Either of two may seem to lead: by z = 3 in one look, 2 × .00135 of such races lose one."""
    lost = sum(len(left) for left in races(np.random.default_rng(0), (0.7, 0.7), 3000))
    assert lost <= 2 * 0.00135 * 3000 + 3 * (2 * 0.00135 * 3000) ** 0.5


def test_what_is_far_behind_leaves_at_once_and_what_is_close_does_not() -> None:
    found = list(races(np.random.default_rng(1), (0.8, 0.2, 0.77), 300))
    assert sum(left.get(1) == 16 for left in found) == 300
    assert sum(2 in left for left in found) <= 15
    assert not any(0 in left for left in found)


def test_more_looks_ask_for_more_at_each() -> None:
    lead = np.array([0.3, 0.1] * 4)  # t = 5.3 at 7 degrees of freedom: p = .0006
    pair = {"a": 0.5 + lead, "b": np.full(8, 0.5)}
    assert left_behind(pair, looks=1) == ("b",)
    assert left_behind(pair, looks=7) == ()
    assert left_behind(pair, looks=7, errors=2) == ("b",)


@pytest.mark.parametrize(
    "images", [{}, {"a": [0.9], "b": [0.1]}, {"a": [0.4, 0.2], "b": [0.4, 0.2]}]
)
def test_nobody_leaves_where_nothing_can_be_told(images: Mapping[str, list[float]]) -> None:
    assert left_behind({n: np.array(own) for n, own in images.items()}, looks=1) == ()


def test_a_lead_without_scatter_is_one() -> None:
    assert left_behind({"a": np.full(4, 0.75), "b": np.zeros(4)}, looks=3) == ("b",)


# -- a race ----------------------------------------------------------------------------------------


def dropping(*rates: float) -> Callable[..., tuple[Any, ...]]:
    """A rule by which the settings with these places in the grid leave at the first look."""

    def rule(rivals: Mapping[Any, Any], looks: int, errors: float) -> tuple[Any, ...]:
        assert (looks, errors) == (1, 3)
        assert all(len(own) == 4 for own in rivals.values())
        return tuple(list(rivals)[place] for place in map(int, rates) if place < len(rivals))

    return rule


def run(sweep: Sweep) -> None:
    """Without a report, which takes longer than all else."""

    def no_report(folder: Path, store: Path) -> Path:
        page = folder / "report/index.html"
        page.parent.mkdir(exist_ok=True)
        page.touch()
        return page

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main_loop, "write_report", no_report)
        run_whole(sweep)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("grid")
    run(sweep_of(root, *GRID))
    return root


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("raced")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "left_behind", dropping(1, 2))
        run_whole(sweep_of(root, *RACE))
    return root


def cells_of(root: Path) -> list[Cell]:
    return list(sweep_of(root, *GRID).cells)


def scores_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "scores").glob("*.json")}


def states(root: Path) -> list[str]:
    study = optuna.load_study(
        study_name="small", storage=f"sqlite:///{root / 'sweeps/small/study.db'}"
    )
    return [trial.state.name for trial in study.trials]


def assert_same(cell: Cell, one: Path, other: Path) -> None:
    ours, theirs = (Store(root).images(cell.images) for root in (one, other))
    assert len(pictures(ours)) == 8
    assert pictures(ours) == pictures(theirs)
    assert len(scores_of(ours)) == 4
    assert scores_of(ours) == scores_of(theirs)


def test_what_stays_to_the_end_has_the_bits_of_a_grid(raced: Path, grid: Path) -> None:
    assert_same(cells_of(raced)[0], raced, grid)


def test_what_leaves_keeps_the_scores_of_what_it_drew_and_says_so(raced: Path, grid: Path) -> None:
    results = read_results(raced / "sweeps/small/cells.jsonl")
    stays, *left = [results[cell.key] for cell in cells_of(raced)]
    assert (stays.state, stays.left) == ("finished", "")
    for result, cell in zip(left, cells_of(raced)[1:], strict=True):
        assert (result.state, result.left) == ("left", WORDS)
        assert np.shape(result.per_image["score"]) == (2, 2)
        assert not Store(raced).has_images(cell.images)
        assert result.images is not None
        drawn = pictures(Store(raced).folder / result.images)
        whole = pictures(Store(grid).images(cell.images))
        assert drawn == {f"{i:03d}.png": whole[f"{j:03d}.png"] for i, j in enumerate((0, 1, 4, 5))}
        assert WORDS.capitalize() in values.links(result)["mlflow.note.content"]
    with (raced / "sweeps/small/cells.csv").open(newline="") as file:
        assert [row["left"] for row in csv.DictReader(file)] == ["", WORDS, WORDS]
    report = raced / "sweeps/small/report"
    assert report.joinpath("index.html").read_text(encoding="utf-8").count(WORDS) >= 2
    assert "2 left the race" in report.joinpath("index.html").read_text(encoding="utf-8")
    assert "3 cells, finished" in report.joinpath("index.html").read_text(encoding="utf-8")
    assert states(raced) == ["COMPLETE", "PRUNED", "PRUNED"]


def test_an_images_score_is_what_the_whole_exam_gives_it(raced: Path, grid: Path) -> None:
    """So that a race judges by what the grid would."""
    early, late = (
        read_results(root / "sweeps/small/cells.jsonl")[cells_of(root)[1].key]
        for root in (raced, grid)
    )
    for metric in ("score", "identity", "prompt"):
        first = np.array(late.per_image[metric])[:, :2]
        np.testing.assert_allclose(np.array(early.per_image[metric]), first, atol=1e-5)


def test_a_finished_race_is_not_run_again(raced: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "left_behind", dropping(1, 2))
    folder = raced / "sweeps/small"
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    run(sweep_of(raced, *RACE))
    names = {"cells.jsonl", "cells.csv", "index.html"}
    for path, content in before.items():
        assert path.name not in names or path.read_bytes() == content
    assert states(raced) == ["COMPLETE", "PRUNED", "PRUNED"]


def test_a_grid_draws_the_rest_of_what_has_left(
    tmp_path: Path, grid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "left_behind", dropping(1, 2))
    run(sweep_of(tmp_path, *RACE))
    sweep = sweep_of(tmp_path, *GRID)
    plan = plan_work(sweep.cells, Store(tmp_path))
    own = [scoring.to_draw for training in plan.trainings for scoring in training.scorings]
    assert own == [0, 4, 4]
    run(sweep)
    for cell in cells_of(tmp_path):
        assert_same(cell, tmp_path, grid)
    results = read_results(tmp_path / "sweeps/small/cells.jsonl")
    assert [results[cell.key].state for cell in cells_of(tmp_path)] == ["finished"] * 3
    assert states(tmp_path) == ["COMPLETE", "PRUNED", "PRUNED", "COMPLETE", "COMPLETE"]
    run(sweep_of(tmp_path, *RACE))  # what is whole does not leave
    assert {r.state for r in read_results(tmp_path / "sweeps/small/cells.jsonl").values()} == {
        "finished"
    }


@pytest.mark.parametrize("images", [22, 29])
def test_killed_anywhere_it_ends_as_if_never_killed(
    images: int, tmp_path: Path, raced: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first round, and in what is drawn of the whole exam."""
    monkeypatch.setattr(rounds, "left_behind", dropping(1, 2))
    real, drawn = sample.image_of, iter(range(1000))

    def dies(array: NDArray[np.float32]) -> Any:
        if next(drawn) == images:
            raise KeyboardInterrupt
        return real(array)

    with monkeypatch.context() as patch:
        patch.setattr(sample, "image_of", dies)
        with pytest.raises(KeyboardInterrupt):
            run(sweep_of(tmp_path, *RACE))
    run(sweep_of(tmp_path, *RACE))
    ours, theirs = (read_results(root / "sweeps/small/cells.jsonl") for root in (tmp_path, raced))
    assert [(r.state, r.left, r.per_image) for r in ours.values()] == [
        (r.state, r.left, r.per_image) for r in theirs.values()
    ]
    for key, result in ours.items():
        assert result.images == theirs[key].images
        assert result.images is not None
        assert pictures(Store(tmp_path).folder / result.images) == pictures(
            Store(raced).folder / result.images
        )
    assert states(tmp_path) == states(raced)


def test_training_seeds_of_a_setting_leave_together(tmp_path: Path) -> None:
    words = [*RACE, "seeds=2", "axes.lr=[1e-3,1e-1]"]
    study = race.Race(made(tmp_path, *words))
    results = [fake_result(cell, at) for at, cell in enumerate(study.sweep.cells)]
    (rivals,) = rounds.rivals_of(results)
    assert [len(keys) for keys in rivals] == [2, 2]
    for keys, own in rivals.items():
        rows = [np.ravel(r.per_image["score"]) for r in results if r.cell in keys]
        np.testing.assert_allclose(own, np.mean(rows, axis=0))


def made(root: Path, *words: str) -> Any:
    sweep = sweep_of(root, *words)
    sweep.folder.mkdir(parents=True, exist_ok=True)
    return sweep


def fake_result(cell: Cell, at: int) -> Any:
    from charsweep.results.cells import result_from

    known = dict.fromkeys(
        ("trial", "images", "diverged_at", "error", "size_mb", "train_seconds", "sample_seconds",
         "seconds_per_step", "peak_memory_mb")
    )  # fmt: skip
    per_image = {"score": [[0.1 * at, 0.2], [0.3, 0.1 * at]]}
    return result_from(
        {**known, "cell": cell.key, "state": "finished", "values": dict(cell.values), "step": 2,
         "base": "sdxl", "trajectory": "t", "scores": {"score": 0.1}, "gains": {},
         "paid_seconds": 0.0, "per_image": per_image}
    )  # fmt: skip


# -- in a search -----------------------------------------------------------------------------------

FIND = [*QUIET, "exam.seeds=[0,1,2,3]", "search=find", "find.over=[lr]", "train_steps=2"]
FIND += ["find.rates=[1e-3,1e-6]", "find.export=false"]


def results_of(root: Path, name: str = "small") -> dict[str, Any]:
    return read_results(root / f"sweeps/{name}/cells.jsonl")


def first_stays(rivals: Mapping[Any, Any], looks: int, errors: float) -> tuple[Any, ...]:
    """A rule by which of each race the first one stays."""
    assert (looks, errors) == (1, 3)
    return tuple(rivals)[1:]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("found")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "left_behind", first_stays)
        run(sweep_of(root, *FIND))
    return root


def test_a_grid_draws_the_rest_of_what_left_a_stage(found: Path, tmp_path: Path) -> None:
    """What stayed is whole and has a grid's bits; the others go on from their first four images."""
    results = results_of(found)
    assert {r.state for r in results.values()} == {"finished", "left"}
    assert {r.left for r in results.values()} == {"", WORDS}
    rates = sorted({r.values["lr"] for r in results.values()})
    grid = [*QUIET, "train_steps=2", "exam.seeds=[0,1,2,3]", f"+axes.lr={rates}", "name=grid"]
    sweep, alone = sweep_of(found, *grid), sweep_of(tmp_path, *grid)
    assert results.keys() <= {cell.key for cell in sweep.cells}
    plan = plan_work([cell for cell in sweep.cells if cell.key in results], Store(found))
    drawn = {t.cells[0].key: t.scorings[0].to_draw for t in plan.trainings}
    assert drawn == {key: 4 if result.left else 0 for key, result in results.items()}
    run(sweep)
    run(alone)
    for cell in sweep.cells:
        assert_same(cell, found, tmp_path)


def test_a_search_that_was_killed_in_a_race_ends_as_if_never(
    tmp_path: Path, found: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In what is drawn of the whole exam; run once more, all is only looked up."""
    monkeypatch.setattr(rounds, "left_behind", first_stays)
    real, drawn = sample.image_of, iter(range(1000))

    def dies(array: NDArray[np.float32]) -> Any:
        if next(drawn) == 25:
            raise KeyboardInterrupt
        return real(array)

    with monkeypatch.context() as patch:
        patch.setattr(sample, "image_of", dies)
        with pytest.raises(KeyboardInterrupt):
            run(sweep_of(tmp_path, *FIND))
    for _ in range(2):
        run(sweep_of(tmp_path, *FIND))
        ours, theirs = results_of(tmp_path), results_of(found)
        assert [(k, r.state, r.left, r.per_image) for k, r in ours.items()] == [
            (k, r.state, r.left, r.per_image) for k, r in theirs.items()
        ]
        assert states(tmp_path) == states(found)
        record = json.loads((tmp_path / "sweeps/small/sweep.json").read_text(encoding="utf-8"))
        assert record["plan"]["cells"] <= len(ours)
        monkeypatch.setattr(main_loop, "open_engine", lambda *_: pytest.fail("work"))


def test_a_rung_is_a_race_and_pruned_by_what_was_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three trials one stays; the best two of them by their scores so far go on."""
    monkeypatch.setattr(rounds, "left_behind", first_stays)
    words = [*QUIET, "exam.seeds=[0,1,2,3]", "search=halving", "train_steps=4"]
    words += ["search.trials=3", "search.at_once=3", "search.rungs=[2]", "search.pruner.keep=0.67"]
    words += ["+axes.lr={low: 1e-6, high: 1e-2, log: true}"]
    run(sweep_of(tmp_path, *words))
    results = list(results_of(tmp_path).values())
    early = [result for result in results if result.step == 2]
    assert sorted(result.state for result in early) == ["finished", "left", "left"]
    assert len([result for result in results if result.step == 4]) == 2
    known = optuna.load_study(
        study_name="small", storage=f"sqlite:///{tmp_path / 'sweeps/small/study.db'}"
    ).trials
    assert all(2 in trial.intermediate_values for trial in known)
    assert sorted(trial.state.name for trial in known) == ["COMPLETE", "PRUNED", "PRUNED"]
    monkeypatch.setattr(main_loop, "open_engine", lambda *_: pytest.fail("work"))
    run(sweep_of(tmp_path, *words))
    assert states(tmp_path) == [trial.state.name for trial in known]


# -- what cannot be raced --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said", "remedy"),
    [
        (["exam.seeds=[3]"], "exam.seeds=[3,0,1,2,4,5,6,7]", ["exam.seeds=[3,0,1,2,4,5,6,7]"]),
        (
            ["sampler.batch_width=16", "exam.seeds=[0,1,2,3,4,5,6,7]"],
            "exam.seeds=[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]",
            ["exam.seeds=[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]"],
        ),
        (["objectives=[dino]"], "set objectives=[score], or search=grid", ["objectives=[score]"]),
        (["objectives=[dino]"], "set objectives=[score], or search=grid", ["search=grid"]),
        (["+constraints.dino={most: 0.5}"], "or set search=grid", ["search=grid"]),
        (["search.errors=0"], "search.errors", ["search.errors=2"]),
    ],
)
def test_what_cannot_be_raced_is_refused_with_a_remedy(
    words: list[str], said: str, remedy: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as told:
        sweep_of(tmp_path, *RACE, *words)
    assert said in str(told.value)
    names = {word.partition("=")[0] for word in remedy}
    kept = [word for word in words if word.partition("=")[0] not in names]
    assert sweep_of(tmp_path, *RACE, *kept, *remedy).cells
    assert not (tmp_path / "sweeps").exists()


def test_a_sampler_does_not_race_and_neither_do_parts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="with a sampler, take it out"):
        sweep_of(tmp_path, *GRID, "search=tpe", "+search.errors=3")
    with pytest.raises(ConfigError, match="run it by itself"):
        sweep_of(tmp_path, *RACE, "+parts={one: {train_steps: 4}}")


def test_the_plan_says_that_it_is_the_most(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from charsweep.actions.plan import show_plan

    show_plan(sweep_of(tmp_path, *RACE))
    said = capsys.readouterr().out
    assert "all this at most: cells that are worse beyond doubt leave after 4 of 8 images" in said


def test_a_race_that_has_not_ended_keeps_what_it_drew(raced: Path) -> None:
    """In the eyes of gc: the record says that it needs the beginnings of its exams."""
    record = json.loads((raced / "sweeps/small/sweep.json").read_text(encoding="utf-8"))
    begun = {own.key for cell in cells_of(raced) for own in cell.images.beginnings}
    assert len(begun) == 3
    assert begun <= set(record["needs"]["images"])
