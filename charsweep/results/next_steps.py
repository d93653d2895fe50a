"""What to try next: past the end of an axis, within a gap, with more training seeds, or longer.

Each is a sentence with a command that extends the same sweep, or sets a grid beside a search in
stages, which chooses its own cells; what is trained already stays.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from charsweep.core.specs import ADAPTER
from charsweep.core.system.console import quoted, spell
from charsweep.results.cells import SCORE
from charsweep.results.choice import most_alike
from charsweep.results.labels import COUNTED, axis_label, listing, value_text
from charsweep.results.points import (
    ERRORS,
    OTHER_STRENGTH,
    SEED,
    STRENGTH,
    Point,
    difference,
)
from charsweep.results.records import Record, Value, in_order, is_numeric

WIDE = 3  # a larger factor between two values tried is a gap
MOST_BETWEEN = 2  # values to try on either side
MOST_SEEDS = 5  # more training seeds than this are not asked for
EVENLY = dict.fromkeys(
    (STRENGTH, OTHER_STRENGTH), (0.2, 2.0)
)  # axes that are no sizes: steps past an end, and the last end
LONGER = (5, 10)  # times the training steps, where nothing has been learnt


@dataclass(frozen=True)
class NextStep:
    """What to try, and the command that does."""

    text: str  # a sentence
    command: str  # "" where it is no command of this sweep's

    @property
    def line(self) -> str:
        """Both, for a terminal."""
        return f"{self.text.rstrip('.')}: {self.command}" if self.command else self.text


def next_steps(record: Record, best: Point, alike: Sequence[Point]) -> tuple[NextStep, ...]:
    """What to try after a recommendation and those that cannot be told from it."""
    if not best.is_taught:
        return (teach_more(record, best),)
    return (*untried(record, best, alike), *too_close(record, best, alike))


def teach_more(record: Record, best: Point) -> NextStep:
    """Where the untaught base is as good, all else is too early to ask: every setting, longer."""
    if ADAPTER in best.finished[0].values:
        return NextStep(
            "It hardly draws the character: see which words it was taught with, as in "
            "adapters=[{path: FILE, trigger: WORDS}], and try a higher strength.",
            "",
        )
    steps = max(cell.step for cell in best.finished)
    wanted = [factor * steps for factor in LONGER]
    told = listing([f"{number:,}" for number in wanted])
    text = f"It is not taught yet: {told} training steps may teach it, or another learning rate."
    return NextStep(text, command_with(record, {"train_steps": wanted}))


def untried(record: Record, best: Point, alike: Sequence[Point]) -> list[NextStep]:
    """A sentence per axis on which something better may lie where nothing was tried."""
    steps = []
    for axis, values in record.axes.items():
        value = best.values.get(axis)
        if axis in EVENLY:  # what is not taught, or away from it, is no neighbour
            values = tuple(one for one in values if float(cast(float, one)) > 0)
        if axis == "train_steps" and ADAPTER in best.finished[0].values:
            continue  # there are those checkpoints, and no others
        if axis == SEED or record.is_searched(axis) or len(values) < 2 or not is_numeric(values):
            continue
        numbers = [float(cast(float, one)) for one in values]
        if value not in values or min(numbers) <= 0:
            continue
        at, whole = values.index(value), all(isinstance(one, int) for one in values)
        good = {point.values.get(axis) for point in (best, *alike)}
        below = between(numbers[at - 1], numbers[at], whole) if at else []
        above = between(numbers[at], numbers[at + 1], whole) if at + 1 < len(numbers) else []
        where = []
        if gap := gap_text(axis, values, at):
            where.append(f"nothing else between {gap} was tried")
        for end, is_last in ((0, False), (len(values) - 1, True)):
            if at == end and good == {value}:
                where.append(f"it is the {'largest' if is_last else 'smallest'} tried")
                beyond = past(numbers[at], is_last, whole, EVENLY.get(axis))
                below, above = (below, beyond) if is_last else (beyond, above)
        tried = [*below[-MOST_BETWEEN:], *above[:MOST_BETWEEN]]
        if where and tried:
            values_text = listing([value_text(axis, one) for one in tried])
            counted = "number of " if axis in COUNTED else ""
            text = (
                f"The best {counted}{axis_label(axis)} lies at {value_text(axis, value)}, and "
                f"{' and '.join(where)}: {values_text} may do better."
            )
            steps.append(NextStep(text, extended(record, best, axis, tried)))
    return steps


def gap_text(axis: str, values: Sequence[Value], at: int) -> str:
    """ "1e-4 and 1e-2" where a neighbour lies more than a factor `WIDE` away; else nothing."""
    low, high = max(at - 1, 0), min(at + 1, len(values) - 1)
    numbers = [float(cast(float, one)) for one in values]
    if numbers[at] / numbers[low] <= WIDE and numbers[high] / numbers[at] <= WIDE:
        return ""
    return f"{value_text(axis, values[low])} and {value_text(axis, values[high])}"


def between(low: float, high: float, whole: bool) -> list[float]:
    """The round numbers (1, 2, 5, 10, ...) well within a gap, in order; none in a narrow one."""
    if high / low <= WIDE:
        return []
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    series = [float(f"{digit}e{power}") for power in range(first, last + 1) for digit in (1, 2, 5)]
    return [rounded(one, whole) for one in series if 1.4 * low < one < high / 1.4]


def past(
    end: float, upward: bool, whole: bool, evenly: tuple[float, float] | None = None
) -> list[float]:
    """Two values past the end of an axis, in order, by factors or as `EVENLY` says."""
    if evenly is not None:
        step, most = evenly
        found = [round(end + number * step, 3) for number in ((1, 2) if upward else (-2, -1))]
        return [value for value in found if 0 < value <= most]
    factors = (1.5, 2) if whole else (2, 5)
    found = [end * f for f in factors] if upward else [end / f for f in reversed(factors)]
    return sorted({one for value in found if (one := rounded(value, whole)) != end and one > 0})


def rounded(value: float, whole: bool) -> float:
    """Two figures of a number, or a whole number."""
    return round(value) if whole else float(f"{value:.1e}")


def extended(record: Record, best: Point, axis: str, values: Sequence[float]) -> str:
    """The command that tries more values of an axis, all else as recommended."""
    own = (axis, SEED, *(["train_steps"] if ADAPTER in best.finished[0].values else []))
    pinned: dict[str, Sequence[Value]] = {
        name: [best.values[name]] for name in record.axes if name not in own and name in best.values
    }
    return command_with(record, {**pinned, axis: list(values)})


def with_seeds(record: Record, points: Sequence[Point], seeds: int) -> str:
    """The command that runs some settings with more training seeds; empty for a part of a sweep."""
    axes: dict[str, Sequence[Value]] = {
        name: in_order([point.values[name] for point in points if name in point.values])
        for name in record.axes
        if name != SEED
    }
    return command_with(record, axes, f"seeds={seeds}")


def command_with(record: Record, axes: Mapping[str, Sequence[Value]], *more: str) -> str:
    """The sweep's command with other values on its axes; empty for one of several parts."""
    sweep = record.sweep
    if sweep.parts or sweep.folder != sweep.name or not sweep.command or "$'" in sweep.command:
        return ""
    known = sweep.axes
    if sweep.stages:
        known, more = record.axes, ("search=grid", f"name={sweep.name}_grid", *more)
        if width := (sweep.settings.get("sampler") or {}).get("batch_width"):
            more = (*more, f"sampler.batch_width={width}")  # so that it takes what was drawn
    names = ("axes", "find", *(word.partition("=")[0] for word in more))
    try:
        words = shlex.split(sweep.command)
    except ValueError:  # nothing that a shell would take
        return ""
    typed = [
        word for word in words if word.lstrip("+~").partition("=")[0].partition(".")[0] not in names
    ]
    held = {name: values for name, values in known.items() if name not in axes and name != SEED}
    asked = [
        f"++axes.{name}=[{','.join(_typed(name, value) for value in values)}]"
        for name, values in without_alone({**held, **axes}).items()
        if name != ADAPTER
    ]
    return quoted([*typed, *asked, *more])


