"""Sweeps of a character in a place and with an object, from the command to report and story."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from helpers.small import ONE_IMAGE, pictures, small, sweep_of

from charsweep.__main__ import main
from charsweep.actions.export.write import export
from charsweep.actions.run import run
from charsweep.config import load_sweep
from charsweep.core.store import Store
from charsweep.core.store.files import read_json
from charsweep.core.system.images import open_image
from charsweep.results import CellResult, read_results

WORDS = (
    *ONE_IMAGE, "method=lora", "train_steps=2", "lr=1e-2", "runtime.workers=1",
    "runtime.tracking=false", "runtime.energy=false",
)  # fmt: skip
PARTS = (
    "exam.parts={{other:{{prompts:['a picture of a bear in {{other}}'],seeds:[0]}},"
    "together:{{prompts:['a picture of {{subject}} jumping with {{other}}'],seeds:[0,1]{size}}}}}"
)
PLACE = (*WORDS, "characters=[unicorn_girl,candyland]", "exam.kind=place", PARTS.format(size=""))
OBJECT = (
    *WORDS, "characters=[unicorn_girl,star_kite]", "exam.kind=object",
    PARTS.format(size=",size:[1.5,1]"),
)  # fmt: skip


def results(root: Path) -> list[CellResult]:
    return list(read_results(root / "sweeps" / "small" / "cells.jsonl").values())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one adapter has been taught a character and a place."""
    root = tmp_path_factory.mktemp("place")
    run(load_sweep(small(root, *PLACE, "company=together")))
    return root


@pytest.fixture(scope="module")
def object_(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where an adapter of each, a character and an object, have been put together."""
    root = tmp_path_factory.mktemp("object")
    run(load_sweep(small(root, *OBJECT)))
    return root


def test_a_cell_in_a_place_is_compared_by_the_worst_of_three(place: Path) -> None:
    (cell,) = results(place)
    assert cell.finished
    names = ("first_score", "other_score", "together")
    assert cell.scores["score"] == min(cell.scores[name] for name in names)
    assert cell.scores["both"] + cell.scores["missing"] == 1
    assert not {"swapped", "merged", "nearest", "other_leak"} & set(cell.scores)
    images = Store(place).folder / cell.parts["together"][0]
    assert {open_image(path).size for path in images.glob("*.png")} == {(64, 64)}
    prompts = read_json(images / "images.json")["spec"]["prompts"]
    assert prompts == ["a picture of UnicornGirl jumping with Candyland"]


def test_table_and_report_show_both_in_one_picture(place: Path) -> None:
    folder = place / "sweeps" / "small"
    with (folder / "cells.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert {"together", "both", "missing", "other_score"} <= set(row)
    assert not {"swapped", "merged", "nearest"} & set(row)
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "Both in one picture" in page
    assert "UnicornGirl and Candyland" in page


def test_a_story_is_told_in_a_place(place: Path) -> None:
    story = ["action=story", "name=small", f"root={place}", "story=candyland_day"]
    assert main([*story, "story.seeds=[0,1]", "runtime.tracking=false"]) == 0
    record = read_json(place / "sweeps/small/story/story.json")
    assert record["title"] == "UnicornGirl in Candyland"
    assert [scene["prompt"] for scene in record["scenes"]][:2] == [
        "a picture of Candyland with nobody in it", "a picture of UnicornGirl walking in Candyland",
    ]  # fmt: skip
    likeness = [one["dino"] for scene in record["scenes"] for one in scene["candidates"]]
    assert len(likeness) == 12
    assert len(set(likeness)) > 1


def test_one_adapter_of_both_is_exported(place: Path) -> None:
    (cell,) = results(place)
    folder = export(sweep_of(place, *PLACE, "company=together", f"export.cell={cell.cell}"))
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "It knows a character and a place, from 6 and 6 drawings" in card
    assert "**Candyland** for the other" in card


def test_a_character_and_an_object_are_put_together(object_: Path) -> None:
    found = {
        (one.values["strength"], one.values["other_strength"]): one for one in results(object_)
    }
    assert set(found) == {(1, 0), (0, 1), (1, 1)}
    both = found[1, 1]
    assert both.scores["both"] + both.scores["swapped"] + both.scores["missing"] == 1
    assert "merged" not in both.scores
    assert len(pictures(Store(object_).folder / both.parts["together"][0])) == 2
    folder = export(sweep_of(object_, *OBJECT, f"export.cell={both.cell}"))
    assert {path.name for path in folder.iterdir() if path.is_dir()} >= {"UnicornGirl", "StarKite"}
    assert "| StarKite | 1 |" in (folder / "README.md").read_text(encoding="utf-8")
