"""The recommendation: its rule, its doubts, and that whatever speaks of it names the same cell."""

from __future__ import annotations

import itertools
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_sweep import FakeSweep, dino, result
from helpers.small import loaded_after, small

from charsweep.__main__ import main
from charsweep.core.errors import ConfigError, StoreError
from charsweep.core.store.files import read_json
from charsweep.results import (
    CellResult,
    Recommendation,
    compare_methods,
    load_record,
    read_results,
    recommend,
    write_results,
)
from charsweep.results.cells import named_cell
from charsweep.results.recommendation import recommendation_of, recommended_cell
from charsweep.track import process as track


def recommended(sweep: FakeSweep) -> Recommendation:
    return recommend(sweep.record())


def of_scores(root: Path, **scores: tuple[float, float]) -> FakeSweep:
    """A sweep over methods, each with its identity and its prompt score."""
    sweep = FakeSweep(root, {"method": list(scores)})
    for method, (identity, prompt) in scores.items():
        sweep.add(method=method, scores=dino(identity, prompt))
    return sweep


def test_it_is_highest_in_identity_and_prompt_together(tmp_path: Path) -> None:
    sweep = of_scores(tmp_path, memoriser=(0.9, 0.2), both=(0.8, 0.7), stranger=(0.1, 0.8))
    sweep.add(method="unscored", scores=dino(0.99) | {"clip_t": None})
    sweep.add("failed", method="gone")
    found = recommended(sweep)
    assert found.label == "method = both"
    assert found.reason.startswith("of 3 settings, ")
    assert found.alike == ()
    assert "the next, method = " in found.doubts[0]
    assert found.costs == ("40 training steps", "25 s of training by itself", "0.3 MB of weights")
    assert found.command == "python -m charsweep action=export name=fake"


@pytest.mark.parametrize(
    ("identity", "prompt", "is_alike"), [(0.781, 0.7, True), (0.78, 0.7, False), (0.8, 0.69, False)]
)
def test_what_the_scores_cannot_tell_apart_is_said(
    tmp_path: Path, identity: float, prompt: float, is_alike: bool
) -> None:
    found = recommended(of_scores(tmp_path, a=(0.8, 0.7), b=(identity, prompt), c=(0.1, 0.1)))
    assert found.label == "method = a"
    assert [point.label for point in found.alike] == ["method = b"] * is_alike
    assert ("cannot tell it from method = b" in found.doubts[0]) is is_alike


def test_what_hardly_draws_the_character_is_said(tmp_path: Path) -> None:
    found = recommended(of_scores(tmp_path, a=(0.50, 0.2), b=(0.54, 0.19)))  # the base has .55
    assert "hardly draws the character" in found.doubts[1]


def test_the_end_of_an_axis_is_said(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"train_steps": [10, 20, 40]})
    for steps in (10, 20, 40):
        sweep.add(train_steps=steps, scores=dino(0.6 + steps / 100))
    assert "Its training steps, 40, is the largest tried" in recommended(sweep).doubts[-1]


def test_of_several_seeds_the_mean_counts_and_the_highest_is_taken(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"method": ["lucky", "steady"], "seed": [0, 1]})
    scores = {("lucky", 0): 0.9, ("lucky", 1): 0.5, ("steady", 0): 0.75, ("steady", 1): 0.8}
    for (method, seed), score in scores.items():
        sweep.add(method=method, seed=seed, scores=dino(score))
    found = recommended(sweep)
    assert found.label == "method = steady"
    assert found.cell is not None
    assert found.cell.values["seed"] == 1
    assert found.reason.startswith("of 2 settings, ")


def test_equals_are_decided_by_the_grid_whatever_order_the_files_have(tmp_path: Path) -> None:
    for order in itertools.permutations((0.001, 0.01, 0.1)):
        sweep = FakeSweep(tmp_path / str(order), {"lr": list(order)})
        for lr in order:
            sweep.add(lr=lr, scores=dino(0.7))
        assert recommended(sweep).label == "lr = 1e-3"


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        ([], "No cell has ended yet"),
        (["diverged", "diverged"], "All 2 cells diverged"),
        (["diverged", "failed"], r"No cell finished \(1 failed, 1 diverged\)"),
        (["finished", "failed"], "no finished cell with both dino"),
    ],
)
def test_why_there_is_none(tmp_path: Path, states: list[str], reason: str) -> None:
    sweep = FakeSweep(tmp_path, {"lr": [0.1, 0.01]})
    for state, lr in zip(states, (0.1, 0.01), strict=False):
        sweep.add(state, lr=lr, scores={"clip_t": None})
    found = recommended(sweep)
    assert (found.point, found.cell, found.command) == (None, None, "")
    results = read_results(sweep.folder / "cells.jsonl")
    with pytest.raises(StoreError, match=reason) as caught:
        recommended_cell(sweep.folder, results, "Name one.")
    assert str(caught.value).endswith("Name one.") is ("finished" in states)


