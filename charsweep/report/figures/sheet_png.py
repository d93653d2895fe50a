"""A contact sheet as one PNG: prompts left, headings above, a note for what is missing."""

from __future__ import annotations

import textwrap
from functools import cache
from pathlib import Path

import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont, ImageOps

from charsweep.report.figures.contact_sheets import PAPER, ContactSheet, read_image

BICUBIC = Image.Resampling.BICUBIC
GAP, FAINT, TEXT, BAD = 4, "#eef0f3", "#1f2430", "#c8321f"


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which travels with matplotlib."""
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


def draw_sheet(sheet: ContactSheet, tile: int, title: bool = True) -> Image.Image:
    """The sheet as a image: prompts on the left, headings above, a note for what is missing."""
    size = max(9, round(tile / 9.5))
    side, line = round(tile * 1.55), round(size * 1.3)
    headings = [wrap(label, tile, size, 2) for label in sheet.columns]
    top = line * max((len(lines) for lines in headings), default=1) + GAP * 2
    title_lines = wrap(sheet.title, side + len(sheet.columns) * (tile + GAP), size, 2)
    above = line * len(title_lines) + GAP if title else 0
    width = side + len(sheet.columns) * (tile + GAP) + GAP
    height = above + top + len(sheet.rows) * (tile + GAP)
    paper = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(paper)
    if title:
        pen.text((GAP * 2, GAP), "\n".join(title_lines), TEXT, font=font(size))
    for column, lines in enumerate(headings):
        x = side + column * (tile + GAP) + tile / 2
        pen.text((x, above + top / 2), "\n".join(lines), TEXT, font(size), "mm", align="center")
    for row, label in enumerate(sheet.rows):
        y = above + top + row * (tile + GAP)
        words = "\n".join(wrap(label, side - GAP * 4, size, max(1, tile // line)))
        pen.text((GAP * 2, y + tile / 2), words, TEXT, font(size), "lm")
        for column, place in enumerate(sheet.tiles[row]):
            x = side + column * (tile + GAP)
            image = None if place.path is None else read_image(place.path, tile)
            if image is None:
                pen.rectangle((x, y, x + tile - 1, y + tile - 1), fill=FAINT)
                note = place.note or "not found"
                pen.text((x + tile / 2, y + tile / 2), note, BAD, font(size), "mm")
                continue
            paper.paste(ImageOps.contain(image, (tile, tile), BICUBIC), (x, y))
    return paper


def wrap(text: str, width: int, size: int, most: int) -> list[str]:
    """The text in at most so many lines of about `width` pixels, the rest as an ellipsis."""
    letters = max(4, int(width / (size * 0.58)))
    lines = textwrap.wrap(text, letters, max_lines=most, placeholder="…")
    return lines or [""]
