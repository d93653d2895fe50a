"""Planted pictures of a character in a place, and with an object, of which it is known what they
show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Literal

from PIL import Image

from benchmarks.validity.characters import CHARACTERS
from charsweep.evaluate.metrics.outcomes import Outcome
from pretraining.drawing import WIDE, draw, draw_pair, ground_of
from pretraining.figure import COLOURS, THUNDER_BEAR, Figure, random_character, random_scene
from pretraining.land import CANDYLAND, TIMES, Land, draw_in_land, draw_land
from pretraining.pair import random_company
from pretraining.thing import STAR_KITE, Thing, draw_beside, draw_thing_aside

FIGURES = {one.name: one.figure for one in CHARACTERS} | {"thunder_bear": THUNDER_BEAR}
LANDS: Mapping[str, Land] = {
    "candyland": CANDYLAND,
    "mushrooms": Land(
        "#cfe8c9", ("#5c8a4a", "#7aa857"), "#6b4f3a", "#b39b7d", "mushroom", "flower",
        ("#c8102e", "#8e44ad", "#fff4d6"),
    ),
    "crystals": Land(
        "#2c2f57", ("#4b3b7a", "#3a5a8f"), "#1f2b3f", "#7fd3e8", "crystal", "crystal",
        ("#7fe0f0", "#b58cf0", "#f0a0d0"),
    ),
    "desert": Land(
        "#ffdf9e", ("#d98a4e", "#c46a3a"), "#edc98a", "#f6e3bd", "cactus", "rock",
        ("#3f8f4f", "#e0529c", "#ffffff"),
    ),
    "ruins": Land(
        "#bcd6e8", ("#94a86a", "#7d9460"), "#b8b08a", "#d9d2b4", "pillar", "rock",
        ("#e9e4d6", "#cfc7b0", "#8a8a80"),
    ),
    "balloons": Land(
        "#7cc4f0", ("#f2f2f2", "#dfeaf5"), "#8fd06a", "#f5e6b0", "balloon", "flower",
        ("#e23b3b", "#f7c52d", "#ffffff"),
    ),
    "lava": Land(
        "#3b1c1c", ("#5a2a22", "#2a1515"), "#7a2a12", "#ff7a1a", "crystal", "rock",
        ("#5b4b4b", "#ff9a2a", "#ffd23a"),
    ),
    "mint": Land(
        "#d7f5ee", ("#f7b6c8", "#f0dfa0"), "#f7f3e8", "#c8a27a", "mushroom", "cane",
        ("#7fd6b0", "#f28cb0", "#ffffff"),
    ),
    "autumn": Land(
        "#f3d9b8", ("#b5552b", "#d98b2b"), "#c9a227", "#8a5a2b", "balloon", "mushroom",
        ("#d9541e", "#8c2f1b", "#f2e2c4"),
    ),
    "glacier": Land(
        "#dbe9f7", ("#9fc3e0", "#bcd9ee"), "#eef6fc", "#7aa5c9", "crystal", "pillar",
        ("#a9d4ef", "#5f8fb5", "#ffffff"),
    ),
}  # fmt: skip
THINGS: Mapping[str, Thing] = {
    "star_kite": STAR_KITE,
    "teapot": Thing("teapot", ("#3b6fd9", "#f2efe6", "#d92b36")),
    "umbrella": Thing("umbrella", ("#d92b36", "#f7f3e8", "#2f2f33")),
    "drum": Thing("drum", ("#8d4fc0", "#f5d547", "#46a94e")),
    "ball": Thing("ball", ("#46a94e", "#ece9e2", "#d92b36")),
    "lantern": Thing("lantern", ("#2f2f33", "#f7d84f", "#f28c28")),
    "parasol": Thing("umbrella", ("#35a79c", "#f5d547", "#80523c")),
    "bauble": Thing("ball", ("#d92b36", "#f5d547", "#ece9e2")),
}
InPlace = Literal["both", "elsewhere", "another land", "stranger", "nobody", "neither", "mixed"]
WithObject = Literal[
    "both", "swapped", "alone", "object alone", "another object", "stranger", "clones", "nobody"
]
# A land with three of another's seven traits is neither right nor wrong: it is counted apart.
IN_PLACE: Mapping[InPlace, Outcome | None] = {
    "both": "both", "elsewhere": "missing", "another land": "missing", "stranger": "missing",
    "nobody": "missing", "neither": "missing", "mixed": None,
}  # fmt: skip
WITH_OBJECT: Mapping[WithObject, Outcome | None] = {
    "both": "both", "swapped": "swapped", "alone": "missing", "object alone": "missing",
    "another object": "missing", "stranger": "missing", "clones": "missing", "nobody": "missing",
}  # fmt: skip
TRAITS = ("sky", "hills", "ground", "path", "tall", "low", "colours")


def stranger(figure: Figure, rng: Random) -> Figure:
    """Somebody of the same species, in any scene."""
    other = replace(random_character(rng), species=figure.species, hair=figure.hair)
    return random_scene(other, rng)


# -- in a place


def planted_in_place(kind: InPlace, figure: Figure, name: str, rng: Random) -> Image.Image:
    """A square picture of that kind, of a character and a land."""
    land = _seen(LANDS[name], rng)
    other = _seen(LANDS[rng.choice([one for one in LANDS if one != name])], rng)
    own = random_scene(figure, rng)
    if kind == "both":
        return draw_in_land(own, land)
    if kind == "elsewhere":
        return draw(own)
    if kind == "another land":
        return draw_in_land(own, other)
    if kind == "stranger":
        return draw_in_land(stranger(figure, rng), land)
    if kind == "nobody":
        return draw_land(land)
    if kind == "mixed":
        traits = rng.sample(TRAITS, 3)
        return draw_in_land(own, replace(land, **{one: getattr(other, one) for one in traits}))
    somebody = stranger(figure, rng)
    return draw_in_land(somebody, other) if rng.random() < 0.5 else draw(somebody)


def _seen(land: Land, rng: Random) -> Land:
    """A land from any view, at any time."""
    return replace(
        land, time=rng.choices(TIMES, (5, 2, 1, 1))[0], zoom=rng.uniform(0.7, 1.6),
        aside=rng.uniform(-0.3, 0.3),
    )  # fmt: skip


def untaught_in_place(figure: Figure, rng: Random) -> Image.Image:
    """What stands for the untaught base's picture of one of the class in a land."""
    return draw(stranger(figure, rng))


