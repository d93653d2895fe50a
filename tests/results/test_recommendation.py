"""The recommendation: its rule, its doubts, and that whatever speaks of it names the same cell."""

from __future__ import annotations

import csv
import html
import itertools
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fake_sweep import FakeSweep, result
from helpers.small import loaded_after, small
from helpers.voting import vote
from optuna import load_study

from charsweep.__main__ import main
from charsweep.core.errors import ConfigError, StoreError
from charsweep.core.store.files import read_json
from charsweep.results import (
    CellResult,
    Recommendation,
    compare_methods,
    judge,
    load_record,
    read_results,
    recommend,
    write_results,
)
from charsweep.results.cells import by_prompt, named_cell
from charsweep.results.points import Point, difference
from charsweep.results.read import with_strength
from charsweep.results.recommendation import recommendation_of, recommended_cell
from charsweep.results.table import escape_markdown
from charsweep.results.votes import FILE, Votes
from charsweep.track import process as track
from charsweep.track.ui_view import note_with_verdict

PER_PROMPT = 2  # FakeSweep's exam has two seeds


def recommended(sweep: FakeSweep) -> Recommendation:
    return recommend(sweep.record())


def add(
    sweep: FakeSweep,
    images: Sequence[float] | None,
    identity: Sequence[float] | None = None,
    **values: Any,
) -> dict[str, Any]:
    """A finished cell with a score for every image; None: a method that has none. Its identities
    are the scores, unless they are given."""
    known = {"score": images, "identity": images if identity is None else identity}
    own = {name: rows for name, rows in known.items() if rows is not None}
    means = {name: float(np.mean(rows)) for name, rows in own.items()}
    cell = sweep.add(**values, scores={"score": None, "identity": None, **means})
    cell["per_image"] = {name: by_prompt(rows, PER_PROMPT) for name, rows in own.items()}
    return cell


def of_scores(root: Path, **images: Sequence[float]) -> FakeSweep:
    """A sweep over methods, each with the scores of its images."""
    sweep = FakeSweep(root, {"method": list(images)})
    for method, scores in images.items():
        add(sweep, scores, method=method)
    return sweep


HIGH, LOW = [0.9, 0.8, 0.7, 0.8, 0.9, 0.9], [0.1, 0.2, 0.3, 0.0, 0.1, 0.2]


def test_the_highest_score_is_named_and_sure_where_all_others_are_told_apart(
    tmp_path: Path,
) -> None:
    sweep = of_scores(tmp_path, copies=LOW, right=HIGH)
    add(sweep, None, method="unscored")
    sweep.add("failed", method="gone")
    found = recommended(sweep)
    assert found.label == "method = right"
    assert found.sure
    assert found.reason == "sure, the other is worse by more than chance would do"
    assert found.evidence.startswith("score 0.833 ± ")
    assert found.doubts[0].startswith("The next, method = copies, scores 0.683 ± ")
    assert found.costs == ("40 training steps", "25 s of training by itself", "0.3 MB of weights")
    assert found.command == "python -m charsweep action=export name=fake"


def test_images_are_compared_in_pairs(tmp_path: Path) -> None:
    """Prompts that are hard for both make their means overlap; they are told apart all the same."""
    hard = [0.9, 0.9, 0.5, 0.5, 0.1, 0.1]
    a_little_worse = [score - 0.05 for score in hard]
    found = recommended(of_scores(tmp_path, better=hard, worse=a_little_worse))
    assert (found.label, found.sure) == ("method = better", True)
    mixed = [0.6, 0.6, 0.9, 0.9, 0.0, 0.0]  # as far below in the mean
    found = recommended(of_scores(tmp_path / "mixed", better=hard, other=mixed))
    assert [point.label for point in found.alike] == ["method = other"]
    assert not found.sure


def test_what_left_a_race_is_compared_by_the_images_that_both_drew() -> None:
    """The first of each prompt: that the second ones were easier for it is nothing to the other."""
    whole, left = (
        Point(
            {},
            (result(cell=str(rows), values={}, scores={"score": 0.5}, per_image={"score": rows}),),
        )
        for rows in ([[0.5, 0.9], [0.3, 0.9]], [[0.4], [0.2]])
    )
    found = difference(whole, left, "score")
    assert found.value == pytest.approx(0.1)
    assert found.error == pytest.approx(0.0)
    assert difference(left, whole, "score").value == pytest.approx(-0.1)


