"""Regional prompts: read as they are written, and each column of a picture looks at its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small import sweep_of

from charsweep.core.columns import RegionalPrompt, columns_in, regional
from charsweep.engine.image_sets import Bases
from charsweep.engine.progress import ProgressView
from charsweep.evaluate.sample import Asked, paint_with
from charsweep.models.regions import column_mask, looking_by_columns, shrunk


def test_a_prompt_is_read_as_it_is_written() -> None:
    parts = RegionalPrompt("two on the beach", ("a girl", "a bear"))
    assert str(parts) == "two on the beach ADDCOMM a girl ADDCOL a bear"
    assert regional(str(parts)) == parts
    assert regional("a girl") == RegionalPrompt("a girl")
    assert columns_in([str(parts), str(parts)]) == (2,)
    assert columns_in([str(parts), "a girl"]) == (0, 2)


def test_a_place_looks_at_the_whole_and_at_its_own_column() -> None:
    mask = column_mask(2, 6, 4, 1)[0]  # four places, of each text two tokens
    looked_at = (mask == 0).int().tolist()
    assert looked_at == [[1, 1, 1, 1, 0, 0]] * 2 + [[1, 1, 0, 0, 1, 1]] * 2


@pytest.mark.parametrize(("places", "size"), [(96, (12, 8)), (24, (6, 4)), (6, (3, 2))])
def test_places_are_halved_as_in_a_u_net(places: int, size: tuple[int, int]) -> None:
    assert shrunk((12, 8), places) == size


def test_an_odd_side_is_rounded_up() -> None:
    assert shrunk((13, 9), 35) == (7, 5)


def test_words_of_a_column_change_that_column_alone() -> None:
    """With one cross-attention; in a whole U-Net what stands beside is seen through others."""
    from diffusers.models.attention_processor import Attention

    torch.manual_seed(0)
    unet = torch.nn.Module()
    unet.attn2 = Attention(query_dim=8, cross_attention_dim=6, heads=2, dim_head=4)
    own = unet.attn2.processor
    places, texts = torch.randn(1, 4, 8), torch.randn(1, 6, 6)
    others = texts.clone()
    others[:, 4:] += 1  # the words of the right column
    with torch.no_grad(), looking_by_columns(unet, 2, (4, 1)):
        before, after = (unet.attn2(places, encoder_hidden_states=one) for one in (texts, others))
    changed = (before != after).any(dim=2)[0].numpy()
    np.testing.assert_array_equal(changed, [False, False, True, True])
    assert unet.attn2.processor is own


def test_what_one_column_says_is_drawn_there(tmp_path: Path) -> None:
    images = sweep_of(tmp_path, "inference_steps=4", "sampler.batch_width=1").cells[0].images
    assert images.drawing_base is not None
    wide = replace(images, size=(96, 64))
    sweep = sweep_of(tmp_path)
    base = Bases(sweep, torch.device("cpu"), ProgressView())(images.drawing_base, "fp32")

    def drawn(*columns: str) -> np.ndarray:
        prompt = str(RegionalPrompt("two at night", columns))
        return paint_with(base)(wide, [Asked(prompt, 0, 0)])[0]

    girl, bear, robot = (f"a picture of a {noun}" for noun in ("girl", "bear", "robot"))
    before = drawn(girl, bear)
    for place, columns in enumerate([(robot, bear), (girl, robot)]):
        changes = np.abs(drawn(*columns) - before).mean(axis=(0, 2)).reshape(2, 48).mean(axis=1)
        assert changes.argmax() == place
