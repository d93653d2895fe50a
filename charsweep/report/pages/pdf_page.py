"""Paragraphs, plots and pictures in, pages of A4 out: a cursor that moves down and turns pages.

All lengths are points from the upper left corner. Plots are painted anew on the page, so they stay
vectors and their letters shrink with them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image

from charsweep.report.figures.style import BAD, GRID, INK, MUTED, LegendEntry, Plot, style
from charsweep.report.pages.pdf_text import LEADING, width, wrap

WIDE, HIGH = 595.3, 841.9  # A4
LEFT, TOP, FOOT = 48.0, 46.0, 52.0
PAGE = (WIDE, HIGH)
ROOM = WIDE - 2 * LEFT
BODY = 9.0
ACCENT, CARD = "#0067a8", "#f4f6f8"
GAP = 6.0
LARGEST = 0.82  # of a plot's size on a screen: letters of 9.5 points become 7.8


class Paper:
    """The page being filled, and where on it the next thing goes."""

    def __init__(self, pages: PdfPages, footer: str) -> None:
        self.pages, self.footer = pages, footer
        self.number = 0
        self.turn()

    # -- pages -------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Finish the page and start the next."""
        self.finish()
        self.figure = Figure(figsize=(WIDE / 72, HIGH / 72))
        self.album: Axes | None = None  # one for all pictures of a page: axes are slow to make
        self.number += 1
        self.y = TOP
        y = HIGH - FOOT + 22
        self.write(LEFT, y, self.footer, 7.5, MUTED)
        number = str(self.number)
        self.write(WIDE - LEFT - width(number, 7.5), y, number, 7.5, MUTED)

    def finish(self) -> None:
        """Hand the page over to the file."""
        if self.number:
            self.pages.savefig(self.figure)  # type: ignore[no-untyped-call]  # as matplotlib ships it

    @property
    def left_over(self) -> float:
        """Points above the foot of the page."""
        return HIGH - FOOT - self.y

    def need(self, height: float) -> None:
        """Turn the page unless so much room is left."""
        if height > self.left_over and self.y > TOP:
            self.turn()

    def skip(self, height: float) -> None:
        """Leave room, except at the head of a page."""
        if self.y > TOP:
            self.y += height

    # -- words -------------------------------------------------------------------------------------

    def write(
        self, x: float, y: float, text: str, size: float, colour: str = INK, kind: str = "plain"
    ) -> None:
        """One line whose letters stand on `y`."""
        if text.strip():
            family = "DejaVu Sans Mono" if kind == "mono" else "DejaVu Sans"
            weight = "bold" if kind == "bold" else "normal"
            self.figure.text(
                x / WIDE, 1 - y / HIGH, text, fontsize=size, color=colour, family=family,
                weight=weight, va="baseline",
            )  # fmt: skip

    def heading(self, text: str, size: float = 13.0, keep: float = 90.0) -> None:
        """A heading with room below it for what follows."""
        lines = wrap(text, ROOM, size, "bold")
        self.skip(size * 1.1)
        self.need(len(lines) * size * LEADING + keep)
        self.lines(lines, size, kind="bold")
        self.y += size * 0.3

    def paragraph(
        self,
        text: str,
        size: float = BODY,
        colour: str = INK,
        indent: float = 0,
        kind: str = "plain",
        after: float = 4,
    ) -> None:
        """Text over the width of the page."""
        self.lines(wrap(text, ROOM - indent, size, kind), size, colour, indent, kind)
        self.y += after

    def bullets(self, texts: Sequence[str], size: float = 8.8) -> None:
        """A list whose lines stand clear of their bullets."""
        for text in texts:
            lines = wrap(text, ROOM - 12, size)
            self.need(len(lines) * size * LEADING)
            self.write(LEFT + 2, self.y + size * (LEADING - 0.3), "•", size)
            self.lines(lines, size, indent=12)
            self.y += 2
        self.y += 3

    def muted(self, text: str) -> None:
        """A remark in small grey letters."""
        self.paragraph(text, 7.8, MUTED)

    def lines(
        self,
        lines: Sequence[str],
        size: float,
        colour: str = INK,
        indent: float = 0,
        kind: str = "plain",
    ) -> None:
        """Lines that were wrapped already; a page may end between any two."""
        for line in lines:
            self.need(size * LEADING)
            self.y += size * LEADING
            self.write(LEFT + indent, self.y - size * 0.3, line, size, colour, kind)

    def pairs(self, items: Sequence[tuple[str, str]], size: float = 8.5) -> None:
        """Labels in a column of their own, their texts wrapped beside them."""
        if not items:
            return
        side = min(150.0, max(width(label, size) for label, _ in items) + 12)
        for label, text in items:
            names = wrap(label, side - 10, size)
            texts = wrap(text, ROOM - side, size)
            for index in range(max(len(names), len(texts))):
                self.need(size * LEADING)
                self.y += size * LEADING
                base = self.y - size * 0.3
                self.write(LEFT, base, "".join(names[index : index + 1]), size, MUTED)
                self.write(LEFT + side, base, "".join(texts[index : index + 1]), size)
            self.y += 1.5
        self.y += 3

    def card(self, sentences: Sequence[str], size: float = 10.0) -> None:
        """Sentences on a tinted card with a bar: the verdict. It stays on one page."""
        wrapped = [wrap(sentence, ROOM - 24, size) for sentence in sentences]
        height = sum(len(lines) for lines in wrapped) * size * LEADING + 4 * len(wrapped) + 12
        if height > HIGH - TOP - FOOT:  # no page could hold the card
            for sentence in sentences:
                self.paragraph(sentence, size)
            return
        self.need(height)
        self.box(LEFT, self.y, ROOM, height, CARD)
        self.box(LEFT, self.y, 3, height, ACCENT)
        bottom = self.y + height
        self.y += 6
        for lines in wrapped:
            self.lines(lines, size, indent=14)
            self.y += 4
        self.y = bottom + 6

    def code(self, text: str) -> None:
        """A command, wrapped, on a tinted card."""
        lines = wrap(text, ROOM - 16, 7.8, "mono")
        height = len(lines) * 7.8 * LEADING + 10
        if height < HIGH - TOP - FOOT:
            self.need(height)
            self.box(LEFT, self.y, ROOM, height, CARD)
        self.y += 4
        self.lines(lines, 7.8, indent=8, kind="mono")
        self.y += 12

    # -- shapes ------------------------------------------------------------------------------------

    def box(self, x: float, y: float, wide: float, high: float, colour: str) -> None:
        """A filled rectangle."""
        self.figure.add_artist(
            Rectangle(
                (x / WIDE, 1 - (y + high) / HIGH), wide / WIDE, high / HIGH, color=colour, lw=0,
                transform=self.figure.transFigure, zorder=-1,
            )
        )  # fmt: skip

    def rule(self, y: float, weight: float = 0.5, colour: str = MUTED) -> None:
        """A line over the width of the page."""
        xs, ys = [LEFT / WIDE, (WIDE - LEFT) / WIDE], [1 - y / HIGH] * 2
        line = Line2D(xs, ys, lw=weight, color=colour, transform=self.figure.transFigure)
        self.figure.add_artist(line)

    def legend(self, title: str, entries: Sequence[LegendEntry], size: float = 8.0) -> None:
        """Colours and their names in as many lines as they need."""
        if not entries:
            return
        self.need(size * LEADING * 2)
        x = LEFT
        self.y += size * LEADING
        if title:
            self.write(x, self.y - size * 0.3, title, size, kind="bold")
            x += width(title, size, "bold") + 12
        for entry in entries:
            wide = width(entry.label, size) + 34
            if x + wide > WIDE - LEFT:
                x, self.y = LEFT, self.y + size * LEADING
            self.box(x, self.y - size * 0.75, 14, 2.6, entry.colour.light)
            self.write(x + 19, self.y - size * 0.3, entry.label, size)
            x += wide
        self.y += 4

    # -- plots and pictures ------------------------------------------------------------------------

    def plots(self, plots: Sequence[Plot], columns: int = 2, widest: float = ROOM) -> None:
        """Plots side by side in rows that stay whole."""
        slot = (min(ROOM, widest) - GAP * (columns - 1)) / columns
        for start in range(0, len(plots), columns):
            row = plots[start : start + columns]
            scales = [fitting(plot, slot) for plot in row]
            high = max(plot.size[1] * 72 * s for plot, s in zip(row, scales, strict=True))
            self.need(high)
            for index, (plot, scale) in enumerate(zip(row, scales, strict=True)):
                self.paint(plot, LEFT + index * (slot + GAP), self.y, scale)
            self.y += high + GAP

    def paint(self, plot: Plot, x: float, y: float, scale: float) -> None:
        """One plot in its place on the page, painted anew at that size."""
        wide, high = (side * 72 * scale for side in plot.size)
        spec = GridSpec(
            3, 3, figure=self.figure, wspace=0, hspace=0,
            width_ratios=(x, wide, WIDE - x - wide), height_ratios=(y, high, HIGH - y - high),
        )  # fmt: skip
        with style(scale):
            place = self.figure.add_subfigure(spec[1, 1], facecolor="none")
            plot.paint(place)

    def picture(self, picture: Image.Image, x: float, y: float, side: float) -> None:
        """A picture inside a square, its own proportions kept."""
        scale = side / max(picture.size)
        wide, high = (length * scale for length in picture.size)
        x, y = x + (side - wide) / 2, y + (side - high) / 2
        if self.album is None:
            self.album = self.figure.add_axes((0, 0, 1, 1), xlim=(0, WIDE), ylim=(HIGH, 0))
            self.album.set_axis_off()
        placed = AxesImage(
            self.album, extent=(x, x + wide, y + high, y), interpolation="none", origin="upper"
        )
        placed.set_data(np.asarray(picture))
        self.album.add_image(placed)

    def gone(self, note: str, x: float, y: float, side: float) -> None:
        """The word where a picture is not."""
        self.box(x, y, side, side, "#eef0f3")
        longest = max(width(word, 1) for word in note.split() or ["-"])
        size = min(6.5, (side - 4) / longest)
        lines = wrap(note, side - 3, size)
        bad = note in ("diverged", "failed")
        for index, line in enumerate(lines):
            base = y + side / 2 + (index - len(lines) / 2 + 0.8) * size * LEADING
            at = x + (side - width(line, size)) / 2
            self.write(at, base, line, size, BAD if bad else MUTED)


def fitting(plot: Plot, room: float) -> float:
    """How much a plot shrinks to fit a width in points, and a page's height."""
    wide, high = plot.size
    return min(LARGEST, room / 72 / wide, (HIGH - TOP - FOOT - 60) / 72 / high)


__all__ = ("BODY", "GAP", "GRID", "LEFT", "ROOM", "WIDE", "Paper")
