"""Names of files made of people's words: letters of every language, nothing else."""

from __future__ import annotations

import re
import unicodedata

LETTERS = "LMN"  # Unicode's categories: letters, the marks that belong to them, numbers
MOST_BYTES = 120  # of a file system's 255, which endings and temporary names share


def as_file_name(text: str, other: str = "-") -> str:
    """The text with `other` for each character that is no letter, digit, - or _; cut if long."""
    whole = unicodedata.normalize("NFC", text)
    kept = (c if unicodedata.category(c)[0] in LETTERS or c in "-_" else other for c in whole)
    return "".join(kept).encode()[:MOST_BYTES].decode(errors="ignore")


def as_title(text: str) -> str:
    """The same as the name of a file of weights, by which prompts call it too."""
    return re.sub("\0+", "_", as_file_name(text, "\0")).strip("_-") or "character"
