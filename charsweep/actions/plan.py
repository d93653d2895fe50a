"""`action=plan`: what a sweep would cost, before paying."""

from __future__ import annotations

from charsweep.config import Sweep
from charsweep.core.store import Store
from charsweep.core.system.console import out
from charsweep.core.system.hardware import find_card
from charsweep.plan import plan_work
from charsweep.plan.describe import describe_plan, reckon, refuse_too_much
from charsweep.study import check


def show_plan(sweep: Sweep) -> None:
    """Print what would be done, reused and paid; writes nothing."""
    check(sweep)
    store = Store(sweep.root)
    plan = plan_work(sweep.cells, store, sweep.truth)
    out(describe_plan(sweep, reckon(sweep, store, plan)))
    card = find_card(sweep.settings.runtime.device)
    if card and card.device != "cpu":  # on a machine without one, plans are made for another
        asked = plan if sweep.cells else plan_work(sweep.examples, store, sweep.truth)
        refuse_too_much(sweep, store, asked)
