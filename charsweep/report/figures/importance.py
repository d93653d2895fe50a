"""How much each axis matters for each metric (as Optuna reckoned it) in, bars out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from charsweep.report.figures.style import (
    CATEGORIES,
    LIFTED,
    Colour,
    Layout,
    Margins,
    Plot,
    pt,
    save,
)
from charsweep.results.labels import axis_label, metric_label
from charsweep.results.records import Record

BLUE = Colour(CATEGORIES[0], LIFTED[CATEGORIES[0]])


def draw_importance(record: Record, folder: Path) -> Plot | None:
    """Write the plot, one panel per metric; None when nothing is known."""
    known = record.sweep.importance
    if not known:
        return None
    most = max(len(shares) for shares in known.values())
    labels = [axis_label(axis) for shares in known.values() for axis in shares]
    left = min(2.2, 0.35 + 0.075 * max(map(len, labels)))
    columns = min(2, len(known))
    layout = Layout(4.7, 0.95 + 0.28 * most, Margins(left, 0.5), len(known), columns)

    def paint(figure: FigureBase) -> None:
        for axes, (metric, shares) in zip(layout.axes_on(figure), known.items(), strict=True):
            draw_bars(axes, metric, shares)

    alt = "How much of each metric's variation each axis explains"
    return save(layout, paint, folder / "importance", alt, (BLUE,))


def draw_bars(axes: Axes, metric: str, shares: Mapping[str, float]) -> None:
    """The axes of one metric, the one that matters most on top."""
    order = sorted(shares.items(), key=lambda one: one[1])
    names = [axis_label(axis) for axis, _ in order]
    values = [share for _, share in order]
    axes.barh(range(len(order)), values, color=BLUE.light, height=0.62)
    axes.set_yticks(range(len(order)), names)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, max(1.0, *values))
    axes.set_title(metric_label(metric).long)
    axes.set_xlabel("importance (share of the variation)")
    for place, value in enumerate(values):
        axes.annotate(
            f"{value:.2f}", (value, place), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=pt(8.5), annotation_clip=False,
        )  # fmt: skip
