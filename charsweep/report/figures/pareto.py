"""The Pareto plots: identity against prompt, against training time and against size."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from charsweep.report.figures.label_placing import write_labels
from charsweep.report.figures.style import (
    INK,
    MARKERS,
    MUTED,
    ColourPair,
    Layout,
    LegendEntry,
    Plot,
    colours_for,
    save,
)
from charsweep.results import Point, Record
from charsweep.results.labels import COST_WORDS, axis_label, cost_text, metric_label, value_text
from charsweep.results.points import SEED, pareto, points_of
from charsweep.results.records import Objective, Value, evenly, is_numeric
from charsweep.results.unlike import unlike
from charsweep.results.verdict import TRADE_OFF, objectives_of

MOST_LABELS = 14
CROWD = 60  # points; more are drawn small
MOST_IN_CROWD = 5  # labels
ALIKE = 0.01  # costs that differ by less are one cost
WORDS = {"train_seconds": "training time", "size_mb": "size"}


@dataclass(frozen=True)
class Front:
    """One Pareto plot, or the sentence that stands where it would say nothing."""

    title: str
    plot: Plot | None
    note: str = ""


@dataclass(frozen=True)
class Plane:
    """What is drawn: two objectives, the points that have both, and which no other beats."""

    up: Objective
    across: Objective
    shown: tuple[tuple[Point, float, float], ...]
    front: tuple[Point, ...]

    @property
    def title(self) -> str:
        """ "identity against prompt"."""
        return f"{title_word(self.up.metric)} against {title_word(self.across.metric)}"


def draw_fronts(record: Record, folder: Path) -> tuple[Front, ...]:
    """Write the plots that the record has numbers for; none of cells that do not compare."""
    if unlike(record):
        return ()
    up, across = trade_off_objectives(record)
    first = objectives_of(record)[0]
    wanted = [
        (up, across, "pareto"),
        (first, Objective("train_seconds", False), "pareto-time"),
        (first, Objective("size_mb", False), "pareto-size"),
        (first, Objective("leak", False), "pareto-leak"),
        (first, Objective("drift", False), "pareto-drift"),
    ]
    made = [draw_front(record, plane_of(record, a, b), folder / file) for a, b, file in wanted]
    return tuple(front for front in made if front is not None)


def trade_off_objectives(record: Record) -> tuple[Objective, Objective]:
    """The two that are plotted: the sweep's first two, or what its score is made of."""
    known = objectives_of(record)
    return (known[0], known[1]) if len(known) > 1 else TRADE_OFF


def plane_of(record: Record, up: Objective, across: Objective) -> Plane:
    """The points that have both numbers."""
    known = [(p, p.value(across.metric), p.value(up.metric)) for p in points_of(record)]
    shown = tuple((p, x, y) for p, x, y in known if x is not None and y is not None)
    return Plane(up, across, shown, pareto([point for point, _, _ in shown], (up, across)))


def draw_front(record: Record, plane: Plane, file: Path) -> Front | None:
    """Write one plot; None without a point, a sentence when all cost the same."""
    if not plane.shown:
        return None
    xs = [x for _, x, _ in plane.shown]
    cost = plane.across.metric
    if cost in WORDS and max(xs) - min(xs) <= ALIKE * abs(max(xs)):
        text = cost_text(cost, max(xs))
        unit = COST_WORDS[cost].rpartition(", ")[2]
        note = f"All points have the same {WORDS[cost]} ({text} {unit}), so there is no front."
        return Front(plane.title, None, note)
    by, values = colour_axis(record)
    colours = colours_for(values)
    legend = [
        LegendEntry(value_text(by, value), colour, marker_of(values, index))
        for index, (value, colour) in enumerate(zip(values, colours, strict=True))
        if 1 < len(values) <= MOST_LABELS
    ]
    figure, (axes,) = Layout(6.0, 4.2, legend=legend, title=axis_label(by)).new_figure()
    draw_points(axes, plane, by, values, colours)
    set_axes(axes, plane)
    draw_references(axes, record, plane)
    label_points(axes, plane)
    alt = f"{plane.title}; filled points are the Pareto set"
    return Front(plane.title, save(figure, file, alt, colours))


