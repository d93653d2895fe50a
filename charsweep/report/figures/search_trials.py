"""A search in, its history out: every trial's score in order, and how far they had come."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.ticker import MaxNLocator

from charsweep.report.figures.scatter import trials_of
from charsweep.report.figures.style import (
    BAD,
    CATEGORIES,
    LIFTED,
    MUTED,
    Colour,
    Layout,
    Plot,
    pt,
    save,
)
from charsweep.results.labels import metric_label
from charsweep.results.records import Objective, Record
from charsweep.results.verdict import objectives_of

BLUE = Colour(CATEGORIES[0], LIFTED[CATEGORIES[0]])


def draw_history(record: Record, folder: Path) -> Plot | None:
    """Write the plot, one panel per objective; None for a grid, whose order means nothing."""
    objectives = [
        one
        for one in objectives_of(record)
        if any(cell.score(one.metric) is not None for cell in record.cells)
    ]
    if not record.sweep.search or not objectives:
        return None
    layout = Layout(4.7, 3.0, panels=len(objectives), columns=min(2, len(objectives)), below=0.3)

    def paint(figure: FigureBase) -> None:
        panels = layout.axes_on(figure)
        for axes, objective in zip(panels, objectives, strict=True):
            draw_panel(axes, record, objective)
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="lower center", ncols=len(names))

    alt = "Every trial's score in order, and how far they had come"
    return save(layout, paint, folder / "history", alt, (BLUE,))


def draw_panel(axes: Axes, record: Record, objective: Objective) -> None:
    """One objective: dots for trials, a stair for the highest so far, crosses for no score."""
    word = "highest" if objective.maximize else "lowest"
    numbers, scores = [], []
    without = []
    for place, cell in enumerate(trials_of(record)):
        number = place if cell.trial is None else cell.trial
        score = cell.score(objective.metric)
        if score is None:
            without.append(number)
        else:
            numbers.append(number)
            scores.append(score)
    axes.plot(numbers, scores, "o", color=MUTED, ms=pt(4), mec="none", alpha=0.8, label="trial")
    best = so_far(scores, objective.maximize)
    axes.step(numbers, best, where="post", color=BLUE.light, lw=pt(2), label=f"{word} so far")
    if without:
        axes.plot(
            without, [0.03] * len(without), "x", color=BAD, ms=pt(6), mew=pt(1.6), clip_on=False,
            transform=axes.get_xaxis_transform(), label="no score",
        )  # fmt: skip
    label = metric_label(objective.metric)
    axes.set_title(f"{word} {label.short} so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(label.long)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def so_far(scores: list[float], maximize: bool) -> list[float]:
    """The highest (or lowest) of the scores up to each."""
    best: list[float] = []
    for score in scores:
        ahead = max if maximize else min
        best.append(score if not best else ahead(best[-1], score))
    return best
