"""A new metric and a new method are one .py and one .yaml each, in folders of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.small import execute

METRIC = '''
from dataclasses import dataclass
from typing import ClassVar

from charsweep.evaluate.metrics import Exam, Score


@dataclass(frozen=True)
class Images:
    """How many images there are."""

    version: ClassVar[int] = 3
    times: int = 1

    def __call__(self, exam: Exam) -> Score:
        return Score(float(self.times * len(exam.images.prompt_of)))
'''

METHOD = '''
from dataclasses import dataclass
from typing import ClassVar

from charsweep.train.methods.finetune import FineTune


@dataclass(frozen=True)
class Louder(FineTune):
    """Fine-tuning with a loss twice as large."""

    version: ClassVar[int] = 1

    pack_key = None  # trains alone

    def trainable(self, *args):
        trainable = super().trainable(*args)
        quiet = trainable.losses
        trainable.losses = lambda steps: (2 * share for share in quiet(steps))
        return trainable
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`--config-dir` of a folder with a metric, a method and a sweep."""
    conf = tmp_path / "conf"
    for group in ("metric", "method", "sweep"):
        (conf / group).mkdir(parents=True)
    (tmp_path / "own_images.py").write_text(METRIC)
    (tmp_path / "own_louder.py").write_text(METHOD)
    (conf / "metric/images.yaml").write_text("images: {_target_: own_images.Images, times: 10}\n")
    (conf / "method/louder.yaml").write_text(
        "name: louder\n_target_: own_louder.Louder\nbase: sdxl\ntrains: adapters\n"
        "prompts: instance\nadapter: lora\nrank: 4\nalpha: 4\n"
        "target_modules: [to_q, to_v]\n"
    )
    (conf / "sweep/loud.yaml").write_text(
        "# @package _global_\naxes: {method: [dreambooth_lora, louder]}\ntrain_steps: 2\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("CHARSWEEP_PLUGINS", "own_images,own_louder")
    return ["--config-dir", str(conf)]


def test_own_metric_method_and_sweep(own: list[str], tmp_path: Path) -> None:
    words = [*own, "+sweep=loud", "metric=[score,images]"]
    _, store, results = execute(tmp_path / "root", *words)
    assert [result.values["method"] for result in results] == ["dreambooth_lora", "louder"]
    assert all(result.scores["images"] == 40.0 for result in results)
    first, second = (
        sorted(store.folder.glob(f"{name}-*"))[0] for name in ("dreambooth_lora", "louder")
    )
    losses = [
        float((folder / "loss.csv").read_text().splitlines()[1].split(",")[1])
        for folder in (first, second)
    ]
    assert losses[1] == pytest.approx(2 * losses[0], rel=1e-6)
