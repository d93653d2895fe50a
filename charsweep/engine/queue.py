"""The queue of a pack's trainings, each under its lock, and the ledger of what each has cost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime

from charsweep.core.store import Store
from charsweep.plan import Pack, Training, plan_training
from charsweep.train.loop import Trained


class CostLedger:
    """What training one trajectory has taken so far."""

    def __init__(self, training: Training, alone: float | None = None) -> None:
        self.training, self.alone = training, alone  # seconds of a step in a pack of one
        self.spent: dict[int, float] = {}  # seconds paid, by the snapshot they led to
        self.seconds: list[float] = []  # of each step, as it would be alone
        self.first = self.last = 0
        self.warm_up = 0.0  # seconds of compiling, in no step's time
        self.started = datetime.now(UTC)
        self.recorded = False  # whether provenance.json tells of it

    def add(self, trained: Trained) -> None:
        """Add a step; one shared by several trials is paid by each in part."""
        row = trained.row
        goal = next((step for step in self.training.snapshots if step >= row.step), row.step)
        self.spent[goal] = self.spent.get(goal, 0.0) + row.seconds / trained.shared
        self.seconds.append(row.seconds)
        self.first, self.last = self.first or row.step, row.step

    def tell(self, goal: int | None) -> dict[int, float]:
        """Seconds by the snapshot they led to, each told once; of that one, or of all."""
        goals = [goal] if goal in self.spent else list(self.spent if goal is None else ())
        return {step: self.spent.pop(step) for step in goals}


class TrainingQueue:
    """Lets a pack's trainings in, each under its lock.

    A trajectory that another process works on is passed over while one of ours is training, and
    waited for only when we hold none: two processes never wait for each other in a circle. When a
    training's turn comes, what it lacks is looked up again.
    """

    def __init__(self, pack: Pack, store: Store) -> None:
        self.store = store
        self.waiting = list(pack.trainings)
        self.inside: dict[str, Training] = {}
        self.trained_elsewhere: list[Training] = []
        self.error: str | None = None  # why the pack could not go on
        self.out_of_memory = False
        self._locks: dict[str, contextlib.ExitStack] = {}

    def trainings(self) -> Iterator[Training | None]:
        """The next to enter; None while others hold what is left."""
        while self.waiting:
            free = next((t for t in self.waiting if self._lock(t, wait=False)), None)
            if free is None and self.inside:
                yield None
                continue
            if free is None:
                free = self.waiting[0]
                self._lock(free, wait=True)
            self.waiting.remove(free)
            fresh = plan_training(free.cells, self.store, free.snapshot_steps)
            self.inside[fresh.trajectory.key] = fresh
            if fresh.steps:
                yield fresh
            else:
                self.release(fresh)
                self.trained_elsewhere.append(fresh)

    def _lock(self, training: Training, wait: bool) -> bool:
        stack = contextlib.ExitStack()
        if not stack.enter_context(self.store.lock(training.trajectory, wait=wait)):
            stack.close()
            return False
        self._locks[training.trajectory.key] = stack
        return True

    def release(self, training: Training) -> None:
        """Let other processes have it: its cells are done."""
        del self.inside[training.trajectory.key]
        self._locks.pop(training.trajectory.key).close()

    def stopped(self) -> list[Training]:
        """Those that did not come to their end, because the pack could not go on."""
        return [*self.inside.values(), *self.waiting]

    def close(self) -> None:
        """Release all locks."""
        for stack in self._locks.values():
            stack.close()
        self._locks.clear()
