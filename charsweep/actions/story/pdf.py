"""A chosen story in, `story.pdf` out: A4, six scenes to a page, text that can be searched."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font

from charsweep.actions.story.page import Scene, Story, scaled

WIDTH, HEIGHT = 8.27, 11.69  # inches: A4
MARGIN, GAP, SIDE = 1.15, 0.37, 2.8  # of the page, between columns, of a picture
TITLE, CAPTION = 0.6, 0.56  # heights: of the title on the first page, of a caption of two lines
COLUMNS, ROWS = 2, 3
LINE = 42  # characters of a caption that fit below a picture, measured on DejaVu Sans 9.5
PIXELS = 560  # 200 dots an inch

FONT = "DejaVu Sans"  # comes with matplotlib, so pages are the same everywhere
STYLE: Any = {  # matplotlib types the names one by one
    "font.family": FONT,
    "pdf.fonttype": 42,  # real fonts: text can be selected and searched
    "pdf.compression": 6,
}


def write_pdf(story: Story, path: Path) -> None:
    """The same story gives the same bytes: no dates are put in."""
    metadata = {"Title": story.title, "Creator": "charsweep", "CreationDate": None}
    per_page = COLUMNS * ROWS
    pages = [story.scenes[i : i + per_page] for i in range(0, len(story.scenes), per_page)]
    with (
        warnings.catch_warnings(),
        mpl.rc_context(STYLE),
        PdfPages(path, metadata=metadata) as document,
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # `missing_letters` tells
        for number, scenes in enumerate(pages, 1):
            document.savefig(_page(story, scenes, number, len(pages)))


def missing_letters(story: Story) -> str:
    """The letters of title and captions that the font lacks, and that a box stands for."""
    known = FT2Font(findfont(FONT)).get_charmap()
    words = "".join([story.title, *(scene.caption for scene in story.scenes)])
    return "".join(dict.fromkeys(letter for letter in words if ord(letter) not in known))


def _page(story: Story, scenes: Sequence[Scene], number: int, count: int) -> Figure:
    figure = Figure(figsize=(WIDTH, HEIGHT))
    top = HEIGHT - 0.55
    if number == 1:
        title = "\n".join(textwrap.wrap(story.title, 40)[:2])
        figure.text(0.5, _up(top), title, ha="center", va="top", size=20, weight="bold",
                    parse_math=False, linespacing=1.1)  # fmt: skip
    for place, scene in enumerate(scenes):
        row, column = divmod(place, COLUMNS)
        left = MARGIN + column * (SIDE + GAP)
        lower = top - TITLE - row * (SIDE + CAPTION) - SIDE
        _scene(figure, scene, left, lower)
    foot = f"{story.identifier}, drawn by {story.drawn_by}"
    if count > 1:
        foot += f" · {number} of {count}"
    figure.text(0.5, _up(0.28), "\n".join(textwrap.wrap(foot, 130)[:2]), ha="center", va="bottom",
                size=6.5, color="#666", parse_math=False)  # fmt: skip
    return figure


def _scene(figure: Figure, scene: Scene, left: float, lower: float) -> None:
    """One picture, its corner in inches from the page's, and its caption below."""
    axes = figure.add_axes((left / WIDTH, _up(lower), SIDE / WIDTH, _up(SIDE)))
    axes.imshow(scaled(scene.picture, PIXELS), interpolation="none")
    axes.set_axis_off()
    lines = textwrap.wrap(f"{scene.number}  {scene.caption}", LINE)
    size = 9.5 if len(lines) <= 2 else 9.5 * 2.1 / len(lines)  # a long caption is set smaller
    if len(lines) > 2:
        lines = textwrap.wrap(f"{scene.number}  {scene.caption}", int(LINE * 9.5 / size))
    figure.text(left / WIDTH, _up(lower - 0.06), "\n".join(lines), ha="left", va="top", size=size,
                linespacing=1.25, parse_math=False)  # fmt: skip


def _up(inches: float) -> float:
    return inches / HEIGHT
