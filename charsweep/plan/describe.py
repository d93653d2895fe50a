"""A plan in words, as the console shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from charsweep.config import Range, Sweep
from charsweep.core.store import Store
from charsweep.core.system.console import span
from charsweep.core.system.hardware import find_card
from charsweep.plan import cost, memory
from charsweep.plan.work import Plan


def describe(sweep: Sweep, numbers: Mapping[str, Any]) -> str:
    """The plan in a few lines."""
    stored = numbers["stored"]
    asked, needed = numbers["steps_asked"], numbers["steps_needed"]
    lines = [
        *_asked(sweep),
        f"  cells         {numbers['cells']} ({stored['cells']} stored already)",
        f"  trajectories  {numbers['trajectories']} ({stored['trajectories']} need no training)",
        f"  steps         {needed:,} to train; each cell alone would take {asked:,}",
        f"  packs         {_packs(numbers)}",
        f"  images        {numbers['images']:,} to draw, {numbers['scores']:,} scores to compute",
        f"  estimate      {span(numbers['seconds'])}{_guessed(numbers)}, "
        f"{numbers['bytes'] / 1e6:,.1f} MB",
        *_memory(numbers),
        *_energy(numbers),
    ]
    return "\n".join(lines) + _to_measure(sweep)


def describe_search(sweep: Sweep) -> str:
    """What an adaptive search may do: its cells are not known before they are chosen."""
    settings, search = sweep.settings, sweep.settings.search
    axis = sweep.axes.get("train_steps", (settings.train_steps,))
    longest = max(axis.values if isinstance(axis, Range) else axis)
    assert search.trials is not None
    lines = [
        *_asked(sweep),
        f"  search        {search.name}: {search.trials} trials, {search.at_once} at a time",
        f"  steps         at most {search.trials * longest:,}; what is stored is not trained again",
    ]
    if search.rungs:
        lines.append(f"  rungs         at {', '.join(map(str, search.rungs))} steps")
    return "\n".join(lines) + _to_measure(sweep)


def _asked(sweep: Sweep) -> list[str]:
    lines = [f"{sweep.name}: {sweep.settings.question}"]
    for part in sweep.parts:
        lines.append(f"  {part.name:<13} {len(part.cells)} cells: {part.question}")
    if not sweep.parts:
        axes = "; ".join(f"{name}: {_values(axis)}" for name, axis in sweep.axes.items())
        lines.append(f"  axes          {axes or 'none'}")
    return lines


def _values(axis: tuple[Any, ...] | Range) -> str:
    if not isinstance(axis, Range):
        return ", ".join(map(_short, axis))
    how = " (log)" if axis.log else f" in steps of {axis.step:g}" if axis.step else ""
    return f"{_short(axis.low)} to {_short(axis.high)}{how}"


def _guessed(numbers: Mapping[str, Any]) -> str:
    machine = numbers["guessed_for"]
    return f" (a guess for {machine}; not measured here yet)" if machine else ""


def _packs(numbers: Mapping[str, Any]) -> str:
    """ "7 trajectories, 8 at once: 1,000 passes; slots idle 12.5 %"."""
    packs = numbers["packs"]
    if not packs:
        return "none"
    together = [pack for pack in packs if pack["width"] > 1]
    alone = len(packs) - len(together)
    parts = [
        f"{pack['trajectories']} trajectories, {pack['width']} at once: {pack['passes']:,} passes"
        for pack in together
    ]
    if alone:
        parts.append(f"{alone} trained alone")
    return "; ".join(parts) + f"; slots idle {numbers['idle']:.1%}"


def _memory(numbers: Mapping[str, Any]) -> list[str]:
    """Where there is anything to do."""
    memory = numbers.get("memory")
    return [f"  memory        expected peak {memory['text']}"] if memory else []


def _energy(numbers: Mapping[str, Any]) -> list[str]:
    """Once the power of this machine is known."""
    if numbers["kwh"] is None:
        return []
    saved = numbers["kwh_alone"] - numbers["kwh"]
    return [f"  energy        about {kwh(numbers['kwh'])}; sharing saves about {kwh(saved)}"]


def kwh(energy: float) -> str:
    """An energy given in kWh, in words: "1.20 kWh", "3.4 Wh"."""
    return f"{energy:.2f} kWh" if energy >= 1 else f"{1000 * energy:.1f} Wh"


def _to_measure(sweep: Sweep) -> str:
    if not sweep.unmeasured:
        return ""
    return "\n  pack=auto      not measured here yet: reckoned one by one; a run measures it first"


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def describe_plan(sweep: Sweep, numbers: Mapping[str, Any]) -> str:
    """The plan in a few lines, of a grid or of a search."""
    return describe(sweep, numbers) if sweep.cells else describe_search(sweep)


def reckon(sweep: Sweep, store: Store, plan: Plan) -> dict[str, Any]:
    """The plan in numbers, its memory too."""
    works, place = memory_works(sweep, store, plan)
    return {
        **cost.summary(plan, store, dict(sweep.bases)),
        "memory": memory.summary(memory.needs_of(works, place), place.card),
    }


def refuse_too_much(sweep: Sweep, store: Store, plan: Plan) -> None:
    """ConfigError if what is missing cannot fit this machine's memory."""
    memory.refuse(*memory_works(sweep, store, plan), sweep.axes)


def memory_works(sweep: Sweep, store: Store, plan: Plan) -> tuple[list[memory.Work], memory.Place]:
    """What of a plan takes memory, and where."""
    runtime = sweep.settings.runtime
    place = memory.Place(sweep.bases, cost.Speeds(store), find_card(runtime.device))
    return memory.works_of(plan, place, runtime), place
