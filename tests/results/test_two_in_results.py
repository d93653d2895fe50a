"""Results of two characters: a score is the worst of several, which are of unlike images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.fake_sweep import FakeSweep, result
from helpers.small import sweep_of

from charsweep.results import CellResult, recommend
from charsweep.results.cells import flatten, judged_by
from charsweep.results.points import Point, difference
from charsweep.results.unlike import fits

OF_ALL = [[0.5, 0.7], [0.1, 0.3], [0.9, 0.7]]  # by prompt
OF_BOTH = [[0.4], [0.7]]  # fewer prompts, and one seed
BOTH = "characters=[unicorn_girl,thunder_bear]"
PART = (
    "exam.parts={together:{prompts:['a picture of {subject} and {other}'],seeds:[0],size:[1.5,1]}}"
)


def cell(rows: Sequence[Sequence[float]], worst: str, **values: object) -> CellResult:
    mean = float(np.mean(rows))
    return result(
        cell=f"{worst}{values}", values=values, scores={"score": mean}, worst=worst,
        per_image={"score": rows}, step=100, trainings=1, size_mb=1.0, base="sdxl",
    )  # fmt: skip


def test_scores_of_unlike_images_are_not_paired() -> None:
    """And are told apart no more surely than chance allows, though they are not equally many."""
    first, both = (Point({}, (one,)) for one in (cell(OF_ALL, "first"), cell(OF_BOTH, "together")))
    found = difference(both, first, "score")
    assert found.value == pytest.approx(0.55 - 1.6 / 3)
    means = [np.array(rows).mean(axis=1) for rows in (OF_ALL, OF_BOTH)]
    assert found.error == pytest.approx(sum(m.var(ddof=1) / len(m) for m in means) ** 0.5)
    assert found.is_within(1)
    paired = difference(Point({}, (cell(OF_ALL, "first"),)), first, "score")
    assert paired.error == 0


def test_training_seeds_may_be_worst_at_different_things() -> None:
    seeds = [cell(OF_ALL, "first", seed=0), cell(OF_BOTH, "together", seed=1)]
    one = Point({}, tuple(seeds))
    other = Point({}, tuple(seeds[::-1]))
    assert difference(one, other, "score").value == pytest.approx(0)
    low, high = one.interval("score") or (0.0, 0.0)
    assert (low + high) / 2 == pytest.approx(one.mean("score"))
    assert high > low


def test_a_recommendation_says_what_is_worst_and_counts_both_trainings(tmp_path: Path) -> None:
    """Of two that cannot be told apart, two trainings are dearer than one that is a bit longer."""
    sweep = FakeSweep(tmp_path, {"company": ["separate", "together"]})
    rows = [[0.6, 0.6], [0.8, 0.8], [0.7, 0.7]]
    for company, trainings, steps in (("separate", 2, 100), ("together", 1, 150)):
        own = sweep.add(company=company, train_steps=steps, scores={"score": 0.7, "both": 0.5})
        own |= {"per_image": {"score": rows}, "worst": "other_score", "trainings": trainings}
    found = recommend(sweep.record())
    assert found.label == "company together · train_steps 150"
    assert found.evidence.endswith(
        ", its worst (second alone); 50% of its pictures of two show both, each where it should be"
    )
    assert found.costs[0] == "150 training steps"
    sweep.cells.pop()
    assert recommend(sweep.record()).costs[0] == "100 training steps for each of 2 adapters"


def test_a_table_has_the_worst_of_two_alone() -> None:
    row = flatten(cell(OF_ALL, "together"))
    assert row["worst"] == "together"
    assert not {"worst", "trainings"} & flatten(cell(OF_ALL, "")).keys()


def test_cells_with_another_second_character_do_not_compare(tmp_path: Path) -> None:
    """Of the same class, so that the exam asks the base the same."""
    robin = "{name: robin, images: 'embedded:thunder_bear', identifier: Robin, class_noun: bear"
    others = [
        f"characters=[unicorn_girl,{robin}}}]",
        f"characters=[unicorn_girl,{robin}, held_out: 2}}]",
    ]
    one, other = (judged_by(sweep_of(tmp_path, own, PART).cells[0]) for own in others)
    told = {name for name in one if one[name] != other[name]}
    assert {"metric together", "metric other_score"} <= told
    assert not any(name in told for name in ("drawings", "prompts", "metric first_score"))
    assert not fits(one, [other])
    alone = judged_by(sweep_of(tmp_path, PART).cells[0])
    assert fits(alone, [judged_by(sweep_of(tmp_path, BOTH).cells[1])])
