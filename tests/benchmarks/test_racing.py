"""Simulated races: what is drawn is counted, and the recommendation is compared with the grid's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.fake_sweep import FakeSweep, scored

from benchmarks.racing.__main__ import main
from benchmarks.racing.simulate import begun, in_order, order_of, race


@pytest.fixture
def sweep(tmp_path: Path) -> FakeSweep:
    """Scores that differ by the same in every image, so that one look tells all cells apart."""
    made = FakeSweep(tmp_path, {"lr": [1e-2, 1e-3, 1e-4]})
    for lr, score in zip([1e-2, 1e-3, 1e-4], [0.3, 0.8, 0.5], strict=True):
        made.add(lr=lr, scores=scored(score))
    return made


def test_only_the_winner_is_drawn_whole_where_all_is_told_at_once(sweep: FakeSweep) -> None:
    order = order_of(np.random.default_rng(0), prompts=2, seeds=2)
    raced = race(sweep.record(), order, looks=[1], errors=3)
    assert raced.share == pytest.approx((3 * 2 + 2) / 12)
    assert raced.same
    assert raced.alike


def test_an_order_moves_images_and_not_prompts(sweep: FakeSweep) -> None:
    (cell, *_) = sweep.record().cells
    turned = in_order(cell, np.array([[1, 0], [0, 1]]))
    first, second = cell.per_image["score"]
    assert turned.per_image["score"] == [first[::-1], second]
    assert begun(turned, 1).per_image["score"] == [first[1:], second[:1]]


def test_its_command_reads_finished_grids(
    sweep: FakeSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep.write()
    main([str(sweep.folder), "--orders", "3"])
    assert "| fake | 3 | 4 | 2 | 67% | 3 of 3 | 3 of 3 |" in capsys.readouterr().out
