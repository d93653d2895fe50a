"""The truth about an image: how much of it is the character, and how much of it was asked for.

identity: share of the character's seven traits that are right; prompt: share of what the prompt
names (position, eyes, mood, place) that is shown; truth: their product. 0 where no figure is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.validity.characters import CHARACTERS, TRAITS, Traits
from benchmarks.validity.judge import (
    FIGURE,
    HEADS,
    Heads,
    Judge,
    Reading,
    any_figure,
    coded,
    near_figure,
    reading_of,
    rejects,
)
from pretraining.captions import ARM_WORDS, EYE_WORDS, LEG_WORDS, MOUTH_WORDS, PLACE_WORDS
from pretraining.data import pictures
from pretraining.figure import Figure

UNSEEN = 1_000  # figures that the judge is tested on
COLOUR_HEADS = {"colours": ("first colour", "second colour")}  # a field that has two heads
VOCABULARY = {
    "legs": LEG_WORDS,
    "arms": ARM_WORDS,
    "eyes": EYE_WORDS,
    "mouth": MOUTH_WORDS,
    "place": PLACE_WORDS,
}


@dataclass(frozen=True)
class Truth:
    """Of N images: identity and prompt, each (N,) in [0, 1]."""

    identity: NDArray[np.float64]
    prompt: NDArray[np.float64]

    @property
    def values(self) -> NDArray[np.float64]:
        return self.identity * self.prompt


def asked(prompt: str) -> dict[str, str]:
    """What a prompt names: attribute -> value."""
    return {
        attribute: value
        for attribute, vocabulary in VOCABULARY.items()
        for value, phrases in vocabulary.items()
        if any(phrase and phrase in prompt for phrase in phrases)
    }


def traits_right(
    reading: Reading, who: Figure, traits: Traits = TRAITS, heads: Heads = HEADS
) -> dict[str, bool]:
    """Whether each of the character's traits is there; a trait is right if all of it is."""
    hers = reading_of(who, heads)
    needed = {
        trait: [head for field in fields for head in COLOUR_HEADS.get(field, (field,))]
        for trait, fields in traits.items()
    }
    return {trait: all(reading[h] == hers[h] for h in read) for trait, read in needed.items()}


def truth_of(readings: Sequence[Reading], who: Figure, prompts: Sequence[str]) -> Truth:
    """The truth of N readings, each of an image that was drawn for its prompt."""
    identity, prompt = np.zeros(len(readings)), np.zeros(len(readings))
    for row, (reading, text) in enumerate(zip(readings, prompts, strict=True)):
        if reading[FIGURE] == "yes":
            wanted = asked(text)
            identity[row] = np.mean(list(traits_right(reading, who).values()))
            prompt[row] = np.mean([reading[what] == value for what, value in wanted.items()])
    return Truth(identity, prompt)


# -- how well the judge reads


def accuracies(judge: Judge) -> dict[str, dict[str, float]]:
    """By set of unseen figures and of rejects, the share read right by attribute.

    `traits`: whether a trait of the character is right or wrong, of figures with up to three wrong.
    """
    anybody = [any_figure(Random(f"unseen-{i}")) for i in range(UNSEEN)]
    coded_drawings = coded(pictures(anybody[: UNSEEN // 2], UNSEEN // 2))
    found = {
        "any figure": shares(judge, anybody, pictures(anybody, UNSEEN)),
        "any, coded": shares(judge, anybody[: UNSEEN // 2], coded_drawings),
    }
    for who in CHARACTERS:
        near = [near_figure(who.figure, Random(f"{who.name}-{i}")) for i in range(UNSEEN // 5)]
        drawn = coded(pictures(near, len(near)))
        traits = [
            [list(traits_right(reading, who.figure).values()) for reading in readings]
            for readings in (read(judge, drawn), map(reading_of, near))
        ]
        told = float((np.array(traits[0]) == np.array(traits[1])).mean())
        found[f"near {who.name}"] = {"traits": told, **shares(judge, near, drawn)}
    wrong = read(judge, rejects(pictures(anybody, UNSEEN // 2)))
    return found | {"rejects": {FIGURE: float(np.mean([one[FIGURE] == "no" for one in wrong]))}}


def read(judge: Judge, drawn: NDArray[np.uint8]) -> list[Reading]:
    return judge.read([Image.fromarray(one) for one in drawn])


def shares(judge: Judge, figures: Sequence[Figure], drawn: NDArray[np.uint8]) -> dict[str, float]:
    """Share of drawings of the figures, NHWC, from which the judge reads an attribute right."""
    pairs = list(zip(read(judge, drawn), map(reading_of, figures), strict=True))
    return {h: float(np.mean([got[h] == true[h] for got, true in pairs])) for h in (*HEADS, FIGURE)}
