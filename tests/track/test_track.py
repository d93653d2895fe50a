"""Tracking: what a cell becomes in MLflow, and that no interruption loses or doubles a run."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import math
import os
import re
import shutil
import signal
import sqlite3
import zlib
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_sweep import result
from helpers.small import loaded_after
from helpers.tracked_sweep import (
    STEPS,
    append,
    losses,
    make_cell,
    make_gan_cell,
    make_sweep,
    peek,
    read,
    until,
)
from PIL import Image

from charsweep.core.errors import TrackingError
from charsweep.core.store.losses import LossRow, read_losses
from charsweep.core.system.sqlite import address_of
from charsweep.track import process as track

# -- hand-made sweeps ------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of four cells that were logged while `cells.jsonl` grew."""
    root = tmp_path_factory.mktemp("a {root} %20 #1?")
    sweep = make_sweep(root, "lr_grid")
    first, second, third = (
        make_cell(root, index, state)
        for index, state in enumerate(("finished", "diverged", "failed"))
    )
    fourth = make_gan_cell(root, 3)
    append(sweep, first + second[:50])
    seen: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with track.start(sweep, root / "sweeps" / "store", niceness=0) as tracker:
            until(lambda: track.read_runs(sweep))
            assert len(track.read_runs(sweep)) == 1  # half a line is no cell yet
            append(sweep, second[50:] + third + fourth)
            (sweep / "cells.csv").write_text("cell\n")
            (sweep / "report").mkdir()
            (sweep / "report" / "index.html").write_text("<h1>report</h1>")
            assert tracker.wait(lambda *counts: seen.append(counts)) is None
    assert seen[-1] == (4, 4)
    return root


@pytest.fixture(scope="module")
def logged(root: Path) -> Any:
    return read(address_of(root / "mlflow.db"), "lr_grid")


def cell_run(logged: Any, index: int) -> Any:
    (run,) = (r for r in logged["runs"] if r["tags"].get("charsweep.cell") == f"{index:012x}")
    return run


def parent_run(logged: Any) -> Any:
    (run,) = (run for run in logged["runs"] if "charsweep.cell" not in run["tags"])
    return run


# -- what is logged --------------------------------------------------------------------------------


def test_a_cell_is_a_run_nested_in_the_sweep(root: Path, logged: Any) -> None:
    assert len(logged["runs"]) == 5
    parent = parent_run(logged)
    assert parent["status"] == "FINISHED"
    assert parent["files"] == ["cells.csv", "recommended.png", "report/index.html", "sweep.json"]
    assert json.loads(parent["tags"]["charsweep.plan"]) == {"cells": 3}
    for index, name in enumerate(("lr=1e-1", "lr=1e-2", "lr=1e-3")):
        run = cell_run(logged, index)
        assert run["tags"]["mlflow.parentRunId"] == parent["id"]
        assert run["tags"]["charsweep.sweep"] == "lr_grid"
        assert run["tags"]["charsweep.trial"] == str(index)
        assert run["name"] == name
    assert Path(parent["artifacts"]).is_relative_to(root / "mlruns")


def test_what_mlflows_clients_would_heed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    sweep = make_sweep(tmp_path, "s")
    track.start(sweep, tmp_path / "sweeps" / "store").close()
    assert capsys.readouterr().out == (
        "MLFLOW_EXPERIMENT_NAME=mine is ignored: a sweep is the experiment of its own name, name=\n"
    )


def test_the_note_is_the_verdict(logged: Any) -> None:
    first, *_ = logged["tags"]["mlflow.note.content"].splitlines()
    assert first.startswith("**Which learning rate?** lr")
    assert "is recommended: " in first
    assert "score 0.300" in first
    assert parent_run(logged)["tags"]["charsweep.recommended"] == f"{0:012x}"
    assert logged["tags"]["charsweep.recommended_run"] == cell_run(logged, 0)["id"]
    assert parent_run(logged)["tags"]["mlflow.note.content"].startswith(first)


