"""Text and a width in, its lines out: DejaVu Sans as it will be set in the PDF. Pure."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path

import matplotlib as mpl
from matplotlib.font_manager import get_font
from matplotlib.ft2font import FT2Font, LoadFlags

FILES = {"plain": "DejaVuSans", "bold": "DejaVuSans-Bold", "mono": "DejaVuSansMono"}
LEADING = 1.38  # lines are so many times the letters' size apart
EM = 1000  # size at which words are measured once; widths scale with the size


@cache
def face(kind: str) -> FT2Font:
    """The font file of plain, bold or mono."""
    return get_font(str(Path(mpl.get_data_path()) / "fonts/ttf" / f"{FILES[kind]}.ttf"))


@lru_cache(maxsize=16_384)
def ems(word: str, kind: str) -> float:
    """The width of a word at size 1."""
    font = face(kind)
    font.set_size(EM, 72)
    # Bars on both sides, because the ink of a lone space has no width.
    font.set_text(f"|{word}|", 0.0, flags=LoadFlags.NO_HINTING)
    both = font.get_width_height()[0]
    font.set_text("||", 0.0, flags=LoadFlags.NO_HINTING)
    return (both - font.get_width_height()[0]) / 64 / EM


def width(text: str, size: float, kind: str = "plain") -> float:
    """How wide one line is, in points."""
    return ems(text, kind) * size


def wrap(text: str, room: float, size: float, kind: str = "plain") -> list[str]:
    """The text in lines of at most `room` points; a word too long for one is broken."""
    space = width(" ", size, kind)
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line, used = "", 0.0
        for word in paragraph.split():
            for piece in pieces(word, room, size, kind):
                long = width(piece, size, kind)
                if line and used + space + long > room:
                    lines.append(line)
                    line, used = piece, long
                else:
                    used += long + (space if line else 0)
                    line = f"{line} {piece}" if line else piece
        lines.append(line)
    return lines


def pieces(word: str, room: float, size: float, kind: str) -> list[str]:
    """A word as it is, or cut into stretches that fit."""
    if width(word, size, kind) <= room:
        return [word]
    found, piece = [], ""
    for letter in word:
        if piece and width(piece + letter, size, kind) > room:
            found.append(piece)
            piece = ""
        piece += letter
    return [*found, piece]


def clipped(lines: list[str], most: int) -> list[str]:
    """At most so many lines, the rest as an ellipsis."""
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1].rstrip() + "…"]
