"""How far scores agree with votes, and what votes give to the recommendation, tables and report."""

from __future__ import annotations

import csv
import html
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_sweep import FakeSweep
from helpers.voting import vote

from charsweep.results import recommend
from charsweep.results.agreement import agreement_table, agreements, votes_said
from charsweep.results.candidates import LEAST, MOST, candidates_of, preferences_of
from charsweep.results.parts import together
from charsweep.results.read import load_cells
from charsweep.results.votes import FILE, Vote, Votes
from charsweep.results.write import write_cells

RATES = [1e-4, 1e-3, 1e-2]
SAME = [[0.5, 0.5], [0.5, 0.5]]


def sweep_of(root: Path, scores: Sequence[float] = (0.2, 0.8, 0.5), **more: Any) -> FakeSweep:
    """Three rates whose images have these scores, one score less in another seed."""
    made = FakeSweep(root, {"lr": RATES}, **more)
    for lr, score in zip(RATES, scores, strict=True):
        cell = made.add(lr=lr, scores={"score": score, "copy": 1 - score, "leak": score})
        cell["per_image"] = {"score": [[score, score - 0.1], [score, score + 0.1]], "dino": SAME}
        cell["per_image"]["leak"] = [[1 - score] * 2] * 2  # of another exam's images
    made.write()
    return made


def voted(sweep: FakeSweep, *winners: tuple[int, int], times: int = 1, **more: Any) -> list[Vote]:
    """Votes for the first of two cells, by number."""
    keys = [cell["cell"] for cell in sweep.cells]
    cast = [vote(keys[a], keys[b], **more) for _ in range(times) for a, b in winners]
    for one in cast:
        Votes(sweep.folder / FILE).add(one)
    return cast


