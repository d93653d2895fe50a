"""The plots of a search: its trials as dots, the best score so far, the importance of each axis."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from charsweep.report.figures.lines import LinePlan
from charsweep.report.figures.style import (
    BAD,
    CATEGORIES,
    INK,
    LIFTED,
    MUTED,
    ColourPair,
    Layout,
    LegendEntry,
    Margins,
    Plot,
    colours_for,
    save,
)
from charsweep.results import CellResult, Record
from charsweep.results.labels import axis_label, metric_label
from charsweep.results.records import Objective
from charsweep.results.verdict import objectives_of

BLUE = ColourPair(CATEGORIES[0], LIFTED[CATEGORIES[0]])
SHADES = 12  # more cannot be told apart, and each is a rule in the page's SVG


def trials_of(record: Record) -> tuple[CellResult, ...]:
    """The cells in the order in which the sampler asked for them."""
    return tuple(sorted(record.cells, key=lambda cell: (cell.trial is None, cell.trial or 0)))


def trial_colours(record: Record) -> tuple[ColourPair, ...]:
    """A few shades from the first trial to the last."""
    return colours_for(tuple(range(min(SHADES, max(2, len(record.cells))))))


def trial_legend(record: Record) -> tuple[LegendEntry, ...]:
    """First, middle and last trial."""
    colours, count = trial_colours(record), len(record.cells)
    if count < 3:
        return ()
    places = dict.fromkeys((0, count // 2, count - 1))
    return tuple(LegendEntry(str(at), colours[shade(at, count, len(colours))]) for at in places)


def shade(at: int, count: int, shades: int) -> int:
    """Which of so many shades the trial at this place of the order gets."""
    return min(shades - 1, at * shades // max(1, count))


def draw_dots(
    axes: Axes, record: Record, plan: LinePlan, metric: str, colours: Sequence[ColourPair]
) -> None:
    """Every trial's score at its value; a ring around the best one of this metric."""
    trials = trials_of(record)
    shown = [
        (plan.x(cell), score, colours[shade(at, len(trials), len(colours))].light)
        for at, cell in enumerate(trials)
        if (score := cell.scores.get(metric)) is not None and plan.axis in cell.values
    ]
    size = 6 if len(shown) <= 60 else 3.5
    for x, y, colour in shown:
        axes.plot([x], [y], marker="o", ms=size, color=colour, mec="none", alpha=0.85, ls="")
    if shown:
        x, y, _ = max(shown, key=lambda dot: dot[1] if rises(record, metric) else -dot[1])
        axes.plot([x], [y], marker="o", ms=size * 2, mfc="none", mec=INK, mew=1.4, ls="")


def rises(record: Record, metric: str) -> bool:
    """Whether more of a metric is better: as the study says, else as the metric does."""
    known = {objective.metric: objective.maximize for objective in objectives_of(record)}
    return known.get(metric, metric_label(metric).higher_is_better)


# -- history ---------------------------------------------------------------------------------------


def draw_history(record: Record, folder: Path) -> Plot | None:
    """Write the plot, one panel per objective; None for a grid, whose order means nothing."""
    objectives = [
        objective
        for objective in objectives_of(record)
        if any(cell.scores.get(objective.metric) is not None for cell in record.cells)
    ]
    if not record.sweep.search or not objectives:
        return None
    layout = Layout(4.7, 3.0, panels=len(objectives), columns=min(2, len(objectives)), below=0.3)
    figure, panels = layout.new_figure()
    for axes, objective in zip(panels, objectives, strict=True):
        draw_panel(axes, record, objective)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="lower center", ncols=len(names))
    alt = "Every trial's score in order, and how far they had come"
    return save(figure, folder / "history", alt, (BLUE,))


def draw_panel(axes: Axes, record: Record, objective: Objective) -> None:
    """One objective: dots for trials, a stair for the highest so far, crosses for no score."""
    word = "highest" if objective.maximize else "lowest"
    known = [
        (place if cell.trial is None else cell.trial, cell.scores.get(objective.metric))
        for place, cell in enumerate(trials_of(record))
    ]
    without = [number for number, score in known if score is None]
    numbers = [number for number, score in known if score is not None]
    scores = [score for _, score in known if score is not None]
    axes.plot(numbers, scores, "o", color=MUTED, ms=4, mec="none", alpha=0.8, label="trial")
    best = list(itertools.accumulate(scores, max if objective.maximize else min))
    axes.step(numbers, best, where="post", color=BLUE.light, lw=2, label=f"{word} so far")
    if without:
        axes.plot(
            without, [0.03] * len(without), "x", color=BAD, ms=6, mew=1.6, clip_on=False,
            transform=axes.get_xaxis_transform(), label="no score",
        )  # fmt: skip
    label = metric_label(objective.metric)
    axes.set_title(f"{word} {label.short} so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(label.long)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


# -- importance ------------------------------------------------------------------------------------


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
    figure, panels = layout.new_figure()
    for axes, (metric, shares) in zip(panels, known.items(), strict=True):
        draw_bars(axes, metric, shares)
    alt = "How much of each metric's variation each axis explains"
    return save(figure, folder / "importance", alt, (BLUE,))


def draw_bars(axes: Axes, metric: str, shares: Mapping[str, float]) -> None:
    """The axes of one metric, the one that matters most on top."""
    order = sorted(shares.items(), key=lambda pair: pair[1])
    names = [axis_label(axis) for axis, _ in order]
    values = [share for _, share in order]
    bars = axes.barh(range(len(order)), values, color=BLUE.light, height=0.62)
    axes.bar_label(bars, fmt="%.2f", padding=4, fontsize=8.5)
    axes.set_yticks(range(len(order)), names)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, max(1.0, *values))
    axes.set_title(metric_label(metric).long)
    axes.set_xlabel("importance (share of the variation)")
