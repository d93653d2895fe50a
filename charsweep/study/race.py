"""A race: a grid whose cells draw their exam in rounds; see `charsweep.study.rounds`."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

from charsweep.config import Sweep
from charsweep.core.cells import Cell
from charsweep.core.store import Store
from charsweep.results import CellResult
from charsweep.study.grid import Grid
from charsweep.study.rounds import Rounds, as_drawn
from charsweep.study.trials import tells


class Race(Grid):
    """The cells of a grid, in rounds; what is stored whole does not leave."""

    unfinished = ("failed",)

    def __init__(self, sweep: Sweep) -> None:
        super().__init__(sweep)
        store = Store(sweep.root)
        whole = {c.key: c.images.count for c in sweep.cells if store.has_images(c.images)}
        self.rounds = Rounds(sweep.cells, sweep.settings, whole)

    def _rounds(self) -> Generator[tuple[Cell, ...]]:
        yield from self.rounds.run()

    def settle(self, result: CellResult) -> Sequence[CellResult]:
        """Those that have ended with it."""
        ended = self.rounds.settle(result)
        for one in ended:
            known = self._known.get(one.cell)
            if known and not tells(known, one):
                self._await(one.cell)  # it had left, and has gone on since
        return ended

    def wanted(self, results: Mapping[str, CellResult]) -> tuple[Cell, ...]:
        """Of cells that have left, what they drew until then."""
        drawn = {key: result.left_after[0] for key, result in results.items() if result.left}
        return tuple(as_drawn(cell, drawn.get(cell.key)) for cell in self.sweep.cells)
