"""Unions of sub-sweeps, several sweeps in one report, and adaptive searches."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_sweep import EVIL, PROMPTS, FakeSweep, scored, without_pdf

from charsweep.core.errors import StoreError
from charsweep.report import __main__, write_report_together
from charsweep.report.figures import axes, search_trials
from charsweep.report.figures.contact_sheets import company_sheet, forget, front_sheet
from charsweep.results import Point, Record, facts, judge, load_record, parts, recommend, verdict
from charsweep.results.advantages import advantages
from charsweep.results.cells_table import cells_table
from charsweep.results.compare_methods import comparison_table


@pytest.fixture
def union(tmp_path: Path) -> FakeSweep:
    """A rate grid at 40 steps and a steps grid at one rate; they share a cell."""
    sweep = FakeSweep(tmp_path, {"lr": [0.01, 0.001], "train_steps": [10, 20, 40]})
    steps = [
        sweep.add(lr=0.001, train_steps=n, scores=scored(0.51 - 0.1 * (40 - n) / 40))
        for n in (10, 20)
    ]
    # Last, because an added cell writes its trajectory's losses anew, as far as it goes.
    rates = [sweep.add(lr=lr, scores=scored(0.5 + lr * 10)) for lr in (0.01, 0.001)]
    sweep.sweep["parts"] = {
        "rates": {
            "question": "Which rate?",
            "axes": {"lr": [0.01, 0.001]},
            "fixed": {"train_steps": 40},
            "cells": [cell["cell"] for cell in rates],
        },
        "steps/<i>": {
            "question": f"How many steps? {EVIL}",
            "axes": {"train_steps": [10, 20, 40]},
            "fixed": {"lr": 0.001},
            "cells": [cell["cell"] for cell in (*steps, rates[1])],
        },
        "empty": {"question": "Nothing yet?", "axes": {"lr": [1]}, "cells": []},
    }
    return sweep


def recommended(record: Record) -> Point:
    point = recommend(record).point
    assert point is not None
    return point


def test_a_part_is_a_record_of_its_own_cells(union: FakeSweep) -> None:
    rates, steps = union.record().parts
    assert list(rates.axes) == ["lr"]
    assert [cell.values["lr"] for cell in rates.cells] == [0.001, 0.01]
    assert list(steps.axes) == ["train_steps"]
    assert recommended(steps).values == {"train_steps": 40}
    assert recommended(rates).values == {"lr": 0.01}
    # The steps' cells lie on one trajectory, seen as far as they ask for it.
    assert [len(curve.steps) for curve in steps.curves] == [40]
    assert {len(curve.steps) for curve in rates.curves} == {40}


def test_a_shorter_part_sees_less_of_a_trajectory(union: FakeSweep) -> None:
    union.sweep["parts"]["steps/<i>"]["cells"].pop()
    steps = union.record().parts[1]
    assert steps.curves[0].steps[-1] == 20


def test_every_part_has_its_section_and_files(union: FakeSweep) -> None:
    page = union.report(plots=True)
    assert re.findall(r'<section class="part" id="part-([^"]+)"', page) == ["rates", "steps--i-"]
    assert "Which rate?" in page
    assert "<script" not in page
    report = union.folder / "report"
    assert (report / "plots" / "rates" / "tuning-lr.png").exists()
    assert (report / "plots" / "steps--i-" / "loss.svg").exists()
    assert (report / "contact_sheets" / "steps--i-" / "sheet-train_steps.png").exists()
    assert not (report / "plots" / "tuning-lr.png").exists()  # plots belong to parts
    assert (report / "plots" / "pareto.svg").exists()  # fronts to the whole
    cells = (report / "tables" / "cells.csv").read_text().splitlines()
    assert len(cells) == 1 + len(union.cells)


def test_no_parts_no_sections_of_parts(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"lr": [0.01, 0.001]}, parts={})
    sweep.add(lr=0.01)
    sweep.add(lr=0.001)
    assert '<section class="part"' not in sweep.report()


# -- several sweeps --------------------------------------------------------------------------------


def two_sweeps(root: Path, **other: Any) -> tuple[FakeSweep, FakeSweep]:
    rates = FakeSweep(root, {"lr": [0.01, 0.001]}, name="rates")
    steps = FakeSweep(root, {"train_steps": [20, 40]}, name="steps", **other)
    for lr in (0.01, 0.001):
        rates.add(lr=lr, scores=scored(0.6))
    for number in (20, 40):
        steps.add(train_steps=number, scores=scored(0.6 + number / 400))["cell"] = f"s{number}"
    steps.cells.append(rates.cells[1] | {"trial": 7})  # both sweeps asked for it
    for sweep in (rates, steps):
        sweep.write()
    return rates, steps


def test_sweeps_together_are_one_report(tmp_path: Path) -> None:
    rates, steps = two_sweeps(tmp_path)
    final = tmp_path / "sweeps" / "both" / "report"
    with without_pdf():
        index = write_report_together("both", [rates.folder, steps.folder], rates.store, final)
    assert index == final / "index.html"
    page = index.read_text("utf-8")
    assert re.findall(r'id="part-([^"]+)"', page) == ["rates", "steps"]
    assert "not comparable" not in page
    assert len((final / "tables" / "cells.csv").read_text().splitlines()) == 1 + 4
    assert not (rates.folder / "report").exists()


def test_together_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rates, steps = two_sweeps(tmp_path)
    folders = [str(rates.folder), str(steps.folder)]
    with pytest.raises(SystemExit):
        __main__.main(folders)
    assert "--into" in capsys.readouterr().err
    with without_pdf():
        assert __main__.main([*folders, "--into", str(tmp_path / "both")]) == 0
    assert (tmp_path / "both" / "report" / "index.html").exists()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"exam": {"prompts": PROMPTS[:1], "seeds": [0, 1]}}, "exam's prompts and seeds"),
        ({"exam": {"prompts": PROMPTS, "seeds": [0]}}, "exam's prompts and seeds"),
        ({"character": {"name": "other", "images": [], "captions": []}}, "character"),
        ({"settings": {"models": {"encoders": {"dino": {"path": "x"}}}}}, "encoders"),
        ({"settings": {"metric": {"dino": {"size": 224}}}}, None),  # the first has no such metric
    ],
)
def test_what_makes_scores_incomparable_is_said(
    tmp_path: Path, change: dict[str, Any], what: str | None
) -> None:
    rates, steps = two_sweeps(tmp_path, **change)
    records = [load_record(sweep.folder, sweep.store) for sweep in (rates, steps)]
    notes = parts.together("both", records, rates.store).notes
    assert bool(notes) is (what is not None)
    if what is not None:
        assert "Scores of rates and steps are not comparable" in notes[0]
        assert what in notes[0]


BY = {"prompts": "p", "seeds": "s", "drawings": "d", "encoder dino": "e", "metric dino": "m"}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"prompts": "q"}, "the exam's prompts"),
        ({"seeds": "t"}, "the exam's seeds"),
        ({"drawings": "other", "prompts": "q"}, "the exam's prompts and the character's drawings"),
        ({"encoder dino": "f"}, "encoder dino"),
        ({"metric dino": "n"}, "metric dino"),
        ({"metric colour": "n"}, None),  # which only one of them has
    ],
)
def test_what_scores_are_measured_by_is_told_by_content(
    tmp_path: Path, change: dict[str, str], what: str | None
) -> None:
    rates, steps = two_sweeps(tmp_path)
    steps.cells.pop()
    for sweep, by in ((rates, BY), (steps, BY | change)):
        for cell in sweep.cells:
            cell["judged_by"] = by
    both = parts.together("both", [rates.record(), steps.record()], rates.store)
    found = f"not comparable: steps differs from rates in {what}."
    assert list(both.notes) == ([f"Scores of rates and steps are {found}"] if what else [])
    assert (recommend(both).point is None) is bool(what)


@pytest.mark.parametrize("told_by", ["settings", "cells"])
def test_nothing_is_crowned_where_nothing_compares(tmp_path: Path, told_by: str) -> None:
    other = {"name": "bea", "identifier": "Bea", "class_noun": "girl", "images": [], "captions": []}
    rates, steps = two_sweeps(tmp_path, character=other)
    steps.cells.pop()
    for sweep, drawings in ((rates, "a"), (steps, "b")) if told_by == "cells" else ():
        for cell in sweep.cells:
            cell["judged_by"] = BY | {"drawings": drawings}
    records = [rates.record(), steps.record()]
    both = parts.together("both", records, rates.store)

    found = verdict.judge(both)
    assert found.recommendation.point is None
    assert "So nothing is recommended over all of them." in found.recommendation.sentence
    assert (found.leaders, found.front, found.remarks) == ((), (), ())
    assert not any(found.marks(cell) for cell in both.cells)
    assert advantages(both) == ()
    assert comparison_table(both) is None
    table = cells_table(both, found)
    assert [row.kind for row in table.rows] == [""] * 4  # no untaught base: each has its own
    assert not any(entry.best for row in table.rows for entry in row.entries)
    assert [row.entries[1].text for row in table.rows] == ["rates", "rates", "steps", "steps"]

    final = tmp_path / "sweeps" / "both" / "report"
    with without_pdf():
        write_report_together("both", [rates.folder, steps.folder], rates.store, final)
    page, text = (final / "index.html").read_text(), (final / "verdicts.md").read_text()
    assert "UnicornGirl and Bea" in page
    joint = page.split('<section class="part"')[0] + page.split('id="tables"')[1]
    joint += text.split("## rates")[0] + text.split("## What failed")[1]
    assert not re.search(r"[Hh]ighest (score|identity|DINO)|Pareto|Advantages", joint)
    assert not list((final / "plots").glob("pareto*"))
    assert {file.name for file in (final / "tables").glob("*.csv")} == {"cells.csv"}
    # Each sweep is still judged by itself.
    for part in both.parts:
        assert recommended(part).label in page


def test_cells_of_the_same_values_are_not_taken_for_seeds_of_one(tmp_path: Path) -> None:
    """Two sweeps of one exam, with something else held at another value: rank 4 and rank 8."""
    low, high = (FakeSweep(tmp_path, {"lr": [0.01, 0.001]}, name=name) for name in ("low", "high"))
    for number, sweep in enumerate((low, high)):
        for lr in (0.01, 0.001):
            cell = sweep.add(lr=lr, scores=scored(0.6 + 0.1 * number + lr))
            cell["cell"] = f"{sweep.folder.name}-{lr}"
    both = parts.together("both", [low.record(), high.record()], low.store)
    assert recommended(both).label == "sweep high · lr 1e-2"
    assert len(recommended(both).cells) == 1


def test_cells_of_an_earlier_exam_are_left_out_and_said(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"lr": [0.01, 0.001]}, judged_by=[BY])
    sweep.add(lr=0.1, scores=scored(0.99))["judged_by"] = BY | {"seeds": "fewer"}
    sweep.add(lr=0.01, scores=scored(0.6))["judged_by"] = BY
    sweep.add(lr=0.001, scores=scored(0.5))["judged_by"] = BY | {"metric new": "n"}
    record = sweep.record()
    assert recommended(record).values == {"lr": 0.01}
    assert [note.partition(" that")[0] for note in record.notes] == ["Left out: 1 cell"]
    assert "Left out: 1 cell" in sweep.report()


def test_a_sweep_with_parts_brings_them(union: FakeSweep, tmp_path: Path) -> None:
    other = FakeSweep(tmp_path / "x", {"lr": [0.01]}, name="other")
    other.add(lr=0.01)["cell"] = "other"
    both = parts.together("both", [union.record(), other.record()], union.store)
    assert [part.sweep.name for part in both.parts] == ["fake/rates", "fake/steps/<i>", "other"]
    assert len(both.cells) == len(union.cells) + 1


def test_no_sweep_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No sweep was given"):
        write_report_together("both", [], tmp_path, tmp_path / "report")


# -- searches --------------------------------------------------------------------------------------


@pytest.fixture
def search(tmp_path: Path) -> FakeSweep:
    """Fifteen trials over a rate and a rank; the best score comes ninth."""
    sweep = FakeSweep(tmp_path, {}, search={"sampler": "tpe", "trials": 15})
    sweep.sweep["axes"] = {
        "lr": {"low": 1e-5, "high": 1e-1, "log": True},
        "method.rank": {"low": 1, "high": 64},
    }
    for number in range(15):
        score = 0.8 if number == 8 else 0.5 + number / 100
        state = "diverged" if number == 3 else "finished"
        values = {"lr": 10 ** -(5 - number / 4), "method.rank": 1 + (number * 7) % 60}
        sweep.add(state, **values, scores=scored(score, clip_t=0.3 - number / 1000))
    return sweep


@pytest.mark.slow
def test_a_search_is_dots_a_history_and_the_best(search: FakeSweep) -> None:
    page = search.report(plots=True)
    report = search.folder / "report"
    assert (report / "plots" / "history.png").exists()
    assert (report / "plots" / "tuning-lr.png").exists()
    assert "Every dot is a trial" in page
    assert "1e-5 to 1e-1, on a log scale" in page
    assert dict(facts.asked(search.record()))["search"] == "tpe, trials 15"
    sheets = {path.name for path in (report / "contact_sheets").glob("sheet-*.png")}
    assert sheets == {"sheet-front.png"}  # fifteen values side by side would say nothing
    assert not list((report / "plots").glob("heat-*"))


def test_the_recommended_trial_stands_first(search: FakeSweep) -> None:
    record = search.record()
    found = front_sheet(record, verdict.judge(record))
    assert found is not None
    assert found.columns[2].startswith("trial 8: ")


def test_trials_keep_their_order_and_shades(search: FakeSweep) -> None:
    trials = search_trials.trials_of(search.record())
    assert [cell.trial for cell in trials] == list(range(15))
    shades = [search_trials.shade(at, 15, 12) for at in range(15)]
    assert shades == sorted(shades)
    assert (shades[0], shades[-1]) == (0, 11)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(1e-5, 1e-2, [1e-5, 1e-4, 1e-3, 1e-2]), (1, 64, [1, 2, 5, 10, 20, 50]), (3, 4, [3, 4])],
)
def test_ticks_of_a_range(low: float, high: float, ticks: list[float]) -> None:
    assert axes.range_ticks(low, high) == pytest.approx(ticks)


def test_few_values_of_a_searched_axis_stand_side_by_side(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {}, search={"sampler": "nsga2"})
    sweep.sweep["axes"] = {"method.rank": {"low": 1, "high": 8}}
    for rank in (1, 2, 4):
        sweep.add(**{"method.rank": rank}, scores=scored(rank / 10))
    sweep.report()
    assert (sweep.folder / "report" / "contact_sheets" / "sheet-method-rank.png").exists()


def test_there_is_no_sheet_of_both_without_their_pictures(tmp_path: Path) -> None:
    """As where a report is made of MLflow alone, by an earlier version."""
    sweep = FakeSweep(tmp_path, {"lr": [1e-3, 1e-2]})
    for rate in (1e-3, 1e-2):
        sweep.add(lr=rate)["parts"] = {"together": ["gone/step-000001/set", "gone/base"]}
    record = sweep.record()
    assert company_sheet(record, judge(record)) is None
    folder = sweep.draw("both", "red")
    manifest = sweep.store / folder / "images.json"
    told = json.loads(manifest.read_text())
    told["prompts"] = [f"{prompt} ADDBASE one ADDCOL other" for prompt in told["prompts"]]
    manifest.write_text(json.dumps(told))
    forget()
    sweep.cells[0]["parts"] = {"together": [folder, "gone/base"]}
    sweep.cells[0]["scores"]["score"] = 1.0
    record = sweep.record()
    sheet = company_sheet(record, judge(record))
    assert sheet is not None
    assert sheet.rows == tuple(PROMPTS)
