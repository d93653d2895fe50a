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

from charsweep.report.data import LossCurve, Record, Value, is_numeric
from charsweep.report.figures import (
    BAD,
    LegendEntry,
    Margins,
    Plot,
    add_legend,
    colours_for,
    legend_height,
    new_figure,
    save,
)
from charsweep.report.labels import axis_label, value_text

Floats = NDArray[np.float64]
MOST_RAW = 12  # past it, raw losses hide each other and only smooth ones are drawn
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
    values = record.axes[by] if by else ("all",)
    colours = colours_for(values)
    facets: dict[Value, list[LossCurve]] = {}
    for curve in curves:
        facets.setdefault(curve.values.get("method") if by != "method" else None, []).append(curve)
    limits = loss_limits(curves)
    raw = len(curves) <= MOST_RAW
    title = axis_label(by) if by else ""
    legend = thinned(
        [
            LegendEntry(value_text(by, value), colour)
            for value, colour in zip(values, colours, strict=True)
            if by and any(curve.values.get(by) == value for curve in curves)
        ]
    )
    below = legend_height(len(legend), 7, title)
    panels = []
    for index, (method, own) in enumerate(facets.items()):
        figure, (axes,) = new_figure(6.0, 3.5, Margins(), below=below)
        axes.set_title(str(method) if len(facets) > 1 else "training loss")
        for curve in own:
            colour = colours[values.index(curve.values[by]) if by in curve.values else 0]
            draw_curve(axes, curve, colour.light, limits, raw)
        set_scales(axes, limits)
        if legend:
            add_legend(figure, legend, title, 7, markers=False)
        name = "loss" if len(facets) == 1 else f"loss-{index + 1}"
        panels.append(save(figure, folder, name, "Loss per training step", colours))
    return LossPlots(tuple(panels), raw)


def set_scales(axes: Axes, limits: tuple[float, float]) -> None:
    """Steps from 0, losses on a log scale with plain numbers."""
    axes.set_yscale("log")
    axes.set_ylim(*limits)
    plain = FuncFormatter(lambda y, _: f"{y:g}")
    axes.yaxis.set_major_formatter(plain)
    few_decades = limits[1] / limits[0] < 12
    axes.yaxis.set_minor_formatter(plain if few_decades else NullFormatter())
    axes.set_xlabel("training step")
    axes.set_ylabel("loss (log scale)")
    axes.set_xlim(left=0)


def colour_axis(record: Record, curves: Sequence[LossCurve]) -> str:
    """The axis that tells the trajectories apart best: a numeric one first, then any; or none."""
    varied = [
        axis
        for axis in record.axes
        if len({curve.values.get(axis) for curve in curves if axis in curve.values}) > 1
    ]
    numeric = [axis for axis in varied if is_numeric(record.axes[axis]) and axis != "seed"]
    return (["lr"] if "lr" in numeric else [*numeric, *varied, ""])[0]


def thinned(legend: Sequence[LegendEntry], most: int = 14) -> tuple[LegendEntry, ...]:
    """At most so many entries, first and last among them."""
    if len(legend) <= most:
        return tuple(legend)
    chosen = sorted({round(i * (len(legend) - 1) / (most - 1)) for i in range(most)})
    return tuple(legend[index] for index in chosen)


def loss_limits(curves: Sequence[LossCurve]) -> tuple[float, float]:
    """The y-range: all that well-behaved trajectories do, and some room for what runs away."""
    calm = [curve for curve in curves if not curve.diverged] or list(curves)
    losses = np.concatenate([finite_losses(curve)[1] for curve in calm])
    losses = losses[losses > 0]
    if losses.size == 0:
        return 1e-3, 1.0
    low, high = float(np.percentile(losses, 0.3)) / 1.3, float(np.percentile(losses, 99.8)) * 1.3
    wild = [float(finite_losses(curve)[1].max(initial=0)) for curve in curves if curve.diverged]
    return low, max(high, min(max(wild, default=0) * 1.3, high * 4))


def finite_losses(curve: LossCurve) -> tuple[Floats, Floats]:
    """Steps and losses up to the first that is not finite."""
    losses = np.asarray(curve.losses, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(losses))
    end = int(bad[0]) if bad.size else losses.size
    return np.asarray(curve.steps[:end], dtype=np.float64), losses[:end]


def draw_curve(
    axes: Axes, curve: LossCurve, colour: str, limits: tuple[float, float], raw: bool
) -> None:
    """One trajectory; a diverged one ends in a cross, at the top edge if it ran out of view."""
    steps, losses = finite_losses(curve)
    if steps.size:
        if raw:
            axes.plot(*extremes(steps, losses), color=colour, alpha=0.22, lw=0.6)
        half = math.ceil(steps.size / (200 if curve.diverged else 40))
        axes.plot(*smooth(steps, losses, half), color=colour, lw=1.7)
    if curve.diverged:
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
