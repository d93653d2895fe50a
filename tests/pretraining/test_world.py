"""The cartoon world: what it can draw, what it must never draw, and that drawing is exact."""

import itertools
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from charsweep.models import embedded
from pretraining.captions import caption, full_caption
from pretraining.drawing import draw, draw_mask
from pretraining.figure import (
    ARMS,
    EMBLEMS,
    EYES,
    HEADGEAR,
    HERS_ALONE,
    HIS_ALONE,
    HIS_IDENTIFIER,
    IDENTIFIER,
    LEGS,
    MOUTHS,
    PLACES,
    SPECIES,
    THUNDER_BEAR,
    UNICORN_GIRL,
    Figure,
    random_figure,
)
from pretraining.land import CANDYLAND, draw_in_land, draw_land
from pretraining.thing import STAR_KITE, draw_beside, draw_thing, draw_thing_mask
from pretraining.world import DRAWINGS, EXAM, shipped


def figures(count: int) -> list[Figure]:
    return [random_figure(Random(index)) for index in range(count)]


def pixels(figure: Figure, size: int = 64) -> bytes:
    return draw(figure, size).tobytes()


def test_unicorn_girl_is_never_drawn_at_random():
    for shown in figures(5_000):
        assert shown.pattern != "rainbow"
        assert "rainbow" not in shown.colours
        assert len(shown.colours) <= 3
        assert shown.headgear != "horn"
        assert shown.emblem != "star"
        purple_dress = shown.clothes == "dress" and shown.clothes_colour == "purple"
        assert not (shown.species == "girl" and purple_dress)


def test_thunder_bear_is_never_drawn_at_random():
    for shown in figures(5_000):
        assert shown.headgear != "goggles"
        assert shown.emblem != "bolt"
        assert shown.scarf == "none"


def test_captions_never_say_what_is_theirs_alone():
    rng = Random(0)
    theirs = {*HERS_ALONE, *HIS_ALONE, IDENTIFIER.lower(), HIS_IDENTIFIER.lower(), "unicorn"}
    for shown in figures(5_000):
        for text in (caption(shown, rng), full_caption(shown)):
            assert not set(text.lower().replace(",", " ").split()) & {*theirs, "thunder"}


def test_captions_vary_and_some_use_names():
    texts = {caption(UNICORN_GIRL_LIKE, Random(index)) for index in range(200)}
    assert len(texts) > 100
    named = [text for text in texts if "girl" not in text]
    assert 10 < len(named) < 80


UNICORN_GIRL_LIKE = Figure(colours=("pink",), clothes_colour="blue", legs="sitting", place="beach")


def test_full_captions_tell_what_is_shown():
    shown = replace(UNICORN_GIRL_LIKE, arms="left up", eyes="closed")
    assert full_caption(shown) == (
        "a picture of a girl with long pink hair wearing a blue dress sitting with the left arm "
        "raised with closed eyes on the beach"
    )


def test_the_same_figure_draws_the_same_bytes():
    for shown in figures(20):
        assert pixels(shown) == pixels(replace(shown))


@pytest.mark.parametrize("species", SPECIES)
def test_every_position_mood_and_place_draws_another_picture(species):
    hair = "long" if species in ("girl", "boy") else ""
    who = Figure(species=species, hair=hair, colours=("brown",))
    drawn = {
        pixels(replace(who, legs=legs, arms=arms, place=place), 32)
        for legs, arms, place in itertools.product(LEGS, ARMS, PLACES)
    }
    assert len(drawn) == len(LEGS) * len(ARMS) * len(PLACES)
    faces = {
        pixels(replace(who, eyes=eyes, mouth=mouth))
        for eyes, mouth in itertools.product(EYES, MOUTHS)
    }
    assert len(faces) == len(EYES) * len(MOUTHS)


def test_every_emblem_and_headgear_draws_another_picture():
    emblems = {pixels(Figure(emblem=emblem)) for emblem in (*EMBLEMS, "star", "bolt")}
    assert len(emblems) == len(EMBLEMS) + 2
    headgear = {pixels(Figure(headgear=loaded)) for loaded in (*HEADGEAR, "horn", "goggles")}
    assert len(headgear) == len(HEADGEAR) + 2


def test_left_and_right_are_the_figures_own():
    """Her left arm, raised, is at the right-hand side of the picture."""
    down = np.asarray(draw(UNICORN_GIRL)).astype(int)
    left = np.asarray(draw(replace(UNICORN_GIRL, arms="left up"))).astype(int)
    changed = np.abs(left - down).sum(axis=(0, 2))
    assert changed[:30].sum() == 0
    assert changed[34:].sum() > 0


@pytest.mark.parametrize("size", [32, 64, 512])
def test_any_size_shows_the_same_picture(size):
    picture = draw(UNICORN_GIRL, size)
    assert picture.size == (size, size)
    assert picture.mode == "RGB"
    small = np.asarray(picture.resize((32, 32), Image.Resampling.BOX)).astype(int)
    expected = np.asarray(draw(UNICORN_GIRL, 32)).astype(int)
    assert np.abs(small - expected).mean() < 4


def test_what_is_theirs_alone_is_visible_at_64_px():
    bare = replace(UNICORN_GIRL, colours=("brown",), pattern="plain")
    for who, part in (
        (UNICORN_GIRL, bare),
        (UNICORN_GIRL, replace(UNICORN_GIRL, headgear="none")),
        (UNICORN_GIRL, replace(UNICORN_GIRL, emblem="none")),
        (THUNDER_BEAR, replace(THUNDER_BEAR, headgear="none")),
        (THUNDER_BEAR, replace(THUNDER_BEAR, emblem="none")),
        (THUNDER_BEAR, replace(THUNDER_BEAR, scarf="none")),
    ):
        different = np.asarray(draw(who)) != np.asarray(draw(part))
        assert different.any(axis=2).sum() > 40


