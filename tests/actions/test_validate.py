"""`action=validate`: what a sweep's scores are worth where nobody knows the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.fake_sweep import FakeSweep
from helpers.small import small

from charsweep.__main__ import main
from charsweep.actions.validate import Planted, agreement, metrics_agree, parts_agree, planted_table
from charsweep.results.cells import by_prompt
from charsweep.results.points import points_of


def test_rank_agreement_and_what_the_pick_costs() -> None:
    found = agreement("x", np.array([1.0, 2.0, 4.0]), np.array([0.1, 0.3, 0.2]))
    assert found.correlation == pytest.approx(0.5)
    assert found.loss == pytest.approx(0.1)
    assert np.isnan(agreement("flat", np.ones(3), np.arange(3.0)).correlation)


def test_metrics_and_halves_of_the_exam_are_compared(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"lr": [1e-4, 1e-3, 1e-2]})
    images = {  # three prompts, two seeds: the second prompt disagrees with the others
        1e-4: [0.1, 0.1, 0.9, 0.9, 0.1, 0.1],
        1e-3: [0.9, 0.9, 0.1, 0.1, 0.9, 0.9],
        1e-2: [0.5, 0.5, 0.5, 0.5, 0.5, 0.5],
    }
    for lr, scores in images.items():
        cell = sweep.add(lr=lr, scores={"score": float(np.mean(scores)), "dino": -lr, "copy": lr})
        cell["per_image"] = {"score": by_prompt(scores, 2)}
    record = sweep.record()
    points = points_of(record)
    by_name = {one.what: one for one in metrics_agree(record, points)}
    assert by_name["DINO"].correlation == by_name["copy"].correlation  # less copying is better
    halves, seeds = parts_agree(points)
    assert halves.correlation == pytest.approx(-1.0)
    assert halves.loss == pytest.approx(0.8)
    assert seeds.correlation == pytest.approx(1.0)
    assert seeds.loss == 0.0


def test_a_set_that_gets_what_it_does_not_deserve_is_named() -> None:
    honest = Planted("noise", is_right=False, score=0.1, quality_ratio=0.0)
    fraud = Planted("copies", is_right=False, score=0.7, quality_ratio=0.0)
    assert "No planted set deceives the score." in planted_table([honest])
    (line,) = (text for text in planted_table([honest, fraud]) if "Deceived" in text)
    assert line.startswith("Deceived by copies:")


@pytest.mark.slow
def test_a_sweep_is_validated_by_its_own_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = small(tmp_path, "+axes.lr=[1e-3,1e-4,1e-5]", "train_steps=1", "runtime.tracking=false")
    assert main([*words, "action=validate"]) == 2
    assert "run it first" in capsys.readouterr().err
    assert main(words) == 0
    assert main([*words, "action=validate"]) == 0
    text = (tmp_path / "sweeps/small/validation.md").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    assert "| copies of the drawings | little |" in text
    assert "| every second prompt, by the others |" in text
    two = small(tmp_path, "+axes.lr=[1e-3,1e-4]", "train_steps=1", "name=two")
    assert main([*two, "runtime.tracking=false"]) == 0
    assert main([*two, "action=validate"]) == 2
    assert "fewer than 3" in capsys.readouterr().err