def test_the_saved_view_shows_cells_by_their_first_objective(logged: Any) -> None:
    view = json.loads(logged["tags"]["mlflow.sharedViewState.charsweep"])
    packed = view["state"].removeprefix("deflate;")
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`score`", False)
    made_of = ("score", "quality_ratio", "identity", "prompt")
    assert state["selectedColumns"] == ["params.`lr`", *(f"metrics.`{one}`" for one in made_of)]
    kinds = [chart["type"] for chart in state["compareRunCharts"]]
    assert kinds == ["LINE", "IMAGE", "BAR", "BAR"]


def test_a_cell_from_nothing_lacks_what_it_has_not(logged: Any) -> None:
    run = cell_run(logged, 3)
    assert run["name"] == "lr=1e-4"
    assert run["params"].keys().isdisjoint({"base", "inference_steps"})
    assert run["curves"]["loss_generator"][:3:2] == [
        [1, 0, run["curves"]["loss"][0][2]],
        [3, -1, run["curves"]["loss"][2][2]],
    ]
    assert len(run["curves"]["loss_discriminator"]) == STEPS
    assert run["metrics"]["energy_wh"] == 1.5
    assert run["metrics"].keys().isdisjoint({"co2_g", "score", "dino_gain"})


@pytest.mark.parametrize(
    ("values", "axes", "name"),
    [
        ({"method": "gan", "train_steps": 2000}, ["method", "train_steps"], "gan, 2,000 steps"),
        ({"method": "lora", "lr": 5e-5, "seed": 1}, ["lr", "seed"], "lr=5e-5, seed 1"),
        ({"method": "lora", "lr": 0.1, "train_steps": 8}, [], "lora, lr=1e-1, 8 steps"),
        ({"method.rank": 4, "inference_steps": 50}, ["method.rank", "inference_steps", "lr"],
         "method.rank=4, 50 inference steps"),
    ],
)  # fmt: skip
def test_a_run_is_named_in_words(values: dict[str, Any], axes: list[str], name: str) -> None:
    from charsweep.track.values import run_name

    assert run_name(result(values=values), axes) == name


def test_states_are_told_apart(logged: Any) -> None:
    runs = [cell_run(logged, index) for index in range(3)]
    assert [run["status"] for run in runs] == ["FINISHED", "KILLED", "FAILED"]
    states = [run["tags"]["charsweep.state"] for run in runs]
    assert states == ["finished", "diverged", "failed"]
    assert "step 37" in runs[1]["tags"]["mlflow.note.content"]
    assert runs[2]["tags"]["charsweep.error"] == "out of memory"


def test_runs_have_colours_of_their_own() -> None:
    from charsweep.track.values import run_colour

    colours = [run_colour(trial) for trial in range(200)]
    assert len(set(colours)) == 200
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)


def test_parameters_are_the_values_and_the_settings(logged: Any) -> None:
    params = cell_run(logged, 2)["params"]
    assert params["lr"] == "0.001"
    assert params["train_steps"] == str(STEPS)
    assert params["base"] == "sdxl"
    assert params["method.rank"] == "4"
    params = cell_run(logged, 0)["params"]
    assert params["guidance_scale"] == "7.5"
    assert params["sampler.name"] == "ddim"
    assert not [name for name in params if name.startswith(("snapshot", "method.targets"))]


def test_the_loss_of_every_step_of_the_cell(logged: Any) -> None:
    curve = cell_run(logged, 0)["curves"]["loss"]
    assert [(step, value) for step, value, _ in curve] == [
        (step, pytest.approx(losses(0, step))) for step in range(1, STEPS + 1)
    ]
    run = cell_run(logged, 0)
    times = [run["start"], *(time for _, _, time in curve), run["end"]]
    assert times == sorted(times)
    assert curve[-1][2] - curve[0][2] == pytest.approx(25 * (STEPS - 1), abs=2)


def test_a_diverged_cell_keeps_its_curve(logged: Any) -> None:
    curve = cell_run(logged, 1)["curves"]["loss"]
    assert [step for step, _, _ in curve] == list(range(1, 38))
    assert math.isnan(next(value for step, value, _ in curve if step == 37))


