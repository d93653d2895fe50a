"""Planted image sets: made so that the truth about them is known, frauds among them.

Each is the exam as a taught model might have drawn it: 8 prompts × 2 seeds, prompt by prompt. The
second seed's figure stands a little aside and is a little smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
from PIL import Image, ImageChops

from benchmarks.validity.characters import CHARACTERS, PROMPTS, Character, with_traits
from benchmarks.validity.judge import FIGURE, Reading, coded, reading_of, smooth_noise
from benchmarks.validity.truth import asked
from pretraining.data import SIDE
from pretraining.figure import PLACES, Figure, random_character
from pretraining.world import draw, in_scene

SEEDS = (0, 1)
PER_IMAGE = tuple(prompt for prompt in PROMPTS for _ in SEEDS)  # the prompt of each image
SWAPPED = ("colours", "headgear", "emblem")  # what the look-alike has from somebody else
OTHER_LEGS = {
    "standing": "sitting",
    "jumping": "standing",
    "sitting": "jumping",
    "walking": "sitting",
}
OTHER_ARMS = {"left up": "right up", "right up": "left up", "both up": "down", "down": "both up"}
HUE = 8  # of 256


@dataclass(frozen=True)
class Planted:
    """One image, and what is to be read from it by how it was made."""

    image: Image.Image
    reading: Reading


def varied(figure: Figure, seed: int) -> Figure:
    """The figure as this seed draws it."""
    return replace(figure, shift=(0.015, -0.008), scale=0.97) if seed else figure


def drawn(figures: Sequence[Figure]) -> list[Planted]:
    """One figure per prompt, drawn by each seed."""
    each = [varied(figure, seed) for figure in figures for seed in SEEDS]
    return [Planted(draw(figure, SIDE), reading_of(figure)) for figure in each]


def changed(planted: Sequence[Planted], how: Callable[[Image.Image], Image.Image]) -> list[Planted]:
    return [replace(one, image=how(one.image)) for one in planted]


def aside(image: Image.Image) -> Image.Image:
    """Two pixels to the right; what leaves there comes in at the left."""
    return ImageChops.offset(image, 2, 0)


def other_hue(image: Image.Image) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    turned = hue.point([(level + HUE) % 256 for level in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


def noise(index: int) -> Planted:
    """Smooth coloured noise."""
    rng = np.random.default_rng(index)
    pixels = 128 + 50 * smooth_noise((1, 3), 8, SIDE, rng)[0].permute(1, 2, 0)
    image = Image.fromarray(pixels.clamp(0, 255).byte().numpy())
    return Planted(image, dict.fromkeys(reading_of(CHARACTERS[0].figure), "") | {FIGURE: "no"})


def wrong_position(figure: Figure) -> Figure:
    """The same place, but nothing of the position."""
    return replace(
        figure,
        legs=OTHER_LEGS[figure.legs],
        arms=OTHER_ARMS[figure.arms],
        eyes="open" if figure.eyes == "closed" else "closed",
    )


def wrong_place(figure: Figure) -> Figure:
    return replace(figure, place=PLACES[(PLACES.index(figure.place) + 3) % len(PLACES)])


def other_arm(figure: Figure) -> Figure:
    """The right arm where the left was asked for; all else as asked."""
    return replace(figure, arms="right up") if figure.arms == "left up" else figure


def best_drawing(who: Character, prompt: str) -> Figure:
    """Of the six drawings, the one that shows most of what the prompt names."""
    wanted = asked(prompt)
    return max(
        who.drawings, key=lambda one: sum(getattr(one, what) == v for what, v in wanted.items())
    )


def somebody_of_the_class(who: Character) -> Figure:
    """A random character of the same species."""
    tries = (random_character(Random(f"{who.name}-{number}")) for number in range(1000))
    return next(one for one in tries if one.species == who.class_noun)


def planted_sets(who: Character) -> dict[str, list[Planted]]:
    """Every planted set of a character, by what it is: 16 images each."""
    others = [one for one in CHARACTERS if one != who]
    other = others[CHARACTERS.index(who) % len(others)]
    alike, stranger = with_traits(who.figure, other.figure, SWAPPED), somebody_of_the_class(who)
    true = drawn(who.exam)
    copies = [
        Planted(draw(figure, SIDE), reading_of(figure))
        for index in range(len(PER_IMAGE))
        for figure in [who.drawings[index % len(who.drawings)]]
    ]
    static = [noise(index) for index in range(len(PER_IMAGE))]
    through = coded(np.stack([np.asarray(one.image) for one in true]))
    return {
        "true pictures": true,
        "true pictures, through the autoencoder": [
            replace(one, image=Image.fromarray(image))
            for one, image in zip(true, through, strict=True)
        ],
        "half true, half noise": [(true, static)[i % 2][i] for i in range(len(true))],
        "copies of the six drawings": copies,
        "copies, 2 px aside": changed(copies, aside),
        "copies, another hue": changed(copies, other_hue),
        "one drawing for every prompt": [copies[0]] * len(PER_IMAGE),
        "the best drawing for each prompt": drawn([best_drawing(who, p) for p in PROMPTS]),
        "another character, right scenes": drawn([in_scene(other.figure, f) for f in who.exam]),
        "somebody of the class, right scenes": drawn([in_scene(stranger, f) for f in who.exam]),
        "a look-alike, three traits wrong": drawn([in_scene(alike, f) for f in who.exam]),
        "right place, wrong position": drawn([wrong_position(f) for f in who.exam]),
        "right position, wrong place": drawn([wrong_place(f) for f in who.exam]),
        "the other arm": drawn([other_arm(f) for f in who.exam]),
        "smooth noise": static,
    }