def test_cells_from_before_strength_was_an_axis_stand_at_1() -> None:
    """So that they lie on one axis with those of the command that varies it."""
    before = result(cell="a", base="sdxl", values={"lr": 1e-3})
    half = result(cell="b", base="sdxl", values={"lr": 1e-3, "strength": 0.5})
    gan = result(cell="c", base="", values={"lr": 1e-3})
    told = [one.values.get("strength") for one in with_strength([before, half, gan])]
    assert told == [1, 0.5, None]
    assert with_strength([before, gan]) == [before, gan]


def test_seeds_of_one_prompt_are_no_independent_images(tmp_path: Path) -> None:
    """Two prompts decide, however often each is drawn."""
    left = [0.9] * PER_PROMPT + [0.5] * PER_PROMPT
    right = [0.5] * PER_PROMPT + [0.7] * PER_PROMPT
    found = recommended(of_scores(tmp_path, a=left, b=right))
    assert found.alike  # the mean differs by 0.1, and the two prompts disagree


@pytest.mark.parametrize(("less", "named"), [(0.002, 40), (0.02, 100)])
def test_a_difference_that_nobody_sees_is_none_however_sure(
    tmp_path: Path, less: float, named: int
) -> None:
    """In 40 and 100 inference steps images hardly differ, but every one a bit to one side."""
    sweep = FakeSweep(tmp_path, {"inference_steps": [10, 40, 100]})
    images = [0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    for steps, loss in ((10, 0.3), (40, less), (100, 0)):
        add(sweep, [value - loss for value in images], inference_steps=steps)
    found = recommended(sweep)
    assert found.label == f"inference_steps = {named}"
    assert found.sure is (named == 100)


def test_of_what_cannot_be_told_apart_the_cheapest_is_named(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"train_steps": [10, 20, 40, 80]})
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (3, 6))
    add(sweep, LOW, train_steps=10)
    for steps, row in zip((20, 40, 80), noise, strict=True):
        cell = add(sweep, [0.8 + value for value in row], train_steps=steps)
        cell["train_seconds"] = steps / 2
    found = recommended(sweep)
    assert found.label == "train_steps = 20"
    assert [point.label for point in found.alike] == ["train_steps = 80", "train_steps = 40"] or (
        [point.label for point in found.alike] == ["train_steps = 40", "train_steps = 80"]
    )
    assert "and cheaper: up to 60 training steps (30 s of training) less" in found.reason


def test_of_what_the_score_cannot_tell_apart_the_more_alike_is_named(tmp_path: Path) -> None:
    """What one image lacks of its prompt hides that all are more like the character."""
    sweep = FakeSweep(tmp_path, {"train_steps": [10, 20, 40]})
    images = np.array([0.7, 0.75, 0.8, 0.85, 0.9, 0.85])
    for steps, gain, shown in ((10, 0, 1), (20, 0.08, 0.6), (40, 0.081, 0.6)):
        asked = np.array([1, 1, 1, 1, 1, shown])
        add(sweep, (images + gain) * asked, identity=images + gain, train_steps=steps)
    found = recommended(sweep)
    assert found.label == "train_steps = 20"
    assert {point.label for point in found.alike} == {"train_steps = 10", "train_steps = 40"}
    assert "as good as train_steps = 40" in found.reason
    assert found.reason.endswith("; train_steps = 10, no dearer, is lower in identity")


def test_of_equally_cheap_ones_the_more_alike_is_named_though_another_scores_higher(
    tmp_path: Path,
) -> None:
    """And no training seed is asked for to tell what identity tells."""
    sweep = FakeSweep(tmp_path, {"strength": [0.8, 1.0, 1.2]})
    images = np.array([0.7, 0.75, 0.8, 0.85, 0.9, 0.85])
    noise = np.array([0.06, -0.06, 0.05, -0.05, 0.08, -0.06])
    for strength, less, alike in ((0.8, 0.0, 0.5), (1.0, 0.002, 0.7), (1.2, 0.05, 0.9)):
        shown = images - less + noise * strength
        add(sweep, shown, identity=np.full(6, alike), strength=strength)
    found = recommended(sweep)
    assert found.label == "strength = 1"
    assert "no worse in score than strength = 0.8" in found.reason
    assert "; strength = 0.8, no dearer, is lower in identity" in found.reason
    assert "strength = 1.2, no dearer" not in found.reason
    assert not any("seed" in step.text for step in found.next_steps)


