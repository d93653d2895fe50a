"""An axis of the grid in, the x-axis of a plot out: linear, logarithmic, or one slot per name."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from charsweep.report.figures.lines import LinePlan
from charsweep.results.labels import axis_label, scientific, value_text
from charsweep.results.records import Range

MOST_TICKS = 9
MOST_LETTERS = 33  # below a panel; longer names are slanted


def set_scale(axes: Axes, plan: LinePlan, searched: Range | None = None) -> None:
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


def set_range(axes: Axes, plan: LinePlan, searched: Range) -> None:
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
