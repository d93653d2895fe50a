"""Fonts for people's words: DejaVu Sans, and installed ones for the letters that it lacks.

Japanese, Chinese, Korean, Hebrew and the like are in no font that travels with matplotlib. Which
installed font has a letter is read from the fonts' own tables, and only where one is wanted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import matplotlib as mpl
from matplotlib.font_manager import FontProperties, findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font

OWN = Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"


@cache
def letters_of(font: Path) -> frozenset[str]:
    """The letters that a font has; none of a file that cannot be read."""
    try:
        return frozenset(map(chr, FT2Font(str(font)).get_charmap()))
    except (OSError, RuntimeError, ValueError):
        return frozenset()


def fonts_for(text: str) -> tuple[Path, ...]:
    """DejaVu Sans, then as few installed fonts as have what can be had of the rest of a text."""
    return (OWN, *fallbacks(wanted(text)))


def lacking(text: str) -> str:
    """The letters of a text that no font here has, and boxes stand for."""
    rest = wanted(text)
    known = frozenset().union(*map(letters_of, fallbacks(rest)))
    return "".join(sorted(rest - known))


def wanted(text: str) -> frozenset[str]:
    """The letters of a text that DejaVu Sans lacks."""
    return frozenset(letter for letter in set(text) if letter.isprintable()) - letters_of(OWN)


@cache
def fallbacks(letters: frozenset[str]) -> tuple[Path, ...]:
    """The installed fonts that have most of these letters, then most of what is left."""
    chosen: list[Path] = []
    rest = letters
    while rest:
        best = max(installed(), key=lambda font: len(rest & letters_of(font)), default=OWN)
        if not rest & letters_of(best):
            break
        chosen.append(best)
        rest -= letters_of(best)
    return tuple(chosen)


def installed() -> tuple[Path, ...]:
    """The fonts of this machine, regular cuts before others, in one order."""
    return tuple(sorted(map(Path, findSystemFonts()), key=lambda font: (is_cut(font), font)))


def is_cut(font: Path) -> bool:
    """Whether a font is a bold, slanted or narrow cut, by the name of its file."""
    cuts = ("bold", "italic", "oblique", "thin", "light", "black", "condensed", "narrow", "medium")
    return any(cut in font.stem.lower() for cut in cuts)


def families(fonts: Iterable[Path]) -> list[str]:
    """What matplotlib calls these fonts, which it knows from then on."""
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # a cut may be missing
    names = []
    for font in fonts:
        if font != OWN and all(Path(one.fname) != font for one in fontManager.ttflist):
            fontManager.addfont(font)
        names.append(FontProperties(fname=font).get_name())
    return names
