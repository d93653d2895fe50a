"""Attributes: what captions and prompts say of an image, each by one of several words.

"a picture of a girl sitting on the beach" names two of the vocabulary's attributes: position, by
"sitting", and place, by "on the beach". A word may be a phrase; it is found whole, in any case.
"""

from __future__ import annotations

from collections.abc import Sequence

from charsweep.core.specs import AttributeSpec
from charsweep.core.words import Place, places_in


def named_in(prompt: str, attributes: Sequence[AttributeSpec]) -> dict[str, Place]:
    """Where a prompt names each attribute; one that it names by two words is left out."""
    found = {}
    for attribute in attributes:
        matches = list(places_in(prompt, attribute.words))
        if len(matches) == 1:
            found[attribute.name] = matches[0]
    return found


def rivals_of(prompt: str, attributes: Sequence[AttributeSpec]) -> dict[str, tuple[str, ...]]:
    """By each attribute that a prompt names: the prompt with every other word for it."""
    places = named_in(prompt, attributes)
    return {
        attribute.name: tuple(
            prompt[: place.start] + word + prompt[place.end :]
            for word in attribute.words
            if word.lower() != place.word.lower()
        )
        for attribute in attributes
        if (place := places.get(attribute.name))
    }
