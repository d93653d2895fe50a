"""The axes of a tuning plot: the scale of x, and what is shown beside the scores.

The x-axis is linear, logarithmic, or has one slot per name. References are levels; cells that gave
no score are red marks below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from charsweep.report.figures.lines import Ended, LinePlan, base_marks
from charsweep.report.figures.style import BAD, INK, MUTED
from charsweep.results import Record
from charsweep.results.labels import axis_label, value_text
from charsweep.results.records import SampledRange

MOST_TICKS = 9
MOST_LETTERS = 33  # below a panel; longer names are slanted


def set_scale(axes: Axes, plan: LinePlan, searched: SampledRange | None = None) -> None:
    """Log or linear with the tried values as ticks; names get one slot each.

    A searched axis has the scale and the whole range that its sampler chose from.
    """
    if not plan.numeric:
        return set_slots(axes, plan)
    numbers = [float(value or 0) for value in plan.values]
    log = plan.log
    if searched is not None:
        numbers += [searched.low, searched.high]
        log = searched.log and min(numbers) > 0
    low, high = min(numbers), max(numbers)
    axes.set_xlabel(axis_label(plan.axis) + (" (log scale)" if log else ""))
    if log:
        pad = (high / low) ** 0.05 if high > low else 3
        axes.set_xscale("log")
        axes.set_xlim(low / pad, high * pad)
        axes.xaxis.set_minor_locator(NullLocator())
        ticks = range_ticks(low, high) if searched else apart(numbers, math.log10)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: value_text(plan.axis, x)))
        return None
    pad = (high - low) * 0.05 or 1
    axes.set_xlim(low - pad, high + pad)
    if searched is None and len(numbers) <= MOST_TICKS:
        ticks = apart(numbers)
        axes.set_xticks(ticks, [value_text(plan.axis, number) for number in ticks])
    else:
        whole = all(number == int(number) for number in numbers)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=whole))
    return None


def set_slots(axes: Axes, plan: LinePlan) -> None:
    """A slot for each name, slanted where they would run into each other."""
    labels = [shorten(value_text(plan.axis, value)) for value in plan.values]
    turn, end = (25, "right") if crowded(plan) else (0, "center")
    axes.set_xlabel(axis_label(plan.axis))
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.set_xticks(range(len(labels)), labels, rotation=turn, ha=end)
    axes.grid(visible=False, axis="x")


def apart(
    numbers: Sequence[float], scale: Callable[[float], float] = float, share: float = 0.09
) -> list[float]:
    """Those that share of their span apart, so that no labels touch; decades win, then the last."""
    gap = share * (scale(max(numbers)) - scale(min(numbers)))
    kept: list[float] = []
    for number in sorted(numbers, key=lambda one: (abs(scale(one) % 1) > 1e-9, -one)):
        if all(abs(scale(number) - scale(other)) >= gap for other in kept):
            kept.append(number)
    return sorted(kept)


def range_ticks(low: float, high: float) -> list[float]:
    """Decades; with few of them also 2 and 5 of each."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    within = (1,) if high / low > 900 else (1, 2, 5)
    ticks = [digit * 10.0**power for power in powers for digit in within]
    return [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)] or [low, high]


def crowded(plan: LinePlan) -> bool:
    """Whether the names of categories would run into each other."""
    texts = [shorten(value_text(plan.axis, value)) for value in plan.values]
    return not plan.numeric and len(texts) * max(map(len, texts), default=0) > MOST_LETTERS


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
    truth, real = record.sweep.truth, record.sweep.real
    known = (
        ("true\npictures", truth.scores if truth else {}, INK, "-", 1),
        ("drawings\nthemselves", real, MUTED, ":", 1.2),
    )
    for label, scores, colour, dashes, width in known:
        if metric in scores:
            level = scores[metric]
            axes.axhline(level, color=colour, ls=dashes, lw=width, zorder=1.5)
            labels.append((level, f"{label} {level:.2f}", colour))
    return labels


def draw_ended(axes: Axes, ended: Sequence[Ended]) -> list[tuple[float, str, str]]:
    """Below the scores, a row of red marks for diverged cells and one for failed ones.

    Returns their labels, as `draw_references` does.
    """
    states = [state for state in ("failed", "diverged") if any(e.state == state for e in ended)]
    low, high = axes.get_ylim()
    step = 0.12 * (high - low)
    axes.set_ylim(low - step * len(states), high)
    labels = []
    for row, state in enumerate(states):
        own = [mark for mark in ended if mark.state == state]
        y, few = low - step * (len(states) - row - 0.5), len(own) < 12
        axes.plot(
            [mark.x for mark in own],
            [y] * len(own),
            color=BAD,
            marker="x" if state == "diverged" else "o",
            mfc="none",
            ms=7 if few else 5,
            mew=2 if few else 1.3,
            ls="",
            clip_on=False,
        )
        labels.append((y, ended_label(own), BAD))
    return labels


def ended_label(own: Sequence[Ended]) -> str:
    """ "diverged", with how many of how many where that is not all of them."""
    shares = {(mark.count, mark.total) for mark in own}
    count, total = max(shares)
    if len(shares) > 1 or count == total:
        return own[0].state
    return f"{own[0].state}\n{count}/{total}" + (" each" if len(own) > 1 else "")