def test_a_score_agrees_where_it_ranks_the_images_that_were_shown_alike(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    voted(sweep, (1, 0), (1, 2), times=4)
    voted(sweep, (2, 1), times=2)
    voted(sweep, (0, 1), answer="tie")
    found = {one.metric: one for one in agreements(sweep.record())}
    assert (found["score"].agreed, found["score"].told) == (8, 10)
    assert (found["copy"].agreed, found["copy"].told) == (8, 10)  # the lower the better
    assert (found["leak"].agreed, found["leak"].told) == (2, 10)  # of the cells: the lower
    assert "dino" not in found  # it tells no image from another
    low, high = found["score"].interval
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Wilson's of 8 of 10


def test_the_image_counts_and_not_its_cell(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, (0.5, 0.55, 0.5))
    voted(sweep, (0, 1), seed=1, prompt=1)  # .6 against .65 there
    sweep.cells[1]["per_image"]["score"] = [[0.9, 0.9], [0.9, 0.1]]
    found = {one.metric: one for one in agreements(sweep.record())}
    assert (found["score"].agreed, found["score"].told) == (1, 1)
    elsewhere = replace(
        sweep.record(), votes=(vote(*(c["cell"] for c in sweep.cells[:2]), seed=9),)
    )
    assert {one.metric: one.agreed for one in agreements(elsewhere)}["score"] == 0  # by the cells


def test_the_number_to_trust_is_named_once_votes_say_something(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    assert votes_said(sweep.record()) == ()
    assert agreement_table(sweep.record()) is None
    voted(sweep, (1, 0))
    (only,) = votes_said(sweep.record())
    assert only.startswith("These votes say nothing yet: 1 vote ")
    voted(sweep, (1, 0), (1, 2), times=12)
    says, trust = votes_said(sweep.record())
    assert says.startswith("lr = 1e-3 is best with ")
    assert trust.startswith("The numbers to trust for this character are score")
    assert "copy" in trust
    assert "each ranks 25 of 25 decided pairs as people did (100%; 87% to 100%)" in trust
    table = agreement_table(sweep.record())
    assert table is not None
    assert table.notes[0].startswith("25 decided pairs, by one person.")


def test_scores_that_disagree_are_not_to_be_trusted(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    for metric in sweep.sweep["metrics"]:
        for cell, value in zip(sweep.cells, (0.9, 0.1, 0.9), strict=True):
            cell["scores"][metric] = 1 - value if metric == "copy" else value
            cell["per_image"] = {}
    voted(sweep, (1, 0), (1, 2), times=12)
    trust = votes_said(sweep.record())[1]
    assert trust.startswith("No score agrees with the votes by more than chance would")


# -- the recommendation ----------------------------------------------------------------------------


def test_decisive_votes_count_above_scores_and_that_is_said(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    by_score = recommend(sweep.record())
    assert by_score.label == "lr = 1e-3"
    voted(sweep, (0, 1), times=3)
    unsure = recommend(sweep.record())
    assert unsure.point is not None
    assert (unsure.label, unsure.reason) == (by_score.label, by_score.reason)
    assert unsure.doubts[-1].startswith("Votes: These votes say nothing yet: 3 votes ")
    voted(sweep, (0, 1), (0, 2), times=12)
    found = recommend(sweep.record())
    assert found.cell is not None
    assert found.cell.cell == sweep.cells[0]["cell"]
    assert found.reason.startswith("preferred by people: best with ")
    assert "after 27 votes" in found.sentence
    assert "Votes count above scores, which name lr = 1e-3 (score 0.800 ± 0.100)." in found.doubts
    assert found.sure


def test_votes_that_cannot_tell_take_the_cheaper(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"train_steps": [10, 20, 40]})
    for steps, score in ((10, 0.2), (20, 0.5), (40, 0.8)):
        sweep.add(train_steps=steps, scores={"score": score})
    sweep.write()
    voted(sweep, (1, 0), (2, 0), (1, 2), (1, 0), (2, 0), (2, 1), times=25)
    found = recommend(sweep.record())
    assert found.label == "train_steps = 20"
    assert found.reason == "150 votes cannot tell train_steps = 40 from it, and it is cheaper"
    assert [point.label for point in found.alike] == ["train_steps = 40"]
    assert not found.sure


def test_votes_are_the_answer_where_nothing_has_a_score(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"method": ["gan", "diffusion"]})
    for method in ("gan", "diffusion"):
        sweep.add(method=method, scores={"score": None})
    sweep.write()
    assert recommend(sweep.record()).point is None
    voted(sweep, (1, 0), times=20)
    found = recommend(sweep.record())
    assert found.label == "method = diffusion"
    assert found.command.endswith("action=export name=fake")


def test_what_breaks_a_constraint_cannot_be_voted_for(tmp_path: Path) -> None:
    settings = {"constraints": {"dino": {"least": 0.5, "most": None}}}
    sweep = sweep_of(tmp_path, settings=settings)
    for cell, dino in zip(sweep.cells, (0.1, 0.9, 0.9), strict=True):
        cell["scores"]["dino"] = dino
    voted(sweep, (0, 1), (0, 2), times=20)
    assert recommend(sweep.record()).label == "lr = 1e-3"
    assert preferences_of(sweep.record()).votes == 0


def test_scores_shortlist_and_say_nothing_of_the_rest(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"lr": [at * 1e-4 for at in range(1, 41)]})
    for at in range(1, 41):
        sweep.add(lr=at * 1e-4, scores={"score": at / 50})
    sharp = candidates_of(sweep.record())
    assert [one.label for one in sharp if one.is_rival] == [
        f"lr = {at / 10:g}e-3" for at in range(35, 41)
    ]
    assert len([one for one in sharp if one.is_rival]) == LEAST
    for cell in sweep.cells:  # images so unlike each other that nothing is told apart
        cell["per_image"]["score"] = [[0.0, 0.0], [2 * cell["scores"]["score"]] * 2]
    assert len([one for one in candidates_of(sweep.record()) if one.is_rival]) == MOST


def test_votes_stay_when_the_sweep_grows_and_count_in_another_that_has_the_cells(
    tmp_path: Path,
) -> None:
    sweep = sweep_of(tmp_path)
    voted(sweep, (0, 1), (0, 2), times=12)
    before = preferences_of(sweep.record())
    sweep.add(lr=1e-1, scores={"score": 0.1})
    grown = preferences_of(sweep.record())
    assert grown.votes == before.votes == 24
    assert grown.strengths == pytest.approx(before.strengths) or grown.taken is not None
    assert grown.best is not None
    assert grown.best.label == "lr = 1e-4"
    other = sweep_of(tmp_path / "elsewhere")
    assert Votes(other.folder / FILE).merge(sweep.folder / FILE) == 24
    assert recommend(other.record()).label == "lr = 1e-4"
    both = together("both", [sweep.record(), other.record()], sweep.store)
    assert len(both.votes) == 24  # each once


# -- tables and pages ------------------------------------------------------------------------------


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_tables_have_the_preference_and_its_interval(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    results = list(load_cells(sweep.folder, sweep.store).cells)
    write_cells(sweep.folder, sweep.store, results)
    assert "preference" not in rows(sweep.folder / "cells.csv")[0]
    voted(sweep, (0, 1), times=6)
    write_cells(sweep.folder, sweep.store, results)
    liked, other, unvoted = rows(sweep.folder / "cells.csv")
    low, value, high = (
        float(liked[name]) for name in ("preference_low", "preference", "preference_high")
    )
    assert 0.5 < value < high < 1
    assert low < value
    assert float(other["preference"]) < 0.5
    assert unvoted["preference"] == ""


def test_page_paper_and_markdown_say_what_people_prefer(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    cast = voted(sweep, (0, 1), (0, 2), times=12, voter="<b>ann</b>")
    record = sweep.record()
    page = html.unescape(sweep.report(pdf=True))
    text = (sweep.folder / "report/verdicts.md").read_text(encoding="utf-8")
    for said in votes_said(record):
        assert said in page
    assert "## What people prefer" in text
    assert "<b>ann" not in page
    tables = sweep.folder / "report/tables"
    assert {row["metric"] for row in rows(tables / "agreement.csv")} >= {"score", "copy"}
    assert "preference" in rows(tables / "cells.csv")[0]
    assert "preference" in rows(tables / "comparison.csv")[0]
    assert Votes(tables / FILE).read() == tuple(cast)
    if shutil.which("pdftotext"):
        command = ["pdftotext", str(sweep.folder / "report/report.pdf"), "-"]
        paper = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "What people prefer" in paper
        assert "How far each score agrees with people" in paper


def test_cells_that_do_not_compare_are_voted_on_apart(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    for cell, prompts in zip(sweep.cells, ("p", "p", "q"), strict=True):
        cell["judged_by"] = {"prompts": prompts}
    voted(sweep, (0, 1), (0, 2), times=12)
    record = sweep.record()
    assert candidates_of(record) == ()
    assert recommend(record).point is None
