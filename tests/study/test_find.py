"""A search in stages: its trials and record, its budget, and that a killed one goes on."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_sweep import FakeSweep, result, scored
from helpers.small import cells_without_times, command, small, sweep_of, trials
from helpers.variants import first
from optuna.trial import TrialState

from charsweep.config import load_sweep
from charsweep.core.cells import Cell
from charsweep.core.errors import CharsweepError, ConfigError
from charsweep.results import CellResult, facts, recommend
from charsweep.study import find as find_module
from charsweep.study.find import Find

QUIET = ["runtime.tracking=false", "runtime.energy=false", "metric=[score,identity,prompt]"]
DECADES = "find.rates=[1e-5,1e-4,1e-3,1e-2]"
TINY = ["search=find", "find.rates=[1e-3,1e-2]", "find.steps=[2,4]", "find.inference_steps=[1]"]


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(find_module, "time", made)
    return made


class Study:
    """A search whose cells take ten seconds each and get the score that a rate near 2e-3 would."""

    def __init__(self, root: Path, clock: Clock, *words: str, known: Sequence[Any] = ()) -> None:
        self.sweep, self.clock = sweep_of(root, "search=find", DECADES, *QUIET, *words), clock
        self.sweep.folder.mkdir(parents=True, exist_ok=True)
        self.stored: dict[str, int] = {}  # images that are drawn, by the cell's values
        self.slower = 1.0  # than was reckoned
        self.find = Find(self.sweep, self.seconds_of, known)

    def seconds_of(self, cells: Sequence[Cell]) -> float:
        exam = self.sweep.settings.exam
        whole = len(exam.prompts) * len(exam.seeds)
        missing = [c.images.count - self.stored.get(str(c.values), 0) for c in cells]
        return sum(10.0 * max(0, images) / whole for images in missing)

    def draw(self, cell: Cell) -> None:
        """What a cell asks for, in its time, and its results told."""
        self.clock.now += self.seconds_of([cell]) * self.slower
        at = str(cell.values)
        self.stored[at] = max(self.stored.get(at, 0), cell.images.count)
        for told in self.find.settle(answer(cell)):
            assert self.find.number(told) >= 0
            self.find.tell(told)

    def run(self) -> list[dict[str, Any]]:
        for cells in self.find.batches():
            for cell in cells:
                self.draw(cell)
                if self.find.is_spent:
                    break
        return self.find.stages

    def again(self, *words: str) -> Study:
        """The same command once more, or one with other words."""
        more = Study(self.sweep.root, self.clock, *words, known=self.find.stages)
        more.stored = self.stored
        return more


def answer(cell: Cell) -> CellResult:
    away = {1e-3: 0.1, 2e-3: 0.0, 3e-3: 0.15, 5e-3: 0.3, 1e-2: 0.5}.get(cell.values["lr"], 0.7)
    score = 0.9 - away - (0.15 if cell.values["train_steps"] < 1000 else 0)
    seeds = range(len(cell.images.seeds))
    rows = [[score + 0.01 * ((seed + prompt) % 2) for seed in seeds] for prompt in range(2)]
    return result(
        cell=cell.key, values=dict(cell.values), base="sdxl", step=cell.step,
        scores={"score": score}, gains={"score": score}, per_image={"score": rows},
        trajectory="t", paid_seconds=1.0,
    )  # fmt: skip


def done(stages: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, int]]:
    return [(stage["over"], len(stage["cells"]), stage["left"]) for stage in stages]


# -- trials and record -----------------------------------------------------------------------------


def test_every_cell_is_a_trial_in_the_record_and_again(tmp_path: Path, clock: Clock) -> None:
    study = Study(tmp_path, clock)
    stages = json.loads(json.dumps(study.run()))
    known = study.find.trials.all()
    assert [trial.number for trial in known] == list(range(len(known)))
    assert [t.user_attrs["cell"] for t in known] == [key for s in stages for key in s["cells"]]
    assert all(trial.state == TrialState.COMPLETE for trial in known)
    assert sum(stage["seconds"] for stage in stages) == 10 * len(known)
    assert stages[0]["text"].startswith("learning rates 1e-5, 1e-4, 1e-3 and 1e-2, 250")
    more = study.again()
    assert more.run() == stages
    assert len(more.find.trials.all()) == sum(len(stage["cells"]) for stage in stages)


def test_left_anywhere_it_goes_on_in_the_same_stages(tmp_path: Path, clock: Clock) -> None:
    whole = Study(tmp_path / "whole", clock).run()
    study = Study(tmp_path / "left", clock)
    for number in (1, 5):  # of each command: so many cells, then it is gone
        left = number
        batches = study.find.batches()
        for cells in batches:
            for cell in cells:
                if study.seconds_of([cell]):
                    left -= 1
                study.draw(cell)
                if left == 0:
                    break
            if left == 0:
                break
        batches.close()
        study = study.again()
    stages = study.run()
    assert [(s["text"], s["cells"]) for s in stages] == [(s["text"], s["cells"]) for s in whole]


# -- racing ----------------------------------------------------------------------------------------

RACED = ("exam.seeds=[0,1,2,3]",)  # four images of eight are looked at: a batch


def left(study: Study) -> list[str]:
    return [
        t.user_attrs["cell"] for t in study.find.trials.all() if t.user_attrs["state"] == "left"
    ]


def test_each_stage_is_a_race_and_what_leaves_goes_on_training(
    tmp_path: Path, clock: Clock
) -> None:
    """Scores that differ by the same in all images: of each stage the leader alone is whole. Its
    two strengths and inference steps make no difference here."""
    whole, study = Study(tmp_path / "whole", clock).run(), Study(tmp_path / "raced", clock, *RACED)
    stages = study.run()
    assert [(s["over"], s["text"]) for s in stages] == [(s["over"], s["text"]) for s in whole]
    alone = {key for s in stages if len(s["cells"]) == 1 for key in s["cells"]}
    whole_of = {"lr": 1, "steps": 1, "strength": 2, "inference_steps": 2}
    assert len(left(study)) == sum(max(0, len(s["cells"]) - whole_of[s["over"]]) for s in stages)
    assert not alone & set(left(study))
    told = {t.user_attrs["cell"]: t for t in study.find.trials.all()}
    assert all(list(told[key].intermediate_values) == [4] for key in left(study))
    assert clock.now < sum(10 for s in (*whole, *stages) for _ in s["cells"])


@pytest.mark.slow
def test_a_raced_search_ends_alike_again_however_little_it_may_still_take(
    tmp_path: Path, clock: Clock
) -> None:
    study = Study(tmp_path, clock, *RACED)
    stages = json.loads(json.dumps(study.run()))
    trials, took = len(study.find.trials.all()), clock.now
    for words in ((), ("find.budget=20s",)):
        study = study.again(*RACED, *words)
        assert json.loads(json.dumps(study.run())) == stages
    assert (len(study.find.trials.all()), clock.now) == (trials, took)


@pytest.mark.parametrize("images", first(1, [6, 14]))
def test_killed_in_a_race_it_goes_on_in_the_same_stages(
    images: int, tmp_path: Path, clock: Clock
) -> None:
    whole = Study(tmp_path / "whole", clock, *RACED)
    stages = whole.run()
    study, count = Study(tmp_path / "killed", clock, *RACED), 0
    batches = study.find.batches()
    for cells in batches:
        for cell in cells:
            study.draw(cell)
            count += 1
        if count >= images:
            break
    batches.close()
    study = study.again(*RACED)
    again = study.run()
    assert [(s["text"], s["cells"]) for s in again] == [(s["text"], s["cells"]) for s in stages]
    assert left(study) == left(whole)
    assert study.stored == whole.stored


def test_a_race_that_runs_out_of_time_is_given_up_from_there(tmp_path: Path, clock: Clock) -> None:
    """After its first look, at which three of four cells leave: of the best no more is known."""
    study = Study(tmp_path, clock, *RACED, "find.budget=50s")
    study.slower = 3.0
    stages = json.loads(json.dumps(study.run()))
    assert done(stages)[0] == ("lr", 3, 1)
    assert (len(left(study)), clock.now) == (3, 60)
    more = study.again(*RACED, "find.budget=50s")
    assert done(more.run()) == done(stages)
    assert clock.now == 60
    larger = more.again(*RACED, "find.budget=1h")
    assert done(larger.run())[0] == ("lr", 4, 0)
    assert not any(stage["left"] for stage in larger.find.stages)


def test_with_constraints_all_are_measured_whole(tmp_path: Path, clock: Clock) -> None:
    study = Study(tmp_path, clock, *RACED, "+constraints.identity={least: 0.1}")
    assert study.run()
    assert not left(study)


# -- the budget ------------------------------------------------------------------------------------


def test_what_does_not_fit_is_given_up(tmp_path: Path, clock: Clock) -> None:
    """Nine tenths of 150 s: four, two and five cells of ten seconds, then four do not fit, two do,
    and six and two more do not."""
    stages = Study(tmp_path, clock, "find.budget=150s").run()
    assert clock.now <= 0.9 * 150
    given_up = [stage for stage in stages if stage["left"]]
    assert [stage["over"] for stage in given_up] == ["steps", "strength", "inference_steps"]
    assert ("strength", 2, 0) in done(stages)  # cheaper, so there was time for it


def test_given_up_again_and_done_with_a_larger_budget(tmp_path: Path, clock: Clock) -> None:
    study = Study(tmp_path, clock, "find.budget=60s")
    first = json.loads(json.dumps(study.run()))
    more = study.again("find.budget=60s")
    assert done(more.run()) == done(first)
    larger = more.again("find.budget=1h")
    assert not any(stage["left"] for stage in larger.run())
    assert larger.find.spent >= 10 * len(larger.stored)


def test_a_stage_that_takes_longer_than_was_reckoned_is_cut(tmp_path: Path, clock: Clock) -> None:
    study = Study(tmp_path, clock, "find.budget=100s")
    study.slower = 3.0
    stages = json.loads(json.dumps(study.run()))
    assert stages[0]["left"] == 0  # 120 s: its last cell is the first after the budget
    assert clock.now == 120
    more = study.again("find.budget=100s")
    assert done(more.run()) == done(stages)
    assert clock.now == 120
    other = Study(tmp_path / "other", clock, "find.budget=80s")
    other.slower = 3.0
    cut = other.run()
    assert done(cut)[0] == ("lr", 3, 1)


def test_money_is_time_at_a_price(tmp_path: Path) -> None:
    words = ["search=find", "find.budget=5eur", "find.price=2.5"]
    found = sweep_of(tmp_path, *words).settings.find
    assert found is not None
    assert found.seconds == 7200


def test_the_report_says_what_was_tried_and_given_up(tmp_path: Path) -> None:
    fake = FakeSweep(tmp_path, {"lr": [1e-3, 1e-2]})
    for lr in (1e-3, 1e-2):
        fake.add(lr=lr, scores=scored(0.5))
    fake.sweep["search"] = {"name": "find"}
    fake.sweep["settings"]["find"] = {"budget": "20min"}
    fake.sweep["stages"] = [
        {"over": "lr", "text": "learning rates 1e-3 and 1e-2", "cells": ["0", "1"], "left": 0},
        {"over": "lr", "text": "half a decade beside 1e-3", "cells": ["2"], "left": 1},
        {"over": "steps", "text": "500 training steps", "cells": [], "left": 3},
        {"over": "inference_steps", "text": "none can be told", "cells": [], "left": 0},
    ]
    said = [text for label, text in facts.asked(fake.record()) if label.startswith("stage")]
    assert said == [
        "learning rates 1e-3 and 1e-2",
        "half a decade beside 1e-3; 1 of 2 given up, as the budget of 20min was spent",
        "given up: 500 training steps, as the budget of 20min was spent",
        "none can be told",
    ]
    page = fake.report()
    assert "given up: 500 training steps" in page


# -- bad settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said", "remedy"),
    [
        (["find.budget=20"], "find.budget=20: should be a time or money", ["find.budget=20min"]),
        (["find.budget=-2h"], "should be a time or money", ["find.budget=2h"]),
        (["find.budget=0h"], "should be a time or money", ["find.budget=90s"]),
        (
            ["find.budget=5eur"],
            "find.budget=5eur: of money",
            ["find.budget=5eur", "find.price=0.80"],
        ),
        (["find.over=[lr,tempo]"], "find.over.1=tempo", ["find.over=[lr,steps]"]),
        (["find.over=[]"], "find.over", ["find.over=[lr]"]),
        (["find.rates=[1e-3]"], "find.rates", ["find.rates=[1e-3,1e-4]"]),
        (["find.rates=[1e-3,1e-3]"], "stands there twice", ["find.rates=[1e-3,1e-4]"]),
        (["+axes.lr=[1e-3,1e-4]"], "chooses what varies by itself", []),
        (["objectives=[dino]"], "goes by the score", ["objectives=[score]"]),
        (["method=gan"], "needs a base", ["method=dreambooth_lora"]),
        (["seeds=3"], "leave it out", []),
        (["method=dreambooth", "find.over=[lr,rank]"], "find.over: rank", ["find.over=[lr]"]),
        (["exam.seeds=[0]", "exam.prompts=['{subject}']"], "exam.seeds", ["exam.seeds=[0,1]"]),
    ],
)
def test_bad_settings_have_a_remedy_that_works(
    tmp_path: Path, words: list[str], said: str, remedy: list[str]
) -> None:
    asked = ["search=find", f"root={tmp_path}", *QUIET]
    with pytest.raises(CharsweepError) as caught:
        load_sweep([*asked, *words])
    assert said in str(caught.value)
    kept = [
        word for word in words if word.startswith("exam.prompts") or word == "method=dreambooth"
    ]
    assert load_sweep([*asked, *kept, *remedy]).examples


def test_find_settings_without_find_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"add search=find"):
        load_sweep([f"root={tmp_path}", "find.budget=20min"])
    with pytest.raises(ConfigError, match=r"add search=find"):
        load_sweep([f"root={tmp_path}", "+find.budget=20min"])
    assert load_sweep([f"root={tmp_path}", "find.budget=20min", "search=find"]).examples
    with pytest.raises(ConfigError, match=r"should it be find\.budget"):
        load_sweep([f"root={tmp_path}", "find.budgt=20min", "+sweep=find"])
    with pytest.raises(ConfigError, match="not for search=tpe"):
        load_sweep([f"root={tmp_path}", "search=tpe", "+find={over: [lr], rates: [1e-3, 1e-4], "
                    "steps: [2], most_rates: 4, inference_steps: [], strengths: [], "
                    "ranks: [], methods: [], budget: null, price: null, "
                    "export: true}"])  # fmt: skip


def test_a_budget_below_the_first_stage_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    words = small(tmp_path, *TINY, *QUIET, "find.steps=[1000]")
    refused = command(*words, "find.budget=2s")
    assert refused.returncode == 2
    assert "too little for the first stage" in refused.stderr
    assert not (tmp_path / "sweeps").exists()
    (remedy,) = re.findall(r"give (find\.budget=\w+) or", refused.stderr)
    planned = command(*words, remedy, "action=plan")
    assert planned.returncode == 0, planned.stderr
    assert "lr            at most 8 cells" in planned.stdout  # two rates, and six beside them
    assert f"budget        {remedy.partition('=')[2]}: what does not fit" in planned.stdout


# -- for real --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_it_goes_on_and_ends_with_an_export(tmp_path: Path) -> None:
    """Killed in its first stage, run to the end, repeated."""
    words = small(tmp_path, *TINY, *QUIET)
    folder = tmp_path / "sweeps" / "small"
    process = subprocess.Popen(
        [sys.executable, "-m", "charsweep", *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ},
    )  # fmt: skip
    until = time.monotonic() + 120
    while not (folder / "cells.jsonl").exists() or not (folder / "cells.jsonl").read_text():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    ended = command(*words)
    assert ended.returncode == 0, ended.stderr
    record = json.loads((folder / "sweep.json").read_text())
    asked = [key for stage in record["stages"] for key in stage["cells"]]
    assert len(trials(tmp_path)) == len(asked) == len(set(asked)) >= 5
    assert {row["cell"] for row in cells_without_times(folder / "cells.csv")} == set(asked)
    assert record["stages"][0]["seconds"] > 0
    (export,) = folder.glob("export/*/export.json")
    weights = export.with_name("pytorch_lora_weights.safetensors")
    assert weights.exists()
    assert f"export   {export.parent}" in ended.stdout
    assert "learning rates 1e-3 and 1e-2, 2 training steps" in (
        folder / "report" / "index.html"
    ).read_text(encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in (export, weights)}
    again = command(*words)
    assert again.returncode == 0, again.stderr
    assert json.loads((folder / "sweep.json").read_text())["stages"][0]["cells"] == asked[:2]
    assert f"export   {export.parent}" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_the_next_step_of_a_search_is_a_grid_beside_it(tmp_path: Path) -> None:
    fake = FakeSweep(tmp_path, {"lr": [], "train_steps": []}, name="find")
    fake.sweep["command"] = "python -m charsweep +sweep=find find.budget=20min name=find lr=1e-3"
    fake.sweep["stages"] = [{"over": "lr", "text": "rates", "cells": ["0"], "left": 0}]
    for lr, steps, score in [(1e-3, 40, 0.3), (1e-2, 40, 0.4), (1e-2, 80, 0.8)]:
        fake.add(lr=lr, train_steps=steps, scores=scored(score))
    steps = recommend(fake.record()).next_steps
    assert steps
    for step in steps:
        words = shlex.split(step.command)[3:]
        assert {"search=grid", "name=find_grid", "lr=1e-3"} <= set(words)
        assert load_sweep([*words, f"root={tmp_path}"]).cells
