"""The truth about an image: how much of it is the character, and how much of it was asked for.

identity: share of the character's seven traits that are right; prompt: share of what the prompt
names (position, eyes, mood, place) that is shown; truth: their product. 0 where no figure is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.validity.characters import TRAITS
from benchmarks.validity.judge import FIGURE, Reading, reading_of
from pretraining.captions import ARM_WORDS, EYE_WORDS, LEG_WORDS, MOUTH_WORDS, PLACE_WORDS
from pretraining.figure import Figure

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


def traits_right(reading: Reading, who: Figure) -> dict[str, bool]:
    """Whether each of the character's traits is there; a trait is right if all of it is."""
    hers = reading_of(who)
    heads = {
        trait: [head for field in fields for head in COLOUR_HEADS.get(field, (field,))]
        for trait, fields in TRAITS.items()
    }
    return {trait: all(reading[h] == hers[h] for h in needed) for trait, needed in heads.items()}


def truth_of(readings: Sequence[Reading], who: Figure, prompts: Sequence[str]) -> Truth:
    """The truth of N readings, each of an image that was drawn for its prompt."""
    identity, prompt = np.zeros(len(readings)), np.zeros(len(readings))
    for row, (reading, text) in enumerate(zip(readings, prompts, strict=True)):
        if reading[FIGURE] == "yes":
            wanted = asked(text)
            identity[row] = np.mean(list(traits_right(reading, who).values()))
            prompt[row] = np.mean([reading[what] == value for what, value in wanted.items()])
    return Truth(identity, prompt)
