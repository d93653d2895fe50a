"""The tuning plots: every metric against every varied axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes

from charsweep.core.system.names import as_file_name
from charsweep.report.figures.axes import crowded, draw_ended, draw_references, set_scale
from charsweep.report.figures.lines import LinePlan, ended_of, marks_of, plan_lines
from charsweep.report.figures.search_trials import draw_dots, trial_colours, trial_legend
from charsweep.report.figures.style import (
    MARKERS,
    ColourPair,
    Layout,
    LegendEntry,
    Margins,
    Plot,
    colours_for,
    label_right,
    save,
)
from charsweep.results import Record
from charsweep.results.labels import axis_label, metric_label

MANY_MARKS = 12


@dataclass(frozen=True)
class TuningPlots:
    """The panels of one axis, one per metric, with their common legend."""

    label: str
    panels: Mapping[str, Plot]  # by metric
    together: Plot  # all panels in one PNG, for Markdown and slides
    legend_title: str
    legend: tuple[LegendEntry, ...]
    banded: bool  # whether bands show what the means may be off by
    thin: bool  # whether thin lines show the single combinations
    dots: bool  # whether every trial is a dot, because the axis was searched


@dataclass(frozen=True)
class Setting:
    """What the panels of one axis share."""

    record: Record
    plan: LinePlan
    colours: tuple[ColourPair, ...]
    legend: tuple[LegendEntry, ...]
    title: str
    dots: bool

    @property
    def extra(self) -> float:
        """Inches that slanted names below need."""
        return 0.43 if crowded(self.plan) else 0.0

    @property
    def margins(self) -> Margins:
        """Room for the references' names and for slanted names below."""
        return Margins(left=0.8, right=1.12, bottom=0.52 + self.extra)


def draw_tuning(record: Record, axis: str, folder: Path) -> TuningPlots | None:
    """Write the plots of one axis: an SVG per metric and a PNG with all of them."""
    metrics = [
        metric
        for metric in record.metrics
        if any(cell.scores.get(metric) is not None for cell in record.cells)
    ]
    if not metrics:
        return None
    setting = setting_of(record, axis)
    plan = setting.plan
    return TuningPlots(
        label=axis_label(axis),
        panels={metric: draw_one(setting, metric, folder) for metric in metrics},
        together=draw_together(setting, metrics, folder),
        legend_title=setting.title,
        legend=setting.legend,
        banded=not plan.thin and not setting.dots,
        thin=bool(plan.thin) and not setting.dots,
        dots=setting.dots,
    )


def setting_of(record: Record, axis: str) -> Setting:
    """Lines and their colours for an axis that was listed, dots and theirs for one searched."""
    plan = plan_lines(record, axis)
    if record.is_searched(axis):
        legend = trial_legend(record)
        return Setting(record, plan, trial_colours(record), legend, "trial", dots=True)
    colours = colours_for(plan.colour_values)
    return Setting(record, plan, colours, legend_of(plan, colours), plan.title, dots=False)


def legend_of(plan: LinePlan, colours: Sequence[ColourPair]) -> tuple[LegendEntry, ...]:
    """One entry per bold line; one line needs none."""
    entries = tuple(
        LegendEntry(label, colours[colour], MARKERS[colour % len(MARKERS)])
        for label, colour, _ in plan.groups
    )
    return entries if len(entries) > 1 else ()


def draw_one(setting: Setting, metric: str, folder: Path) -> Plot:
    """Write one metric against the axis."""
    axis = setting.plan.axis
    layout = Layout(4.7, 3.1 + setting.extra, setting.margins)
    figure, (axes,) = layout.new_figure()
    draw_panel(axes, setting, metric)
    file = folder / f"tuning-{as_file_name(axis)}-{as_file_name(metric)}"
    alt = f"{metric_label(metric).long} against {axis_label(axis)}"
    return save(figure, file, alt, setting.colours, kinds=["svg"])


def draw_together(setting: Setting, metrics: Sequence[str], folder: Path) -> Plot:
    """Write all metrics as one figure with one legend."""
    layout = Layout(
        4.3,
        2.9 + setting.extra,
        setting.margins,
        panels=len(metrics),
        columns=min(3, len(metrics)),
        legend=setting.legend,
        title=setting.title,
    )
    figure, panels = layout.new_figure()
    for axes, metric in zip(panels, metrics, strict=True):
        draw_panel(axes, setting, metric)
    axis = setting.plan.axis
    file = folder / f"tuning-{as_file_name(axis)}"
    return save(figure, file, f"All metrics against {axis_label(axis)}", kinds=["png"])


def draw_panel(axes: Axes, setting: Setting, metric: str) -> None:
    """One metric against one axis, with its reference lines and the cells that gave no score."""
    label = metric_label(metric)
    better = "higher" if label.higher_is_better else "lower"
    axes.set_title(label.long if label.meaning else metric)
    axes.set_ylabel(f"{label.short} ({better} is better)")
    set_scale(axes, setting.plan, setting.record.sweep.ranges.get(setting.plan.axis))
    if setting.dots:
        draw_dots(axes, setting.record, setting.plan, metric, setting.colours)
    else:
        draw_thin_lines(axes, setting, metric)
        draw_lines(axes, setting, metric)
    labels = draw_references(axes, setting.record, setting.plan, metric)
    label_right(axes, labels + draw_ended(axes, ended_of(setting.plan)))


def draw_thin_lines(axes: Axes, setting: Setting, metric: str) -> None:
    """Single combinations of the other axes, faint behind the bold means."""
    plan = setting.plan
    for colour, cells in plan.thin:
        marks = marks_of(plan, cells, metric)
        axes.plot(
            [mark.x for mark in marks],
            [mark.mean for mark in marks],
            color=setting.colours[colour].light,
            alpha=max(0.06, min(0.28, 10 / len(plan.thin))),
            lw=0.8,
            marker="." if len(marks) < 2 else "",
        )


def draw_lines(axes: Axes, setting: Setting, metric: str) -> None:
    """Bold lines, and bands (or bars, between names) of two standard errors."""
    plan = setting.plan
    for _, colour, cells in plan.groups:
        marks = marks_of(plan, cells, metric)
        xs = [mark.x for mark in marks]
        shade = setting.colours[colour].light
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
