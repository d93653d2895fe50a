"""What a study is to the one who runs it: batches of cells, and results told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Generator, Mapping, Sequence
from typing import Any, ClassVar

from charsweep.core.cells import Cell
from charsweep.results import CellResult
from charsweep.study.trials import Trials


class Study(ABC):
    """Which cells are to be run next, and what became of them."""

    trials: Trials
    stages: Sequence[Mapping[str, Any]] = ()  # of a search in stages, as they are recorded
    unit: ClassVar[str] = "cells"  # what is counted, in words
    unfinished: ClassVar[tuple[str, ...]] = ("failed",)  # states that are worked on again
    is_repeatable: ClassVar[bool] = True  # whether its cells do not depend on who is free when

    @property
    @abstractmethod
    def total(self) -> int:
        """How many cells or trials are asked for, as far as that is known."""

    def done(self, results: Collection[CellResult]) -> int:
        """How many of these are finished, by the results of the cells that were asked for."""
        return sum(result.state not in self.unfinished for result in results)

    @property
    def snapshot_steps(self) -> tuple[int, ...]:
        """Steps of a trajectory that are kept although no cell has asked for them yet."""
        return ()

    @property
    def is_spent(self) -> bool:
        """Whether the work is to be stopped between two cells."""
        return False

    @property
    def is_further(self) -> bool:
        """Whether the batch at hand is a further round of a race, of cells that were there."""
        return False

    @abstractmethod
    def batches(self) -> Generator[tuple[Cell, ...]]:
        """Cells to be run together, batch by batch; all of one are told before the next."""

    def next_cells(self, workers: int) -> tuple[Cell, ...]:
        """Cells for one of so many workers who is free while others are at work; () while there
        are none, or where all of a batch are told before the next."""
        return ()

    def wanted(self, results: Mapping[str, CellResult]) -> tuple[Cell, ...]:
        """What must be stored for there to be nothing left to do, as far as that is known."""
        return ()

    def settle(self, result: CellResult) -> Sequence[CellResult]:
        """The results that stand, now that one more cell has been worked on: its own."""
        return (result,)

    def close(self) -> None:
        """Let others have the study."""
        self.trials.close()

    @abstractmethod
    def number(self, result: CellResult) -> int:
        """The trial that the result's cell has, or will."""

    @abstractmethod
    def tell(self, result: CellResult) -> None:
        """Tell the result of a cell of the batch."""
