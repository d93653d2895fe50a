"""Two figures in one picture: who stands where, what captions say of it, and what is learned."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from charsweep.models.embedded import WEIGHTS
from pretraining import data
from pretraining.drawing import draw, draw_pair
from pretraining.figure import HERS_ALONE, HIS_ALONE, THUNDER_BEAR, UNICORN_GIRL, Figure
from pretraining.pair import TOGETHER, Pair, random_pair
from pretraining.pair_captions import full_pair_caption, pair_caption
from pretraining.pretrain_base import Bucket, time_ids
from pretraining.pretrain_clip import company_in, pair_batch
from pretraining.pretrain_dino import in_company
from pretraining.tokenizer import LENGTH, load_tokenizer

RED = Figure(colours=("red",), clothes_colour="green")
BLUE = Figure(species="bear", hair="", colours=("blue",), clothes="shirt", clothes_colour="yellow")


def pairs(count: int) -> list[Pair]:
    return [random_pair(Random(index)) for index in range(count)]


def pixels(pair: Pair) -> np.ndarray:
    return np.asarray(draw_pair(pair)).astype(int)


def test_each_stands_on_its_side():
    both = pixels(Pair(RED, BLUE))
    assert both.shape == (data.SIDE, data.WIDTH, 3)
    left, right = both[:, :48], both[:, 48:]
    red, blue = (217, 43, 54), (59, 111, 217)
    for half, own, other in ((left, red, blue), (right, blue, red)):
        assert (np.abs(half - own).sum(2) < 30).sum() > 100
        assert (np.abs(half - other).sum(2) < 30).sum() == 0


def test_a_swapped_pair_is_another_picture_and_back_again():
    for pair in pairs(40):
        assert (pixels(pair) != pixels(pair.swapped)).any()
        again = pair.swapped.swapped
        assert (again.left.colours, again.together, again.taller) == (
            pair.left.colours, pair.together, pair.taller,
        )  # fmt: skip


def test_how_two_are_together_is_seen():
    drawn = {pixels(Pair(RED, BLUE, together)).tobytes() for together in TOGETHER}
    tall = {pixels(Pair(RED, BLUE, taller=who)).tobytes() for who in ("left", "right")}
    assert len(drawn | tall) == len(TOGETHER) + 2
    apart, held = pixels(Pair(RED, BLUE)), pixels(Pair(RED, BLUE, "holding hands"))
    middle = (slice(40, 50), slice(46, 50))  # rows of the hands, columns between both
    assert (apart[middle] == 255).all()
    assert (held[middle] != 255).any(axis=(1, 2)).sum() >= 3


def test_who_is_in_front_hides_the_other():
    front = pixels(Pair(RED, BLUE, "left in front"))
    behind = pixels(Pair(RED, BLUE, "right in front"))
    reds = [(np.abs(one - (70, 169, 78)).sum(2) < 30).sum() for one in (front, behind)]
    assert reds[0] > reds[1] > 0  # her dress


def test_the_shipped_characters_and_what_is_theirs_alone_are_in_no_pair():
    rng = Random(0)
    for pair in pairs(1_500):
        for figure in pair.both:
            assert figure.headgear not in ("horn", "goggles")
            assert figure.emblem not in ("star", "bolt")
            assert figure.pattern != "rainbow"
            assert figure.scarf == "none"
            assert not (
                figure.species == "girl"
                and (figure.clothes, figure.clothes_colour) == ("dress", "purple")
            )
        for text in (pair_caption(pair, rng), full_pair_caption(pair)):
            words = set(text.lower().replace(",", " ").split())
            assert not words & {*HERS_ALONE, *HIS_ALONE, "unicorngirl", "thunderbear"}


def test_captions_say_who_is_on_which_side():
    pair = Pair(RED, replace(BLUE, legs="jumping"))
    assert full_pair_caption(pair) == (
        "a picture of a girl with long red hair wearing a green dress on the left and a blue bear "
        "wearing a yellow shirt on the right on a white background"
    )
    assert full_pair_caption(pair.swapped, pose=True) == (
        "a picture of a blue bear jumping on the left and a girl with long red hair standing "
        "on the right on a white background"
    )
    texts = [pair_caption(pair, Random(index), named=0) for index in range(300)]
    told = [text for text in texts if "on the left" in text]
    assert 150 < len(told) < 250
    for text in told:
        left, right = text.index("on the left"), text.index("on the right")
        girl, bear = text.index("girl"), text.index("bear")
        assert (girl < bear) == (left < right)


def test_captions_of_those_who_are_together():
    texts = {
        together: [pair_caption(Pair(RED, BLUE, together), Random(i), named=0) for i in range(60)]
        for together in TOGETHER
    }
    assert all("holding hands" in text for text in texts["holding hands"])
    for text in texts["left in front"]:
        ahead, _, behind = text.partition(" behind " if " behind " in text else " in front of ")
        front, back = (behind, ahead) if " behind " in text else (ahead, behind)
        assert "girl" in front
        assert "bear" in back


def test_every_caption_fits_into_a_prompt():
    tokenizer = load_tokenizer(WEIGHTS / "sd15" / "tokenizer")
    rng, texts = Random(0), []
    for pair in pairs(800):
        texts += [pair_caption(pair, rng), pair_caption(pair, rng, 0.02, 0.1, 1.0)]
        texts += [full_pair_caption(pair), full_pair_caption(pair, pose=True)]
    lengths = [len(ids) for ids in tokenizer(texts).input_ids]
    assert max(lengths) <= LENGTH


def test_wide_pictures_and_their_squares():
    shown = [data.wide(0, index) for index in range(60)]
    assert 2 <= sum(isinstance(one, Figure) for one in shown) <= 20
    drawn = np.stack([data.draw_wide(one) for one in shown[:4]])
    left, right = data.squares(drawn)
    assert left.shape == right.shape == (4, 64, 64, 3)
    assert (left[:, :, 32:] == right[:, :, :32]).all()
    assert data.squashed(drawn).shape == (4, 64, 64, 3)


@pytest.mark.parametrize("figure", [UNICORN_GIRL, THUNDER_BEAR])
def test_one_figure_in_a_wide_picture_is_the_same_figure(figure: Figure):
    alone = np.asarray(draw(figure, width=1.5)).astype(int)
    assert (alone[:, :64] == np.asarray(draw(figure))).all()


def test_a_batch_of_pairs_tells_each_from_its_variants():
    batch = pair_batch(0, 0)
    assert batch.pictures.shape == (64, 64, 64, 3)
    assert len(batch.texts) == 64
    assert all(len(names) == 64 for names in batch.names.values())
    sides = company_in("sides", Pair(RED, BLUE), Random(0))
    assert len({full_pair_caption(pair) for pair in sides}) == 4
    together = company_in("together", Pair(RED, BLUE), Random(0))
    assert len({full_pair_caption(pair) for pair in together}) == 4
    company = company_in("company", Pair(RED, BLUE), Random(0))
    assert len({pair.right for pair in company}) == 4
    assert len({pair.left for pair in company}) == 1


def test_company_shows_each_figure_beside_somebody_and_alone():
    among, alone = in_company(0, 0)
    assert among.shape == alone.shape == (32, 64, 64, 3)


def test_a_bucket_knows_its_size():
    import torch

    bucket = Bucket(torch.zeros(2, 32, 8, 12), lambda index, rng: "")
    assert time_ids(bucket.latents) == [64, 96, 0, 0, 64, 96]
