"""A contact sheet as one PNG: prompts left, headings above, a note for what is missing."""

from __future__ import annotations

import itertools
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from charsweep.report.figures.contact_sheets import PAPER, ContactSheet, read_image
from charsweep.report.figures.fonts import OWN, fonts_for, letters_of

BICUBIC = Image.Resampling.BICUBIC
GAP, FAINT, TEXT, BAD = 4, "#eef0f3", "#1f2430", "#c8321f"
WIDE = "FW"  # East Asian widths of letters that are as wide as high

opened_font = cache(ImageFont.truetype)


@dataclass(frozen=True)
class Pen:
    """Writes on an image, each letter in the first of some fonts that has it."""

    draw: ImageDraw.ImageDraw
    fonts: tuple[Path, ...]
    size: int

    @property
    def line(self) -> int:
        """Pixels from one line to the next."""
        return round(self.size * 1.3)

    def write(
        self, x: float, y: float, lines: Sequence[str], colour: str = TEXT, centred: bool = False
    ) -> None:
        """Lines whose middle is at height `y`; they begin at `x`, or have their middle there."""
        for number, text in enumerate(lines):
            runs = [(opened_font(font, self.size), run) for font, run in self.runs(text)]
            widths = [font.getlength(run) for font, run in runs]
            left = x - sum(widths) / 2 if centred else x
            base = y + (number - len(lines) / 2 + 0.5) * self.line + self.size * 0.36
            for (font, run), width in zip(runs, widths, strict=True):
                self.draw.text((left, base), run, colour, font, "ls")
                left += width

    def runs(self, text: str) -> list[tuple[Path, str]]:
        """The text cut where its font changes; what no font has is a box of the first."""
        grouped = itertools.groupby(text, self.font_of)
        return [(font, "".join(letters)) for font, letters in grouped]

    def font_of(self, letter: str) -> Path:
        return next((font for font in self.fonts if letter in letters_of(font)), OWN)


def draw_sheet(sheet: ContactSheet, tile: int, title: bool = True) -> Image.Image:
    """The sheet as a image: prompts on the left, headings above, a note for what is missing."""
    size = max(9, round(tile / 9.5))
    fonts = fonts_for("".join((sheet.title, *sheet.columns, *sheet.rows)))
    side, line = round(tile * 1.55), round(size * 1.3)
    headings = [wrap(label, tile, size, 2) for label in sheet.columns]
    top = line * max((len(lines) for lines in headings), default=1) + GAP * 2
    title_lines = wrap(sheet.title, side + len(sheet.columns) * (tile + GAP), size, 2)
    above = line * len(title_lines) + GAP if title else 0
    width = side + len(sheet.columns) * (tile + GAP) + GAP
    height = above + top + len(sheet.rows) * (tile + GAP)
    paper = Image.new("RGB", (width, height), PAPER)
    pen = Pen(ImageDraw.Draw(paper), fonts, size)
    if title:
        pen.write(GAP * 2, above / 2, title_lines)
    for column, lines in enumerate(headings):
        x = side + column * (tile + GAP) + tile / 2
        pen.write(x, above + top / 2, lines, centred=True)
    for row, label in enumerate(sheet.rows):
        y = above + top + row * (tile + GAP)
        words = wrap(label, side - GAP * 4, size, max(1, tile // line))
        pen.write(GAP * 2, y + tile / 2, words)
        for column, place in enumerate(sheet.tiles[row]):
            x = side + column * (tile + GAP)
            image = None if place.path is None else read_image(place.path, tile)
            if image is None:
                pen.draw.rectangle((x, y, x + tile - 1, y + tile - 1), fill=FAINT)
                note = place.note or "not found"
                pen.write(x + tile / 2, y + tile / 2, [note], BAD, centred=True)
                continue
            fitted = ImageOps.contain(image, (tile, tile), BICUBIC)
            paper.paste(fitted, (x + (tile - fitted.width) // 2, y + (tile - fitted.height) // 2))
    return paper


def wrap(text: str, width: int, size: int, most: int) -> list[str]:
    """The text in at most so many lines of about `width` pixels, the rest as an ellipsis."""
    letters = max(4, int(width / (size * 0.58)))
    # A wide letter counts for two, the second of which is taken out again.
    counted = "".join(f"{one}\0" if is_wide(one) else one for one in text)
    lines = textwrap.wrap(counted, letters, max_lines=most, placeholder="…")
    return [line.replace("\0", "") for line in lines] or [""]


def is_wide(letter: str) -> bool:
    """Whether a letter is about as wide as high, as those of Chinese and Japanese."""
    return unicodedata.east_asian_width(letter) in WIDE