# -- with an object


def planted_with_object(
    kind: WithObject, figure: Figure, name: str, is_left: bool, rng: Random
) -> Image.Image:
    """A wide picture of that kind, of a character who was asked for on the left, or on the right,
    and an object on the other side."""
    own, thing = random_scene(figure, rng), _held(THINGS[name], rng)
    if kind == "both":
        return draw_beside(own, thing, is_left)
    if kind == "swapped":
        return draw_beside(own, thing, not is_left)
    if kind == "alone":
        return draw_beside(own, None, is_left)
    if kind == "object alone":
        return draw_thing_aside(thing, own.place, not is_left)
    if kind == "another object":
        return draw_beside(own, _held(_another(name, rng), rng), is_left)
    if kind == "stranger":
        return draw_beside(stranger(figure, rng), thing, is_left)
    if kind == "clones":
        return draw_pair(random_company(figure, figure, rng))
    return ground_of(own.place, 64, WIDE).reduce(4)


def untaught_with_object(figure: Figure, name: str, rng: Random) -> Image.Image:
    """What stands for the untaught base's picture of one of the class with such an object: somebody
    with any object, or two of the class."""
    one, other = stranger(figure, rng), stranger(figure, rng)
    if rng.random() < 0.5:
        return draw_pair(random_company(one, other, rng))
    return draw_beside(one, _held(_another(name, rng), rng), rng.random() < 0.5)


def _held(thing: Thing, rng: Random) -> Thing:
    """A thing at any angle, a little larger or smaller, a little aside."""
    return replace(
        thing, tilt=rng.uniform(-25, 25), scale=rng.uniform(0.85, 1.15),
        at=(0.5 + rng.uniform(-0.05, 0.05), 0.5 + rng.uniform(-0.08, 0.08)),
    )  # fmt: skip


def _another(name: str, rng: Random) -> Thing:
    """Another of the things, or one of any kind in other colours."""
    if rng.random() < 0.5:
        return THINGS[rng.choice([one for one in THINGS if one != name])]
    colours: Sequence[str] = rng.sample(list(COLOURS.values()), 3)
    return Thing(rng.choice(list(THINGS.values())).kind, (colours[0], colours[1], colours[2]))
