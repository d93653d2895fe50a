"""Reading of a sweep's files into a `Record`: what was asked, every cell, every loss curve.

The report never looks at a raw dictionary past this file. Files that a run has not written yet
count as empty; files that are there and cannot be read are a StoreError that names them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from charsweep.core.errors import StoreError
from charsweep.core.store.files import inside
from charsweep.core.store.losses import LossRow, read_losses
from charsweep.results.cells import CellResult, read_results
from charsweep.results.parts import cut, of_exams, parts_of
from charsweep.results.points import STRENGTH
from charsweep.results.records import (
    CharacterRecord,
    LossCurve,
    Objective,
    Record,
    Reference,
    SampledRange,
    SweepRecord,
    Value,
    hashable,
    in_grid_order,
    of_trajectories,
    varied_axes,
)
from charsweep.results.unlike import fits
from charsweep.results.votes import FILE, Votes

REBUILD = "Run the sweep's command again to have it rewritten from the store."
UNREADABLE = (TypeError, ValueError, KeyError, AttributeError)


def load_record(sweep_folder: Path, store: Path) -> Record:
    """Read everything a report shows except pixels."""
    record = load_cells(sweep_folder, store)
    curves, notes = read_curves(store, record.cells, tuple(record.axes))
    return parts_of(replace(record, curves=curves, notes=(*record.notes, *notes)))


def load_cells(sweep_folder: Path, store: Path) -> Record:
    """The same without losses: enough to compare cells by.

    Cells that an earlier command had judged by another exam are left out, and that is said.
    """
    sweep = read_sweep(sweep_folder / "sweep.json")
    results = read_results(sweep_folder / "cells.jsonl").values()
    plain = [
        replace(result, values={axis: hashable(value) for axis, value in result.values.items()})
        for result in results
    ]
    own = with_strength([cell for cell in plain if fits(cell.judged_by, sweep.judged_by)])
    axes = varied_axes(sweep.axes, own)
    notes = (left_out(len(plain) - len(own)),) if len(own) < len(plain) else ()
    votes = Votes(sweep_folder / FILE).read()
    return parts_of(Record(sweep, in_grid_order(axes, own), axes, (), store, notes, votes=votes))


def with_strength(cells: Sequence[CellResult]) -> list[CellResult]:
    """Cells that compare along strength where it is an axis: those of a command before it was one
    were drawn at 1."""
    if not any(STRENGTH in cell.values for cell in cells):
        return list(cells)
    return [
        replace(cell, values={**cell.values, STRENGTH: 1})
        if cell.base and STRENGTH not in cell.values
        else cell
        for cell in cells
    ]


def left_out(count: int) -> str:
    """That cells of an earlier exam are not shown, and what would show them."""
    cells, they = ("cells", "they are") if count > 1 else ("cell", "it is")
    return (
        f"Left out: {count} {cells} that an earlier command had judged by another exam, other "
        f"drawings or encoders; {they} in cells.csv. A command that asks for {cells} of these "
        "values judges them anew."
    )


def read_sweep(path: Path) -> SweepRecord:
    """Parse sweep.json; only its name is required."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(
            f"There is no sweep in {path.parent}: it holds no sweep.json. "
            "Give the folder of a sweep that was started, such as sweeps/lr_grid."
        ) from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read as JSON ({error}). {REBUILD}") from error
    try:
        sweep = _parse_sweep(raw)
        exams = tuple(_parse_exam(raw, exam) for exam in raw.get("exams") or ())
        return of_exams(sweep, exams) if exams else sweep
    except UNREADABLE as error:
        raise StoreError(
            f"{path} is not what a sweep writes ({type(error).__name__}: {error}). {REBUILD}"
        ) from error


def _parse_sweep(raw: Mapping[str, Any]) -> SweepRecord:
    references = raw.get("references") or {}
    truth = references.get("truth")
    bases = {name: ref for name, ref in (references.get("base") or {}).items() if ref}
    exam = raw.get("exam") or {}
    importance = {str(m): _numbers(known) for m, known in (raw.get("importance") or {}).items()}
    return SweepRecord(
        name=str(raw["name"]),
        question=str(raw.get("question") or ""),
        command=str(raw.get("command") or ""),
        started=raw.get("started"),
        finished=raw.get("finished"),
        axes=_parse_axes(raw),
        ranges=_parse_ranges(raw),
        fixed=dict(raw.get("fixed") or {}),
        settings=dict(raw.get("settings") or {}),
        objectives=tuple(
            Objective(
                str(objective["metric"]), objective.get("direction", "maximize") != "minimize"
            )
            for objective in raw.get("objectives") or []
        ),
        metrics=tuple(str(metric) for metric in raw.get("metrics") or []),
        character=_parse_character(raw.get("character") or {}),
        prompts=tuple(str(prompt) for prompt in exam.get("prompts") or []),
        seeds=tuple(int(seed) for seed in exam.get("seeds") or []),
        bases={str(name): _parse_reference(reference) for name, reference in bases.items()},
        truth=_parse_reference(truth) if truth else None,
        real=_numbers(references.get("real")),
        plan=dict(raw.get("plan") or {}),
        environment=dict(raw.get("environment") or {}),
        parts=tuple(_parse_part(raw, *part) for part in (raw.get("parts") or {}).items()),
        cells=frozenset(str(cell) for cell in raw.get("cells") or []),
        search=dict(raw.get("search") or {}),
        importance={metric: shares for metric, shares in importance.items() if shares},
        energy=dict(raw.get("energy") or {}),
        stages=tuple(map(dict, raw.get("stages") or ())),
        judged_by=tuple(map(dict, raw.get("judged_by") or ())),
        folder=str(raw["name"]),
        sources=frozenset((raw.get("needs") or {}).get("sources") or ()),
    )


