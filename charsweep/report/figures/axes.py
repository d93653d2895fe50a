"""The axes of a tuning plot: the scale of x, and what is shown beside the scores.

The x-axis is linear, logarithmic, or has one slot per name. References are levels; cells that gave
no score are red marks below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from charsweep.report.figures.lines import Ended, LinePlan, base_marks
from charsweep.report.figures.style import BAD, INK, MUTED
from charsweep.results import Record
from charsweep.results.labels import axis_label, scientific, value_text
from charsweep.results.records import SampledRange

MOST_TICKS = 9
MOST_LETTERS = 33  # below a panel; longer names are slanted


def set_scale(axes: Axes, plan: LinePlan, searched: SampledRange | None = None) -> None:
    """Log or linear with the tried values as ticks; names get one slot each.

    The scale of a searched axis is its range's, whatever the sampler picked.
    """
    if searched is not None and plan.numeric:
        return set_range(axes, plan, searched)
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
        return None
    numbers = [float(value or 0) for value in plan.values]
    if plan.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        pad = (max(numbers) / min(numbers)) ** 0.05 if len(numbers) > 1 else 3
        axes.set_xlim(min(numbers) / pad, max(numbers) * pad)
        axes.xaxis.set_major_locator(FixedLocator(log_ticks(numbers)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: scientific(x)))
        return None
    pad = (max(numbers) - min(numbers)) * 0.05 or 1
    axes.set_xlim(min(numbers) - pad, max(numbers) + pad)
    if len(numbers) <= MOST_TICKS:
        kept = apart(numbers)
        axes.set_xticks(kept, [value_text(plan.axis, plain(number)) for number in kept])
    else:
        axes.xaxis.set_major_locator(
            MaxNLocator(6, steps=[1, 2, 5, 10], integer=all(n == int(n) for n in numbers))
        )
    return None


def apart(numbers: Sequence[float], share: float = 0.09) -> list[float]:
    """Those of increasing numbers whose labels do not touch: that share of their span apart."""
    gap = share * (numbers[-1] - numbers[0])
    kept = [numbers[-1]]
    for number in reversed(numbers[:-1]):
        if kept[-1] - number >= gap:
            kept.append(number)
    return kept[::-1]


def set_range(axes: Axes, plan: LinePlan, searched: SampledRange) -> None:
    """The whole range that a sampler chose from."""
    numbers = [searched.low, searched.high, *(float(value or 0) for value in plan.values)]
    low, high = min(numbers), max(numbers)
    log = searched.log and low > 0
    axes.set_xlabel(axis_label(plan.axis) + (" (log scale)" if log else ""))
    if not log:
        pad = (high - low) * 0.04 or 1
        axes.set_xlim(low - pad, high + pad)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        return
    pad = (high / low) ** 0.04
    axes.set_xscale("log")
    axes.set_xlim(low / pad, high * pad)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(FixedLocator(range_ticks(low, high)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: value_text(plan.axis, plain(x))))


def range_ticks(low: float, high: float) -> list[float]:
    """Decades; with few of them also 2 and 5 of each."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    within = (1,) if high / low > 900 else (1, 2, 5)
    ticks = [digit * 10.0**power for power in powers for digit in within]
    return [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)] or [low, high]


def plain(number: float) -> float | int:
    """A whole number without its point."""
    near = round(number)
    return near if abs(number - near) < 1e-9 * abs(number) and near else number


def crowded(plan: LinePlan) -> bool:
    """Whether the names of categories would run into each other."""
    texts = [shorten(value_text(plan.axis, value)) for value in plan.values]
    return not plan.numeric and len(texts) * max(map(len, texts), default=0) > MOST_LETTERS


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


# -- beside the scores -----------------------------------------------------------------------------


def draw_references(
    axes: Axes, record: Record, plan: LinePlan, metric: str
) -> list[tuple[float, str, str]]:
    """Draw the untaught base, the true images, the training images; return (y, label, colour)."""
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
        own = [mark for mark in ended if mark.state == state]
        y = 0.05 + 0.09 * row
        axes.plot(
            [mark.x for mark in own],
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
    shares = {(mark.count, mark.total) for mark in own}
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
