"""Cells that do not compare: their scores are measured by other prompts, drawings, encoders. Pure.

Such cells have no verdict, rank, best score or untaught base in common. Every cell's result says by
what it is measured; where those of an earlier version do not, the settings of their sweeps tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from charsweep.core.encoders import OWN
from charsweep.results.cells import CellResult
from charsweep.results.labels import listing
from charsweep.results.points import which
from charsweep.results.records import Record, SweepRecord

WORDS = {
    "prompts": "the exam's prompts",
    "seeds": "the exam's seeds",
    "drawings": "the character's drawings",
}


def unlike(record: Record, cells: Sequence[CellResult] | None = None) -> tuple[str, ...]:
    """In what cells of a record, or all, do not compare, in sentences; () where they do."""
    chosen = [cell for cell in (record.cells if cells is None else cells) if cell.finished]
    if not all(cell.judged_by for cell in chosen):
        keys = {cell.cell for cell in chosen}
        own = [part.sweep for part in record.parts if any(c.cell in keys for c in part.cells)]
        return differences(own)
    told: dict[tuple[str, ...], list[str]] = {}
    for name in dict.fromkeys(name for cell in chosen for name in cell.judged_by):
        groups: dict[str, list[CellResult]] = {}
        for cell in chosen:
            if name in cell.judged_by:
                groups.setdefault(cell.judged_by[name], []).append(cell)
        if len(groups) > 1:
            names = tuple(name_of(record, own) for own in groups.values())
            told.setdefault(names, []).append(WORDS.get(name, name))
    return tuple(not_comparable(names, what) for names, what in told.items())


def groups(known: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """By what cells that compare are judged, all that they tell; one where all compare."""
    found: list[dict[str, str]] = []
    for own in known:
        if same := next((one for one in found if fits(own, [one])), None):
            same.update(own)
        else:
            found.append(dict(own))
    return found


def fits(own: Mapping[str, str], exams: Sequence[Mapping[str, str]]) -> bool:
    """Whether a cell is judged as one of these say, as far as both tell."""
    return not (own and exams) or any(
        all(one[name] == own[name] for name in own if name in one) for one in exams
    )


def name_of(record: Record, cells: Sequence[CellResult]) -> str:
    """The parts that hold these cells and no others, else the cells in few words."""
    keys = {cell.cell for cell in cells}
    parts = [
        part.sweep.name
        for part in record.parts
        if {c.cell for c in part.cells if c.finished} <= keys
    ]
    return listing(parts) if parts else which(record, cells)


def differences(sweeps: Sequence[SweepRecord]) -> tuple[str, ...]:
    """The same of whole sweeps, by their settings."""
    if not sweeps:
        return ()
    first = sweeps[0]
    asked: dict[str, list[Any]] = {
        "the exam's prompts and seeds": [(sweep.prompts, sweep.seeds) for sweep in sweeps],
        "the character and its drawings": [drawn_from(sweep) for sweep in sweeps],
        "the encoders that judge": [
            (sweep.settings.get("models") or {}).get("encoders") for sweep in sweeps
        ],
        "the settings of the metrics": [common_metrics(sweep, sweeps) for sweep in sweeps],
    }
    told: dict[tuple[str, ...], list[str]] = {}
    for what, values in asked.items():
        other = [sweep.name for sweep, own in zip(sweeps, values, strict=True) if own != values[0]]
        if other:
            told.setdefault((first.name, *other), []).append(what)
    return tuple(not_comparable(names, what) for names, what in told.items())


def not_comparable(names: Sequence[str], what: Sequence[str]) -> str:
    """ "Scores of a and b are not comparable: b differs from a in the exam's prompts."."""
    first, *others = names
    verb = "differ" if len(others) > 1 else "differs"
    return (
        f"Scores of {listing(names)} are not comparable: {listing(others)} {verb} from {first} in "
        f"{listing(what)}."
    )


def drawn_from(sweep: SweepRecord) -> tuple[Any, ...]:
    """What says which character was taught; where its files lie does not."""
    character = sweep.character
    return (
        character.name,
        character.identifier,
        character.captions,
        tuple(path.name for path in character.images),
    )


def common_metrics(sweep: SweepRecord, sweeps: Sequence[SweepRecord]) -> dict[str, Any]:
    """The settings of the metrics that all sweeps have; usual encoders stand in new ones alone."""
    own, *others = [one.settings.get("metric") or {} for one in (sweep, *sweeps)]
    return {
        name: {field: value for field, value in settings.items() if value not in OWN}
        for name, settings in own.items()
        if all(name in other for other in others)
    }