def colour_axis(record: Record) -> tuple[str, tuple[Value, ...]]:
    """The first axis that varies; methods tell the most, so they go first."""
    axes = [axis for axis in record.axes if axis != SEED]
    by = "method" if "method" in axes else next(iter(axes), "")
    values = record.axes.get(by, ("all",))
    if by and any(by not in cell.values for cell in record.cells) and None not in values:
        values = (*values, None)
    return by, values


def draw_points(
    axes: Axes, plane: Plane, by: str, values: tuple[Value, ...], colours: tuple[ColourPair, ...]
) -> None:
    """Every point, those of the front filled and joined by a dashed line."""
    front = set(map(id, plane.front))
    on_front = sorted((x, y) for point, x, y in plane.shown if id(point) in front)
    xs, ys = [x for x, _ in on_front], [y for _, y in on_front]
    axes.plot(xs, ys, color=MUTED, lw=1.2, ls="--", zorder=1)
    crowd = len(plane.shown) > CROWD
    for point, x, y in plane.shown:
        index = values.index(point.values.get(by)) if by else 0
        colour = colours[index].light
        best = id(point) in front
        axes.plot(
            [x],
            [y],
            marker=marker_of(values, index),
            ms=(5 if best else 3) if crowd else (8 if best else 6),
            mfc=colour if best else "none",
            mec=colour,
            mew=0.8 if crowd else 1.5,
            alpha=0.5 if crowd and not best else 1,
            zorder=3 if best else 2,
            ls="",
        )


def marker_of(values: Sequence[Value], index: int) -> str:
    """A shape per name, so that colour is not all that tells methods apart."""
    return "o" if is_numeric(values) else MARKERS[index % len(MARKERS)]


def set_axes(axes: Axes, plane: Plane) -> None:
    """Names, units, and a log scale for costs that span decades."""
    cost = plane.across.metric
    axes.set_title(plane.title)
    axes.set_xlabel(COST_WORDS.get(cost) or metric_label(cost).long)
    axes.set_ylabel(metric_label(plane.up.metric).long)
    xs = [x for _, x, _ in plane.shown]
    if cost in WORDS and min(xs) > 0 and max(xs) / min(xs) > 20:
        axes.set_xscale("log")
        axes.set_xlabel(f"{COST_WORDS[cost]} (log scale)")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())


def title_word(name: str) -> str:
    """A metric's name; a cost in words."""
    return WORDS.get(name) or metric_label(name).short


def draw_references(axes: Axes, record: Record, plane: Plane) -> None:
    """The untaught bases and the true images: a mark, or a level where they have no cost."""
    up, across = plane.up.metric, plane.across.metric
    several = len(record.sweep.bases) > 1
    known = [
        (f"untaught {name}" if several else "untaught base", reference.scores, "D", dashes)
        for (name, reference), dashes in zip(
            record.sweep.bases.items(), itertools.cycle(("--", ":", "-.")), strict=False
        )
    ]
    if record.sweep.truth:
        known.append(("true pictures", record.sweep.truth.scores, "*", "-"))
    for label, scores, marker, dashes in known:
        if up in scores and across in WORDS:
            axes.axhline(scores[up], color=MUTED, ls=dashes, lw=1.2, zorder=1, label=label)
        elif up in scores and across in scores:
            size = 11 if marker == "*" else 7
            at = [scores[across]], [scores[up]]
            axes.plot(*at, color=MUTED, marker=marker, ms=size, ls="", zorder=4, label=label)
    axes.margins(0.14)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best")


def label_points(axes: Axes, plane: Plane) -> None:
    """Names beside the points where there is room, those of the front first."""
    crowd = len(plane.shown) > CROWD
    front = set(map(id, plane.front))
    ends = sorted((x, y, short_label(p)) for p, x, y in plane.shown if id(p) in front)
    wanted = [(text, x, y, INK) for x, y, text in (evenly(ends, MOST_IN_CROWD) if crowd else ends)]
    if not crowd:
        wanted += [(short_label(p), x, y, MUTED) for p, x, y in plane.shown if id(p) not in front]
    axes.autoscale_view()  # now, because labels are placed in what it decides
    write_labels(axes, wanted[:MOST_LABELS], [] if crowd else [(x, y) for _, x, y in plane.shown])


def short_label(point: Point) -> str:
    """The point's values without the names of their axes."""
    return " · ".join(value_text(axis, value) for axis, value in point.values.items())
