"""Words and phrases in a text: found whole, in any case, in any script.

"ani" is in "Ani, sitting" and not in "an animal". A word ends where no letter or digit follows;
in scripts that put no spaces between words, and in Hangul, which adds particles, anywhere.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# Thai and Lao, Burmese, Khmer, kana, Han, Hangul
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
LETTER = rf"[^\W_{UNSPACED}]"


def pattern_of(phrases: Iterable[str]) -> re.Pattern[str]:
    """What finds any of the phrases; where one begins another, the longer."""
    longest_first = sorted(phrases, key=len, reverse=True)
    return re.compile("|".join(map(_whole, longest_first)), re.IGNORECASE)


def holds(text: str, phrase: str) -> bool:
    """Whether a text has a word, or a phrase, as a whole."""
    return pattern_of([same(phrase)]).search(same(text)) is not None


def same(text: str) -> str:
    """A text as all its spellings in Unicode are: é is one letter."""
    return unicodedata.normalize("NFC", text)


def _whole(phrase: str) -> str:
    before = rf"(?<!{LETTER})" if re.match(LETTER, phrase) else ""
    after = rf"(?!{LETTER})" if re.match(LETTER, phrase[::-1]) else ""
    return before + re.escape(phrase) + after