def test_scores_gains_and_costs_are_metrics(logged: Any) -> None:
    metrics = cell_run(logged, 0)["metrics"]
    expected = {"dino": 0.75, "dino_gain": 0.25, "size_mb": 0.31, "train_seconds": 3.0}
    expected |= {"paid_seconds": 2.0, "sample_seconds": 6.0, "peak_memory_mb": 900.0}
    assert expected.items() <= metrics.items()
    assert "score_gain" not in metrics  # null: does not apply


def test_contact_sheet_spec_and_scores_are_artifacts(root: Path, logged: Any) -> None:
    run = cell_run(logged, 0)
    wanted = {"contact_sheet.png", "spec.json", "images.json", "scores/dino--0.json"}
    assert wanted <= set(run["files"])
    pictures = [name.partition("+step+0+")[0] for name in run["files"] if name.endswith(".png")]
    rows = ["images/exam~01 jumping", "images/exam~02 asleep"]
    assert pictures == ["contact_sheet.png", "images/contact_sheet", *rows]
    assert run["tags"]["mlflow.loggedImages"]
    with Image.open(Path(run["artifacts"]) / "contact_sheet.png") as sheet:
        assert sheet.size == (32, 32)
        assert sheet.getpixel((24, 8)) == (0, 255, 0)  # prompt 0, seed 1
        assert sheet.getpixel((8, 24)) == (0, 0, 255)


def test_runs_json_names_the_run_of_each_cell(root: Path, logged: Any) -> None:
    runs = track.read_runs(root / "sweeps" / "lr_grid")
    assert runs == {f"{index:012x}": cell_run(logged, index)["id"] for index in range(4)}


# -- interruptions ---------------------------------------------------------------------------------