def test_inference_steps_are_saved_too(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"inference_steps": [10, 100]})
    for steps in (10, 100):
        add(sweep, HIGH, inference_steps=steps)["sample_seconds"] = steps / 10
    found = recommended(sweep)
    assert found.label == "inference_steps = 10"
    assert "up to 90 inference steps (90% of the drawing time) less" in found.reason


def test_rivals_of_the_same_price_ask_for_more_training_seeds(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"lr": [1e-3, 2e-3]})
    add(sweep, [0.8, 0.8, 0.9, 0.9, 0.7, 0.7], lr=1e-3)
    add(sweep, [0.75, 0.75, 0.7, 0.7, 0.72, 0.72], lr=2e-3)
    found = recommended(sweep)
    why = "highest in score, though lr = 2e-3 cannot be told from it by these images"
    assert found.reason == why
    assert found.next_steps[-1].text == "It is too close to call on 1 training seed; 3 may tell."
    words = shlex.split(found.next_steps[-1].command)
    assert words[3:] == ["+sweep=fake", "++axes.lr=[1e-3,2e-3]", "seeds=3"]


def test_equal_scores_are_ties_that_no_seed_would_part(tmp_path: Path) -> None:
    for order in itertools.permutations((0.001, 0.01, 0.1)):
        sweep = FakeSweep(tmp_path / str(order), {"lr": list(order)})
        for lr in order:
            add(sweep, HIGH, lr=lr)
        found = recommended(sweep)
        assert found.label == "lr = 1e-3"
        assert len(found.alike) == 2
        assert not any("seed" in step.text for step in found.next_steps)


def test_what_hardly_draws_the_character_is_said(tmp_path: Path) -> None:
    sweep = of_scores(tmp_path, a=[0.1, 0.1, 0.3, 0.3, 0.0, 0.0])  # 0.133 ± 0.176
    sweep.cells[0]["gains"]["score"] = 0.1
    found = recommended(sweep)
    assert any("It hardly draws the character" in doubt for doubt in found.doubts)
    assert " is the best so far: " in found.sentence
    sweep.cells[0]["gains"]["score"] = 0.2
    assert " is recommended: " in recommended(sweep).sentence
    assert not any("hardly draws" in doubt for doubt in recommended(sweep).doubts)


def test_what_is_not_taught_is_to_be_taught_more_and_nothing_else(tmp_path: Path) -> None:
    """Gaps and seeds tell nothing of images that the base draws as well; nor is any rate out."""
    sweep = FakeSweep(tmp_path, {"lr": [1e-5, 1e-3]})
    for lr, score in {1e-5: 0.1, 1e-3: 0.12}.items():
        add(sweep, [score, 0.0, 0.3, 0.1, 0.0, 0.2], lr=lr)["gains"]["score"] = 0.01
    (step,) = recommended(sweep).next_steps
    assert "200 and 400 training steps may teach it, or another learning rate" in step.text
    *_, lr, steps = shlex.split(step.command)
    assert (lr, steps) == ("++axes.lr=[1e-5,1e-3]", "++axes.train_steps=[200,400]")


def test_what_else_teaching_did_is_said(tmp_path: Path) -> None:
    sweep = of_scores(tmp_path, a=HIGH)
    sweep.cells[0]["scores"] |= {"leak": 0.7, "flexibility": 0.3}
    sweep.cells[0]["per_image"] |= {"leak": [[0.6], [0.7], [0.8]]}
    texts = " ".join(recommended(sweep).doubts)
    assert "turns every girl into the character (leak 0.700 of 1)" in texts
    assert "method.prior_weight=1" in texts
    assert "hardly changes when asked to (flexibility 0.300 of 1)" in texts


@pytest.mark.parametrize(("others", "reason"), [(1, "each of the 2 others"), (0, "the other")])
def test_what_left_a_race_is_counted_and_never_named(
    tmp_path: Path, others: int, reason: str
) -> None:
    """Whatever it scored by its first images."""
    sweep = of_scores(tmp_path, right=HIGH, **({"copies": LOW} if others else {}))
    left = add(sweep, [1.0] * 6, method="left")
    left |= {"state": "left", "left_after": [6, 24]}
    found = recommended(sweep)
    assert found.label == "method = right"
    assert found.sure
    assert found.reason == f"sure, {reason} is worse by more than chance would do"
    said = "1 setting left the race, worse beyond doubt by its first images; search=grid draws"
    assert any(doubt.startswith(said) for doubt in found.doubts)
    assert "1 left the race: method = left" in judge(sweep.record()).rest