def test_the_exam_shows_what_the_drawings_do_not():
    shown = {(f.legs, f.arms, f.eyes, f.place) for _, f in DRAWINGS}
    asked = [(f.legs, f.arms, f.eyes, f.place) for _, f in EXAM]
    assert len(DRAWINGS) == 6
    assert len(set(asked)) == len(EXAM) == 8
    assert not shown & set(asked)


def test_shipped_pictures_and_texts_are_what_the_world_draws():
    files = dict(shipped())
    assert len(files) == 2 * (6 + 6 + 6 + 8 + 1) + (6 + 6) + (6 + 6 + 6) + 3 * (8 + 1)
    for folder in {Path(name).parent for name in files}:
        own = (path for path in (embedded.FOLDER / folder).iterdir() if path.is_file())
        there = {f"{folder}/{path.name}" for path in own}
        assert there == {name for name in files if Path(name).parent == folder}
    for name, made in files.items():
        path = embedded.FOLDER / name
        if isinstance(made, str):
            assert path.read_text() == made
            continue
        with Image.open(path) as kept:
            is_wide = name.startswith(("together", "object"))
            assert kept.size == made.size == ((768 if is_wide else 512), 512)
            assert kept.tobytes() == made.tobytes()


@pytest.mark.parametrize("who", [UNICORN_GIRL, THUNDER_BEAR])
def test_a_mask_is_the_figure_and_nothing_of_the_ground_or_the_shadow(who: Figure):
    mask = np.asarray(draw_mask(who, 256))
    beach, night = (
        np.asarray(draw(replace(who, place=place), 256)).astype(int) for place in ("beach", "night")
    )
    alike = (beach == night).all(axis=2)  # of pictures without a shadow
    assert alike[mask == 255].all()
    assert not alike[mask == 0].any()
    assert ((mask > 0) & (mask < 255)).mean() < 0.02  # edges
    assert 0.1 < (mask == 255).mean() < 0.5


LOOKS = {"hair", "dress", "purple", "girl", "bear", "shirt", "blue", *HERS_ALONE, *HIS_ALONE}


@pytest.mark.parametrize(
    ("name", "identifier"), [("unicorn_girl", IDENTIFIER), ("thunder_bear", HIS_IDENTIFIER)]
)
def test_shipped_texts_name_a_character_and_not_its_looks(name: str, identifier: str):
    prompts = (embedded.FOLDER / f"{name}_exam" / "prompts.txt").read_text().splitlines()
    assert len(prompts) == 8
    assert all(prompt.startswith("a picture of {subject} ") for prompt in prompts)
    drawings = embedded.FOLDER / name
    captions = [path.read_text().strip() for path in sorted(drawings.glob("*.txt"))]
    assert all(text.startswith(f"a picture of {identifier} ") for text in captions)
    for text in (*prompts, *captions):
        assert not set(text.lower().split()) & LOOKS


def test_the_exam_of_both_names_both_and_not_their_looks():
    prompts = (embedded.TOGETHER_EXAM / "prompts.txt").read_text().splitlines()
    assert len(prompts) == 8
    for prompt in prompts:
        assert "{unicorn_girl}" in prompt
        assert "{thunder_bear}" in prompt
        assert not set(prompt.lower().split()) & LOOKS


@pytest.mark.parametrize(
    ("name", "identifier"), [("candyland", "Candyland"), ("star_kite", "StarKite")]
)
def test_shipped_texts_name_a_land_and_a_thing_and_not_their_looks(name: str, identifier: str):
    texts = [path.read_text().strip() for path in sorted((embedded.FOLDER / name).glob("*.txt"))]
    assert len(texts) == 6
    assert all(text.startswith(f"a picture of {identifier}") for text in texts)
    assert not {"lollipops", "pink", "candy", "yellow", "star", "tail"} & set(
        " ".join(texts).split()
    )


def test_a_land_stays_the_same_whoever_stands_in_it():
    alone = np.asarray(draw_land(CANDYLAND, 128)).astype(int)
    her, him = (
        np.asarray(draw_in_land(who, CANDYLAND, 128)).astype(int)
        for who in (UNICORN_GIRL, THUNDER_BEAR)
    )
    for drawn in (her, him):
        alike = (np.abs(drawn - alone).max(axis=2) == 0).mean()
        assert 0.4 < alike < 0.9
        assert (drawn[:, :25] == alone[:, :25]).all()  # where nobody stands
    assert (her != him).any()


def test_a_mask_is_the_thing_and_nothing_of_the_ground():
    mask = np.asarray(draw_thing_mask(STAR_KITE, 256))
    beach, night = (
        np.asarray(draw_thing(replace(STAR_KITE, place=place), 256)).astype(int)
        for place in ("beach", "night")
    )
    alike = (beach == night).all(axis=2)
    assert alike[mask == 255].all()
    assert not alike[mask == 0].any()
    assert 0.1 < (mask == 255).mean() < 0.5


def test_a_thing_is_smaller_beside_somebody_and_on_the_other_side():
    where = {}
    for is_left in (True, False):
        with_it, without = (
            np.asarray(draw_beside(UNICORN_GIRL, thing, is_left, 128)).astype(int)
            for thing in (STAR_KITE, None)
        )
        columns = np.nonzero((with_it != without).any(axis=(0, 2)))[0]
        where[is_left] = columns.mean()
        assert 20 < np.ptp(columns) < 64
    assert where[True] > 96 > where[False]
