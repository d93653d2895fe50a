"""Plain lines about a record: what was asked, what failed, how it ran.

Pure, and the same lines for the page, the PDF and the Markdown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from charsweep.core.specs import ADAPTER
from charsweep.core.system.console import span
from charsweep.results.cells import CellResult
from charsweep.results.labels import (
    axis_label,
    bytes_text,
    encoder_label,
    listing,
    metric_label,
    point_text,
    value_text,
)
from charsweep.results.records import Record, SampledRange
from charsweep.results.verdict import objectives_of

Lines = list[tuple[str, str]]  # label, text


def state_line(record: Record) -> str:
    """How far the sweep has come."""
    ended, planned = len(record.cells), record.sweep.plan.get("cells")
    total = max(ended, planned) if isinstance(planned, int) else ended
    if record.sweep.finished and ended == total:
        return f"{total} cells, finished {when(record.sweep.finished)}"
    return f"not finished: {ended} of {total} cells have ended; run the same command to go on"


def when(stamp: str) -> str:
    """2026-11-22T17:30:00+00:00 -> "2026-11-22 17:30 +00:00"."""
    date, _, time = stamp.partition("T")
    return f"{date} {time[:5]} {time[8:][-6:]}".strip() if time else stamp


def asked(record: Record) -> Lines:
    """What varies and what is held, each in a line."""
    lines = []
    for axis, values in record.axes.items():
        searched = record.sweep.ranges.get(axis)
        if searched:
            lines.append((axis_label(axis), range_text(axis, searched)))
            continue
        texts = [value_text(axis, value) for value in values]
        if len(texts) > 24:
            texts = [*texts[:11], "…", *texts[-2:]]
        lines.append((axis_label(axis), ", ".join(texts)))
    if record.sweep.search:
        lines.append(("search", search_text(record.sweep.search)))
        if (repeatable := record.sweep.search.get("repeatable")) is not None:
            lines.append(("repeatable", REPEATABLE if repeatable else NOT_REPEATABLE))
    lines += stages(record)
    held = {
        axis: value
        for axis, value in record.sweep.fixed.items()
        if axis not in record.axes and isinstance(value, str | int | float | bool | None)
    }
    if held:
        texts = [f"{axis} = {value_text(axis, value)}" for axis, value in held.items()]
        lines.append(("held fixed", ", ".join(texts)))
    objectives = [
        f"{metric_label(o.metric).short} ({'maximised' if o.maximize else 'minimised'})"
        for o in objectives_of(record)
    ]
    lines.append(("objectives", ", ".join(objectives)))
    return [*lines, *judged_by(record)]


def stages(record: Record) -> Lines:
    """Of a search in stages: what was tried, one after the other, why no more was, what was not."""
    lines = []
    budget = (record.sweep.settings.get("find") or {}).get("budget")
    for stage in record.sweep.stages:
        label = OVER.get(stage["over"], stage["over"])
        lines.append((f"stage: {label}", stage_text(stage, budget)))
    return lines


def stage_text(stage: Mapping[str, Any], budget: str | None) -> str:
    """What a stage tried, or why no more was tried, and what of it was given up."""
    text, left, known = str(stage["text"]), stage["left"], len(stage["cells"])
    if left and not known:
        return f"given up: {text}, as the budget of {budget} was spent"
    if left:
        return f"{text}; {left} of {known + left} given up, as the budget of {budget} was spent"
    return text


OVER = {
    "lr": "learning rate",
    "steps": "training steps",
    "inference_steps": "inference steps",
    "prior": "prior preservation",
}


def judged_by(record: Record) -> Lines:
    """By what identity and prompts were measured, per base, and metrics with other encoders."""
    lines: Lines = []
    for name, reference in record.sweep.bases.items():
        on = f" ({name})" if len(record.sweep.bases) > 1 else ""
        identity = reference.measured.get("identity") or {}
        prompt = reference.measured.get("prompt") or {}
        if identity:
            eye = encoder_label(identity.get("encoder", "dino"))
            lines.append((f"identity{on}", f"by {eye}, against {DRAWINGS[identity['drawings']]}"))
        if prompt:
            lines.append((f"prompt{on}", prompt_text(record, prompt)))
    if others := other_encoders(record):
        lines.append(("other encoders", ", ".join(others)))
    return lines


def other_encoders(record: Record) -> list[str]:
    """Metrics whose `encoder` is neither the usual one nor the one that they are named after."""
    found = []
    for name, settings in (record.sweep.settings.get("metric") or {}).items():
        encoder = settings.get("encoder", "")
        if encoder not in ("", "dino", "clip", name) and name not in ("identity", "prompt"):
            found.append(f"{metric_label(name).short} by {encoder_label(encoder)}")
    return found


DRAWINGS = {
    "held out": "the drawings held out of training",
    "training images": "the training images themselves: character.held_out keeps some out of it",
}


def prompt_text(record: Record, measured: Mapping[str, Any]) -> str:
    """Which attributes count, with how often they are named right, and which do not."""
    reader = encoder_label(measured.get("encoder", "clip"))
    known = measured.get("attributes") or {}
    counted = [f"{name} {share(found)}" for name, found in known.items() if found["counts"]]
    others = [f"{name} {share(found)}" for name, found in known.items() if not found["counts"]]
    texts = [f"by {listing(counted, most=9)} (named right by {reader})"] if counted else []
    texts += (
        [f"not by {listing(others, most=9)}, which {reader} cannot read here"] if others else []
    )
    if plain := measured.get("by_contrast"):
        all_of = len(plain) == len(record.sweep.prompts)
        which = "all prompts" if all_of else f"{len(plain)} of {len(record.sweep.prompts)} prompts"
        texts.append(f"{which} by plain contrast with the others, which is weaker")
    return "; ".join(texts)


def share(found: Mapping[str, Any]) -> str:
    """ "88 % on the base's images, 100 % on true ones"."""
    places = {"base": "the base's images", "truth": "true ones"}
    shares = [f"{found[name]:.0%} on {words}" for name, words in places.items() if name in found]
    return ", ".join(shares)


def range_text(axis: str, searched: SampledRange) -> str:
    """ "1e-5 to 1e-1, on a log scale"."""
    low, high = value_text(axis, searched.low), value_text(axis, searched.high)
    return f"{low} to {high}" + (", on a log scale" if searched.log else "")


REPEATABLE = (
    "yes: trials were asked for in batches, each of which had ended before the next, so the same "
    "command on an empty store tries the same ones"
)
NOT_REPEATABLE = (
    "no: trials were asked for whenever a worker was free, so which ones were tried depends on "
    "timing; each result by itself is repeatable. search.at_once=8, typed, or runtime.workers=1 "
    "asks in batches"
)


def search_text(search: Mapping[str, Any]) -> str:
    """ "tpe, trials 30"."""
    if search.get("name") == "find":
        return "in stages, each chosen by what the last has told"
    told = ("trials", "at_once") if search.get("repeatable", True) else ("trials",)
    rest = [f"{name} {search[name]}" for name in told if search.get(name)]
    return ", ".join([str(search.get("name") or search.get("sampler") or "adaptive"), *rest])


def failures(record: Record) -> list[tuple[str, str, str]]:
    """Label, state and reason of every cell without a result."""
    axes = tuple(record.axes)
    return [
        (point_text(cell.values, axes), cell.state, failure(cell) or "no reason was recorded")
        for cell in record.cells
        if not (cell.finished or cell.left)
    ]


def failure(cell: CellResult) -> str:
    """Why a cell has no result, as far as that was recorded; empty for one that has."""
    reason = cell.error or ""
    if cell.state != "diverged":
        return reason
    if ADAPTER in cell.values:
        return "its images are no numbers"
    at = f" at step {cell.diverged_at}" if cell.diverged_at is not None else ""
    if cell.trainings > 1:
        return "one of its adapters diverged, or its images are not finite"
    return f"the loss stopped being finite{at}" + (f": {reason}" if reason else "")


def how_it_ran(record: Record) -> Lines:
    """The plan and its cost, each in a line."""
    plan, cells = record.sweep.plan, record.cells
    lines: Lines = []
    if plan.get("steps_asked") and isinstance(plan.get("steps_needed"), int):
        asked_for, needed = plan["steps_asked"], plan["steps_needed"]
        saved = f", {asked_for / needed:.3g} times less" if asked_for > needed > 0 else ""
        text = f"{asked_for:,} asked by the cells, {needed:,} needed{saved}"
        if isinstance(plan.get("trajectories"), int):
            untrained = sum(plan.get(name) or 0 for name in ("adapters", "composed"))
            number = plan["trajectories"] - untrained
            text += f", on {count(number, 'trajectory', 'trajectories')}"
        lines.append(("training steps", text))
    if isinstance(plan.get("images"), int):
        lines.append(("pictures", f"{plan['images']:,} to draw"))
    workers = plan.get("workers") or 1
    estimates = [span(plan["seconds"])] if plan.get("seconds") is not None else []
    estimates += [f"{workers} workers"] if workers > 1 else []
    estimates += [bytes_text(plan["bytes"])] if plan.get("bytes") is not None else []
    lines.append(("planned cost", ", ".join(estimates)))
    if isinstance(memory := plan.get("memory"), Mapping):
        lines.append(("expected peak of memory", str(memory.get("text", ""))))
    alone = sum(cell.train_seconds or 0.0 for cell in cells)
    paid = sum(cell.paid_seconds for cell in cells)
    if alone:
        text = f"{span(paid)} paid, {span(alone)} if each cell ran alone"
        lines.append(("training time", text))
    lines += energy_lines(record.sweep.energy)
    lines.append(("started", when(record.sweep.started or "")))
    lines.append(("finished", when(record.sweep.finished or "")))
    lines.append(("machine", machine(record.sweep.environment)))
    return [(label, text) for label, text in lines if text]


def energy_lines(energy: Mapping[str, Any]) -> Lines:
    """Energy and CO₂ of the whole sweep, an estimate called one; what sharing work saved."""
    if not energy:
        return []
    how = "measured" if energy.get("measured") else "estimated"
    parts = []
    if isinstance(energy.get("kwh"), int | float):
        parts.append(small(energy["kwh"], "Wh"))
    if isinstance(energy.get("co2_kg"), int | float):
        where = f" (grid of {energy['country']})" if energy.get("country") else ""
        parts.append(f"{small(energy['co2_kg'], 'g')} CO₂{where}")
    if isinstance(energy.get("watts"), int | float):
        parts.append(f"at {energy['watts']:.3g} W")
    source = f"; source: {energy['source']}" if energy.get("source") else ""
    lines = [("energy", f"{how}: {', '.join(parts)}{source}")] if parts else []
    saved = energy.get("saved_kwh")
    if isinstance(saved, int | float) and saved > 0:
        lines.append(("energy saved", f"{how}: {small(saved, 'Wh')} by sharing work between cells"))
    return lines


def small(kilos: float, unit: str) -> str:
    """0.0123 kWh -> "12.3 Wh"."""
    return f"{kilos * 1000:.3g} {unit}" if kilos < 1 else f"{kilos:,.3g} k{unit}"


def machine(environment: Mapping[str, Any]) -> str:
    """Device, processor and threads in a line."""
    parts = [environment.get("device"), environment.get("processor")]
    if environment.get("threads"):
        parts.append(count(environment["threads"], "thread", "threads"))
    return ", ".join(str(part) for part in parts if part)


def count(number: int, singular: str, plural: str) -> str:
    """ "1 trajectory", "7 trajectories"."""
    return f"{number:,} {singular if number == 1 else plural}"
