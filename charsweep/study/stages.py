"""The stages of a search: which cells come next by what those before have told, and why it stops.

Pure: `Stages` yields a `Stage`, is sent the results of its cells, and yields the next; neither
training nor Optuna is known here. The same results give the same stages.

1. Rates, all trained to the first number of steps.
2. Half a decade beside the best of them, on both sides, until the best lies between two others.
3. Steps: the best rates go on to the next number, until shorter would be recommended beside
   longer: level with it in score and identity, and cheaper. The best rate falls with the length,
   so lower ones within a decade go on too. Thirds of a decade beside the best join them the first
   time, unless no neighbour can be told from it.
4. Strengths, at what is recommended by then and at the next best settings: they train nothing, and
   with enough of them the surface that the recommendation reads (`charsweep.results.surface`) says
   how all three go together.
5. Inference steps and what else is asked for, at what is recommended by then.

"Told from": the paired test of the verdict, two standard errors (`charsweep.results.points`). What
left the race of its stage counts by the images that it drew; something that did not is better.
Bounds below were set on four drawn characters of the embedded world; `benchmarks.find` measures.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from charsweep.config.find import AXES
from charsweep.config.settings.search import FindSettings
from charsweep.results import CellResult
from charsweep.results.cells import SCORE
from charsweep.results.choice import chosen, keeps, on_each_base
from charsweep.results.labels import axis_label, listing, value_text
from charsweep.results.points import ERRORS, Point, difference

Values = Mapping[str, Any]  # of a cell, by the names of its axes
HALVES, THIRDS = (1, 3), (1, 2, 3, 5)  # first figures of the rates of a decade
MOST_ZOOMS = 3  # times that half-decades are tried: from an end of the decades to past it
HIGHEST = 100.0  # a learning rate can be
LATE = 3  # times the first number of steps: past it nothing is zoomed in on
# What is tried at what is recommended by then, strengths at the next best too: first what trains
# nothing.
BESIDE = ("strength", "inference_steps", "rank", "prior", "captions")
CROSSED = 4  # settings at which every strength is tried, what is recommended by then among them
LOWER = 2  # decades that are tried below rates of which each diverged


@dataclass(frozen=True)
class Stage:
    """Cells that are run together; none: only said."""

    over: str  # of `FindSettings.over`
    text: str  # what is tried, or why no more is
    cells: tuple[Values, ...] = ()


# Sent back: the results of a stage's cells; None where it was given up.
Steps = Generator[Stage, Sequence[CellResult] | None, None]
Answered = Generator[Stage, Sequence[CellResult] | None, bool]


class Stages:
    """The rule, and what has been told so far."""

    def __init__(
        self, find: FindSettings, start: Values, constraints: Mapping[str, Any] | None = None
    ) -> None:
        self.find, self.start = find, start
        self.constraints = constraints or {}
        self.asked: list[Values] = []
        self.told: list[CellResult] = []

    def run(self) -> Steps:
        """All stages, one after the other."""
        yield from self._of_method(self.start)
        for over in BESIDE:
            if over in self.find.over:
                yield from self._beside(over, self.others(over))
        if "method" in self.find.over:
            for method in self.others("method"):
                own = {n: v for n, v in self.start.items() if not n.startswith("method.")}
                yield from self._of_method({**own, "method": method}, "method")

    def others(self, over: str) -> list[Any]:
        """What is tried besides the value that the search starts with."""
        values: dict[str, Sequence[Any]] = {
            "inference_steps": self.find.inference_steps,
            "strength": self.find.strengths,
            "rank": self.find.ranks,
            "prior": (0.0, 1.0),
            "captions": ("instance", "captions"),
            "method": self.find.methods,
        }
        if AXES[over] not in self.start:  # a strength that the method has not
            return []
        return [value for value in values[over] if value != self.start[AXES[over]]]

    # -- rates and steps -----------------------------------------------------------------------

    def _of_method(self, held: Values, over: str = "") -> Steps:
        """The best rate and number of steps of one method."""
        lengths = sorted(self.find.steps) if "steps" in self.find.over else [held["train_steps"]]
        rates = sorted(self.find.rates) if "lr" in self.find.over else [held["lr"]]
        held = {**held, "train_steps": lengths[0]}
        own = f"{held['method']}: " if over else ""
        what = f"{own}{_rates(rates)}, {lengths[0]:,} training steps"
        if not (yield from self._ask(over or "lr", what, [{**held, "lr": r} for r in rates])):
            return
        diverged = all(cell.state == "diverged" for cell in self.told if _at(cell.values, held))
        if diverged and "lr" in self.find.over:
            yield from self._lower(held, over or "lr")
        finer: list[float] = []
        if "lr" in self.find.over and self._is_taught(held):
            yield from self._zoom(held, over or "lr", MOST_ZOOMS if not diverged else 1)
            finer = [] if diverged else (yield from self._thirds(held, over or "lr"))
        if finer and len(lengths) == 1:
            text = f"thirds of a decade between: {_rates(finer)}"
            yield from self._ask(over or "lr", text, [{**held, "lr": rate} for rate in finer])
        for number, steps in enumerate(lengths[1:]):
            before, held = held, {**held, "train_steps": steps}
            if not self._finished(before):
                return
            taught = self._is_taught(before)
            if not (yield from self._longer(before, held, over or "steps", finer)):
                return
            finer = []
            is_late = number > 0 or steps > LATE * lengths[0]
            if not taught and not is_late and "lr" in self.find.over and self._is_taught(held):
                yield from self._zoom(held, over or "lr", 1)
        if len(lengths) > 1:
            text = f"no more than {lengths[-1]:,} steps are asked for; they may do better"
            yield Stage(over or "steps", text)

    def _lower(self, held: Values, over: str) -> Steps:
        """Where every rate diverged: lower ones."""
        least = min(values["lr"] for values in self.asked if _at(values, held))
        rates = [_rounded(least / 10**power) for power in range(LOWER, 0, -1)]
        text = f"all of these diverged, so {_rates(rates)}"
        yield from self._ask(over, text, [{**held, "lr": rate} for rate in rates])

    def _zoom(self, held: Values, over: str, most: int) -> Steps:
        """Half-decades beside the best rate, until it lies between two others or `most` times."""
        for _ in range(most):
            best = self.best(self._finished(held))
            new = self._untried(held, beside(rate_of(best), HALVES))
            if not new:
                return
            text = f"half a decade beside {_rate(best)}: {_rates(new)}"
            if not (yield from self._ask(over, text, [{**held, "lr": rate} for rate in new])):
                return
            now = self.best(self._finished(held))
            if self._untried(held, beside(rate_of(now), HALVES)) and not told(now, best):
                text = f"{_rate(now)} cannot be told from {_rate(best)}: none past it is tried"
                yield Stage(over, text)
                return

    def _thirds(self, held: Values, over: str) -> Generator[Stage, None, list[float]]:
        """Rates a third of a decade beside the best one, where it lies between two others."""
        best = self.best(self._finished(held))
        around = set(beside(rate_of(best), HALVES))
        near = [p for p in self._finished(held) if rate_of(p) in around]
        if not around.issubset(self._rates(held)):
            return []
        if len(near) == 2 and not any(told(best, point) for point in near):
            text = f"neither {_rate(near[0])} nor {_rate(near[1])} can be told from {_rate(best)}"
            yield Stage(over, f"{text}: nothing between them is tried")
            return []
        return self._untried(held, beside(rate_of(best), THIRDS))

    def _longer(self, before: Values, held: Values, over: str, finer: Sequence[float]) -> Answered:
        """The best rates go on, and finer ones begin; whether longer still may be better."""
        rates, steps = sorted([*self.going_on(before), *finer]), held["train_steps"]
        text = f"{steps:,} training steps at {_rates(rates)}"
        if not (yield from self._ask(over, text, [{**held, "lr": rate} for rate in rates])):
            return False
        now, then = self._finished(held), self.best(self._finished(before))
        if not now:
            yield Stage(over, f"all of these have diverged by {steps:,} steps")
            return False
        best = self.best(now)
        if then.is_taught and chosen([best, then]).best is then:
            text = f"{steps:,} steps are no better than {before['train_steps']:,}"
            yield Stage(over, f"{text}, as far as these images tell: no more are tried")
            return False
        return True

    def going_on(self, held: Values) -> list[float]:
        """The rates that are trained on: the best, lower ones within a decade, higher as good."""
        known = sorted(self._finished(held), key=rate_of, reverse=True)
        best = self.best(known)
        good = [rate_of(point) for point in known if not told(best, point)]
        if not best.is_taught:  # high ones learn first
            return sorted(good[: self.find.most_rates])
        top, rates = rate_of(best), [rate_of(point) for point in known]
        lower = [rate for rate in rates if rate < top and (rate in good or top <= 10.1 * rate)]
        higher = [rate for rate in reversed(rates) if rate > top and rate in good]
        return sorted([top, *lower, *higher][: self.find.most_rates])

    # -- all else ------------------------------------------------------------------------------

    def _beside(self, over: str, others: Sequence[Any]) -> Steps:
        """Other values of one axis, all else as recommended by then."""
        found = self.recommended()
        if found is None or not others:
            return
        axis, values = AXES[over], found.cells[0].values
        held = {name: values[name] for name in self.start}
        own = value_text(axis, held[axis])
        texts = listing([value_text(axis, value) for value in others])
        what = f"{axis_label(axis)} {texts} beside {own}"
        if not (yield from self._ask(over, what, [{**held, axis: value} for value in others])):
            return
        known = [point for point in self._points() if _at(point.values, held, axis)]
        rivals = [point for point in known if point.values[axis] != held[axis]]
        apart = any(told(point, found) or told(found, point) for point in rivals)
        now = self.recommended() or found
        is_kept = now.price < found.price or now.values[axis] == held[axis]
        if rivals and not apart and is_kept and _at(now.values, held, axis):
            yield Stage(over, f"none of these can be told from {own}")
        if over == "strength" and (further := self._next_best(held)):
            where = (
                f"{len(further)} next best settings" if len(further) > 1 else "next best setting"
            )
            cells = [{**setting, axis: value} for setting in further for value in others]
            yield from self._ask(over, f"{axis_label(axis)} {texts} at the {where}", cells)

    def _next_best(self, held: Values) -> Sequence[Values]:
        """The best settings beside what is held, of other rates and numbers of steps."""
        alike = {name: value for name, value in held.items() if name not in ("lr", "train_steps")}
        known = [one for one in self._points() if _at(one.values, alike) and not is_left(one)]
        known.sort(key=lambda one: (-(one.mean(SCORE) or 0.0), one.price, rate_of(one)))
        settings = [{name: one.cells[0].values[name] for name in held} for one in known]
        return [one for one in settings if one != held][: CROSSED - 1]

    # -- what is known -------------------------------------------------------------------------

    def _ask(self, over: str, text: str, cells: Iterable[Values]) -> Answered:
        """Have cells run that have not been; whether they were."""
        new = tuple(cell for cell in cells if cell not in self.asked)
        if not new:
            return True
        results = yield Stage(over, text, new)
        if results is None:
            return False
        self.asked += new
        self.told += results
        return True

    def _points(self) -> list[Point]:
        """What has finished with a score; of these, what keeps to the constraints, if any does."""
        points = [Point(cell.values, (by_images_drawn(cell),)) for cell in self.told]
        scored = [point for point in points if point.mean(SCORE) is not None]
        return [point for point in scored if keeps(point, self.constraints)] or scored

    def _finished(self, held: Values) -> list[Point]:
        """Of those that differ from `held` in nothing but the rate."""
        return [point for point in self._points() if _at(point.values, held)]

    def _rates(self, held: Values) -> set[float]:
        return {values["lr"] for values in self.asked if _at(values, held)}

    def _untried(self, held: Values, rates: Iterable[float]) -> list[float]:
        return [rate for rate in rates if rate not in self._rates(held)]

    def _is_taught(self, held: Values) -> bool:
        """Whether any is better than the untaught base."""
        known = self._finished(held)
        return bool(known) and self.best(known).is_taught

    def best(self, points: Sequence[Point]) -> Point:
        """The highest in score, of those measured whole if there are any; of equals the lowest
        rate."""
        whole = [point for point in points if not is_left(point)] or points
        return max(whole, key=lambda point: (point.mean(SCORE) or 0.0, -rate_of(point)))

    def recommended(self) -> Point | None:
        """What would be recommended now."""
        whole = [point for point in self._points() if not is_left(point)]
        found = [chosen(group).best for group in on_each_base(whole)]
        return max(found, key=lambda point: point.mean(SCORE) or 0.0, default=None)


def at_most(find: FindSettings, start: Values) -> list[Stage]:
    """The worst case: stages that take no less than any that may come, by the rule's bounds."""
    rule = Stages(find, start)
    lengths = sorted(find.steps) if "steps" in find.over else [start["train_steps"]]
    rates = sorted(find.rates) if "lr" in find.over else [start["lr"]]
    stages = []

    def of_method(held: Values, over: str = "") -> None:
        first, own = {**held, "train_steps": lengths[0]}, list(rates)
        zooms: list[list[float]] = [own]
        finer: list[float] = []
        if "lr" in find.over:
            end = own[-1]
            for count in (2, *[1] * (MOST_ZOOMS - 1), 2):
                zooms.append([_rounded(end * 1.01 ** (n + 1)) for n in range(count)])
                end = zooms[-1][-1]
            finer = zooms.pop() if len(lengths) > 1 else []
        for some in zooms:
            stages.append(Stage(over or "lr", "", tuple({**first, "lr": rate} for rate in some)))
        going = [rate for some in zooms for rate in some][-find.most_rates :]
        for steps in lengths[1:]:
            going += finer
            cells = tuple({**held, "train_steps": steps, "lr": rate} for rate in going)
            stages.append(Stage(over or "steps", "", cells))
            going, finer = going[-find.most_rates :], []

    of_method(start)
    best = stages[-1].cells[-1]
    before = [cell for stage in reversed(stages) for cell in reversed(stage.cells)]
    for over in BESIDE:
        if over in find.over and (others := rule.others(over)):
            further = before[1:CROSSED] if over == "strength" else []
            for at in ([best], further) if further else ([best],):
                cells = tuple({**one, AXES[over]: value} for one in at for value in others)
                stages.append(Stage(over, "", cells))
            if over != "captions":  # the dearest of them may be recommended by then
                best = {**best, AXES[over]: max(best[AXES[over]], *others)}
    if "method" in find.over:
        for method in rule.others("method"):
            plain = {n: v for n, v in start.items() if not n.startswith("method.")}
            of_method({**plain, "method": method}, "method")
    return stages


