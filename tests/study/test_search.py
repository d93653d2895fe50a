"""Adaptive search: what is told is what ran, stored steps are continued, a killed study goes on."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from helpers.small import command, small, sweep_of
from optuna.trial import TrialState

from charsweep.__main__ import main
from charsweep.core.store.losses import read_losses
from charsweep.study.halving import Halving

QUIET = ["runtime.tracking=false", "runtime.energy=false", "metric=[dino,clip_t]"]
TPE = [
    "search=tpe",
    "search.trials=6",
    "search.at_once=2",
    "search.sampler.n_startup_trials=2",
    "+axes={lr: [1e-3, 1e-2], train_steps: {low: 2, high: 8, step: 2},"
    " sampler.guidance_scale: {low: 1.0, high: 7.0}}",
    "objectives=[dino,clip_t]",
    "+constraints.dino={least: 0.5}",
    *QUIET,
]


def study_of(root: Path) -> optuna.Study:
    return optuna.load_study(
        study_name="small", storage=f"sqlite:///{root / 'sweeps/small/study.db'}"
    )


def cells_of(root: Path) -> list[dict[str, str]]:
    with (root / "sweeps/small/cells.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_no_step_was_trained_twice(root: Path) -> None:
    for folder in root.glob("sweeps/store/dreambooth_lora-*"):
        runs = json.loads((folder / "provenance.json").read_text())["runs"]
        steps = [n for run in runs for n in range(run["steps"][0], run["steps"][1] + 1)]
        assert steps == list(range(1, len(steps) + 1))
        assert [row.step for row in read_losses(folder / "loss.csv")] == steps


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("searched")
    assert main(small(root, *TPE)) == 0
    return root


def test_every_parameter_told_is_the_parameter_that_ran(searched: Path) -> None:
    trials = study_of(searched).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 6
    rows = {row["cell"]: row for row in cells_of(searched)}
    for trial in trials:
        row = rows[trial.user_attrs["cell"]]
        assert {name: float(row[name]) for name in trial.params} == trial.params
        assert [float(row["dino"]), float(row["clip_t"])] == trial.values
        assert trial.constraints == {"dino": pytest.approx(0.5 - float(row["dino"]))}
        spec = next(searched.glob(f"sweeps/store/*--{trial.user_attrs['trajectory']}/spec.json"))
        assert json.loads(spec.read_text())["spec"]["learning_rate"] == trial.params["lr"]


def test_trials_go_on_from_what_is_stored(searched: Path) -> None:
    """Two rates: six trials lie on two trajectories at most, each trained once."""
    trials = study_of(searched).trials
    trajectories = {trial.user_attrs["trajectory"] for trial in trials}
    assert len(trajectories) <= 2 < len(trials)
    longest = {
        one: max(t.params["train_steps"] for t in trials if t.user_attrs["trajectory"] == one)
        for one in trajectories
    }
    for one, steps in longest.items():
        folder = next(searched.glob(f"sweeps/store/*--{one}"))
        assert read_losses(folder / "loss.csv")[-1].step == steps
    # each snapshot that another trial may ask for was kept on the way
    assert_no_step_was_trained_twice(searched)


def test_the_record_says_what_was_searched_and_what_mattered(searched: Path) -> None:
    record = json.loads((searched / "sweeps/small/sweep.json").read_text())
    assert record["search"]["name"] == "tpe"
    assert record["axes"]["train_steps"] == {"low": 2, "high": 8, "log": False, "step": 2}
    assert set(record["importance"]) == {"dino", "clip_t"}
    for shares in record["importance"].values():
        assert set(shares) == {"lr", "train_steps", "sampler.guidance_scale"}
    assert (searched / "sweeps/small/report/index.html").exists()


def test_a_finished_search_is_not_searched_again_and_a_longer_one_goes_on(
    searched: Path,
) -> None:
    before = study_of(searched).trials
    assert main(small(searched, *TPE)) == 0
    assert [t.params for t in study_of(searched).trials] == [t.params for t in before]
    assert main(small(searched, *TPE, "search.trials=8")) == 0
    after = study_of(searched).trials
    assert [t.params for t in after[:6]] == [t.params for t in before]
    assert [t.state for t in after] == [TrialState.COMPLETE] * 8
    assert_no_step_was_trained_twice(searched)


@pytest.mark.slow
def test_killed_at_any_time_it_ends_as_if_never_killed(searched: Path, tmp_path: Path) -> None:
    chance = random.Random(0)
    kills = 0
    while kills < 3:
        process = subprocess.Popen(
            [sys.executable, "-m", "charsweep", *small(tmp_path, *TPE)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ},
        )  # fmt: skip
        want = 2 * kills  # in the batch after that many finished trials
        until = time.monotonic() + 120
        while not _has(tmp_path, want) and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 0.5))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    done = command(*small(tmp_path, *TPE))
    assert done.returncode == 0, done.stderr
    trials = [t for t in study_of(tmp_path).trials if t.state != TrialState.FAIL]
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 6
    ours = {tuple(sorted(t.params.items())): tuple(t.values) for t in trials}
    whole = study_of(searched).trials[:6]
    assert ours == {tuple(sorted(t.params.items())): tuple(t.values) for t in whole}
    assert_no_step_was_trained_twice(tmp_path)


def _has(root: Path, finished: int) -> bool:
    """Whether a batch is being worked on behind that many finished trials."""
    if not (root / "sweeps/small/study.db").exists():
        return False
    try:
        trials = study_of(root).trials
    except Exception:  # it is being made
        return False
    ended = sum(trial.state.is_finished() for trial in trials)
    return ended >= finished and any(trial.state == TrialState.RUNNING for trial in trials)


@pytest.mark.slow
def test_generations_of_nsga2_run_on_the_same_trainer(tmp_path: Path) -> None:
    words = ["search=nsga2", "search.trials=4", "search.at_once=2", *TPE[4:]]  # the same axes
    done = command(*small(tmp_path, *words, "search.sampler.population_size=2"))
    assert done.returncode == 0, done.stderr
    trials = study_of(tmp_path).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4
    assert [t.system_attrs["NSGAIISampler:generation"] for t in trials] == [0, 0, 1, 1]
    assert_no_step_was_trained_twice(tmp_path)


HALVING = [
    "search=halving", "search.trials=4", "search.at_once=4", "search.rungs=[2,4]",
    "train_steps=6", "objectives=[dino]", "+axes={lr: {low: 1e-4, high: 1e-2, log: true}}", *QUIET,
]  # fmt: skip


def test_halving_trains_the_worse_half_no_further(tmp_path: Path) -> None:
    assert main(small(tmp_path, *HALVING)) == 0
    trials = study_of(tmp_path).trials
    assert sorted(t.state.name for t in trials) == ["COMPLETE", "PRUNED", "PRUNED", "PRUNED"]
    at_two = sorted((t.intermediate_values[2] for t in trials), reverse=True)
    went_on = [t for t in trials if 4 in t.intermediate_values]
    assert sorted((t.intermediate_values[2] for t in went_on), reverse=True) == at_two[:2]
    for trial in trials:
        folder = next(tmp_path.glob(f"sweeps/store/*--{trial.user_attrs['trajectory']}"))
        last = 6 if trial.state == TrialState.COMPLETE else max(trial.intermediate_values)
        assert len(read_losses(folder / "loss.csv")) == last
        assert (folder / f"step-{last:06d}/snapshot.json").exists()  # kept, though pruned
    assert_no_step_was_trained_twice(tmp_path)
    assert {(row["lr"], row["train_steps"]) for row in cells_of(tmp_path)} == {
        (str(t.params["lr"]), str(step))
        for t in trials
        for step in [*t.intermediate_values, *([6] if t.state == TrialState.COMPLETE else [])]
    }


def test_halving_judges_against_all_that_reached_the_rung() -> None:
    study = optuna.create_study(direction="minimize", pruner=Halving(keep=0.5))
    trials = [study.ask() for _ in range(4)]
    for trial, value in zip(trials, [3.0, 1.0, 4.0, 2.0], strict=True):
        trial.report(value, 10)
    assert [trial.should_prune() for trial in trials] == [True, False, True, False]
    with pytest.raises(ValueError, match="between 0 and 1"):
        Halving(keep=1.0)


def test_snapshots_are_kept_only_where_a_trajectory_can_come_again(tmp_path: Path) -> None:
    from charsweep.study.adaptive import Search

    steps = "train_steps: {low: 2, high: 8, step: 2}"
    for axes, snapshot_steps in [
        (f"+axes={{lr: [1e-3], {steps}}}", (2, 4, 6, 8)),
        (f"+axes={{lr: {{low: 1e-4, high: 1e-2}}, {steps}}}", ()),
    ]:
        sweep = sweep_of(tmp_path, "search=tpe", axes)
        sweep.folder.mkdir(parents=True, exist_ok=True)
        assert Search(sweep).snapshot_steps == snapshot_steps
        (sweep.folder / "study.db").unlink()