def _parse_axes(raw: Mapping[str, Any]) -> dict[str, tuple[Value, ...]]:
    """Listed values; an axis that is a range lists none."""
    axes = dict(raw.get("axes") or {})
    return {str(n): tuple(v) if isinstance(v, list) else () for n, v in axes.items()}


def _parse_ranges(raw: Mapping[str, Any]) -> dict[str, SampledRange]:
    return {
        str(name): SampledRange(
            float(range_["low"]), float(range_["high"]), bool(range_.get("log"))
        )
        for name, range_ in dict(raw.get("axes") or {}).items()
        if isinstance(range_, dict) and "low" in range_ and "high" in range_
    }


def _parse_part(raw: Mapping[str, Any], name: str, part: Mapping[str, Any]) -> SweepRecord:
    """A sub-sweep, always a grid; what it does not say of itself is as in the whole."""
    own = dict.fromkeys(("question", "axes", "fixed", "parts", "search", "stages", "importance"))
    return replace(_parse_sweep({**raw, **own, **part, "name": name}), folder=str(raw["name"]))


def _parse_exam(raw: Mapping[str, Any], exam: Mapping[str, Any]) -> SweepRecord:
    """The cells of a sweep that compare; what is not said of them is as in the whole."""
    own = {**exam, "judged_by": [exam["judged_by"]], "parts": {}, "exams": []}
    return replace(_parse_sweep({**raw, **own}), folder=str(raw["name"]))


def _parse_character(raw: Mapping[str, Any]) -> CharacterRecord:
    return CharacterRecord(
        name=str(raw.get("name") or ""),
        identifier=str(raw.get("identifier") or ""),
        class_noun=str(raw.get("class_noun") or ""),
        images=tuple(Path(image) for image in raw.get("images") or []),
        captions=tuple(str(caption) for caption in raw.get("captions") or []),
    )


def _parse_reference(raw: Mapping[str, Any]) -> Reference:
    measured = dict(raw.get("measured") or {})
    return Reference(_numbers(raw.get("scores")), raw.get("images"), measured)


def _numbers(raw: Mapping[str, Any] | None) -> dict[str, float]:
    """Only the entries that hold a finite number."""
    return {
        str(name): float(value)
        for name, value in (raw or {}).items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def read_curves(
    store: Path, cells: Sequence[CellResult], axes: Sequence[str]
) -> tuple[tuple[LossCurve, ...], list[str]]:
    """The loss.csv of every trajectory the cells lie on, cut at the last step they ask for."""
    curves: list[LossCurve] = []
    notes: list[str] = []
    for trajectory, members in of_trajectories(cells).items():
        path = inside(store, trajectory) / "loss.csv"
        try:
            rows = read_losses(path, max(cell.step for cell in members))
        except StoreError as error:
            notes.append(f"The loss curve of {trajectory} cannot be read: {error}.")
            continue
        if not path.exists():
            # what was trained has one, and no folder of its own what was composed
            if any(c.train_seconds is not None and c.trainings == 1 for c in members):
                notes.append(f"No loss curve for {trajectory}: it has no loss.csv.")
            continue
        curves.append(cut(curve_of(trajectory, rows), members, axes))
    return tuple(curves), notes


def curve_of(trajectory: str, rows: Sequence[LossRow]) -> LossCurve:
    """All losses of a trajectory, and of each network that has its own."""
    names = rows[0].parts if rows else ()
    return LossCurve(
        trajectory=trajectory,
        steps=tuple(row.step for row in rows),
        losses=tuple(row.loss for row in rows),
        shares={  # loss_discriminator -> "discriminator"
            name.removeprefix("loss_").replace("_", " "): tuple(row.parts[name] for row in rows)
            for name in names
        },
    )