def test_what_does_not_keep_the_constraints_is_left_out(tmp_path: Path) -> None:
    sweep = of_scores(tmp_path, greedy=HIGH, modest=[score - 0.1 for score in HIGH])
    sweep.cells[0]["scores"]["leak"], sweep.cells[1]["scores"]["leak"] = 0.6, 0.1
    assert recommended(sweep).label == "method = greedy"
    sweep.sweep["settings"]["constraints"] = {"leak": {"least": None, "most": 0.3}}
    found = recommended(sweep)
    assert found.label == "method = modest"
    assert "Left out: 1 of 2 settings, which do not keep to leak ≤ 0.3." in found.doubts
    sweep.sweep["settings"]["constraints"]["leak"]["most"] = 0.01
    found = recommended(sweep)
    assert found.label == "method = greedy"
    assert any("No setting keeps to leak ≤ 0.01" in doubt for doubt in found.doubts)


def test_the_end_of_an_axis_and_a_gap_are_said_with_a_command_that_extends_it(
    tmp_path: Path,
) -> None:
    sweep = FakeSweep(tmp_path, {"lr": [1e-4, 1e-3, 1e-2], "train_steps": [10, 40]})
    for lr, steps in itertools.product((1e-4, 1e-3, 1e-2), (10, 40)):
        add(sweep, HIGH if (lr, steps) == (1e-3, 40) else LOW, lr=lr, train_steps=steps)
    gap, end = recommended(sweep).next_steps
    assert gap.text == (
        "The best learning rate lies at 1e-3, and nothing else between 1e-4 and 1e-2 was tried: "
        "2e-4, 5e-4, 2e-3 and 5e-3 may do better."
    )
    assert shlex.split(gap.command)[3:] == [
        "+sweep=fake", "++axes.train_steps=[40]", "++axes.lr=[2e-4,5e-4,2e-3,5e-3]",
    ]  # fmt: skip
    assert end.text.startswith("The best number of training steps lies at 40, and ")
    assert "it is the largest tried" in end.text
    assert shlex.split(end.command)[3:] == [
        "+sweep=fake", "++axes.lr=[1e-3]", "++axes.train_steps=[20,60,80]",
    ]  # fmt: skip


def test_past_an_end_of_strengths_lie_steps_and_no_factors(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"strength": [0.0, 0.6, 0.8, 1.0]})
    for strength in (0.0, 0.6, 0.8, 1.0):
        add(sweep, HIGH if strength == 1 else LOW, strength=strength)
    found = recommended(sweep)
    assert found.title == "Strength 1"
    (end,) = found.next_steps
    assert end.text == (
        "The best strength lies at 1, and it is the largest tried: 1.2 and 1.4 may do better."
    )
    assert shlex.split(end.command)[3:] == ["+sweep=fake", "++axes.strength=[1.2,1.4]"]


def test_of_several_seeds_the_mean_counts_and_the_highest_is_taken(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"method": ["lucky", "steady"], "seed": [0, 1]})
    scores = {("lucky", 0): 0.9, ("lucky", 1): 0.3, ("steady", 0): 0.75, ("steady", 1): 0.8}
    for (method, seed), score in scores.items():
        add(sweep, [score] * 6, method=method, seed=seed)
    found = recommended(sweep)
    assert found.label == "method = steady"
    assert found.cell is not None
    assert found.cell.values["seed"] == 1
    assert found.alike  # one lucky seed more would turn it
    assert found.evidence.endswith("over 2 training seeds")


