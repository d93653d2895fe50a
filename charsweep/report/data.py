"""A sweep's files in, frozen records out: what was asked, every cell, every loss curve.

The report never looks at a raw dictionary past this file. Files that a run has not written yet
count as empty; files that are there and cannot be read are a StoreError that names them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from charsweep.errors import StoreError

Value = str | int | float | bool | None  # of an axis
REBUILD = "Run the sweep's command again to have it rewritten from the store."


@dataclass(frozen=True)
class Objective:
    """A metric the study optimises, and which way."""

    metric: str
    maximize: bool


@dataclass(frozen=True)
class Reference:
    """Pictures that no cell drew (untaught base, truth): their scores and their image set."""

    scores: Mapping[str, float]
    images: str | None  # folder below the store


@dataclass(frozen=True)
class Character:
    """The drawings that teach the character."""

    name: str
    identifier: str
    class_noun: str
    images: tuple[Path, ...]
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Sweep:
    """sweep.json: the question, the grid, the exam, the references, how it was run."""

    name: str
    question: str
    command: str
    started: str | None
    finished: str | None
    axes: Mapping[str, tuple[Value, ...]]
    fixed: Mapping[str, Any]
    settings: Mapping[str, Any]
    objectives: tuple[Objective, ...]
    metrics: tuple[str, ...]
    character: Character
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    bases: Mapping[str, Reference]
    truth: Reference | None
    real: Mapping[str, float]  # the training images among themselves
    plan: Mapping[str, Any]
    environment: Mapping[str, Any]


@dataclass(frozen=True)
class CellRow:
    """One line of cells.jsonl; a number that does not apply is None."""

    cell: str
    state: str  # finished, diverged or failed
    trial: int | None
    values: Mapping[str, Value]
    base: str
    trajectory: str
    step: int | None
    images: str | None
    diverged_at: int | None
    error: str | None
    scores: Mapping[str, float]
    gains: Mapping[str, float]
    costs: Mapping[str, float]  # size_mb, train_seconds, paid_seconds, …

    @property
    def finished(self) -> bool:
        """Whether it was trained, drawn and scored."""
        return self.state == "finished"


@dataclass(frozen=True)
class LossCurve:
    """The losses of one trajectory as far as this sweep asked for it; the last may be NaN."""

    trajectory: str
    values: Mapping[str, Value]  # of the axes on which all its cells agree
    steps: tuple[int, ...]
    losses: tuple[float, ...]
    diverged: bool


@dataclass(frozen=True)
class Record:
    """All that a report is made from."""

    sweep: Sweep
    cells: tuple[CellRow, ...]
    axes: Mapping[str, tuple[Value, ...]]  # what truly varies, values in order
    curves: tuple[LossCurve, ...]
    store: Path
    notes: tuple[str, ...] = field(default=())  # what was missing or skipped

    @property
    def metrics(self) -> tuple[str, ...]:
        """The sweep's metrics and any other that a cell has, identity first."""
        seen = [metric for cell in self.cells for metric in cell.scores]
        known = dict.fromkeys([*self.sweep.metrics, *seen])
        return (
            *(metric for metric in METRIC_ORDER if metric in known),
            *(metric for metric in known if metric not in METRIC_ORDER),
        )


METRIC_ORDER = ("dino", "clip_i", "clip_t", "diversity", "copy", "quality_ratio")
COSTS = (
    "size_mb",
    "train_seconds",
    "paid_seconds",
    "seconds_per_step",
    "sample_seconds",
    "peak_memory_mb",
)


def load_record(sweep_folder: Path, store: Path) -> Record:
    """Read everything a report shows except pixels."""
    sweep = read_sweep(sweep_folder / "sweep.json")
    cells, notes = read_cells(sweep_folder / "cells.jsonl")
    axes = varied_axes(sweep.axes, cells)
    cells = tuple(sorted(cells, key=lambda cell: axis_position(axes, cell.values)))
    curves, missing = read_curves(store, cells, tuple(axes))
    return Record(sweep, cells, axes, curves, store, tuple(notes + missing))


def read_sweep(path: Path) -> Sweep:
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
        return _parse_sweep(raw)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise StoreError(
            f"{path} is not what a sweep writes ({type(error).__name__}: {error}). {REBUILD}"
        ) from error


def _parse_sweep(raw: Mapping[str, Any]) -> Sweep:
    references = raw.get("references") or {}
    truth = references.get("truth")
    bases = {name: ref for name, ref in (references.get("base") or {}).items() if ref}
    exam = raw.get("exam") or {}
    return Sweep(
        name=str(raw["name"]),
        question=str(raw.get("question") or ""),
        command=str(raw.get("command") or ""),
        started=raw.get("started"),
        finished=raw.get("finished"),
        axes={
            str(axis): tuple(values) if isinstance(values, list) else ()
            for axis, values in dict(raw.get("axes") or {}).items()
        },
        fixed=dict(raw.get("fixed") or {}),
        settings=dict(raw.get("settings") or {}),
        objectives=tuple(
            Objective(str(one["metric"]), one.get("direction", "maximize") != "minimize")
            for one in raw.get("objectives") or []
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
    )


def _parse_character(raw: Mapping[str, Any]) -> Character:
    return Character(
        name=str(raw.get("name") or ""),
        identifier=str(raw.get("identifier") or ""),
        class_noun=str(raw.get("class_noun") or ""),
        images=tuple(Path(image) for image in raw.get("images") or []),
        captions=tuple(str(caption) for caption in raw.get("captions") or []),
    )


def _parse_reference(raw: Mapping[str, Any]) -> Reference:
    return Reference(scores=_numbers(raw.get("scores")), images=raw.get("images"))


def _numbers(raw: Mapping[str, Any] | None) -> dict[str, float]:
    """Only the entries that hold a finite number."""
    return {
        str(name): float(value)
        for name, value in (raw or {}).items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def read_cells(path: Path) -> tuple[tuple[CellRow, ...], list[str]]:
    """Parse cells.jsonl; a last line cut short by a kill is left out with a note."""
    try:
        # Not splitlines(): it also splits at characters that may stand inside a JSON string.
        lines = path.read_text(encoding="utf-8", errors="replace").rstrip().split("\n")
    except FileNotFoundError:
        return (), []
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error}). Check its permissions.") from error
    cells: dict[str, CellRow] = {}
    notes: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = _parse_cell(json.loads(line))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            if number == len(lines):
                notes.append(f"The last line of {path.name} is cut short and was left out.")
                continue
            raise StoreError(
                f"Line {number} of {path} is not a cell ({type(error).__name__}: {error}). "
                f"{REBUILD}"
            ) from error
        cells[row.cell] = row
    return tuple(cells.values()), notes


