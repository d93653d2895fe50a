"""The tuning plots: a record in, every metric against every varied axis out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from charsweep.report.data import Record
from charsweep.report.figures import (
    BAD,
    INK,
    MARKERS,
    MUTED,
    Colour,
    LegendEntry,
    Margins,
    Plot,
    add_legend,
    colours_for,
    label_right,
    legend_height,
    new_figure,
    save,
)
from charsweep.report.labels import as_file_name, axis_label, metric_label, scientific, value_text
from charsweep.report.lines import Ended, LinePlan, base_marks, ended_of, marks_of, plan_lines

MOST_TICKS = 9
COLUMNS = 8  # of a legend
MANY_MARKS = 12


@dataclass(frozen=True)
class TuningPlots:
    """The panels of one axis, one per metric, with their common legend."""

    axis: str
    label: str
    panels: tuple[Plot, ...]
    legend_title: str
    legend: tuple[LegendEntry, ...]
    banded: bool  # whether a band shows several seeds
    thin: bool  # whether thin lines show the single combinations


def draw_tuning(record: Record, axis: str, folder: Path) -> TuningPlots | None:
    """Write the plots of one axis: one file per metric and one with all of them."""
    metrics = [one for one in record.metrics if has_scores(record, one)]
    if not metrics:
        return None
    plan = plan_lines(record, axis)
    colours = colours_for(plan.colour_values)
    slug = as_file_name(axis)
    legend = legend_of(plan, colours)
    margins, extra = margins_for(plan)
    panels = []
    for metric in metrics:
        figure, (axes,) = new_figure(4.7, 3.1 + extra, margins)
        draw_panel(axes, record, plan, metric, colours)
        alt = f"{metric_label(metric).long} against {axis_label(axis)}"
        panels.append(
            save(figure, folder, f"tuning-{slug}-{as_file_name(metric)}", alt, colours, png=False)
        )
    draw_together(record, plan, metrics, colours, folder, f"tuning-{slug}")
    return TuningPlots(
        axis=axis,
        label=axis_label(axis),
        panels=tuple(panels),
        legend_title=plan.title,
        legend=legend,
        banded="seed" in record.axes and not plan.thin and axis != "seed",
        thin=bool(plan.thin),
    )


def legend_of(plan: LinePlan, colours: Sequence[Colour]) -> tuple[LegendEntry, ...]:
    """One entry per bold line; one line needs none."""
    entries = tuple(
        LegendEntry(label, colours[colour], MARKERS[colour % len(MARKERS)])
        for label, colour, _ in plan.groups
    )
    return entries if len(entries) > 1 else ()


def margins_for(plan: LinePlan) -> tuple[Margins, float]:
    """Room for the references' names and for slanted names below; the inches those add."""
    extra = 0.43 if crowded(plan) else 0.0
    return Margins(right=1.12, bottom=0.52 + extra), extra


def has_scores(record: Record, metric: str) -> bool:
    """Whether anything can be drawn for a metric."""
    return any(metric in cell.scores for cell in record.cells)


def draw_together(
    record: Record,
    plan: LinePlan,
    metrics: Sequence[str],
    colours: Sequence[Colour],
    folder: Path,
    name: str,
) -> None:
    """Write all metrics as one figure with one legend: the file for a paper."""
    columns = min(3, len(metrics))
    legend = legend_of(plan, colours)
    margins, extra = margins_for(plan)
    below = legend_height(len(legend), COLUMNS, plan.title)
    figure, panels = new_figure(4.3, 2.9 + extra, margins, len(metrics), columns, below)
    for axes, metric in zip(panels, metrics, strict=True):
        draw_panel(axes, record, plan, metric, colours)
    if legend:
        add_legend(figure, legend, plan.title, COLUMNS)
    save(figure, folder, name, f"All metrics against {axis_label(plan.axis)}", colours)


def draw_panel(
    axes: Axes, record: Record, plan: LinePlan, metric: str, colours: Sequence[Colour]
) -> None:
    """One metric against one axis, with its reference lines and the cells that gave no score."""
    label = metric_label(metric)
    better = "higher" if label.higher_is_better else "lower"
    axes.set_title(label.long if label.meaning else metric)
    axes.set_ylabel(f"{label.short} ({better} is better)")
    set_scale(axes, plan)
    for colour, cells in plan.thin:
        marks = marks_of(plan, cells, metric)
        axes.plot(
            [mark.x for mark in marks],
            [mark.mean for mark in marks],
            color=colours[colour].light,
            alpha=max(0.06, min(0.28, 10 / len(plan.thin))),
            lw=0.8,
            marker="." if len(marks) < 2 else "",
        )
    for _, colour, cells in plan.groups:
        marks = marks_of(plan, cells, metric)
        xs = [mark.x for mark in marks]
        shade = colours[colour].light
        if not plan.thin and any(mark.high > mark.low for mark in marks):
            lows, highs = [mark.low for mark in marks], [mark.high for mark in marks]
            if plan.numeric:
                axes.fill_between(xs, lows, highs, color=shade, alpha=0.18, lw=0)
            else:
                axes.vlines(xs, lows, highs, color=shade, alpha=0.45, lw=3)
        axes.plot(
            xs,
            [mark.mean for mark in marks],
            color=shade,
            marker=MARKERS[colour % len(MARKERS)],
            ms=5.5 if len(marks) <= MANY_MARKS else 3.2,
            ls="-" if plan.numeric else "",
        )
    labels = draw_references(axes, record, plan, metric)
    draw_ended(axes, ended_of(plan))
    label_right(axes, labels)


