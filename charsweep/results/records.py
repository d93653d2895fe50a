"""What a report is made from, as frozen records: a sweep, its cells, its losses, its parts. Pure.

A part is a record like the whole, restricted to its own cells; several sweeps reported together
are a record whose parts are those sweeps. So everything drawn from a record can be drawn of a part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from charsweep.results.cells import COSTS, MADE, CellResult
from charsweep.results.votes import Vote

Item = TypeVar("Item")
Value = str | int | float | bool | None  # of an axis

METRIC_ORDER = (
    "score",
    "quality_ratio",
    "identity",
    "prompt",
    "leak",
    "drift",
    "flexibility",
    "together",
    "both",
    "swapped",
    "merged",
    "missing",
    "nearest",
    "dino",
    "dinov2",
    "dinov3",
    "ccip",
    "clip_i",
    "clip_t",
    "diversity",
    "copy",
    "colour",
)
MOST_BESIDE = 12  # values of a searched axis; past it no image per value is shown


@dataclass(frozen=True)
class Objective:
    """A metric the study optimises, and which way."""

    metric: str
    maximize: bool


@dataclass(frozen=True)
class Reference:
    """Images that no cell drew (untaught base, truth): their scores and their image set."""

    scores: Mapping[str, float]
    images: str | None  # folder below the store
    measured: Mapping[str, Any] = field(default_factory=dict)  # by which drawings, which attributes


@dataclass(frozen=True)
class CharacterRecord:
    """The training images of the character."""

    name: str
    identifier: str
    class_noun: str
    images: tuple[Path, ...]
    captions: tuple[str, ...]

    @property
    def captioned(self) -> list[tuple[Path, str]]:
        """Each image with its caption, or none."""
        captions = [*self.captions, *[""] * len(self.images)]
        return list(zip(self.images, captions, strict=False))


@dataclass(frozen=True)
class SampledRange:
    """An axis that a sampler chooses from freely, instead of a list of values."""

    low: float
    high: float
    log: bool


@dataclass(frozen=True)
class SweepRecord:
    """sweep.json: the question, the grid, the exam, the references, how it was run."""

    name: str
    question: str
    command: str
    started: str | None
    finished: str | None
    axes: Mapping[str, tuple[Value, ...]]
    ranges: Mapping[str, SampledRange]
    fixed: Mapping[str, Any]
    settings: Mapping[str, Any]
    objectives: tuple[Objective, ...]
    metrics: tuple[str, ...]
    character: CharacterRecord
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    bases: Mapping[str, Reference]
    truth: Reference | None
    real: Mapping[str, float]  # the training images among themselves
    plan: Mapping[str, Any]
    environment: Mapping[str, Any]
    parts: tuple[SweepRecord, ...] = ()  # sub-sweeps
    cells: frozenset[str] = frozenset()  # of a sub-sweep: which are its own
    search: Mapping[str, Any] = field(default_factory=dict)  # sampler, trials; empty for a grid
    importance: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # metric -> axis
    energy: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[Mapping[str, Any], ...] = ()  # of a search in stages, as it recorded them
    judged_by: tuple[Mapping[str, str], ...] = ()  # by what its cells are measured, see CellResult
    exams: tuple[SweepRecord, ...] = ()  # of cells that do not compare: each with its character
    folder: str = ""  # the sweep that was run: of a part, the whole; of several together, none
    sources: frozenset[str] = frozenset()  # keys of its trajectories and bases


@dataclass(frozen=True)
class LossCurve:
    """The losses of one trajectory as far as this sweep asked for it; the last may be NaN."""

    trajectory: str
    steps: tuple[int, ...]
    losses: tuple[float, ...]
    shares: Mapping[str, tuple[float, ...]]  # "discriminator": …
    values: Mapping[str, Value] = field(default_factory=dict)  # on which all its cells agree
    diverged: bool = False


@dataclass(frozen=True)
class Record:
    """All that a report is made from."""

    sweep: SweepRecord
    cells: tuple[CellResult, ...]
    axes: Mapping[str, tuple[Value, ...]]  # what truly varies, values in order
    curves: tuple[LossCurve, ...]
    store: Path
    notes: tuple[str, ...] = field(default=())  # what was missing or skipped
    parts: tuple[Record, ...] = field(default=())
    votes: tuple[Vote, ...] = ()  # of people, on whatever image sets

    @property
    def metrics(self) -> tuple[str, ...]:
        """The sweep's metrics and any other that a cell has, identity first."""
        seen = [m for cell in self.cells for m, score in cell.scores.items() if score is not None]
        known = dict.fromkeys([*self.sweep.metrics, *seen])
        return (
            *(metric for metric in METRIC_ORDER if metric in known),
            *(metric for metric in known if metric not in METRIC_ORDER),
        )

    @property
    def made(self) -> tuple[str, ...]:
        """What any adapter from elsewhere says of its making, unless it is an axis."""
        told = {name for cell in self.cells for name in cell.made}
        told -= {"steps"} if "train_steps" in self.axes else set()
        return tuple(name for name in MADE if name in told)

    @property
    def costs(self) -> tuple[str, ...]:
        """The sizes, times and energies that any cell has."""
        return tuple(n for n in COSTS if any(cell.cost(n) is not None for cell in self.cells))

    def part_of(self, cell: CellResult) -> Record:
        """The part that has a cell: sweeps that are shown together may have other exams."""
        found = (p for p in self.parts if any(one.cell == cell.cell for one in p.cells))
        return next(found, self)

    def is_searched(self, axis: str) -> bool:
        """Whether the values of an axis are a sampler's picks from a range: dots, not lines."""
        return axis in self.sweep.ranges

    def is_listed(self, axis: str) -> bool:
        """Whether the values can stand side by side: tried on purpose, or few enough."""
        return not self.is_searched(axis) or len(self.axes[axis]) <= MOST_BESIDE