def _parse_cell(raw: Mapping[str, Any]) -> CellRow:
    return CellRow(
        cell=str(raw["cell"]),
        state=str(raw["state"]),
        trial=raw.get("trial"),
        values=dict(raw["values"]),
        base=str(raw.get("base") or ""),
        trajectory=str(raw.get("trajectory") or ""),
        step=raw.get("step"),
        images=raw.get("images"),
        diverged_at=raw.get("diverged_at"),
        error=raw.get("error"),
        scores=_numbers(raw.get("scores")),
        gains=_numbers(raw.get("gains")),
        costs=_numbers({name: raw.get(name) for name in COSTS}),
    )


def varied_axes(
    declared: Mapping[str, Sequence[Value]], cells: Sequence[CellRow]
) -> dict[str, tuple[Value, ...]]:
    """The axes with more than one value, declared or seen; numbers in increasing order.

    A grid that grew since has cells whose values sweep.json does not list, and an adaptive sampler
    lists none at all. When nothing varies, the declared axes are kept, one value each.
    """
    names = dict.fromkeys([*declared, *(name for cell in cells for name in cell.values)])
    seen = {
        name: (*declared.get(name, ()), *(c.values[name] for c in cells if name in c.values))
        for name in names
    }
    distinct = {name: _in_order(values) for name, values in seen.items()}
    varied = {name: values for name, values in distinct.items() if len(values) > 1}
    return varied or {name: distinct[name] for name in declared if distinct[name]}


def _in_order(values: Sequence[Value]) -> tuple[Value, ...]:
    distinct = tuple(dict.fromkeys(_hashable(value) for value in values))
    if is_numeric(distinct):
        return tuple(sorted(distinct, key=lambda value: float(cast(float, value))))
    return distinct


def _hashable(value: Any) -> Value:
    return value if isinstance(value, str | int | float | bool | None) else json.dumps(value)


def is_numeric(values: Sequence[Value]) -> bool:
    """Whether every value is a number (true and false are not)."""
    return bool(values) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )


def axis_position(
    axes: Mapping[str, Sequence[Value]], values: Mapping[str, Value]
) -> tuple[int, ...]:
    """Where a cell lies in the grid, one index per axis; -1 where it has no such value."""
    return tuple(
        known.index(values[axis]) if axis in values and values[axis] in known else -1
        for axis, known in axes.items()
    )


def read_curves(
    store: Path, cells: Sequence[CellRow], axes: Sequence[str]
) -> tuple[tuple[LossCurve, ...], list[str]]:
    """The loss.csv of every trajectory the cells lie on, cut at the last step they ask for."""
    together: dict[str, list[CellRow]] = {}
    for cell in cells:
        if cell.trajectory:
            together.setdefault(cell.trajectory, []).append(cell)
    curves: list[LossCurve] = []
    notes: list[str] = []
    for trajectory, members in together.items():
        path = store / trajectory / "loss.csv"
        last = max((cell.step for cell in members if cell.step is not None), default=None)
        try:
            steps, losses = read_losses(path, last)
        except FileNotFoundError:
            if any(cell.state != "failed" for cell in members):
                notes.append(f"No loss curve for {trajectory}: it has no loss.csv.")
            continue
        except (OSError, ValueError) as error:
            notes.append(f"The loss curve of {trajectory} cannot be read: {error}.")
            continue
        values = {
            axis: members[0].values[axis]
            for axis in axes
            if len({_hashable(cell.values.get(axis)) for cell in members}) == 1
            and axis in members[0].values
        }
        ended = bool(losses) and not math.isfinite(losses[-1])
        diverged = ended or any(cell.state == "diverged" for cell in members)
        curves.append(LossCurve(trajectory, values, steps, losses, diverged))
    return tuple(curves), notes


def read_losses(path: Path, last: int | None) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The columns step and loss up to step `last`; a last row cut short is left out."""
    lines = path.read_text(encoding="utf-8").splitlines()
    columns = lines[0].split(",") if lines else []
    if "step" not in columns or "loss" not in columns:
        raise ValueError(f"{path} has no columns step and loss")
    step_at, loss_at = columns.index("step"), columns.index("loss")
    steps: list[int] = []
    losses: list[float] = []
    for number, line in enumerate(lines[1:], start=2):
        row = line.split(",")
        if len(row) < len(columns) and number == len(lines):
            break
        try:
            step, loss = int(row[step_at]), float(row[loss_at])
        except (ValueError, IndexError):
            raise ValueError(f"line {number} of {path} is {line!r}") from None
        if last is not None and step > last:
            break
        steps.append(step)
        losses.append(loss)
    return tuple(steps), tuple(losses)
