"""Regional prompts: read as they are written, and each column of a picture is drawn by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small import sweep_of

from charsweep.core.columns import (
    Column,
    Pass,
    RegionalPrompt,
    are_columns_in,
    columns_of,
    passes,
    regional,
)
from charsweep.engine.image_sets import Bases
from charsweep.engine.progress import ProgressView
from charsweep.evaluate.sample import Asked, paint_with
from charsweep.models.regions import predicting_by_columns, window

CALLED = ("Ani", "Bo")


@pytest.mark.parametrize(
    ("prompt", "whole", "columns"),
    [
        ("a girl", "a girl", ()),
        ("two ADDBASE a girl ADDCOL a bear", "two", ("a girl", "a bear")),
        ("a girl ADDCOL a bear", "a girl, a bear", ("a girl", "a bear")),
        (
            "at night ADDCOMM a girl ADDCOL a bear",
            "at night, a girl, a bear",
            ("at night, a girl", "at night, a bear"),
        ),
        (
            "two ADDBASE at night ADDCOMM a girl ADDCOL a bear ADDCOL a cat",
            "two",
            ("at night, a girl", "at night, a bear", "at night, a cat"),
        ),
    ],
)
def test_a_prompt_is_read_as_regional_prompter_does(
    prompt: str, whole: str, columns: tuple[str, ...]
) -> None:
    parts = regional(prompt)
    assert parts == RegionalPrompt(whole, columns)
    assert regional(str(parts)) == parts
    assert are_columns_in([prompt, "a girl"]) == bool(columns)


@pytest.mark.parametrize(
    ("prompt", "columns"),
    [
        ("Ani at night", [("Ani at night", 0)]),
        ("Animals, bo", [("Animals, bo", 1)]),  # whole words, in any case
        ("a hat", [("a hat", 1)]),  # nobody's: the one whose picture it is
        ("Bo and Ani", [("Bo and Ani", 0), ("Bo and Ani", 1)]),
        ("x ADDBASE Bo ADDCOL a tree ADDCOL Ani", [("Bo", 1), ("a tree", 1), ("Ani", 0)]),
        ("x ADDBASE Bo and Ani ADDCOL Ani", [("Bo and Ani", 1), ("Ani", 0)]),
    ],
)
def test_each_column_is_drawn_by_whom_it_names(prompt: str, columns: list[tuple[str, int]]) -> None:
    assert columns_of(prompt, CALLED, whose=1) == tuple(Column(*one) for one in columns)


def test_a_batch_takes_as_few_passes_as_hold_all_columns() -> None:
    prompts = ["x ADDBASE Ani 1 ADDCOL Bo 1", "x ADDBASE Bo 2 ADDCOL Ani 2", "Ani 3"]
    assert passes(prompts, CALLED) == [
        Pass(0, 1, ("Ani 1", "Bo 2", "Ani 3"), (None, None, 0)),
        Pass(0, 2, ("Ani 1", "Ani 2", "Ani 3"), (0, 1, None)),
        Pass(1, 2, ("Bo 1", "Bo 2", "Ani 3"), (1, 0, None)),
    ]
    alone = passes(prompts[:1])  # by one adapter: a pass for each column
    assert [one.words for one in alone] == [("Ani 1",), ("Bo 1",)]
    assert {one.drawer for one in alone} == {0}


def test_every_place_is_kept_once_and_seen_in_a_square() -> None:
    made = passes(["x ADDBASE Ani ADDCOL Bo ADDCOL Ani", "Bo"], CALLED)
    windows = [window(one, 4, 8) for one in made]
    kept = torch.stack([own for _, own in windows]).int()
    assert kept.sum(0).unique().tolist() == [1]
    first, third, second, whole = kept.tolist()[0], kept.tolist()[1], kept.tolist()[3], kept[2]
    assert [one[0] for one in (first, third, second)] == [
        [1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1, 0, 0],
    ]  # fmt: skip
    assert whole.tolist() == [[0] * 8, [1] * 8]
    seen = [places[0].tolist() for places, _ in windows]
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], list(range(8)), [2, 3, 4, 5]]


@pytest.mark.parametrize(
    ("height", "width", "seen"),
    [(8, 12, (0, 4)), (8, 8, (0, 0)), (4, 12, (0, 6)), (16, 12, (0, 0))],
)
def test_a_window_is_as_wide_as_the_picture_is_high(
    height: int, width: int, seen: tuple[int, int]
) -> None:
    """Where it fits, and never narrower than its column."""
    halves = [window(one, height, width) for one in passes(["x ADDBASE Ani ADDCOL Bo"])]
    assert tuple(int(places[0, 0]) for places, _ in halves) == seen
    assert {places.shape[1] for places, _ in halves} == {min(width, max(width // 2, height))}


class Net(torch.nn.Module):
    """Answers with what it is told, plus its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = 0.0

    def forward(
        self, noisy: torch.Tensor, timestep: Any, encoder_hidden_states: torch.Tensor,
        added_cond_kwargs: dict[str, torch.Tensor] | None = None, **_: Any,
    ) -> tuple[torch.Tensor]:  # fmt: skip
        told = encoder_hidden_states.mean((1, 2))
        if added_cond_kwargs:
            told = told + added_cond_kwargs["text_embeds"].mean(1)
            assert added_cond_kwargs["time_ids"].tolist() == [[8, 16, 0, 0, 8, 16]] * len(noisy)
        return (torch.zeros_like(noisy) + told[:, None, None, None] + self.weight,)


