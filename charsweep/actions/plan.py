"""`action=plan`: what a sweep would cost, before paying."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from charsweep.config import Sweep
from charsweep.config.find import start_of
from charsweep.core.cells import Cell
from charsweep.core.errors import ConfigError
from charsweep.core.store import Store
from charsweep.core.system.console import out, span
from charsweep.core.system.hardware import find_card
from charsweep.engine.schedule import Schedule, schedule
from charsweep.plan import Plan, Speeds, cost, once_done, plan_work
from charsweep.plan.describe import describe_plan, reckon, refuse_too_much, seconds_to_stop
from charsweep.plan.workers import workers_of
from charsweep.study import check
from charsweep.study.find import before_ending
from charsweep.study.stages import at_most

MANY = 1_000_000  # workers: more than there are units


def show_plan(sweep: Sweep) -> None:
    """Print what would be done, reused and paid; writes nothing."""
    check(sweep)
    store = Store(sweep.root)
    plan = plan_work(sweep.cells, store)
    workers = workers_of(sweep)
    out(describe_plan(sweep, reckon_whole(sweep, store, plan, workers)))
    if numbers := sweep.settings.plan.workers:
        plans = [own for _, own in stages_of(sweep, store)] if sweep.settings.find else [plan]
        for line in compared(plans, Speeds(store), numbers, sweep.settings.plan.price):
            out(line)
    card = find_card(sweep.settings.runtime.device)
    if card and card.device != "cpu":  # on a machine without one, plans are made for another
        asked = plan if sweep.cells else plan_work(sweep.examples, store)
        refuse_too_much(sweep, store, asked, workers)


def reckon_whole(sweep: Sweep, store: Store, plan: Plan, workers: int) -> dict[str, Any]:
    """The plan in numbers; of a search in stages, the worst that may come, stage by stage.

    ConfigError if not even its first stage keeps to the budget.
    """
    if sweep.settings.find is None:
        return reckon(sweep, store, plan, workers)
    stages: list[dict[str, Any]] = []
    for over, own in stages_of(sweep, store):
        numbers = cost.summary(own, store, sweep.bases, workers)
        stages.append({"over": over, **numbers})
        if len(stages) == 1:
            refuse_too_dear(sweep, numbers)
    total = cost.total(stages)
    to_stop = seconds_to_stop(sweep, store, plan, total["cells"])
    return {**total, "stages": stages, "seconds_to_stop": to_stop}


def stages_of(sweep: Sweep, store: Store) -> Iterator[tuple[str, Plan]]:
    """Of a search in stages the worst that may come: what each is over, and what is left to do."""
    assert sweep.settings.find is not None
    plans: list[Plan] = []
    for stage in at_most(sweep.settings.find, start_of(sweep.settings)):
        varied = ({n: v for n, v in values.items() if n in sweep.axes} for values in stage.cells)
        whole = plan_work([sweep.cell_at(values) for values in varied], store)
        plans.append(once_done(whole, plans))
        yield stage.over, plans[-1]


def refuse_too_dear(sweep: Sweep, first: Mapping[str, Any]) -> None:
    """ConfigError if the first stage alone takes more than the budget."""
    find = sweep.settings.find
    assert find is not None
    if find.seconds is None or first["seconds"] <= before_ending(find.seconds):
        return
    guess = f", by a guess for {first['guessed_for']}" if first["guessed_for"] else ""
    needed = int(first["seconds"] / 54) + 1  # minutes, with a tenth for the report
    raise ConfigError(
        f"find.budget={find.budget}: {span(find.seconds)} are too little for the first stage, "
        f"which takes about {span(first['seconds'])}{guess}; give find.budget={needed}min or "
        "more, or fewer find.rates, find.steps or exam.seeds"
    )


def seconds_for(sweep: Sweep, store: Store, workers: int, cells: Sequence[Cell]) -> float:
    """What is missing of some cells, in seconds; 0 where nothing is."""
    plan = plan_work(cells, store)
    if plan.is_done:
        return 0.0
    return float(cost.summary(plan, store, sweep.bases, workers)["seconds"])


# -- more workers or fewer -------------------------------------------------------------------------


def compared(
    plans: Sequence[Plan], speeds: Speeds, numbers: Sequence[int], price: float | None
) -> Iterator[str]:
    """What plans, one after the other, take so many workers, and what no worker can shorten."""
    if all(plan.is_done for plan in plans):
        yield "  workers       nothing is left for them to do"
        return
    paid = "" if price is None else f"{'cost':>12}"
    yield f"  {'workers':<13} {'time':<14}{paid}{'at work':>10}"
    for number in numbers:
        each = [schedule(plan, speeds, number) for plan in plans]
        seconds, needed = (sum(getattr(one, n) for one in each) for n in ("seconds", "needed"))
        rented = number * seconds
        paid = "" if price is None else f"{price * rented / 3600:>12,.2f}"
        yield f"  {number:<13,} {span(seconds):<14}{paid}{needed / rented:>10.0%}"
    most = [schedule(plan, speeds, MANY) for plan in plans]
    seconds, needed = (sum(getattr(one, n) for one in most) for n in ("seconds", "needed"))
    longest = max(most, key=lambda one: one.longest_seconds)
    yield f"  at least      {span(seconds)}, however many work; {in_one_piece(longest)}"
    yield f"  more          than {math.ceil(needed / seconds):,} workers cannot help"


def in_one_piece(found: Schedule) -> str:
    """The longest unit of training, and how it would be shorter."""
    if found.longest is None:
        return "an image set is drawn by one of them"
    pack = found.longest.pack
    alone, took = len(pack.trainings) == 1, span(found.longest_seconds)
    what = "a trajectory is" if alone else f"{len(pack.trainings)} trajectories in a pass are"
    apart = "" if alone else "; with pack=1 each would be by itself, as another result"
    return f"{what} trained by one of them, {took}{apart}"
