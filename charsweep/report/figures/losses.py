"""The loss plots: every trajectory's loss per step, raw behind smooth, divergence marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from charsweep.report.figures.style import (
    BAD,
    MUTED,
    Layout,
    LegendEntry,
    Plot,
    colours_for,
    save,
)
from charsweep.results import Record
from charsweep.results.labels import axis_label, value_text
from charsweep.results.records import LossCurve, Value, evenly, is_numeric

Floats = NDArray[np.float64]
MOST_LEGEND = 14
MOST_RAW = 12  # past it, raw losses hide each other and only smooth ones are drawn
SHARE_DASHES = ("-", (0, (4, 1.6)), (0, (1, 1.4)), "-.")  # one per network of a method
MOST_POINTS = 240  # of one drawn line; more cannot be told apart on a screen


@dataclass(frozen=True)
class LossPlots:
    """One plot per method, and whether every single step is in them."""

    panels: tuple[Plot, ...]
    raw: bool


def draw_losses(record: Record, folder: Path) -> LossPlots | None:
    """Write the loss plot of every method, coloured by the axis that varies."""
    curves = [curve for curve in record.curves if len(curve.steps) > 0]
    if not curves:
        return None
    by = colour_axis(record, curves)
    facets: dict[Value, list[LossCurve]] = {}
    for curve in curves:
        facets.setdefault(curve.values.get("method") if by != "method" else None, []).append(curve)
    raw = len(curves) <= MOST_RAW
    panels = []
    for index, (method, own) in enumerate(facets.items()):
        name = "loss" if len(facets) == 1 else f"loss-{index + 1}"
        title = f"training loss, {method}" if len(facets) > 1 else "training loss"
        panels.append(draw_facet(record, by, own, title, raw, folder / name))
    return LossPlots(tuple(panels), raw)


def draw_facet(
    record: Record, by: str, curves: Sequence[LossCurve], title: str, raw: bool, file: Path
) -> Plot:
    """Write all trajectories of one method."""
    values = record.axes[by] if by else ("all",)
    colours = colours_for(values)
    most = 6 if record.is_searched(by) else MOST_LEGEND
    legend = evenly(
        [
            LegendEntry(value_text(by, value), colour)
            for value, colour in zip(values, colours, strict=True)
            if by and any(curve.values.get(by) == value for curve in curves)
        ],
        most,
    )
    limits = loss_limits(curves)
    layout = Layout(6.0, 3.5, legend=legend, title=axis_label(by), markers=False)
    figure, (axes,) = layout.new_figure()
    axes.set_title(title)
    for curve in curves:
        colour = colours[values.index(curve.values[by]) if by in curve.values else 0]
        draw_curve(axes, curve, colour.light, limits, raw)
    draw_share_legend(axes, curves)
    set_scales(axes, limits)
    return save(figure, file, "Loss per training step", colours)


def draw_share_legend(axes: Axes, curves: Sequence[LossCurve]) -> None:
    """Which dashes are whose loss, where a method trains several networks."""
    names = dict.fromkeys(name for curve in curves for name in curve.shares)
    for name, dashes in zip(names, SHARE_DASHES, strict=False):
        axes.plot([], [], color=MUTED, ls=dashes, lw=1.7, label=name)
    if names:
        axes.legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=len(names), handlelength=3,
            borderaxespad=0.1,
        )  # fmt: skip


def set_scales(axes: Axes, limits: tuple[float, float]) -> None:
    """Steps from 0; losses on a log scale with plain numbers, unless some are not positive."""
    axes.set_ylim(*limits)
    axes.set_xlabel("training step")
    axes.set_xlim(left=0)
    if limits[0] <= 0:
        axes.set_ylabel("loss")
        return
    axes.set_yscale("log")
    axes.set_ylim(*limits)
    plain = FuncFormatter(lambda y, _: f"{y:g}")
    axes.yaxis.set_major_formatter(plain)
    few_decades = limits[1] / limits[0] < 12
    axes.yaxis.set_minor_formatter(FuncFormatter(sparse) if few_decades else NullFormatter())
    axes.set_ylabel("loss (log scale)")


def sparse(value: float, _: int | None = None) -> str:
    """A label at 2, 3 and 5 of a decade only: more would touch."""
    return f"{value:g}" if f"{value:e}"[0] in "235" else ""


def colour_axis(record: Record, curves: Sequence[LossCurve]) -> str:
    """The axis that tells the trajectories apart best: a numeric one first, then any; or none."""
    varied = [
        axis
        for axis in record.axes
        if len({curve.values.get(axis) for curve in curves if axis in curve.values}) > 1
    ]
    numeric = [axis for axis in varied if is_numeric(record.axes[axis]) and axis != "seed"]
    return (["lr"] if "lr" in numeric else [*numeric, *varied, ""])[0]


def loss_limits(curves: Sequence[LossCurve]) -> tuple[float, float]:
    """The y-range: all that well-behaved trajectories do, and some room for what runs away."""
    calm = [curve for curve in curves if not curve.diverged] or list(curves)
    losses = np.concatenate([own for curve in calm for _, own in shown_losses(curve)])
    if losses.size == 0:
        return 1e-3, 1.0
    low, high = float(np.percentile(losses, 0.3)), float(np.percentile(losses, 99.8))
    if losses.min() <= 0:
        room = (high - low) * 0.08 or 1.0
        return low - room, high + room
    low, high = low / 1.3, high * 1.3
    wild = [
        float(finite(curve.steps, curve.losses)[1].max(initial=0))
        for curve in curves
        if curve.diverged
    ]
    return low, max(high, min(max(wild, default=0) * 1.3, high * 4))


def shown_losses(curve: LossCurve) -> tuple[tuple[Floats, Floats], ...]:
    """Steps and losses of each line of a trajectory: its networks' where they are known."""
    lines = tuple(curve.shares.values()) or (curve.losses,)
    return tuple(finite(curve.steps, line) for line in lines)