def varied_axes(
    declared: Mapping[str, Sequence[Value]], cells: Sequence[CellResult]
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
    distinct = {name: in_order(values) for name, values in seen.items()}
    varied = {name: values for name, values in distinct.items() if len(values) > 1}
    return varied or {name: distinct[name] for name in declared if distinct[name]}


def in_order(values: Sequence[Value]) -> tuple[Value, ...]:
    """Each value once; numbers in increasing order, names as they came."""
    distinct = tuple(dict.fromkeys(hashable(value) for value in values))
    if is_numeric(distinct):
        return tuple(sorted(distinct, key=lambda value: float(cast(float, value))))
    return distinct


def evenly(values: Sequence[Item], most: int, keep: Item | None = None) -> tuple[Item, ...]:
    """At most so many values, evenly spread, both ends and the one to keep among them."""
    if len(values) <= most:
        return tuple(values)
    chosen = {round(i * (len(values) - 1) / (most - 1)) for i in range(most)}
    if keep in values and (at := values.index(keep)) not in chosen:
        chosen.remove(min(sorted(chosen)[1:-1], key=lambda index: abs(index - at)))
        chosen.add(at)
    return tuple(values[index] for index in sorted(chosen))


def hashable(value: Any) -> Value:
    """A list of target modules as its JSON, anything plain as it is."""
    return value if isinstance(value, str | int | float | bool | None) else json.dumps(value)


def is_numeric(values: Sequence[Value]) -> bool:
    """Whether every value is a number (true and false are not)."""
    return bool(values) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )


def in_grid_order(
    axes: Mapping[str, Sequence[Value]], cells: Sequence[CellResult]
) -> tuple[CellResult, ...]:
    """The cells as the grid lists them; one that lacks an axis stands first on it."""

    def place(cell: CellResult) -> list[int]:
        return [
            known.index(cell.values[axis]) if axis in cell.values else -1
            for axis, known in axes.items()
        ]

    return tuple(sorted(cells, key=place))


def by_values(cells: Sequence[CellResult], axes: Sequence[str]) -> list[list[CellResult]]:
    """The cells by their values on some axes (None where they lack one), in the order given."""
    together: dict[tuple[Value, ...], list[CellResult]] = {}
    for cell in cells:
        together.setdefault(tuple(cell.values.get(axis) for axis in axes), []).append(cell)
    return list(together.values())


def agreed_values(cells: Sequence[CellResult], axes: Sequence[str]) -> dict[str, Value]:
    """The values that all these cells share, of some axes."""
    return {
        axis: cells[0].values[axis]
        for axis in axes
        if axis in cells[0].values and len({hashable(cell.values.get(axis)) for cell in cells}) == 1
    }


def of_trajectories(cells: Sequence[CellResult]) -> dict[str, list[CellResult]]:
    """The cells by the trajectory that they lie on."""
    together: dict[str, list[CellResult]] = {}
    for cell in cells:
        if cell.trajectory:
            together.setdefault(cell.trajectory, []).append(cell)
    return together
