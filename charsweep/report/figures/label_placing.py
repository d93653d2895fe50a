"""Placing of labels beside the points of a plot, where they hide nothing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

Label = tuple[str, float, float, str]  # text, x, y, colour
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


def evenly(
    ends: list[tuple[float, float, str]], crowd: bool, most: int = 5
) -> list[tuple[float, float, str]]:
    """In a crowd only so many points of the front get a label, both ends among them."""
    if not crowd or len(ends) <= most:
        return ends
    return [ends[round(i * (len(ends) - 1) / (most - 1))] for i in range(most)]


def write_labels(
    axes: Axes,
    labels: Sequence[Label],
    points: Sequence[tuple[float, float]],
    path: Sequence[tuple[float, float]] = (),
) -> None:
    """Write each label beside its point where it hides nothing, or not at all.

    Nothing is written over the line through `path` or over levels that cross the whole plot.
    """
    scale = 72 / axes.figure.dpi
    place = axes.transData.transform
    frame, paper = axes.get_window_extent(), axes.figure.bbox
    dots = [tuple(place(at) * scale) for at in [*points, *((x, y) for _, x, y, _ in labels)]]
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in dots]
    taken += legend_boxes(axes, scale)
    taken += along([tuple(place(at) * scale) for at in path])
    taken += level_boxes(axes, scale)
    for text, x, y, colour in labels:
        at_x, at_y = place((x, y)) * scale
        width, height = 5.3 * len(text), 9.0
        for dx, dy in OFFSETS:
            left = at_x + dx - (0 if dx > 0 else width if dx < 0 else width / 2)
            box = (left, at_y + dy - height / 2, left + width, at_y + dy + height / 2)
            inside = frame.x0 * scale < box[0] and box[2] < paper.x1 * scale
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


def legend_boxes(axes: Axes, scale: float) -> list[Box]:
    """Where the legend lies, in points."""
    legend = axes.get_legend()
    if legend is None:
        return []
    box = legend.get_window_extent()
    return [(box.x0 * scale, box.y0 * scale, box.x1 * scale, box.y1 * scale)]


def along(path: Sequence[tuple[float, float]]) -> list[Box]:
    """Small boxes strung along a line, in points."""
    boxes: list[Box] = []
    for (x, y), (u, v) in itertools.pairwise(path):
        steps = max(1, int(math.hypot(u - x, v - y) / 5))
        for step in range(1, steps):
            at_x, at_y = x + (u - x) * step / steps, y + (v - y) * step / steps
            boxes.append((at_x - 1, at_y - 1, at_x + 1, at_y + 1))
    return boxes


def level_boxes(axes: Axes, scale: float) -> list[Box]:
    """Where horizontal lines run, in points."""
    frame = axes.get_window_extent()
    boxes: list[Box] = []
    for line in axes.lines:
        ys = np.asarray(line.get_ydata(), dtype=float)
        if line.get_transform() == axes.get_yaxis_transform() and ys.size == 2 and ys[0] == ys[1]:
            y = float(axes.transData.transform((1, ys[0]))[1]) * scale  # 1: 0 has no logarithm
            boxes.append((frame.x0 * scale, y - 1, frame.x1 * scale, y + 1))
    return boxes


def overlap(box: Box, other: Box) -> bool:
    """Whether two boxes share a point."""
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
