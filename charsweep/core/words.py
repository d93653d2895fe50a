"""Words and phrases in a text: found whole, in any case, in any script.

"ani" is in "Ani, sitting" and not in "an animal". A word ends where no letter or digit follows;
in scripts that put no spaces between words, and in Hangul, which adds particles, anywhere.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

# Thai and Lao, Burmese, Khmer; from kana on, Han and Hangul
UNSPACED = (range(0xE00, 0xF00), range(0x1000, 0x10A0), range(0x1780, 0x1800),
            range(0x3040, 0xD7B0), range(0xF900, 0xFB00), range(0x20000, 0x40000))  # fmt: skip
NO_LETTER = 0xF0000  # from here on Unicode leaves all to private use


class Place(NamedTuple):
    """Where a word stands in a text, and as what."""

    start: int
    end: int
    word: str


def places_in(text: str, phrases: Iterable[str]) -> Iterator[Place]:
    """Wherever any of the phrases stands as a whole; where one begins another, the longer."""
    longest_first = sorted(map(_bounded, phrases), key=len, reverse=True)
    pattern = "|".join(_whole(phrase) for phrase in longest_first)
    for found in re.finditer(pattern, _bounded(text), re.IGNORECASE):
        yield Place(*found.span(), text[slice(*found.span())])


def holds(text: str, phrase: str) -> bool:
    """Whether a text has a word, or a phrase, as a whole."""
    return any(places_in(same(text), [same(phrase)]))


def replaced(text: str, phrase: str, other: str) -> str:
    """A text with something else wherever a phrase stands as a whole."""
    text, parts, last = same(text), [], 0
    for place in places_in(text, [same(phrase)]):
        parts += [text[last : place.start], other]
        last = place.end
    return "".join([*parts, text[last:]])


def same(text: str) -> str:
    """A text as all its spellings in Unicode are: é is one letter."""
    return unicodedata.normalize("NFC", text)


def _bounded(text: str) -> str:
    """As long a text, in which the letters of scripts without spaces are no letters."""
    if text.isascii():
        return text
    return "".join(
        chr(NO_LETTER + (ord(letter) & 0xFFFF))
        if any(ord(letter) in script for script in UNSPACED)
        else letter
        for letter in text
    )


def _whole(phrase: str) -> str:
    before = r"(?<![^\W_])" if phrase[:1].isalnum() else ""
    after = r"(?![^\W_])" if phrase[-1:].isalnum() else ""
    return before + re.escape(phrase) + after