def test_settings_on_different_bases_are_compared_within_each(tmp_path: Path) -> None:
    sweep = of_scores(tmp_path, dreambooth=LOW, lora=[score - 0.01 for score in HIGH])
    add(sweep, HIGH, method="dreambooth_lora")
    sweep.cells[0]["base"] = "sd15"
    found = recommended(sweep)
    assert found.label == "method = dreambooth_lora"
    assert [point.label for point in found.alike] == []  # lora is told apart, each image by .01
    (mixed,) = (doubt for doubt in found.doubts if "untaught base" in doubt)
    assert "on sd15 the best is method = dreambooth" in mixed
    assert "Method and base are mixed up here" in mixed
    assert "+sweep=methods" in mixed


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        ([], "No cell has ended yet"),
        (["diverged", "diverged"], "All 2 cells diverged"),
        (["diverged", "failed"], r"No cell finished \(1 failed, 1 diverged\)"),
        (["finished", "failed"], "no finished cell with a score"),
    ],
)
def test_why_there_is_none(tmp_path: Path, states: list[str], reason: str) -> None:
    sweep = FakeSweep(tmp_path, {"lr": [0.1, 0.01]})
    for state, lr in zip(states, (0.1, 0.01), strict=False):
        sweep.add(state, lr=lr, scores={"score": None})
    found = recommended(sweep)
    assert (found.point, found.cell, found.command) == (None, None, "")
    results = read_results(sweep.folder / "cells.jsonl")
    with pytest.raises(StoreError, match=reason) as caught:
        recommended_cell(sweep.folder, results, "Name one.")
    assert str(caught.value).endswith("Name one.") is ("finished" in states)


def test_the_command_says_where_and_which(tmp_path: Path) -> None:
    sweep = of_scores(tmp_path, a=HIGH, b=LOW)
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
    """Three cells; the highest DINO, quality ratio and score are each another's."""
    root = tmp_path_factory.mktemp("disputed")
    words = small(root, "+axes.lr=[1e-2,1e-3,1e-4]", "train_steps=2", "method.rank=2")
    assert main([*words, "runtime.tracking=false"]) == 0
    path = root / "sweeps/small/cells.jsonl"
    scores = {  # DINO, quality ratio, score
        0.01: (0.90, 0.2, 0.2),
        0.001: (0.80, 0.1, 0.7),
        0.0001: (0.50, 0.9, 0.3),
    }
    changed = []
    for cell in read_results(path).values():
        names = ("dino", "quality_ratio", "score")
        own = dict(zip(names, scores[cell.values["lr"]], strict=True))
        images = {"score": [[own["score"]]] * len(cell.per_image["dino"])}
        scored = replace(cell, scores={**cell.scores, **own}, gains={}, per_image=images)
        changed.append(scored)
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
    line = "lr = 1e-3 is recommended: sure, each of the 2 others"
    assert line in said
    assert found.command in said
    page = (folder / "report/index.html").read_text()
    assert "<h2>Learning rate 1e-3</h2>" in re.sub("</?span>", "", page)
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
    assert main([*small(root, "+axes.lr=[1e-2,1e-3,1e-4]", "train_steps=2", "method.rank=2")]) == 0
    anew = recommendation_of(folder)  # the store's own scores are back
    study = load_study(study_name="small", storage=f"sqlite:///{folder / 'study.db'}")
    assert anew.cell is not None
    assert study.user_attrs["recommended"]["cell"] == anew.cell.cell
    assert study.user_attrs["recommended"]["sentence"] == anew.sentence

    # People prefer another.
    preferred = next(cell for cell in cells.values() if cell.cell != anew.cell.cell)
    for cell in (cell for cell in cells.values() if cell is not preferred):
        for _ in range(12):
            Votes(folder / FILE).add(vote(preferred.cell, cell.cell))
    assert main([f"root={root}", "name=small", "action=report"]) == 0
    voted = recommendation_of(folder)
    assert voted.cell is not None
    assert voted.cell.cell == preferred.cell
    assert voted.sentence in capsys.readouterr().out
    with (folder / "cells.csv").open() as file:
        shares = {row["cell"]: float(row["preference"]) for row in csv.DictReader(file)}
    assert max(shares, key=lambda cell: shares[cell]) == preferred.cell
    study = load_study(study_name="small", storage=f"sqlite:///{folder / 'study.db'}")
    assert study.user_attrs["recommended"]["cell"] == preferred.cell
    numbers = {str(trial.number): trial.user_attrs["cell"] for trial in study.trials}
    noted = {
        numbers[at]: known["preference"] for at, known in study.user_attrs["preference"].items()
    }
    assert noted == pytest.approx(shares)
    assert mlflow_tags(root)["charsweep.recommended"] == preferred.cell
    logged = mlflow_metrics(root, "preference")
    runs = track.read_runs(folder)
    assert {cell: logged[run] for cell, run in runs.items()} == pytest.approx(shares)
    assert "What people prefer" in (folder / "report/index.html").read_text()
    away, uri = root / "away", f"sqlite:///{root / 'mlflow.db'}"
    fetched = ["action=report", "report.source=mlflow", f"runtime.tracking_uri={uri}"]
    assert main([f"root={away}", "name=small", *fetched]) == 0
    assert Votes(away / "sweeps/small" / FILE).read() == Votes(folder / FILE).read()
    assert voted.sentence in capsys.readouterr().out

    # They take it back, which the sweep's own command notices.
    for one in Votes(folder / FILE).read():
        Votes(folder / FILE).undo(one.id)
    assert main([*small(root, "+axes.lr=[1e-2,1e-3,1e-4]", "train_steps=2", "method.rank=2")]) == 0
    assert "What people prefer" not in (folder / "report/index.html").read_text()
    study = load_study(study_name="small", storage=f"sqlite:///{folder / 'study.db'}")
    assert study.user_attrs["recommended"]["cell"] == anew.cell.cell
    assert study.user_attrs["preference"] == {}


