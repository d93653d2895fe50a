"""The measurement of validity: its characters, its planted truth, its arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.validity.characters import CHARACTERS, PROMPTS, TRAITS, Character, write_character
from benchmarks.validity.judge import FIGURE, HEADS, Judge, figure_at, targets_of
from benchmarks.validity.measure import (
    Pick,
    Row,
    agreement,
    calibration,
    highest,
    picks,
    power,
    regret,
    share_worse,
    spearman,
)
from benchmarks.validity.planted import PER_IMAGE, planted_sets
from benchmarks.validity.truth import asked, truth_of
from charsweep.character import load_character, load_truth
from charsweep.config import load_settings, load_sweep
from pretraining.figure import UNICORN_GIRL

each = pytest.mark.parametrize("who", CHARACTERS, ids=lambda who: who.name)


# -- characters


@pytest.mark.slow
def test_a_sweep_takes_a_character_and_its_true_pictures(tmp_path: Path) -> None:
    who = CHARACTERS[1]
    write_character(who, tmp_path)
    sweep = load_sweep([f"root={tmp_path}", *who.words(tmp_path)])
    assert len(sweep.character.paths) == 6
    assert (
        sweep.character.spec.captions[0]
        == f"a picture of {who.identifier} standing on a white background"
    )
    assert sweep.character.spec.class_noun == who.class_noun
    assert tuple(load_settings([]).exam.prompts) == PROMPTS
    truth = sweep.cells[0].truth_set
    assert truth is not None
    assert len(truth.prompts) == 8


@each
def test_characters_are_written_as_folders(who: Character, tmp_path: Path) -> None:
    write_character(who, tmp_path)
    drawings = tmp_path / who.name / "drawings"
    loaded = load_character(who.name, drawings, who.identifier, who.class_noun, who.identifier, "a")
    assert len(set(loaded.spec.digests)) == 6
    assert all(who.identifier in caption for caption in loaded.spec.captions)
    assert len(load_truth(tmp_path / who.name / "exam", len(PROMPTS)).digests) == 8


def test_characters_are_distinct() -> None:
    figures = [who.figure for who in CHARACTERS]
    assert len({one.species for one in figures}) == len({one.emblem for one in figures}) == 7
    assert sum(who.kept for who in CHARACTERS) == 2
    assert figures[0] == UNICORN_GIRL


# -- the judge and the truth


def test_every_figure_can_be_told_to_the_judge() -> None:
    figures = [figure_at("test", index) for index in range(300)]
    targets = targets_of([*figures, *(f for who in CHARACTERS for f in who.exam)])
    assert targets.shape == (300 + 8 * len(CHARACTERS), len(HEADS))
    assert (targets.max(0).values < torch.tensor([len(values) for values in HEADS.values()])).all()


def test_the_judge_reads_images_of_any_size() -> None:
    readings = Judge().read([Image.new("RGB", (64, 64)), Image.new("RGB", (512, 512), "red")])
    assert [set(reading) for reading in readings] == [{*HEADS, FIGURE}] * 2
    assert all(reading[head] in HEADS[head] for reading in readings for head in HEADS)


@each
def test_prompts_name_what_the_true_pictures_show(who: Character) -> None:
    for prompt, figure in zip(PROMPTS, who.exam, strict=True):
        assert len(asked(prompt)) >= 2
        assert all(getattr(figure, what) == value for what, value in asked(prompt).items())


@each
def test_planted_truth_is_as_constructed(who: Character) -> None:
    sets = planted_sets(who)
    truths = {
        name: truth_of([one.reading for one in made], who.figure, PER_IMAGE)
        for name, made in sets.items()
    }
    assert {len(made) for made in sets.values()} == {16}
    mean = {name: truth.values.mean() for name, truth in truths.items()}
    assert mean["true pictures"] == mean["true pictures, through the autoencoder"] == 1
    assert mean["half true, half noise"] == 0.5
    assert mean["smooth noise"] == 0
    assert mean["copies of the six drawings"] == mean["copies, 2 px aside"]
    assert truths["copies of the six drawings"].identity.min() == 1
    assert mean["copies of the six drawings"] < mean["the best drawing for each prompt"] < 0.5
    assert mean["a look-alike, three traits wrong"] == pytest.approx(4 / len(TRAITS))
    assert mean["another character, right scenes"] < 0.3
    assert truths["another character, right scenes"].prompt.min() == 1
    assert mean["right place, wrong position"] == pytest.approx(
        truths["right place, wrong position"].prompt.mean()
    )
    assert 0.85 < mean["the other arm"] < 1
    assert sets["true pictures"][0].image.tobytes() != sets["true pictures"][1].image.tobytes()


# -- the arithmetic


def row(name: str, truth: Sequence[float], **scores: Sequence[float]) -> Row:
    arrays = {metric: np.array(values, dtype=float) for metric, values in scores.items()}
    return Row(name, np.array(truth, dtype=float), arrays)


ROWS = [
    row("a", [0.2, 0.4], good=[0.1, 0.3], bad=[0.9, 0.9]),
    row("b", [0.9, 0.7], good=[0.8, 0.8], bad=[0.1, 0.1]),
    row("c", [0.5, 0.7], good=[0.6, 0.6], bad=[0.5, 0.5]),
]


def test_rank_correlation() -> None:
    assert spearman([1, 2, 3], [10, 20, 30]) == 1
    assert spearman([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)
    assert spearman([1, 1, 2], [1, 1, 5]) == 1
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert agreement(ROWS, "good") == 1
    assert agreement(ROWS, "bad") == -1
    assert np.isnan(agreement(ROWS, "missing"))


def test_picks_are_judged_by_the_truth() -> None:
    assert picks(ROWS, highest("good"), 3) == [Pick(0.0, True)]
    assert picks(ROWS, highest("bad"), 21) == [Pick(pytest.approx(0.5), True)]
    two = picks(ROWS, highest("bad"), 2, draws=100)
    assert {round(pick.regret, 9) for pick in two} == {0.2, 0.3, 0.5}
    assert share_worse(two) == 1
    assert regret(picks(ROWS, highest("good"), 2)) == 0


def test_sureness_is_calibrated() -> None:
    found = [Pick(0.0, True), Pick(0.2, True), Pick(0.01, False)]
    assert calibration(found) == {"sure": (2, 0.5), "unsure": (1, 1.0)}
    assert share_worse(found) == pytest.approx(1 / 3)


def test_more_images_and_seeds_give_more_power() -> None:
    rng = np.random.default_rng(0)
    by_seed = [
        [
            row(str(truth), [truth] * 16, noisy=truth + rng.normal(0, 0.3, 16))
            for truth in (0.5, 0.6, 0.7, 0.8)
        ]
        for _ in range(3)
    ]
    few, many = power(by_seed, "noisy", 1, 1), power(by_seed, "noisy", 16, 3)
    assert few < 0.8
    assert many > 0.95
