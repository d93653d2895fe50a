"""A search in stages: the cells of each as a batch, told as trials, within a budget of time.

The rule is `charsweep.study.stages`; here it meets the study and the clock. A command runs the rule
from its beginning: what is stored is told again at once, so that one that was killed goes on in the
same stages, and a finished one ends as it did. A stage is a race of its cells. One that would not
keep to the budget is given up but for those of its cells that take nothing; later ones that do are
run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from charsweep.config import Sweep
from charsweep.config.find import AXES, start_of
from charsweep.core.cells import Cell
from charsweep.results import CellResult
from charsweep.study.rounds import Rounds, as_drawn
from charsweep.study.stages import Stage, Stages
from charsweep.study.study import Study
from charsweep.study.trials import Trials, images_drawn, tells

LARGEST = 10**9
# Wide, so that they stay the same whatever a search comes to try.
NUMBERS: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-12, 100, log=True),
    "train_steps": IntDistribution(1, LARGEST),
    "inference_steps": IntDistribution(1, 1000),
    "strength": FloatDistribution(-4, 4),
    "seed": IntDistribution(0, 2**32 - 1),
    "method.rank": IntDistribution(1, LARGEST),
    "method.prior_weight": FloatDistribution(0, LARGEST),
}
ENDING, MOST_ENDING = 0.1, 30.0  # of a budget, and seconds, that are left for report and export


class Find(Study):
    """Stages of cells, and what is recorded of them."""

    unit = "cells of the stages so far"

    def __init__(
        self,
        sweep: Sweep,
        seconds_for: Callable[[Sequence[Cell]], float],
        known: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        assert sweep.settings.find is not None
        self.sweep, self.find, self.seconds_for = sweep, sweep.settings.find, seconds_for
        start = start_of(sweep.settings)
        self.rule = Stages(self.find, start, constraints_of(sweep))
        self.trials = Trials(sweep)
        self.stages: list[dict[str, Any]] = []  # as they are recorded
        self._spent = float(sum(stage["seconds"] for stage in known))  # by earlier commands
        self._known = {stage["text"]: float(stage["seconds"]) for stage in known}
        self._began = time.monotonic()
        self._is_free = False  # the stage that is run: looked up, so it takes nothing
        self._race = Rounds((), sweep.settings)  # of the stage
        self._results: dict[str, CellResult] = {}
        self._stage_began, self._before = self._began, 0.0  # seconds of it by earlier commands
        words = {name: (start[name],) for name in start if isinstance(start[name], str)}
        for over in ("captions", "method"):
            axis = AXES[over]
            if axis in words and over in self.find.over:
                words[axis] += tuple(self.rule.others(over))
        self.space = NUMBERS | {n: CategoricalDistribution(sorted(w)) for n, w in words.items()}

    @property
    def total(self) -> int:
        return sum(len(stage["cells"]) + stage["left"] for stage in self.stages)

    def batches(self) -> Generator[tuple[Cell, ...]]:
        """The cells of a stage after the other; results are told between."""
        self.trials.wait()
        trials = self.trials.all()
        self.trials.check_space(self.space)
        self.trials.give_up([trial for trial in trials if not trial.state.is_finished()])
        rule, answer = self.rule.run(), None
        try:
            stage = next(rule)
            while True:
                answer = yield from self._run(stage)
                stage = rule.send(answer)
        except StopIteration:
            return

    def _run(self, stage: Stage) -> Generator[tuple[Cell, ...], None, list[CellResult] | None]:
        """Have a stage's cells run, as far as the budget goes, and record it."""
        asked = [self.cell_of(values) for values in stage.cells]
        needed = self.seconds_for(asked) if self.find.seconds else 0.0
        too_much = needed > 0 and not self.keeps_to_budget(needed)
        known = self._free(asked) if too_much else {}
        cells = [cell for cell in asked if cell.key in known] if too_much else asked
        self._is_free = too_much or not needed
        said: dict[str, Any] = {"over": stage.over, "text": stage.text}
        said |= {"cells": [cell.key for cell in cells], "left": len(asked) - len(cells)}
        self._before = self._known.get(stage.text, 0.0)
        said["seconds"] = self._before
        self.stages.append(said)
        if not cells:
            return None
        self._race, self._results = Rounds(cells, self.sweep.settings, known), {}
        self._stage_began = time.monotonic()
        try:
            for batch in self._race.run():
                yield batch
                if self.is_spent:
                    break
        finally:
            self._note_time()
        told = [self._results[cell.key] for cell in cells if cell.key in self._results]
        said |= {"cells": [one.cell for one in told], "left": len(asked) - len(told)}
        return told or None

    def _note_time(self) -> None:
        """What the stage has taken so far, in the record."""
        spent = self._before + time.monotonic() - self._stage_began
        self.stages[-1]["seconds"] = round(spent, 3)

    def cell_of(self, values: Mapping[str, Any]) -> Cell:
        """The cell with these values, of which only those that vary are given."""
        return self.sweep.cell_at({n: v for n, v in values.items() if n in self.sweep.axes})

    def _free(self, cells: Sequence[Cell]) -> dict[str, int]:
        """Those that are stored as far as they were drawn, so that they take nothing: how far."""
        drawn = {key: images_drawn(trial) for key, trial in self.trials.by_cell().items()}
        as_far = {cell.key: as_drawn(cell, drawn.get(cell.key)) for cell in cells}
        return {k: own.images.count for k, own in as_far.items() if not self.seconds_for([own])}

    def keeps_to_budget(self, needed: float) -> bool:
        """Whether there are so many seconds left."""
        return self.find.seconds is None or self.spent + needed <= before_ending(self.find.seconds)

    @property
    def spent(self) -> float:
        """Seconds that this command and those before it have taken."""
        return self._spent + time.monotonic() - self._began

    @property
    def is_spent(self) -> bool:
        """Whether the budget is used up, so that a stage is stopped between two of its cells."""
        return not (self._is_free or self.keeps_to_budget(0.0))

    @property
    def is_further(self) -> bool:
        return self._race.round > 1

    def settle(self, result: CellResult) -> Sequence[CellResult]:
        """Those that have ended with it."""
        return self._race.settle(result)

    def number(self, result: CellResult) -> int:
        """The trial that the result's cell has, or will."""
        known = self.trials.by_cell().get(result.cell)
        return known.number if known and tells(known, result) else len(self.trials.all())

    def tell(self, result: CellResult) -> None:
        """Keep a result for the rule, and add its trial where there is none."""
        self._results[result.cell] = result
        self._note_time()
        known = self.trials.by_cell().get(result.cell)
        if not (known and tells(known, result)):
            cell = self._race.cells[result.cell]
            self.trials.add(cell, result, {name: self.space[name] for name in cell.values})


def constraints_of(sweep: Sweep) -> dict[str, Any]:
    """What must hold of what is found, as the recommendation reads it."""
    return {name: bounds.model_dump() for name, bounds in sweep.settings.constraints.items()}


def before_ending(budget: float) -> float:
    """Of a budget in seconds, what is there for cells."""
    return budget - min(ENDING * budget, MOST_ENDING)