def test_killed_trackers_leave_neither_gaps_nor_doubles(root: Path) -> None:
    sweep, store = make_sweep(root, "killed"), root / "sweeps" / "store"
    append(sweep, "".join(make_cell(root, index) for index in range(10, 20)))
    tracker = track.start(sweep, store, niceness=0)
    until(lambda: len(track.read_runs(sweep)) >= 3)
    os.kill(tracker._process.pid, signal.SIGKILL)
    problem = tracker.wait()
    assert problem
    before = track.read_runs(sweep)
    assert 3 <= len(before) < 10
    # One more run that was cut short in the middle of its losses, to be sure of one.
    torn, torn_run = next(iter(before.items()))
    with contextlib.closing(sqlite3.connect(root / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE runs SET status = 'RUNNING' WHERE run_uuid = ?", [torn_run])
        connection.execute("DELETE FROM metrics WHERE run_uuid = ? AND step > 60", [torn_run])

    after = track.rebuild(sweep, store)

    found = peek(root / "mlflow.db")
    for index in range(10, 20):
        cell = f"{index:012x}"
        assert found[cell] == [(after[cell], "FINISHED", STEPS)]
    kept = {cell: run for cell, run in before.items() if cell != torn}
    assert kept.items() <= after.items()
    assert after[torn] != torn_run


def test_a_tracker_stops_when_its_parent_is_gone_and_waits_for_another(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, "s")
    with (sweep / "tracking.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another tracker of this sweep is at work
        tracker = track.start(sweep, tmp_path / "sweeps" / "store")
        tracker.close()  # all that a dead parent leaves behind: a closed pipe
    assert tracker.problem() is None
    assert not (tmp_path / "mlflow.db").exists()


def test_rebuilt_elsewhere_from_the_store_alone(
    root: Path, logged: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(root / "sweeps", tmp_path / "sweeps")
    append(tmp_path / "sweeps" / "lr_grid", make_cell(tmp_path, 2000))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'elsewhere' / 'runs.db'}")
    runs = track.rebuild(tmp_path / "sweeps" / "lr_grid", tmp_path / "sweeps" / "store")
    assert not (tmp_path / "mlflow.db").exists()
    found = peek(tmp_path / "elsewhere" / "runs.db")
    assert {cell: run for cell, [(run, _, _)] in found.items()} == runs
    outcome = [found[f"{index:012x}"][0][1:] for index in (0, 1, 2, 3, 2000)]
    finished, diverged, failed = ("FINISHED", STEPS), ("KILLED", 37), ("FAILED", STEPS)
    assert outcome == [finished, diverged, failed, finished, finished]


# -- the way back ----------------------------------------------------------------------------------


def test_a_sweep_comes_back_from_mlflow_alone(root: Path, logged: Any, tmp_path: Path) -> None:
    sweep, back = root / "sweeps" / "lr_grid", tmp_path / "sweeps" / "lr_grid"
    seen: list[tuple[int, int]] = []
    uri = address_of(root / "mlflow.db")
    store = track.fetch("lr_grid", back, uri, lambda *counts: seen.append(counts))
    assert (store, seen[-1]) == (back / "fetched", (4, 4))
    asked, found = (
        [json.loads(line) for line in (folder / "cells.jsonl").read_text().splitlines()]
        for folder in (sweep, back)
    )
    assert found == asked
    assert json.loads((back / "sweep.json").read_text()) == json.loads(
        (sweep / "sweep.json").read_text()
    )
    for record in asked:
        old, new = root / "sweeps" / "store", back / "fetched"
        compare_losses(*(read_losses(f / record["trajectory"] / "loss.csv") for f in (old, new)))
        if record["images"]:
            files = [path.name for path in (old / record["images"]).glob("*.png")]
            assert len(files) == 4
            for file in files:
                one, other = (Image.open(store / record["images"] / file) for store in (old, new))
                with one, other:
                    assert one.tobytes() == other.tobytes()


def compare_losses(before: list[LossRow], after: list[LossRow]) -> None:
    """The same up to the last step that was logged; infinity comes back as NaN."""
    assert after
    for one, other in zip(before, after, strict=False):
        assert one.step == other.step
        assert one.parts == other.parts
        assert one.loss == other.loss or not math.isfinite(one.loss + other.loss)
        assert one.seconds == pytest.approx(other.seconds, abs=1.1e-3)
        assert other.lr == 1e-4


def test_what_is_not_in_mlflow_is_said(root: Path, logged: Any, tmp_path: Path) -> None:
    uri, empty = address_of(root / "mlflow.db"), tmp_path / "sweeps" / "lr_grid"
    with pytest.raises(TrackingError, match=r"has no sweep nothing; it has .*lr_grid"):
        track.fetch("nothing", empty, uri)
    with pytest.raises(TrackingError, match="was written by the sweep itself"):
        track.fetch("lr_grid", root / "sweeps" / "lr_grid", uri)
    with pytest.raises(TrackingError, match=r"there is no .*mlflow\.db; set"):
        track.fetch("lr_grid", empty)
    assert not list(tmp_path.iterdir())


# -- where MLflow is -------------------------------------------------------------------------------


def test_uri_is_configured_or_from_the_environment_or_mlflows_own_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert track.tracking_uri(tmp_path) == f"sqlite:///{tmp_path.resolve()}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert track.tracking_uri(tmp_path) == "http://127.0.0.1:5000"
    assert track.tracking_uri(tmp_path, "http://other:5000") == "http://other:5000"
    monkeypatch.chdir(tmp_path)
    assert track.tracking_uri(Path("/x"), "sqlite:///a.db") == f"sqlite:///{Path.cwd()}/a.db"


@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "file:///tmp/mlruns"])
def test_the_old_file_store_is_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(TrackingError, match=r"mlruns.*sqlite:///"):
        track.tracking_uri(tmp_path, uri)


def test_a_leftover_file_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlruns" / "0").mkdir(parents=True)
    track.tracking_uri(tmp_path)
    (tmp_path / "mlruns" / "0" / "meta.yaml").touch()
    with pytest.raises(TrackingError, match="move that folder away"):
        track.tracking_uri(tmp_path)


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, "s")
    with pytest.raises(TrackingError, match=r"no MLflow server at http://127\.0\.0\.1:9 "):
        track.rebuild(sweep, tmp_path / "sweeps" / "store", "http://me:secret@127.0.0.1:9")
    (line,) = (sweep / "tracking.log").read_text().splitlines()
    assert "secret" not in line


def test_planning_does_not_pay_for_mlflow() -> None:
    loaded = loaded_after("import charsweep.track.process")
    assert "charsweep" in loaded
    assert "mlflow" not in loaded