@pytest.mark.parametrize("is_xl", [False, True])
def test_answers_are_joined_by_column(is_xl: bool) -> None:
    """With guidance: samples without a prompt come first."""
    net, noisy = Net(), torch.zeros(2, 1, 1, 4)
    made = passes(["x ADDBASE Ani ADDCOL Bo"], CALLED)

    def choose(drawer: int) -> None:
        net.weight = 100.0 * drawer

    words = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[:, :, None]  # two samples, a token for each pass
    pooled = torch.tensor([[10.0, 20.0], [30.0, 40.0]])
    sizes = torch.tensor([[8.0, 32.0, 0.0, 0.0, 8.0, 32.0]] * 2)
    added = {"text_embeds": pooled, "time_ids": sizes} if is_xl else None
    with predicting_by_columns(net, made, choose, 8):
        (found,) = net(noisy, 0, encoder_hidden_states=words, added_cond_kwargs=added)
    expected = (
        [[11, 11, 122, 122], [33, 33, 144, 144]] if is_xl else [[1, 1, 102, 102], [3, 3, 104, 104]]
    )
    assert found[:, 0, 0].tolist() == expected
    assert "forward" not in vars(net)


@pytest.fixture
def drawn(tmp_path: Path) -> Any:
    images = sweep_of(tmp_path, "inference_steps=4", "sampler.batch_width=2").cells[0].images
    assert images.drawing_base is not None
    wide = replace(images, size=(96, 64))
    base = Bases(sweep_of(tmp_path), torch.device("cpu"), ProgressView())(
        images.drawing_base, "fp32"
    )
    return lambda *prompts: paint_with(base)(wide, [Asked(one, 0, 0) for one in prompts])


def test_what_one_column_says_is_drawn_there(drawn: Any) -> None:
    girl, bear, robot = (f"a picture of a {noun}" for noun in ("girl", "bear", "robot"))
    before = drawn(*[str(RegionalPrompt("two", (girl, bear)))] * 2)[0]
    for place, columns in enumerate([(robot, bear), (girl, robot)]):
        after = drawn(*[str(RegionalPrompt("two", columns))] * 2)[0]
        changes = np.abs(after - before).mean(axis=(0, 2)).reshape(2, 48).mean(axis=1)
        assert changes.argmax() == place


def test_a_picture_does_not_depend_on_columns_beside_it(drawn: Any) -> None:
    halves, whole = "two ADDBASE a girl ADDCOL a bear", "a girl at night"
    mixed = drawn(halves, whole)
    np.testing.assert_array_equal(mixed[0], drawn(halves, halves)[0])
    np.testing.assert_array_equal(mixed[1], drawn(whole, whole)[1])
