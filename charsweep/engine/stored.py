"""The engine of a plan with nothing left to do: its cells, read from the store; no torch."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from charsweep.core.store import Store
from charsweep.plan import Plan
from charsweep.results import CellResult
from charsweep.results.cells import result_of


class StoredEngine:
    """Looks up what other engines have done."""

    environment: Mapping[str, Any] = {}

    def __init__(self, store: Store) -> None:
        self.store = store

    def execute(self, plan: Plan) -> Generator[CellResult, None, None]:
        """Yield the plan's cells as they are stored."""
        assert plan.is_done
        for training in plan.trainings:
            for cell in training.cells:
                yield result_of(cell, self.store, 0.0)

    def among_references(self) -> Mapping[str, float]:
        """Empty: nothing is scored here."""
        return {}