def without_alone(axes: Mapping[str, Sequence[Value]]) -> dict[str, Sequence[Value]]:
    """Axes without the strengths 0 of two adapters, at which each is drawn alone unasked."""
    if OTHER_STRENGTH not in axes:
        return dict(axes)
    return {
        name: [value for value in values if value or name not in EVENLY] or values
        for name, values in axes.items()
    }


def _typed(name: str, value: Value) -> str:
    """A value of an axis as it is typed: numbers as the report has them."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value_text(name, value) if is_number else spell(value)


def too_close(record: Record, best: Point, alike: Sequence[Point]) -> list[NextStep]:
    """A few more training seeds, where these may tell rivals of the same price apart, and identity
    does not."""
    rivals = [
        point
        for point in alike
        if point.price == best.price and len(most_alike([best, point], ERRORS)) == 2
    ]
    gaps = [difference(best, point, SCORE) for point in rivals]
    if not rivals or any(gap.error is None or not gap.value for gap in gaps):
        return []
    seeds = len(best.scores(SCORE))
    needed = max(seeds * (ERRORS * (gap.error or 0.0) / gap.value) ** 2 for gap in gaps)
    if needed > MOST_SEEDS:
        return [NextStep("Such gaps are ties: no handful of training seeds would tell more.", "")]
    wanted = max(math.ceil(needed), seeds + 1)
    trained = f"{seeds} training seed{'s' if seeds > 1 else ''}"
    text = f"It is too close to call on {trained}; {wanted} may tell."
    return [NextStep(text, with_seeds(record, (best, *rivals), wanted))]
