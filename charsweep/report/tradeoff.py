"""The Pareto plot: a record in, identity against prompt with its front out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from charsweep.report.data import Objective, Record, Reference
from charsweep.report.figures import (
    INK,
    MUTED,
    LegendEntry,
    Margins,
    Plot,
    add_legend,
    colours_for,
    legend_height,
    new_figure,
    save,
)
from charsweep.report.groups import SEED, Point, pareto, points_of
from charsweep.report.labels import axis_label, metric_label, value_text
from charsweep.report.verdict import ROLES, objectives_of

MOST_LABELS = 14
CROWD = 60  # points; more are drawn small
COLUMNS = 7  # of the legend


def trade_off_objectives(record: Record) -> tuple[Objective, Objective]:
    """The two that are plotted: the sweep's first on identity and on prompt, or the usual ones."""
    objectives = objectives_of(record)
    prompt = next((one for one in objectives if ROLES.get(one.metric) == "prompt"), None)
    other = next((one for one in objectives if one != prompt), None)
    return other or Objective("dino", True), prompt or Objective("clip_t", True)


def draw_trade_off(record: Record, folder: Path) -> Plot | None:
    """Write the plot, or None when no cell has both scores."""
    up, across = trade_off_objectives(record)
    shown = [
        (point, x, y)
        for point in points_of(record)
        if (x := point.mean(across.metric)) is not None and (y := point.mean(up.metric)) is not None
    ]
    if not shown:
        return None
    front = pareto([point for point, _, _ in shown], (up, across))
    by = next((axis for axis in record.axes if axis != SEED), "")
    values = record.axes.get(by, ("all",))
    colours = colours_for(values)
    crowd = len(shown) > CROWD
    legend = [
        LegendEntry(value_text(by, value), colour)
        for value, colour in zip(values, colours, strict=True)
        if 1 < len(values) <= MOST_LABELS
    ]
    below = legend_height(len(legend), COLUMNS, axis_label(by))
    figure, (axes,) = new_figure(6.0, 4.2, Margins(), below=below)
    if legend:
        add_legend(figure, legend, axis_label(by), COLUMNS)
    on_front = sorted((x, y) for point, x, y in shown if point in front)
    axes.plot(
        [x for x, _ in on_front],
        [y for _, y in on_front],
        color=MUTED,
        lw=1.2,
        ls="--",
        zorder=1,
    )
    for point, x, y in shown:
        index = values.index(point.values[by]) if by in point.values else 0
        best = point in front
        axes.plot(
            [x],
            [y],
            marker="o",
            ms=(5 if best else 3) if crowd else (8 if best else 6),
            mfc=colours[index].light if best else "none",
            mec=colours[index].light,
            mew=0.8 if crowd else 1.5,
            alpha=0.5 if crowd and not best else 1,
            zorder=3 if best else 2,
            ls="",
        )
    references = [
        (f"untaught {name}" if len(record.sweep.bases) > 1 else "untaught base", reference, "D")
        for name, reference in record.sweep.bases.items()
    ]
    if record.sweep.truth:
        references.append(("true pictures", record.sweep.truth, "*"))
    drawn = [draw_reference(axes, one, (across.metric, up.metric)) for one in references]
    if any(drawn):
        axes.legend(loc="best")
    best_points = evenly(
        sorted(((x, y, point) for point, x, y in shown if point in front), key=lambda one: one[:2]),
        crowd,
    )
    wanted = [(short_label(point), x, y, INK) for x, y, point in best_points]
    if not crowd:
        wanted += [(short_label(one), x, y, MUTED) for one, x, y in shown if one not in front]
    axes.set_title(f"{title_word(up.metric)} against {title_word(across.metric)}")
    axes.set_xlabel(metric_label(across.metric).long)
    axes.set_ylabel(metric_label(up.metric).long)
    axes.margins(0.14)
    axes.autoscale_view()  # now, because labels are placed in what it decides
    write_labels(axes, wanted[:MOST_LABELS], [] if crowd else [(x, y) for _, x, y in shown])
    alt = "Identity against prompt; filled points are the Pareto set"
    return save(figure, folder, "pareto", alt, colours)


def title_word(metric: str) -> str:
    """The role of a metric if it has one, else its name."""
    return ROLES.get(metric, metric_label(metric).short)


def short_label(point: Point) -> str:
    """The point's values without the names of their axes."""
    return " · ".join(value_text(axis, value) for axis, value in point.values.items())


Label = tuple[str, float, float, str]  # text, x, y, colour


def evenly(
    ends: list[tuple[float, float, Point]], crowd: bool, most: int = 5
) -> list[tuple[float, float, Point]]:
    """In a crowd only so many points of the front get a label, both ends among them."""
    if not crowd or len(ends) <= most:
        return ends
    return [ends[round(i * (len(ends) - 1) / (most - 1))] for i in range(most)]


def draw_reference(
    axes: Axes, reference: tuple[str, Reference, str], metrics: tuple[str, str]
) -> bool:
    """A reference (name, scores, marker) as a grey mark with a legend; False without scores."""
    label, known, marker = reference
    if not all(metric in known.scores for metric in metrics):
        return False
    x, y = known.scores[metrics[0]], known.scores[metrics[1]]
    size = 11 if marker == "*" else 7
    axes.plot([x], [y], color=MUTED, marker=marker, ms=size, ls="", zorder=4, label=label)
    return True


def write_labels(
    axes: Axes, labels: Sequence[Label], points: Sequence[tuple[float, float]]
) -> None:
    """Write each label beside its point where it hides nothing, or not at all."""
    scale = 72 / axes.figure.dpi
    place = axes.transData.transform
    frame = axes.get_window_extent()
    dots = [tuple(place(at) * scale) for at in [*points, *((x, y) for _, x, y, _ in labels)]]
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in dots]
    for text, x, y, colour in labels:
        at_x, at_y = place((x, y)) * scale
        width, height = 5.2 * len(text), 9.0
        for dx, dy in OFFSETS:
            left = at_x + dx - (0 if dx > 0 else width if dx < 0 else width / 2)
            box = (left, at_y + dy - height / 2, left + width, at_y + dy + height / 2)
            inside = frame.x0 * scale < box[0] and box[2] < axes.figure.bbox.width * scale
            if inside and not any(overlap(box, other) for other in taken):
                taken.append(box)
                axes.annotate(
                    text,
                    (x, y),
                    xytext=(dx, dy),
                    textcoords="offset points",
                    ha="left" if dx > 0 else "right" if dx < 0 else "center",
                    va="center",
                    fontsize=8.5,
                    color=colour,
                )
                break


Box = tuple[float, float, float, float]  # left, bottom, right, top
OFFSETS = (
    (8, 0),
    (8, 7),
    (8, -7),
    (-8, 0),
    (-8, 7),
    (-8, -7),
    (0, 12),
    (0, -12),
    (9, 15),
    (9, -15),
)


def overlap(one: Box, other: Box) -> bool:
    """Whether two boxes share a point."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