def kinds(root: Path) -> dict[str, FakeSweep]:
    """Five kinds of sweeps."""
    rates = FakeSweep(root / "rates", {"lr": [1e-4, 1e-3, 1e-2]})
    for lr, scores in ((1e-4, LOW), (1e-3, HIGH), (1e-2, LOW)):
        add(rates, scores, lr=lr)
    steps = FakeSweep(root / "steps", {"train_steps": [10, 20, 40]})
    for count, scores in ((10, LOW), (20, HIGH), (40, [*HIGH[2:], *HIGH[:2]])):
        add(steps, scores, train_steps=count)
    methods = of_scores(root / "methods", dreambooth=LOW, lora=HIGH)
    methods.cells[0]["base"] = "sd15"
    add(methods, None, method="gan")
    seeds = FakeSweep(root / "seeds", {"lr": [1e-3, 1e-2], "seed": [0, 1]})
    for lr, seed in itertools.product((1e-3, 1e-2), (0, 1)):
        add(seeds, HIGH if lr == 1e-3 else LOW, lr=lr, seed=seed)
    nothing = FakeSweep(root / "nothing", {"method": ["gan", "diffusion"]})
    for method in ("gan", "diffusion"):
        add(nothing, None, method=method)
    found = {"rates": rates, "steps": steps, "methods": methods, "seeds": seeds, "nothing": nothing}
    for sweep in found.values():
        sweep.write()
    return found


@pytest.mark.parametrize("kind", ["rates", "steps", "methods", "seeds", "nothing"])
def test_whatever_is_said_of_a_sweep_is_the_same(tmp_path: Path, kind: str) -> None:
    """Page, Markdown, MLflow's note, export and story, and the last lines of the command."""
    sweep = kinds(tmp_path)[kind]
    found = recommended(sweep)
    record = sweep.record()
    results = read_results(sweep.folder / "cells.jsonl")
    page = html.unescape(sweep.report())
    text = (sweep.folder / "report/verdicts.md").read_text(encoding="utf-8")
    note = note_with_verdict(sweep.sweep, judge(record), None)
    assert found.lines()[0] == ("best", found.sentence)
    for where in (text, note):
        assert escape_markdown(found.sentence) in where
    if found.cell is None:
        assert kind == "nothing"
        assert found.reason in page
        with pytest.raises(StoreError, match="no finished cell with a score"):
            recommended_cell(sweep.folder, results, "")
        return
    assert f"<h2>{found.title}</h2>" in re.sub("</?span>", "", page)
    for where in (page, text, note):
        assert found.command in where
        assert all(step.command in where for step in found.next_steps)
    assert found.why in page
    cell, why = recommended_cell(sweep.folder, results, "")
    assert (cell.cell, why) == (found.cell.cell, f"the recommended one: {found.reason}")


SCENES = ["story.scenes=[{prompt: 'a picture of {subject} jumping', caption: 'She jumps.'}]"]


def mlflow_metrics(root: Path, name: str) -> dict[str, float]:
    import sqlite3

    with sqlite3.connect(root / "mlflow.db") as database:
        rows = database.execute("select run_uuid, value from latest_metrics where key = ?", [name])
        return dict(rows.fetchall())


def mlflow_tags(root: Path) -> dict[str, Any]:
    import sqlite3

    with sqlite3.connect(root / "mlflow.db") as database:
        return dict(
            database.execute(
                "select key, value from experiment_tags where key like 'charsweep.recommended%'"
            ).fetchall()
        )
