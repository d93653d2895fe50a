"""The study of a grid: Optuna trials told in the order of the cells.

A grid asks nothing of Optuna: a cell's trial is added, finished, once the cell and all before it
have a result, on a thread of its own, so that neither starting nor telling holds up the work. A
killed command's untold cells are told from the store by the next.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial

from charsweep.config import Sweep
from charsweep.core.cells import Cell
from charsweep.core.specs import ADAPTER
from charsweep.results import CellResult
from charsweep.study.study import Study
from charsweep.study.trials import UNFINISHED, Trials, stands


class Grid(Study):
    """All cells of a grid at once."""

    unfinished: ClassVar[tuple[str, ...]] = UNFINISHED

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.trials = Trials(sweep)
        self.space = space_of(sweep.cells)
        self._cells = {cell.key: cell for cell in sweep.cells}
        self._known: dict[str, FrozenTrial] = {}  # by cell, what earlier commands told
        self._numbers: dict[str, int] = {}
        self._next = 0  # the number of the next trial
        self._order: list[str] = []  # cells that are still to be told
        self._results: dict[str, CellResult] = {}  # that wait for those of cells before them
        self._telling: list[Future[None]] = []
        self._teller: ThreadPoolExecutor | None = None

    @property
    def total(self) -> int:
        return len(self._cells)

    def batches(self) -> Generator[tuple[Cell, ...]]:
        """What `_rounds` gives; when it gives no more, all cells have been told."""
        self.trials.wait()
        trials = self.trials.all()
        self.trials.check_space(self.space)
        self.trials.give_up([trial for trial in trials if not trial.state.is_finished()])
        self._known = {
            key: trial
            for key, trial in self.trials.by_cell().items()
            if stands(trial, self.unfinished)
        }
        self._numbers = {key: trial.number for key, trial in self._known.items()}
        self._next = len(trials)
        for key in self._cells:
            if key not in self._known:
                self._await(key)
        self._teller = ThreadPoolExecutor(1, "study")
        try:
            yield from self._rounds()
            for told in self._telling:
                told.result()
        finally:
            self._teller.shutdown(cancel_futures=True)

    def _rounds(self) -> Generator[tuple[Cell, ...]]:
        """All cells at once."""
        yield self.sweep.cells

    def _await(self, key: str) -> None:
        """Give a cell that is to be told the next trial."""
        self._order.append(key)
        self._numbers[key] = self._next
        self._next += 1

    def wanted(self, results: Mapping[str, CellResult]) -> tuple[Cell, ...]:
        """What must be stored for there to be nothing left to do."""
        return self.sweep.cells

    def number(self, result: CellResult) -> int:
        """The trial that the result's cell has, or will."""
        return self._numbers[result.cell]

    def tell(self, result: CellResult) -> None:
        """Tell a result as soon as those of all cells before it have been told."""
        assert self._teller is not None
        self._results[result.cell] = result
        while self._order and self._order[0] in self._results:
            key = self._order.pop(0)
            told = self._results.pop(key)
            self._telling.append(self._teller.submit(self._add, self._cells[key], told))

    def _add(self, cell: Cell, result: CellResult) -> None:
        own = {name: span for name, span in self.space.items() if name in cell.values}
        self.trials.add(cell, result, own)


def space_of(cells: tuple[Cell, ...]) -> dict[str, BaseDistribution]:
    """What each parameter is of; numbers as ranges, which a later grid may widen.

    Adapters from elsewhere are none: to their names Optuna could not add.
    """
    spans: dict[str, dict[Any, None]] = {}
    for cell in cells:
        for name, value in cell.values.items():
            if name != ADAPTER:
                spans.setdefault(name, {})[value] = None
    return {name: _span(tuple(values)) for name, values in spans.items()}


def _span(values: tuple[Any, ...]) -> BaseDistribution:
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        return CategoricalDistribution(values)
    if all(isinstance(value, int) for value in values):
        return IntDistribution(min(values), max(values))
    return FloatDistribution(min(values), max(values))
