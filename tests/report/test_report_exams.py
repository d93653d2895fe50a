"""A sweep whose cells do not all compare: each exam is a part with an answer and references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.fake_sweep import BASE, PROMPTS, FakeSweep, scored

from charsweep.core.errors import StoreError
from charsweep.results import recommend, verdict
from charsweep.results.cells_table import cells_table
from charsweep.results.parts import together
from charsweep.results.recommendation import recommended_cell
from charsweep.results.unlike import groups

MIA = {"prompts": "p", "seeds": "s", "drawings": "d"}
BEA = MIA | {"drawings": "e"}
NO_PROMPTS = {"seeds": "s", "drawings": "d"}  # of a method that reads none


def exam(name: str, by: dict[str, str], sweep: FakeSweep) -> dict[str, Any]:
    """What sweep.json says of cells that compare."""
    character = {**sweep.sweep["character"], "name": name, "identifier": name.title()}
    untaught = {"scores": BASE, "images": sweep.draw(f"base-{name}--0/step-000000/exam", "gray")}
    return {
        "name": f"character {name}", "judged_by": by, "character": character,
        "exam": {"prompts": [f"{name}: {prompt}" for prompt in PROMPTS], "seeds": [0, 1]},
        "references": {"base": {"sdxl": untaught}, "truth": None, "real": {"dino": 0.9}},
    }  # fmt: skip


@pytest.fixture
def two(tmp_path: Path) -> FakeSweep:
    """Two characters at two rates; the best rate of one is the worst of the other."""
    sweep = FakeSweep(tmp_path, {"character": ["mia", "bea"], "lr": [0.01, 0.001]})
    for name, by, best in (("mia", MIA, 0.01), ("bea", BEA, 0.001)):
        for lr in (0.01, 0.001):
            score = 0.7 if lr == best else 0.5
            sweep.add(character=name, lr=lr, scores=scored(score))["judged_by"] = by
    sweep.sweep["judged_by"] = [MIA, BEA]
    sweep.sweep["exams"] = [exam("mia", MIA, sweep), exam("bea", BEA, sweep)]
    return sweep


def test_every_exam_is_a_part_with_an_answer(two: FakeSweep) -> None:
    record = two.record()
    assert (record.sweep.prompts, record.sweep.bases, record.sweep.truth) == ((), {}, None)
    assert record.sweep.character.identifier == "Mia and Bea"
    mia, bea = record.parts
    assert [part.sweep.name for part in (mia, bea)] == ["character mia", "character bea"]
    assert list(mia.axes) == list(bea.axes) == ["lr"]
    assert bea.sweep.prompts == tuple(f"bea: {prompt}" for prompt in PROMPTS)
    assert bea.sweep.character.identifier == "Bea"
    found = recommend(record)
    assert found.point is None
    assert [own.label for _, own in found.each] == ["lr = 1e-2", "lr = 1e-3"]
    assert found.sentence.endswith(
        "Of character mia: lr = 1e-2 is recommended. Of character bea: lr = 1e-3 is recommended."
    )
    labels = [label for label, _ in found.lines()]
    assert labels.count("of") == labels.count("take it") == 2
    told = verdict.judge(record)
    assert not any(told.marks(cell) for cell in record.cells)
    assert not any(e.best for row in cells_table(record, told).rows for e in row.entries)


def test_what_is_taken_must_be_named(two: FakeSweep) -> None:
    two.write()
    results = {cell.cell: cell for cell in two.record().cells}
    with pytest.raises(StoreError, match="Name one") as refused:
        recommended_cell(two.folder, results, "Name one.")
    for name, own in recommend(two.record()).each:
        assert own.cell is not None
        assert f"Of {name}: {own.cell.cell}." in str(refused.value)
        assert (
            own.command
            == f"python -m charsweep action=export name=fake export.cell={own.cell.cell}"
        )


def test_the_report_has_a_chapter_and_sheets_for_each(two: FakeSweep) -> None:
    page = two.report(plots=True)
    joint, *chapters = page.split('<section class="part"')
    assert len(chapters) == 2
    assert "<li>Of character mia: lr = 1e-2 is recommended.</li>" in joint
    report = two.folder / "report"
    for name in ("character-mia", "character-bea"):
        assert (report / "contact_sheets" / name / "sheet-lr.png").exists()
        assert (report / "plots" / name / "tuning-lr.png").exists()
    assert not list(report.glob("contact_sheets/*/sheet-character*"))  # none mixes characters
    assert not list((report / "plots").glob("pareto*"))
    for name in ("mia", "bea"):
        assert f"The exam of character {name}: 2 prompts × 2 seeds" in page
        assert f"{name}: {PROMPTS[0]}" in page


def test_a_method_without_prompts_is_in_every_exam_that_it_fits(two: FakeSweep) -> None:
    gan = two.add(character="mia", method="gan", scores=scored(0.1))
    gan["judged_by"] = NO_PROMPTS
    mia, bea = two.record().parts
    assert gan["cell"] in {cell.cell for cell in mia.cells}
    assert gan["cell"] not in {cell.cell for cell in bea.cells}


def test_parts_are_parted_by_exam_only_where_they_must(two: FakeSweep) -> None:
    keys = [cell["cell"] for cell in two.cells]
    two.sweep["parts"] = {
        "both": {"question": "Whom?", "axes": two.axes, "cells": keys},
        "one": {"question": "Mia?", "axes": {"lr": [0.01, 0.001]}, "cells": keys[:2]},
    }
    record = two.record()
    names = ["both/character mia", "both/character bea", "one"]
    assert [part.sweep.name for part in record.parts] == names
    assert record.parts[2].sweep.character.identifier == "Mia"
    assert [name for name, _ in recommend(record).each] == ["character mia", "character bea"]


def test_such_a_sweep_together_with_another(two: FakeSweep, tmp_path: Path) -> None:
    other = FakeSweep(tmp_path / "x", {"lr": [0.01]}, name="other")
    cell = other.add(lr=0.01)
    cell["cell"], cell["judged_by"] = "other", MIA
    both = together("both", [two.record(), other.record()], two.store)
    assert [part.sweep.name for part in both.parts] == [
        "fake/character mia", "fake/character bea", "other"
    ]  # fmt: skip
    assert recommend(both).point is None
    assert len(recommend(both).each) == 3


@pytest.mark.parametrize(
    ("known", "count"),
    [([], 0), ([MIA], 1), ([MIA, NO_PROMPTS], 1), ([NO_PROMPTS, MIA, BEA], 2), ([MIA, BEA, MIA], 2),
     ([MIA, MIA | {"metric dino": "m"}, MIA | {"metric clip_t": "n"}], 1)],
)  # fmt: skip
def test_groups_of_what_compares(known: list[dict[str, str]], count: int) -> None:
    assert len(groups(known)) == count