def test_the_command_says_where_and_which(tmp_path: Path) -> None:
    sweep = of_scores(tmp_path, a=(0.8, 0.7), b=(0.1, 0.1))
    sweep.sweep["command"] = "python -m charsweep +sweep=fake root=elsewhere"
    record = sweep.record()
    words = ["python", "-m", "charsweep", "action=export", "name=fake", f"root={tmp_path}"]
    assert shlex.split(recommend(record).command) == words
    own = [cell for cell in record.cells if cell.values["method"] == "b"]
    assert shlex.split(recommend(record, own).command) == [*words, f"export.cell={own[0].cell}"]


def test_a_cell_is_named_by_the_beginning_of_its_key() -> None:
    cells = {key: result(cell=key) for key in ("ab12", "ab34", "cd56")}
    cells["ef78"] = result(cell="ef78", state="diverged")
    assert named_cell(cells, "cd", "s", "story.cell").cell == "cd56"
    for key, reason in {"ab": "several", "99": "no such cell", "ef": "diverged"}.items():
        with pytest.raises(ConfigError, match=rf"story\.cell={key}: .*{reason}"):
            named_cell(cells, key, "s", "story.cell")


def test_no_torch() -> None:
    loaded = loaded_after("import charsweep.results.recommendation")
    assert not {"torch", "matplotlib", "mlflow"} & loaded


# -- one answer everywhere -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def disputed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, CellResult]]:
    """Three cells: one has the highest identity, one the highest quality ratio, one is neither."""
    root = tmp_path_factory.mktemp("disputed")
    words = small(root, "+axes.lr=[1e-2,1e-3,1e-4]", "train_steps=2", "method.rank=2")
    assert main([*words, "runtime.tracking=false"]) == 0
    path = root / "sweeps/small/cells.jsonl"
    scores = {  # identity, prompt, quality ratio
        0.01: (0.90, 0.20, 0.2),
        0.001: (0.80, 0.35, 0.1),
        0.0001: (0.50, 0.30, 0.9),
    }
    changed = []
    for cell in read_results(path).values():
        names = ("dino", "clip_t", "quality_ratio")
        own = dict(zip(names, scores[cell.values["lr"]], strict=True))
        changed.append(replace(cell, scores={**cell.scores, **own}, gains={}))
    write_results(path, changed)
    return root, {f"{cell.values['lr']:g}": cell for cell in changed}


def test_every_outlet_names_the_same_cell(
    disputed: tuple[Path, dict[str, CellResult]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, cells = disputed
    folder, best = root / "sweeps/small", cells["0.001"]
    by = {name: max(cells.values(), key=lambda c: c.scores.get(name) or 0) for name in best.scores}
    assert len({by["dino"].cell, by["quality_ratio"].cell, best.cell}) == 3  # they disagree

    found = recommendation_of(folder)
    assert found.cell is not None
    assert found.cell.cell == best.cell
    assert main([f"root={root}", "name=small", "action=report"]) == 0
    said = capsys.readouterr().out
    line = "lr = 1e-3 is recommended: of 3 settings"
    assert line in said
    assert found.command in said
    page = (folder / "report/index.html").read_text()
    assert "<h2>Learning rate 1e-3</h2>" in page
    assert found.command in page
    text = (folder / "report/verdicts.md").read_text()
    assert line in text
    assert found.command in text
    marked = (folder / "report/tables/cells.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in marked if "recommended" in row] == [best.cell]
    (own,) = compare_methods.contenders(load_record(folder, root / "sweeps/store"))
    assert own.point is not None
    assert [cell.cell for cell in own.point.cells] == [best.cell]

    runs = track.read_runs(folder)
    assert mlflow_tags(root) == {
        "charsweep.recommended": best.cell,
        "charsweep.recommended_run": runs[best.cell],
    }
    assert main(shlex.split(found.command)[3:]) == 0
    (export,) = folder.glob("export/*/export.json")
    assert read_json(export)["cell"] == best.cell
    story = ["action=story", "story.seeds=[0]", "runtime.tracking=false", *SCENES]
    assert main([f"root={root}", "name=small", *story]) == 0
    assert read_json(folder / "story/story.json")["drawn_by"]["cell"] == best.cell


SCENES = ["story.scenes=[{prompt: 'a picture of {subject} jumping', caption: 'She jumps.'}]"]


def mlflow_tags(root: Path) -> dict[str, Any]:
    import sqlite3

    with sqlite3.connect(root / "mlflow.db") as database:
        return dict(
            database.execute(
                "select key, value from experiment_tags where key like 'charsweep.recommended%'"
            ).fetchall()
        )