def set_scale(axes: Axes, plan: LinePlan) -> None:
    """Log or linear with the tried values as ticks; names get one slot each."""
    axes.set_xlabel(axis_label(plan.axis) + (" (log scale)" if plan.log else ""))
    if not plan.numeric:
        axes.set_xlim(-0.6, len(plan.values) - 0.4)
        labels = [value_text(plan.axis, value) for value in plan.values]
        axes.set_xticks(
            range(len(labels)),
            [shorten(label) for label in labels],
            rotation=25 if crowded(plan) else 0,
            ha="right" if crowded(plan) else "center",
        )
        axes.grid(visible=False, axis="x")
        return
    numbers = [float(value or 0) for value in plan.values]
    if plan.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        pad = (max(numbers) / min(numbers)) ** 0.05 if len(numbers) > 1 else 3
        axes.set_xlim(min(numbers) / pad, max(numbers) * pad)
        axes.xaxis.set_major_locator(FixedLocator(log_ticks(numbers)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: scientific(x)))
        return
    pad = (max(numbers) - min(numbers)) * 0.05 or 1
    axes.set_xlim(min(numbers) - pad, max(numbers) + pad)
    if len(numbers) <= MOST_TICKS:
        axes.set_xticks(numbers, [value_text(plan.axis, value) for value in plan.values])
    else:
        axes.xaxis.set_major_locator(
            MaxNLocator(6, steps=[1, 2, 5, 10], integer=all(n == int(n) for n in numbers))
        )


def crowded(plan: LinePlan) -> bool:
    """Whether the names of categories would run into each other."""
    texts = [value_text(plan.axis, value) for value in plan.values]
    return not plan.numeric and sum(len(text) for text in texts) > 30


def log_ticks(numbers: Sequence[float]) -> list[float]:
    """The tried values, but not two whose labels would touch: decades win."""
    reach = math.log10(max(numbers) / min(numbers)) or 1
    kept: list[float] = []
    by_roundness = sorted(numbers, key=lambda number: abs(math.log10(number) % 1) > 1e-9)
    for number in by_roundness:
        if all(abs(math.log10(number / other)) / reach > 0.09 for other in kept):
            kept.append(number)
    return sorted(kept)


def shorten(text: str, most: int = 18) -> str:
    """A label that fits under its slot."""
    return text if len(text) <= most else text[: most - 1] + "…"


def draw_references(
    axes: Axes, record: Record, plan: LinePlan, metric: str
) -> list[tuple[float, str, str]]:
    """Draw the untaught base, the true pictures, the drawings; return (y, label, colour)."""
    labels: list[tuple[float, str, str]] = []
    several = len(record.sweep.bases) > 1
    for name, marks in base_marks(record, plan, metric).items():
        level = marks[-1].mean
        flat = max(mark.mean for mark in marks) - min(mark.mean for mark in marks) < 1e-6
        if flat or not plan.numeric:
            level = sum(mark.mean for mark in marks) / len(marks)
            axes.axhline(level, color=MUTED, ls=(0, (5, 3)), lw=1.2, zorder=1.5)
        else:
            xs, ys = [mark.x for mark in marks], [mark.mean for mark in marks]
            axes.plot(xs, ys, color=MUTED, ls=(0, (5, 3)), lw=1.2, zorder=1.5)
        labels.append((level, f"untaught\n{name if several else 'base'} {level:.2f}", MUTED))
    truth = record.sweep.truth
    if truth and metric in truth.scores:
        axes.axhline(truth.scores[metric], color=INK, ls="-", lw=1, zorder=1.5)
        labels.append((truth.scores[metric], f"true\npictures {truth.scores[metric]:.2f}", INK))
    if metric in record.sweep.real:
        axes.axhline(record.sweep.real[metric], color=MUTED, ls=":", lw=1.2, zorder=1.5)
        labels.append(
            (
                record.sweep.real[metric],
                f"drawings\nthemselves {record.sweep.real[metric]:.2f}",
                MUTED,
            )
        )
    return labels


def draw_ended(axes: Axes, ended: Sequence[Ended]) -> None:
    """Below the scores, one row of red marks for diverged cells and one for failed ones."""
    states = [state for state in ("failed", "diverged") if any(e.state == state for e in ended)]
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.12 * len(states) * (high - low), high)
    for row, state in enumerate(states):
        own = [one for one in ended if one.state == state]
        y = 0.05 + 0.09 * row
        axes.plot(
            [one.x for one in own],
            [y] * len(own),
            transform=axes.get_xaxis_transform(),
            color=BAD,
            marker="x" if state == "diverged" else "o",
            mfc="none",
            ms=7 if len(own) < 12 else 5,
            mew=2 if len(own) < 12 else 1.3,
            ls="",
            clip_on=False,
        )
        write_state(axes, own, y)


def write_state(axes: Axes, own: Sequence[Ended], y: float) -> None:
    """The word for a row of marks, on the side where there is room, else above the row."""
    shares = {(one.count, one.total) for one in own}
    count, total = max(shares)
    text = own[0].state
    if len(shares) == 1 and count < total:
        text += f" {count}/{total}" + (" each" if len(own) > 1 else "")
    left, right = axes.transData.transform([(own[0].x, 0), (own[-1].x, 0)])[:, 0]
    box = axes.get_window_extent()
    points = 72 / axes.figure.dpi
    before, after = (left - box.x0) * points, (box.x1 - right) * points
    if max(before, after) < 5 * len(text) + 8:
        x, offset, side = own[0].x, (-3, 10), "left"
    elif before > after:
        x, offset, side = own[0].x, (-7, 0), "right"
    else:
        x, offset, side = own[-1].x, (7, 0), "left"
    axes.annotate(
        text,
        (x, y),
        xycoords=axes.get_xaxis_transform(),
        xytext=offset,
        textcoords="offset points",
        ha=side,
        va="center",
        color=BAD,
        fontsize=8,
    )
