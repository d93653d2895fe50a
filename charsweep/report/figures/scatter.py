"""A search in, its trials as dots out: early ones dark, late ones light, the best ringed."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from charsweep.report.figures.lines import LinePlan
from charsweep.report.figures.style import INK, Colour, LegendEntry, colours_for, pt
from charsweep.results.cells import CellResult
from charsweep.results.labels import metric_label
from charsweep.results.records import Record
from charsweep.results.verdict import objectives_of

SHADES = 12  # more cannot be told apart, and each is a rule in the page's SVG


def trials_of(record: Record) -> tuple[CellResult, ...]:
    """The cells in the order in which the sampler asked for them."""
    known = enumerate(record.cells)
    order = sorted(known, key=lambda one: (one[1].trial is None, one[1].trial or 0, one[0]))
    return tuple(cell for _, cell in order)


def trial_colours(record: Record) -> tuple[Colour, ...]:
    """A few shades from the first trial to the last."""
    return colours_for(tuple(range(min(SHADES, max(2, len(record.cells))))))


def trial_legend(record: Record) -> tuple[LegendEntry, ...]:
    """First, middle and last trial."""
    colours, count = trial_colours(record), len(record.cells)
    if count < 3:
        return ()
    places = dict.fromkeys((0, count // 2, count - 1))
    return tuple(LegendEntry(str(at), colours[shade(at, count, len(colours))]) for at in places)


def shade(at: int, count: int, shades: int) -> int:
    """Which of so many shades the trial at this place of the order gets."""
    return min(shades - 1, at * shades // max(1, count))


def draw_dots(
    axes: Axes, record: Record, plan: LinePlan, metric: str, colours: Sequence[Colour]
) -> None:
    """Every trial's score at its value; a ring around the best one of this metric."""
    trials = trials_of(record)
    shown = [
        (plan.x(cell), score, colours[shade(at, len(trials), len(colours))].light)
        for at, cell in enumerate(trials)
        if (score := cell.score(metric)) is not None and plan.axis in cell.values
    ]
    size = pt(6 if len(shown) <= 60 else 3.5)
    for x, y, colour in shown:
        axes.plot([x], [y], marker="o", ms=size, color=colour, mec="none", alpha=0.85, ls="")
    if shown:
        x, y, _ = max(shown, key=lambda one: one[1] if rises(record, metric) else -one[1])
        axes.plot([x], [y], marker="o", ms=size * 2, mfc="none", mec=INK, mew=pt(1.4), ls="")


def rises(record: Record, metric: str) -> bool:
    """Whether more of a metric is better: as the study says, else as the metric does."""
    known = {one.metric: one.maximize for one in objectives_of(record)}
    return known.get(metric, metric_label(metric).higher_is_better)