def by_images_drawn(cell: CellResult) -> CellResult:
    """A result that counts as one of the images that were drawn, all of them or those of a race."""
    return replace(cell, state="finished") if cell.left else cell


def is_left(point: Point) -> bool:
    """Whether it left the race of its stage, so that it is not measured whole."""
    return any(cell.left for cell in point.cells)


def told(higher: Point, lower: Point) -> bool:
    """Whether the paired test tells a point from one with a lower score."""
    return not difference(higher, lower, SCORE).is_within(ERRORS)


def rate_of(point: Point) -> float:
    return float(point.cells[0].values["lr"])


def beside(rate: float, figures: Sequence[int]) -> list[float]:
    """The next rates below and above whose first figures are these."""
    power = math.floor(math.log10(rate))
    ladder = [_rounded(f * 10.0**p) for p in range(power - 1, power + 2) for f in figures]
    below = [one for one in ladder if one < 0.99 * rate]
    above = [one for one in ladder if one > 1.01 * rate]
    return [one for one in (below[-1], above[0]) if one <= HIGHEST]


def _at(values: Values, held: Values, but: str = "lr") -> bool:
    """Whether values are those held, but for one axis."""
    return all(values.get(name) == value for name, value in held.items() if name != but)


def _rounded(rate: float) -> float:
    """A rate as it is typed."""
    return float(f"{rate:.3g}")


def _rate(point: Point) -> str:
    return value_text("lr", rate_of(point))


def _rates(rates: Sequence[float]) -> str:
    """ "learning rates 1e-4 and 1e-3"."""
    word = "learning rate" if len(rates) == 1 else "learning rates"
    return f"{word} {listing([value_text('lr', rate) for rate in rates], most=9)}"
