"""What a tuning plot shows beside its scores: references as levels, cells that gave none in red."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from charsweep.report.figures.lines import Ended, LinePlan, base_marks
from charsweep.report.figures.style import BAD, INK, MUTED, pt
from charsweep.results.records import Record


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
            axes.axhline(level, color=MUTED, ls=(0, (5, 3)), lw=pt(1.2), zorder=1.5)
        else:
            xs, ys = [mark.x for mark in marks], [mark.mean for mark in marks]
            axes.plot(xs, ys, color=MUTED, ls=(0, (5, 3)), lw=pt(1.2), zorder=1.5)
        labels.append((level, f"untaught\n{name if several else 'base'} {level:.2f}", MUTED))
    truth = record.sweep.truth
    if truth and metric in truth.scores:
        axes.axhline(truth.scores[metric], color=INK, ls="-", lw=pt(1), zorder=1.5)
        labels.append((truth.scores[metric], f"true\npictures {truth.scores[metric]:.2f}", INK))
    if metric in record.sweep.real:
        axes.axhline(record.sweep.real[metric], color=MUTED, ls=":", lw=pt(1.2), zorder=1.5)
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
            ms=pt(7 if len(own) < 12 else 5),
            mew=pt(2 if len(own) < 12 else 1.3),
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
    if max(before, after) < pt(5 * len(text) + 8):
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
        fontsize=pt(8),
    )
