"""The command as a person uses it: run, run again, add a value, change the meaning."""

from __future__ import annotations

import csv
import json
import sqlite3
import time
from pathlib import Path

import pytest
from helpers.small import command, runs, small, trials

from charsweep.__main__ import main
from charsweep.core.store.losses import read_losses

RATES = ["+axes.lr=[1e-2,1e-4]"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished sweep: two rates, six steps."""
    root = tmp_path_factory.mktemp("swept")
    done = command(*small(root, "train_steps=6", *RATES))
    assert done.returncode == 0, done.stderr
    assert "report" in done.stdout
    return root


def rows(root: Path) -> list[dict[str, str]]:
    with (root / "sweeps/small/cells.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sweep_leaves_everything_a_person_asks_for(swept: Path) -> None:
    folder = swept / "sweeps" / "small"
    cells = rows(swept)
    assert [cell["state"] for cell in cells] == ["finished", "finished"]
    assert [float(cell["lr"]) for cell in cells] == [1e-2, 1e-4]
    for cell in cells:
        for metric in ("score", "identity", "prompt", "quality_ratio", "dino", "clip_t", "copy"):
            assert cell[metric] != ""
            assert cell[f"{metric}_gain"] != ""
        assert float(cell["size_mb"]) > 0.05
        assert float(cell["train_seconds"]) > 0
        assert float(cell["peak_memory_mb"]) > 100
        assert (swept / "sweeps/store" / cell["images"] / "003.png").exists()
        losses = read_losses(swept / "sweeps/store" / cell["trajectory"] / "loss.csv")
        assert [row.step for row in losses] == [1, 2, 3, 4, 5, 6]
    page = (folder / "report" / "index.html").read_text()
    assert "a picture of UnicornGirl jumping" in page
    assert json.loads((folder / "plan.json").read_text())["steps_needed"] == 12
    assert [state for _, state in trials(swept)] == ["COMPLETE", "COMPLETE"]
    assert sorted(runs(swept)) == sorted((cell["cell"], "FINISHED") for cell in cells)
    with sqlite3.connect(swept / "mlflow.db") as database:
        (count,) = database.execute("select count(*) from metrics where key = 'loss'").fetchone()
    assert count == 12
    assert {path.name for path in swept.iterdir()} == {"sweeps", "mlruns", "mlflow.db"}


def test_trials_hold_what_ran(swept: Path) -> None:
    import optuna

    study = optuna.load_study(
        study_name="small", storage=f"sqlite:///{swept}/sweeps/small/study.db"
    )
    by_cell = {cell["cell"]: cell for cell in rows(swept)}
    linked = study.user_attrs["mlflow_runs"]
    for trial in study.trials:
        cell = by_cell[trial.user_attrs["cell"]]
        assert trial.params["lr"] == float(cell["lr"])
        assert trial.params["method"] == "dreambooth_lora"
        assert trial.values == [float(cell["score"])]
        assert trial.user_attrs["trajectory"] in cell["trajectory"]
        assert len(linked[str(trial.number)]) == 32
    assert len(study.directions) == 1


def test_running_again_does_nothing_more(swept: Path) -> None:
    store = swept / "sweeps" / "store"
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    cells = rows(swept)
    started = time.monotonic()
    done = command(*small(swept, "train_steps=6", *RATES))
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()} == before
    assert rows(swept) == cells
    assert len(trials(swept)) == len(runs(swept)) == 2
    assert "training" not in done.stderr
    assert seconds < 60  # 15 s on two idle cores; this only says that nothing was done twice


def test_an_added_value_trains_only_that_one(
    swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(small(swept, "train_steps=6", "+axes.lr=[1e-2,1e-4,1e-3]")) == 0
    told = capsys.readouterr().out
    assert "6 to train" in told
    assert "3 (2 stored already)" in told
    assert [float(cell["lr"]) for cell in rows(swept)] == [1e-2, 1e-4, 1e-3]
    assert [state for _, state in trials(swept)] == ["COMPLETE"] * 3
    assert len(runs(swept)) == 3


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("method.rank=8", "rank: 4 is not 8"),
        ("character.class_noun=boy", "class_noun"),
        ("sampler.guidance_scale=3", "guidance_scale"),
        ("models.bases.sdxl.vae=embedded:weights/sd15/vae", "base.sdxl"),
        ("max_grad_norm=0.5", "max_grad_norm"),
    ],
)
def test_a_changed_meaning_is_refused(
    changed: str, said: str, swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (swept / "sweeps/small/study.db").read_bytes()
    assert main([*small(swept, "train_steps=6", *RATES), changed, "runtime.tracking=false"]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert "name=NAME" in message
    assert (swept / "sweeps/small/study.db").read_bytes() == before


def test_everything_can_be_rebuilt_from_the_store(swept: Path) -> None:
    cells, logged = rows(swept), sorted(runs(swept))
    (swept / "mlflow.db").unlink()
    for path in (swept / "sweeps/small/report").rglob("*.html"):
        path.unlink()
    words = small(swept, "train_steps=6", "+axes.lr=[1e-2,1e-4,1e-3]", "action=report")
    assert main(words) == 0
    assert rows(swept) == cells
    assert sorted(runs(swept)) == logged
    assert (swept / "sweeps/small/report/index.html").exists()