def finite(steps: Sequence[int], losses: Sequence[float]) -> tuple[Floats, Floats]:
    """Steps and losses up to the first that is not finite."""
    ys = np.asarray(losses, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(ys))
    end = int(bad[0]) if bad.size else ys.size
    return np.asarray(steps[:end], dtype=np.float64), ys[:end]


def draw_curve(
    axes: Axes, curve: LossCurve, colour: str, limits: tuple[float, float], raw: bool
) -> None:
    """One trajectory, a line per network that it trains; a diverged one ends in a cross."""
    dashes = SHARE_DASHES if curve.shares else ("-",)
    for index, (steps, losses) in enumerate(shown_losses(curve)):
        if steps.size == 0:
            continue
        if raw:
            axes.plot(*extremes(steps, losses), color=colour, alpha=0.22, lw=0.6)
        half = math.ceil(steps.size / (200 if curve.diverged else 40))
        axes.plot(
            *smooth(steps, losses, half), color=colour, lw=1.7, ls=dashes[index % len(dashes)]
        )
    if curve.diverged:
        mark_end(axes, curve, limits)


def mark_end(axes: Axes, curve: LossCurve, limits: tuple[float, float]) -> None:
    """A cross where a loss stopped being finite, at the top edge if it ran out of view."""
    _, losses = finite(curve.steps, curve.losses)
    last = float(losses[-1]) if losses.size else limits[1]
    step = float(curve.steps[-1])
    shown = min(max(last, limits[0] * 1.05), limits[1] / 1.05)
    axes.plot([step], [shown], color=BAD, marker="x", ms=9, mew=2.2, ls="", clip_on=False)
    axes.annotate(
        f"diverged at step {int(step)}",
        (step, shown),
        xytext=(8, -1),
        textcoords="offset points",
        va="center",
        color=BAD,
        fontsize=8,
    )


def extremes(steps: Floats, losses: Floats) -> tuple[Floats, Floats]:
    """The lowest and highest loss of each stretch: what a dense line would look like."""
    if steps.size <= 2 * MOST_POINTS:
        return steps, losses
    xs, ys = [], []
    for part in np.array_split(np.arange(steps.size), MOST_POINTS):
        for index in sorted({int(part[losses[part].argmin()]), int(part[losses[part].argmax()])}):
            xs.append(steps[index])
            ys.append(losses[index])
    return np.array(xs), np.array(ys)


def smooth(steps: Floats, losses: Floats, half: int) -> tuple[Floats, Floats]:
    """A centred mean over `half` steps on each side (fewer at the ends), decimated."""
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    at = np.unique(np.linspace(0, steps.size - 1, min(steps.size, MOST_POINTS)).round().astype(int))
    first, last = np.maximum(at - half, 0), np.minimum(at + half, steps.size - 1)
    return steps[at], (sums[last + 1] - sums[first]) / (last + 1 - first)
