"""Placing of labels beside the points of a plot, where they hide nothing."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

Label = tuple[str, float, float, str]  # text, x, y, colour
OFFSETS = [  # points from its own; beside it first
    *((dx, dy) for dx in (8, -8) for dy in (0, 7, -7)), (0, 12), (0, -12), (9, 15), (9, -15)
]  # fmt: skip


def write_labels(
    axes: Axes, labels: Sequence[Label], points: Sequence[tuple[float, float]]
) -> None:
    """Write each label beside its point where it hides nothing, or not at all.

    Nothing is written over the legend, another label, a point, or a line drawn so far.
    """
    lines = [line.get_path().transformed(line.get_transform()) for line in axes.lines]
    dots = axes.transData.transform([*points, *((x, y) for _, x, y, _ in labels)])
    frame, paper, legend = axes.get_window_extent(), axes.figure.bbox, axes.get_legend()
    taken = [legend.get_window_extent()] if legend else []
    for text, x, y, colour in labels:
        for dx, dy in OFFSETS:
            written = axes.annotate(
                text,
                (x, y),
                xytext=(dx, dy),
                textcoords="offset points",
                ha="left" if dx > 0 else "right" if dx < 0 else "center",
                va="center",
                fontsize=8.5,
                color=colour,
            )
            box = written.get_window_extent()
            hidden = box.count_overlaps(taken) + box.padded(4).count_contains(dots)
            crossed = any(line.intersects_bbox(box, filled=False) for line in lines)
            if frame.x0 < box.x0 and box.x1 < paper.x1 and not hidden and not crossed:
                taken.append(box)
                break
            written.remove()
