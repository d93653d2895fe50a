"""The rule of `+sweep=find` on sweeps that `benchmarks.validity` has stored: it trains nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.find.outcomes import Outcome
from benchmarks.find.truths import images_of, name_of, truth
from benchmarks.racing.simulate import raced
from benchmarks.validity.characters import Character
from benchmarks.validity.judge import Judge
from benchmarks.validity.sweeps import words_of
from charsweep.config import load_settings
from charsweep.config.find import start_of
from charsweep.core.store import Store
from charsweep.results import CellResult, read_results
from charsweep.results.cells import SCORE
from charsweep.study.stages import Stages

STORED_STEPS = [200, 500, 1000]
# Rates that the stored sweeps lack, where the next that they have teaches as little.
ALIKE = {1e-5: 1e-4, 3e-5: 1e-4, 5e-5: 1e-4, 2e-4: 1e-4, 3e-2: 1e-1, 2e-2: 1e-1}


def simulate(who: Character, folder: Path, judge: Judge) -> list[Outcome]:
    """The rule on a stored sweep, for each of its training seeds."""
    store = Store(folder)
    results = list(read_results(folder / "sweeps" / who.name / "cells.jsonl").values())
    outcomes = []
    for seed in sorted({cell.values["seed"] for cell in results}):
        known = {
            (cell.values["lr"], cell.values["train_steps"]): cell
            for cell in results
            if cell.values["seed"] == seed
        }
        words = words_of(who, folder, ["search=find"])
        words = [word for word in words if not word.startswith(("+axes", "seeds"))]
        settings = load_settings([*words, f"find.steps={STORED_STEPS}", "find.over=[lr,steps]"])
        assert settings.find is not None
        looks = range(1, max(np.shape(cell.per_image[SCORE])[1] for cell in known.values()))
        rule = Stages(settings.find, start_of(settings))
        running = rule.run()
        try:
            stage = next(running)
            while True:
                told = raced([answer(values, known) for values in stage.cells], looks)
                stage = running.send(told or None)
        except StopIteration:
            pass
        point = rule.recommended()
        assert point is not None
        found = point.cells[0]
        truths = {key: truth(cell, who, store, judge) for key, cell in known.items()}
        best = max(truths, key=lambda key: truths[key])
        got = truths[stored(found.values)]
        outcomes.append(
            Outcome(who.name, seed, name_of(found), got, name_of(known[best]), truths[best],
                    len(rule.asked), images_of(rule.told))
        )  # fmt: skip
    return outcomes


def stored(values: Mapping[str, Any]) -> tuple[float, int]:
    return ALIKE.get(values["lr"], values["lr"]), values["train_steps"]


def answer(values: Mapping[str, Any], known: Mapping[tuple[float, int], CellResult]) -> CellResult:
    """The stored result of a cell, or one that diverged."""
    name = f"{values['lr']:g} {values['train_steps']}"
    if cell := known.get(stored(values)):
        return replace(cell, cell=name, values={**cell.values, **values})
    other = next(iter(known.values()))
    return replace(other, cell=name, state="diverged", values=values, scores={}, per_image={})
