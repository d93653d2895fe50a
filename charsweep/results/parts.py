"""Parts of a record: sub-sweeps, cells that compare; several records joined into one. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from charsweep.core.keys import canonical_json
from charsweep.results.cells import CellResult
from charsweep.results.labels import listing
from charsweep.results.records import (
    CharacterRecord,
    LossCurve,
    Record,
    SweepRecord,
    Value,
    agreed_values,
    in_grid_order,
    of_trajectories,
    varied_axes,
)
from charsweep.results.unlike import fits, unlike

SWEEP = "sweep"  # the axis that tells sweeps apart


def parts_of(whole: Record) -> Record:
    """The record with a part for every sub-sweep that sweep.json names and that has cells; one
    whose cells do not compare with each other is several."""
    made = [restricted(whole, sweep) for sweep in whole.sweep.parts]
    parts = [exam for part in made for exam in by_exam(part, whole.sweep.exams)]
    if not whole.sweep.parts and whole.sweep.exams:
        parts = by_exam(whole, whole.sweep.exams)
    return replace(whole, parts=tuple(part for part in parts if part.cells))


def by_exam(record: Record, exams: Sequence[SweepRecord]) -> list[Record]:
    """A record for the cells of each exam, with its references; itself where all is one exam."""
    if not exams:
        return [record]
    cells_of = [
        frozenset(cell.cell for cell in record.cells if fits(cell.judged_by, exam.judged_by))
        for exam in exams
    ]
    known = [pair for pair in zip(exams, cells_of, strict=True) if pair[1]]
    is_part = record.sweep.name != record.sweep.folder
    made = []
    for exam, cells in known:
        names = [record.sweep.name] if is_part else []
        names += [exam.name] if len(known) > 1 or not is_part else []
        axes = _axes_of(record, cells)
        sweep = replace(
            record.sweep, axes=axes, name="/".join(names), character=exam.character,
            prompts=exam.prompts, seeds=exam.seeds, bases=exam.bases, truth=exam.truth,
            real=exam.real, judged_by=exam.judged_by, cells=cells, exams=(), parts=(),
        )  # fmt: skip
        made.append(restricted(record, sweep))
    return made


def _axes_of(record: Record, cells: Set[str]) -> dict[str, tuple[Value, ...]]:
    """The declared values of axes but those that only other cells have."""
    own = [cell.values for cell in record.cells if cell.cell in cells]
    others = [cell.values for cell in record.cells if cell.cell not in cells]
    return {
        axis: tuple(
            value
            for value in values
            if any(one.get(axis) == value for one in own)
            or not any(one.get(axis) == value for one in others)
        )
        for axis, values in record.sweep.axes.items()
    }


def comparable(record: Record) -> Sequence[Record]:
    """Of a record whose cells do not all compare: the cells that do, as far as is known."""
    return by_exam(record, record.sweep.exams) if record.sweep.exams else record.parts


def of_exams(sweep: SweepRecord, exams: Sequence[SweepRecord]) -> SweepRecord:
    """A sweep whose cells do not all compare: its characters, no exam and no references."""
    return replace(sweep, exams=tuple(exams), **uncommon(exams))


def uncommon(sweeps: Sequence[SweepRecord]) -> dict[str, Any]:
    """What is said of all where they do not compare."""
    character = joint_character([sweep.character for sweep in sweeps])
    return {"character": character, "prompts": (), "seeds": (), "truth": None, "real": {},
            "bases": {}}  # fmt: skip


def restricted(whole: Record, sweep: SweepRecord) -> Record:
    """One sub-sweep as a record of its own: its axes, its cells and their losses."""
    own = tuple(cell for cell in whole.cells if cell.cell in sweep.cells)
    axes, members = varied_axes(sweep.axes, own), of_trajectories(own)
    curves = tuple(
        cut(curve, members[curve.trajectory], tuple(axes))
        for curve in whole.curves
        if curve.trajectory in members
    )
    return Record(sweep, in_grid_order(axes, own), axes, curves, whole.store, votes=whole.votes)


def cut(curve: LossCurve, cells: Sequence[CellResult], axes: Sequence[str]) -> LossCurve:
    """A curve up to the last step that these cells ask for."""
    last = max(cell.step for cell in cells)
    end = sum(step <= last for step in curve.steps)
    losses = curve.losses[:end]
    return replace(
        curve,
        values=agreed_values(cells, axes),
        steps=curve.steps[:end],
        losses=losses,
        diverged=not all(map(math.isfinite, losses[-1:]))
        or any(cell.state == "diverged" for cell in cells),
        shares={name: share[:end] for name, share in curve.shares.items()},
    )


# -- several sweeps --------------------------------------------------------------------------------


def together(name: str, records: Sequence[Record], store: Path) -> Record:
    """Several sweeps as one record whose parts they are; a cell that two share counts once.

    Where cells do not compare, or two that are not the same have the same values (their sweeps hold
    something else at another value), the sweep is one more axis: no table takes them for one.
    """
    assert records
    cells = tuple({cell.cell: cell for record in records for cell in record.cells}.values())
    declared: dict[str, tuple[Any, ...]] = {}
    for record in records:
        for axis, values in record.sweep.axes.items():
            declared[axis] = (*declared.get(axis, ()), *values)
    parts = tuple(part for record in records for part in named_parts(record))
    told = unlike(Record(records[0].sweep, cells, {}, (), store, parts=parts))
    places = {canonical_json(cell.values) for cell in cells}
    if told or len(places) < len(cells):
        sweeps = {cell.cell: one.sweep.name for one in reversed(records) for cell in one.cells}
        cells = tuple(
            replace(cell, values={SWEEP: sweeps[cell.cell], **cell.values}) for cell in cells
        )
        declared = {SWEEP: tuple(record.sweep.name for record in records), **declared}
    axes = varied_axes(declared, cells)
    # The longest of each wins: a longer sweep saw more of the same trajectory.
    all_curves = [curve for record in records for curve in record.curves]
    by_length = sorted(all_curves, key=lambda curve: len(curve.steps))
    curves = {curve.trajectory: curve for curve in by_length}
    members = of_trajectories(cells)
    return Record(
        sweep=joint_sweep(name, [record.sweep for record in records], compares=not told),
        cells=in_grid_order(axes, cells),
        axes=axes,
        curves=tuple(cut(curve, members[key], tuple(axes)) for key, curve in curves.items()),
        store=store,
        notes=(
            *told,
            *(f"{record.sweep.name}: {note}" for record in records for note in record.notes),
        ),
        parts=parts,
        votes=tuple({vote.id: vote for record in records for vote in record.votes}.values()),
    )


def named_parts(record: Record) -> tuple[Record, ...]:
    """A sweep as a part; one that is itself a union brings its own parts, under its name."""
    if not record.parts:
        return (record,)
    return tuple(
        replace(part, sweep=replace(part.sweep, name=f"{record.sweep.name}/{part.sweep.name}"))
        for part in record.parts
    )


def joint_sweep(name: str, sweeps: Sequence[SweepRecord], compares: bool) -> SweepRecord:
    """What the sweeps have in common, and the first one's where only one can be shown.

    Of sweeps that do not compare, no exam and no references; of characters, all.
    """
    first = sweeps[0]
    bases = {base: ref for sweep in reversed(sweeps) for base, ref in sweep.bases.items()}
    ended = [sweep.finished for sweep in sweeps]
    return replace(
        replace(first, bases=bases) if compares else replace(first, **uncommon(sweeps)),
        name=name,
        question=" ".join(dict.fromkeys(sweep.question for sweep in sweeps if sweep.question)),
        command="\n".join(dict.fromkeys(sweep.command for sweep in sweeps if sweep.command)),
        started=min((sweep.started for sweep in sweeps if sweep.started), default=None),
        finished=max(filter(None, ended)) if all(ended) else None,
        axes={},
        ranges={axis: range_ for sweep in sweeps for axis, range_ in sweep.ranges.items()},
        fixed=shared([sweep.fixed for sweep in sweeps]),
        settings={sweep.name: sweep.settings for sweep in sweeps},
        metrics=tuple(dict.fromkeys(metric for sweep in sweeps for metric in sweep.metrics)),
        plan=joint_plan([sweep.plan for sweep in sweeps]),
        parts=(),
        exams=(),
        search={},
        importance={},
        energy=joint_energy([sweep.energy for sweep in sweeps]),
        folder="",
    )


def joint_character(characters: Sequence[CharacterRecord]) -> CharacterRecord:
    """All training images, each once, and whom they show."""
    captioned = {path: text for one in reversed(characters) for path, text in one.captioned}
    nouns = {one.class_noun for one in characters}
    names = dict.fromkeys(one.identifier or one.name for one in characters)
    return CharacterRecord(
        name=characters[0].name,
        identifier=listing([name for name in names if name] or ["the character"]),
        class_noun=nouns.pop() if len(nouns) == 1 else "",
        images=tuple(captioned),
        captions=tuple(captioned.values()),
    )


def shared(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all of them say alike."""
    first, *others = settings
    return {
        name: value for name, value in first.items() if all(o.get(name) == value for o in others)
    }


def joint_plan(plans: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Steps, images, seconds and bytes add up; cells do not, because sweeps may share some."""
    names = ("steps_asked", "steps_needed", "images", "seconds", "bytes")
    known = {n: [p[n] for p in plans if isinstance(p.get(n), int | float)] for n in names}
    return {name: sum(own) for name, own in known.items() if len(own) == len(plans)}


def joint_energy(energies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Energies add up; measured only if all were."""
    known = [energy for energy in energies if energy]
    if not known:
        return {}
    sums = {
        name: sum(energy.get(name, 0.0) for energy in known)
        for name in ("kwh", "co2_kg", "saved_kwh")
    }
    return {**known[0], **sums, "measured": all(energy.get("measured") for energy in known)}
