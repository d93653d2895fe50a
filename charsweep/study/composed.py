"""The study of a grid with composed cells: first what is trained, then what is put together."""

from __future__ import annotations

from collections.abc import Generator

from charsweep.core.cells import Cell
from charsweep.core.specs import ComposedSpec
from charsweep.core.store import Store
from charsweep.models.composition import compose
from charsweep.study.grid import Grid


class ComposedGrid(Grid):
    """The cells of a grid of which some are composed of what others train."""

    def _rounds(self) -> Generator[tuple[Cell, ...]]:
        cells, store = self.sweep.cells, Store(self.sweep.root)
        yield tuple(cell for cell in cells if not is_composed(cell))
        composed = tuple(filter(is_composed, cells))
        snapshots = {cell.source.key: cell.images.snapshot for cell in composed}
        for snapshot in snapshots.values():
            compose(snapshot, store)
        yield composed


def is_composed(cell: Cell) -> bool:
    """Whether its weights are those of other cells, put together."""
    return isinstance(cell.source, ComposedSpec)
