"""The measurement of searches in stages: what a stored sweep answers, and the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.fake_sweep import FakeSweep, scored

from benchmarks.find import rules
from benchmarks.find import stored as bench
from benchmarks.find.outcomes import Outcome, Raced, by_hand, keep, page, read
from benchmarks.find.rules import (
    Settings,
    cheapest,
    highest,
    judged_elsewhere,
    lost,
    settings_in,
)
from benchmarks.find.stored import answer, simulate
from benchmarks.validity.characters import CHARACTERS
from benchmarks.validity.measure import Row
from charsweep.core.store import Store
from charsweep.results.cells import result_from
from charsweep.results.points import Point

WHO = CHARACTERS[0]


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep of which 2e-3 at 1,000 steps has the highest score, and is truly best."""
    fake = FakeSweep(tmp_path, {"lr": [], "train_steps": []}, name=WHO.name)
    for lr, best in {1e-4: 0.2, 1e-3: 0.6, 2e-3: 0.9, 3e-3: 0.7, 1e-2: 0.3, 1e-1: 0.1}.items():
        for steps in (200, 500, 1000):
            score = best * (steps / 1000) ** 0.5
            fake.add(lr=lr, train_steps=steps, inference_steps=50, scores=scored(score))
    fake.write()
    monkeypatch.setattr(bench, "truth", lambda cell, *_: cell.scores["score"])
    return tmp_path


def test_the_rule_is_run_on_what_is_stored(stored: Path) -> None:
    (outcome,) = simulate(WHO, stored, None)  # type: ignore[arg-type]  # truth is not judged here
    assert (outcome.found, outcome.best) == ("0.002 × 1,000", "0.002 × 1,000")
    assert outcome.lost == 0
    assert outcome.cells < 18
    drawn, whole = outcome.images
    assert whole / 2 < drawn < whole < 4 * outcome.cells  # one has diverged


def test_what_a_sweep_lacks_has_diverged_or_is_like_its_neighbour(stored: Path) -> None:
    lines = (stored / "sweeps" / WHO.name / "cells.jsonl").read_text().splitlines()
    cells = [result_from(json.loads(line)) for line in lines]
    known = {(cell.values["lr"], cell.values["train_steps"]): cell for cell in cells}
    assert answer({"lr": 5e-3, "train_steps": 200}, known).state == "diverged"
    alike = answer({"lr": 3e-2, "train_steps": 200}, known)
    assert alike.scores == known[1e-1, 200].scores
    assert alike.values["lr"] == 3e-2


def test_the_page_counts_those_that_are_close() -> None:
    race = Raced((400, 1000), "a", "b", True)
    close = Outcome(WHO.name, 0, "a", 0.9, "b", 0.92, 12, (300, 384), 200.0, 4000.0, 8000.0, race)
    far = Outcome(WHO.name, 1, "a", 0.7, "b", 0.92, 14, (448, 448), 100.0, 4000.0, 8000.0)
    text = page([close, far])
    assert "1 of 2 are close; the mean loss is 0.120." in text
    assert "| 12 | 300 of 384 | 3 min 20 s | 5% | 2.5% |" in text
    assert "| 14 | 448 |" in text
    assert "| unicorn_girl | 0 | 400 of 1,000 | 40% | a | b | yes |" in text
    assert "stored sweeps" not in text
    assert "own picks" not in text


def test_the_page_says_what_the_score_loses_on_the_whole_grid() -> None:
    timed = 12, (300, 384), 200.0, 4000.0, 8000.0, None
    near = Outcome(WHO.name, 0, "a", 0.86, "b", 0.92, *timed, "c", 0.88)
    ahead = Outcome(WHO.name, 1, "a", 0.91, "b", 0.92, *timed, "c", 0.82)
    text = page([near, ahead])
    assert "1 of 2 are close; the mean loss is 0.035." in text
    assert "own picks: 0 of 2 are close, the mean loss is 0.070;" in text
    assert "2 of 2 searches are as close to these, on average 0.035 ahead." in text
    assert "| c | 0.88 |" in text


def test_outcomes_are_kept_and_those_of_the_same_run_replaced(tmp_path: Path) -> None:
    file, race = tmp_path / "outcomes.json", Raced((4, 9), "a", "b", False)
    simulated = Outcome(WHO.name, 0, "a", 0.5, "b", 0.6, 12)
    real = Outcome(WHO.name, 0, "a", 0.5, "b", 0.6, 12, (3, 9), 10.0, 90.0, 99.0, race)
    assert keep(file, [simulated]) == [simulated]
    assert set(keep(file, [real])) == {simulated, real}
    better = Outcome(WHO.name, 0, "c", 0.6, "b", 0.6, 12, (3, 9), 10.0, 90.0, 99.0)
    assert set(keep(file, [better])) == set(read(file)) == {simulated, better}


def test_what_was_written_by_hand_stays(tmp_path: Path) -> None:
    file, real = tmp_path / "PAGE.md", Outcome(WHO.name, 0, "a", 0.5, "b", 0.6, 12)
    file.write_text(page([]) + "\n## By the clock\n\nOnce: 9 s.\n")
    for _ in range(2):
        file.write_text(page([real], by_hand(file)))
    assert file.read_text().count("\n## By the clock\n\nOnce: 9 s.\n") == 1


def test_rules_are_measured_by_what_their_picks_lose(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Truth is the score here, so the highest loses nothing, and the cheapest the more."""
    monkeypatch.setattr(rules, "truth", lambda cell, *_: cell.scores["score"])
    (settings,) = settings_in(stored / "sweeps" / WHO.name, Store(stored), None)  # type: ignore[arg-type]
    assert len(settings) == 18
    rules_of_both = (
        lambda points: highest(points, "score"),
        lambda points: min(points, key=lambda point: point.price),
    )
    (best,), (cheap,) = (lost([settings], choose, 18) for choose in rules_of_both)
    assert best.regret == 0
    assert cheap.regret == pytest.approx(0.9 - 0.2 * 0.2**0.5)
    assert lost([settings], cheapest(1), 21) == []


def test_grids_of_several_training_seeds_are_judged_by_each_other() -> None:
    def grid(seed: int, low: float, high: float) -> Settings:
        return [
            (Point({"lr": lr, "seed": seed}, ()), Row(f"{lr} {seed}", np.array([true]), {}))
            for lr, true in ((1e-3, low), (1e-2, high))
        ]

    found = judged_elsewhere([grid(0, 0.1, 0.9), grid(1, 0.2, 0.7), grid(2, 0.6, 0.5)])
    worth = [[float(row.truth.mean()) for _, row in one] for one in found]
    assert worth == [pytest.approx(one) for one in ([0.4, 0.6], [0.35, 0.7], [0.15, 0.8])]
    assert [row.name for _, row in found[1]] == ["0.001 1", "0.01 1"]
