"""Passes of fewer samples where slots of a pack have fallen free, with the bits of the whole pack.

A pass of a pack's full width computes nothing of use in free slots, and takes as long. Whether one
of fewer samples gives the same bits is a matter of the kernels that the libraries choose by shape,
so that it is tried: the losses and gradients of two steps, a hundred thousand numbers each, are
computed both ways and compared. Only where all agree is the narrower pass used, so that a trial's
bits remain those of its pack's width, on any machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

PATIENCE = 20  # steps for which slots are free before it is tried: what ends sooner does not pay
Steps = Sequence[int | None]  # of each slot; None: it is free
_agrees: dict[tuple[str, int, int, int], bool] = {}  # by kind of pass, width and slots


def windows(steps: Steps) -> Iterator[slice]:
    """Adjacent slots in which all trials lie: the fewest, a power of two; then twice as many; …"""
    taken = [slot for slot, step in enumerate(steps) if step is not None]
    size = 1
    while size < len(steps):
        first = taken[0] // size * size
        if taken[-1] < first + size:
            yield slice(first, min(first + size, len(steps)))
        size *= 2


class Narrowing:
    """Chooses the slots of each pass; `pass_of` gives losses and gradients of some steps."""

    def __init__(self, kind: str, width: int, pass_of: Callable[[Steps, slice], list[Tensor]]):
        self.kind, self.width, self.pass_of = kind, width, pass_of
        self.whole = slice(0, width)
        self._free_for = 0

    def slots(self, steps: Steps) -> slice:
        """Those of the next pass."""
        narrower = list(windows(steps))
        self._free_for = self._free_for + 1 if narrower else 0
        if self._free_for <= PATIENCE:
            return self.whole
        return next((slots for slots in narrower if self._agrees(slots, steps)), self.whole)

    def _agrees(self, slots: slice, steps: Steps) -> bool:
        name = (self.kind, self.width, slots.start, slots.stop)
        if name not in _agrees:
            before = [None if step is None else max(0, step - 1) for step in steps]
            _agrees[name] = self._is_equal(steps, slots) and self._is_equal(before, slots)
        return _agrees[name]

    def _is_equal(self, steps: Steps, slots: slice) -> bool:
        ours, theirs = self.pass_of(steps, slots), self.pass_of(steps, self.whole)
        return all(map(torch.equal, ours, theirs))
