"""The truth about two: who is where, told from what a faultless judge reads."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch

from benchmarks.validity import pair_judge
from benchmarks.validity.characters import with_traits
from benchmarks.validity.damage import damaged
from benchmarks.validity.judge import FIGURE, Judge, Reading, reading_of, targets_of
from benchmarks.validity.pair_judge import (
    PAIR_HEADS,
    PAIR_TRAITS,
    PairLessons,
    draw_all,
    halves,
    read_pairs,
    shown_at,
)
from benchmarks.validity.pair_truth import OUTCOMES, TOLD, Asked, planted
from pretraining.figure import THUNDER_BEAR, UNICORN_GIRL, Figure
from pretraining.pair import Pair

GIRL, BEAR = UNICORN_GIRL, THUNDER_BEAR
BOTH = Asked(GIRL, BEAR)
NOBODY: Reading = {FIGURE: "no"}
STRANGER = Figure(species="frog", hair="", colours=("pink",), clothes="coat", clothes_colour="teal")


def read(figure: Figure) -> Reading:
    return reading_of(figure, PAIR_HEADS)


MIXTURE = with_traits(GIRL, BEAR, ["colours", "clothes colour", "headgear"], PAIR_TRAITS)


@pytest.mark.parametrize(
    ("left", "right", "outcome"),
    [
        (read(GIRL), read(BEAR), "both"),
        (read(BEAR), read(GIRL), "swapped"),
        (read(GIRL), read(GIRL), "clones"),
        (read(BEAR), read(BEAR), "clones"),
        (NOBODY, read(GIRL), "one missing"),
        (NOBODY, NOBODY, "nobody"),
        (read(MIXTURE), read(BEAR), "mixed"),
        (read(STRANGER), read(BEAR), "others"),
        (read(replace(GIRL, emblem="heart")), read(BEAR), "both"),
    ],
)
def test_who_is_where(left: Reading, right: Reading, outcome: str) -> None:
    assert Asked(GIRL, BEAR).truth_of((left, right)).outcome == outcome


def test_identity_is_of_who_belongs_there() -> None:
    assert BOTH.truth_of((read(GIRL), read(BEAR))).identity == (1, 1)
    assert BOTH.truth_of((read(BEAR), read(GIRL))).identity == (0, 0)
    assert BOTH.truth_of((NOBODY, read(BEAR))).identity == (0, 1)
    wrong = BOTH.truth_of((read(replace(GIRL, emblem="heart")), read(BEAR)))
    assert wrong.identity == (pytest.approx(6 / 7), 1)


def test_sides_that_were_not_told_cannot_be_wrong() -> None:
    found = Asked(GIRL, BEAR, sides_told=False).truth_of((read(BEAR), read(GIRL)))
    assert found.outcome == "both"
    assert found.identity == (1, 1)


@pytest.mark.parametrize("kind", OUTCOMES)
def test_planted_pictures_show_what_they_are_planted_for(kind: str) -> None:
    made = [planted(kind, GIRL, BEAR, Random(index)) for index in range(20)]  # type: ignore[arg-type]
    assert {BOTH.truth_shown(one).outcome for one in made} == {kind}


def test_every_picture_can_be_told_to_the_judge() -> None:
    shown = [shown_at("test", index) for index in range(200)]
    figures = [figure for one in shown for figure in halves(one) if figure]
    targets = targets_of([*figures, GIRL, BEAR], PAIR_HEADS)
    sizes = torch.tensor([len(values) for values in PAIR_HEADS.values()])
    assert (targets.max(0).values < sizes).all()
    counts = [sum(figure is not None for figure in halves(one)) for one in shown]
    assert counts == [2, 2, 2, 1, 0] * 40


def test_lessons_are_of_pictures_as_drawn_coded_and_damaged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The level of a picture says which it is, and so what is to be read from it."""
    monkeypatch.setattr(pair_judge, "disturbed", lambda images, source: images)
    drawn = np.broadcast_to(np.arange(8, dtype=np.uint8)[:, None, None, None], (8, 64, 96, 3))
    figures, nobody = torch.arange(12), torch.arange(12, 16)
    targets = figures[:, None].repeat(1, len(PAIR_HEADS))
    lessons = PairLessons(drawn, drawn[:7] + 50, drawn[:7] + 100, figures, targets, nobody)
    images, read, shown = lessons.batch(3)
    level = ((images.mean((1, 2, 3)) + 1) * 127.5).round()
    kind, picture = level // 50, level % 50
    assert set(kind.tolist()) == {0, 1, 2}
    assert shown.tolist() == [1] * len(read) + [0] * (len(images) - len(read))
    assert (picture[: len(read)] == read[:, 0] // 2).all()
    assert set(picture[len(read) :][kind[len(read) :] > 0].tolist()) == {6}
    assert set(picture[len(read) :].tolist()) == {6, 7}


def test_damaged_pictures_are_still_like_themselves() -> None:
    drawn = draw_all([shown_at("damage", 5 * index) for index in range(24)])
    found = damaged(drawn)
    assert (damaged(drawn) == found).all()
    away = np.abs(found[:, None].astype(float) - drawn[None]).mean((2, 3, 4))
    assert (away.argmin(1) == np.arange(24)).all()
    assert 3 < np.diag(away).mean() < 30


def test_the_judge_reads_both_halves() -> None:
    readings = read_pairs(Judge(PAIR_HEADS), draw_all([Pair(GIRL, BEAR)]))
    assert [set(reading) for both in readings for reading in both] == [{*PAIR_HEADS, FIGURE}] * 2


def test_only_looks_that_were_told_count() -> None:
    told = Asked(GIRL, BEAR, traits=TOLD)
    bare = [replace(one, emblem="none", headgear="none", scarf="none") for one in (GIRL, BEAR)]
    assert told.truth_of((read(bare[0]), read(bare[1]))).identity == (1, 1)
    assert BOTH.truth_of((read(bare[0]), read(bare[1]))).identity[1] < 1
