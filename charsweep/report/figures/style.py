"""How every plot looks and how it is written: one style, colours, PNG and SVG, dark twin.

Matplotlib's object-oriented API on Agg only: no pyplot, no global state, no display.
"""

from __future__ import annotations

import base64
import io
import itertools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from charsweep.report.figures.fonts import families, fonts_for
from charsweep.results.records import Value, is_numeric

INK, MUTED, GRID, BAD = "#1f2430", "#667085", "#e4e7ec", "#c8321f"
DARK = {INK: "#e6e8ec", MUTED: "#98a2b3", GRID: "#323843", BAD: "#ff6f5c"}
# Okabe & Ito (2008), without black and without the yellow that is lost on white.
CATEGORIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
LIFTED = {"#0072b2": "#4aa3df", "#56b4e9": "#a5dbff", "#009e73": "#22b98d"}  # on black
MARKERS = "osD^vP"

STYLE: Mapping[str, object] = {  # sizes in points
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "legend.fontsize": 8.5,
    "axes.linewidth": 0.8,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "text.color": INK,
    "text.parse_math": False,  # an axis value may hold a dollar sign
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # a place that is given is not looked for, which took a fifth of the time
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "charsweep",  # the same report twice is the same file
}


@dataclass(frozen=True)
class Plot:
    """A figure that was written: where, what it shows, the page's SVG, its size."""

    file: Path  # without .svg or .png
    alt: str
    svg: str  # empty where there is only the PNG
    size: tuple[float, float]  # inches

    @property
    def uri(self) -> str:
        """The SVG as a data URI: an image, so nothing in it can run."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode()).decode("ascii")


@dataclass(frozen=True)
class ColourPair:
    """One colour on white and its twin on black."""

    light: str
    dark: str


@dataclass(frozen=True)
class LegendEntry:
    """One line of a legend, in a plot or written by the page."""

    label: str
    colour: ColourPair
    marker: str = "o"


@contextmanager
def style(text: str = "") -> Iterator[None]:
    """Everything drawn inside looks like charsweep; the caller's rcParams come back after.

    `text` is what may be written: where DejaVu Sans lacks letters of it, installed fonts help.
    """
    # Any: matplotlib types each key by itself
    settings: Any = {**STYLE, "font.family": families(fonts_for(text))}
    with mpl.rc_context(rc=settings), warnings.catch_warnings():
        # What no font has is said once, of the whole report.
        warnings.filterwarnings("ignore", message=".*missing from font.*")
        yield


@dataclass(frozen=True)
class Margins:
    """Inches around the plot itself. Fixed, because letting matplotlib find them doubles the time
    a report takes."""

    left: float = 0.68
    right: float = 0.15
    top: float = 0.36
    bottom: float = 0.52


@dataclass(frozen=True)
class Layout:
    """Panels of so many inches in rows, below them a legend or `below` inches for one."""

    width: float
    height: float
    margins: Margins = Margins()
    panels: int = 1
    columns: int = 1
    below: float = 0
    legend: Sequence[LegendEntry] = ()
    title: str = ""  # of the legend
    markers: bool = True  # in the legend

    @property
    def size(self) -> tuple[float, float]:
        """Inches of the whole figure."""
        rows = math.ceil(self.panels / self.columns)
        return self.width * self.columns, self.height * rows + self.room

    @property
    def room(self) -> float:
        """Inches below the panels."""
        if not self.legend:
            return self.below
        rows = math.ceil(len(self.legend) / self.side_by_side)
        return 0.2 * rows + 0.12 + (0.2 if self.title else 0)

    @property
    def side_by_side(self) -> int:
        """How many entries of the legend stand in a line."""
        longest = max(len(entry.label) for entry in self.legend)
        return max(1, int(self.width * self.columns * 72 / (5.4 * longest + 32)))

    def new_figure(self) -> tuple[Figure, list[Axes]]:
        """A figure of this size with its legend, and the axes of its panels, in order."""
        figure = Figure(figsize=self.size)
        FigureCanvasAgg(figure)
        if self.legend:
            self.add_legend(figure)
        return figure, [figure.add_axes(self.box(index)) for index in range(self.panels)]

    def add_legend(self, figure: Figure) -> None:
        """The legend along the lower edge."""
        figure.legend(
            [
                Line2D(
                    [], [], color=entry.colour.light, marker=entry.marker if self.markers else ""
                )
                for entry in self.legend
            ],
            [entry.label for entry in self.legend],
            title=self.title or None,
            loc="lower center",
            ncols=min(len(self.legend), self.side_by_side),
            handlelength=1.5,
            columnspacing=1.4,
        )

    def box(self, index: int) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of a panel as shares of the figure."""
        (width, height), margins = self.size, self.margins
        row, column = divmod(index, self.columns)
        rows = math.ceil(self.panels / self.columns)
        return (
            (column * self.width + margins.left) / width,
            ((rows - 1 - row) * self.height + margins.bottom + self.room) / height,
            (self.width - margins.left - margins.right) / width,
            (self.height - margins.top - margins.bottom) / height,
        )


def save(
    figure: Figure,
    file: Path,
    alt: str,
    colours: Sequence[ColourPair] = (),
    kinds: Sequence[str] = ("png", "svg"),
) -> Plot:
    """Write FILE.png (for slides) and FILE.svg (for papers) and return the plot for the page."""
    width, height = figure.get_size_inches()
    file.parent.mkdir(parents=True, exist_ok=True)
    if "png" in kinds:
        figure.savefig(f"{file}.png", format="png", dpi=160)
    svg = ""
    if "svg" in kinds:
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Title": alt})
        Path(f"{file}.svg").write_text(text.getvalue(), encoding="utf-8")
        svg = with_dark_twin(text.getvalue(), colours)
    return Plot(file, alt, svg, (float(width), float(height)))


def with_dark_twin(svg: str, colours: Sequence[ColourPair]) -> str:
    """The SVG with a style sheet that recolours it where the reader prefers dark."""
    twins = {**DARK, **{colour.light: colour.dark for colour in colours}}
    rules = "".join(
        f'[style*="fill: {light}"]{{fill:{dark}!important}}'
        f'[style*="stroke: {light}"]{{stroke:{dark}!important}}'
        for light, dark in twins.items()
    )
    sheet = f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>"
    head, tag, rest = svg.partition("<defs>")
    return head + sheet + tag + rest


def colours_for(values: Sequence[Value]) -> tuple[ColourPair, ...]:
    """One colour per value: viridis for ordered numbers, Okabe-Ito for names while it lasts."""
    if not is_numeric(values) and len(values) <= len(CATEGORIES):
        chosen = CATEGORIES[: len(values)]
        return tuple(ColourPair(colour, LIFTED.get(colour, colour)) for colour in chosen)
    viridis = mpl.colormaps["viridis"]
    steps = [index / max(1, len(values) - 1) for index in range(len(values))]
    # Yellow is lost on white and indigo on black, so each twin leaves out its own end.
    return tuple(
        ColourPair(to_hex(viridis(0.86 * step)), to_hex(viridis(0.32 + 0.66 * step)))
        for step in steps
    )


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Positions as near to `wanted` as they come while at least `gap` apart, for labels."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    placed = list(wanted)
    for before, after in itertools.pairwise(order):
        placed[after] = max(placed[after], placed[before] + gap)
    if order:
        shift = sum(placed) / len(placed) - sum(wanted) / len(wanted)
        placed = [position - shift for position in placed]
    return placed


def label_right(axes: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Write (y, text, colour) in the margin right of the plot, moved apart where they collide."""
    size = 8
    low, high = axes.get_ylim()
    inside = [(y, text, colour) for y, text, colour in labels if low <= y <= high]
    height = axes.get_window_extent().height / axes.figure.dpi * 72  # in points
    lines = max((text.count("\n") + 1 for _, text, _ in inside), default=1)
    gap = lines * size * 1.25 / height
    places = spread([(y - low) / (high - low) for y, _, _ in inside], gap)
    for (_, text, colour), place in zip(inside, places, strict=True):
        axes.text(
            1.02,
            place,
            text,
            transform=axes.transAxes,
            color=colour,
            fontsize=size,
            va="center",
            linespacing=1.05,
        )
