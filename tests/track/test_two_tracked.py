"""Two characters in MLflow: pictures of both in one, there and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from helpers.fake_sweep import FakeSweep
from PIL import Image

from charsweep.core.system.sqlite import address_of
from charsweep.results import read_results
from charsweep.track.cell_runs import Experiment
from charsweep.track.fetch import fetch
from charsweep.track.values import digest, params


def test_pictures_of_both_are_in_a_run_and_come_back(tmp_path: Path) -> None:
    fake = FakeSweep(tmp_path / "here", {"lr": [1e-3]})
    both = fake.draw("composed--1/step-000040/both", (9, 200, 9))
    fake.add(lr=1e-3)["parts"] = {"together": [both, "base/both"]}
    fake.write()
    (cell,) = read_results(fake.folder / "cells.jsonl").values()
    uri = address_of(tmp_path / "here" / "mlflow.db")
    experiment = Experiment(fake.folder, fake.store, uri)
    experiment.log(cell)
    experiment.close("FINISHED")
    run, _ = experiment.runs[cell.cell]
    names = [item.path for item in experiment.client.list_artifacts(run, "images")]
    assert sum("together~0" in name and name.endswith(".png") for name in names) == 2
    store = fetch("fake", tmp_path / "there" / "sweeps" / "fake", uri)
    with Image.open(store / both / "003.png") as picture:
        assert picture.convert("RGB").getpixel((0, 0)) == (9, 200, 9)


def test_a_run_of_what_is_composed_has_the_settings_of_its_adapters(tmp_path: Path) -> None:
    fake = FakeSweep(tmp_path, {"lr": [1e-3]})
    fake.add(lr=1e-3)
    fake.write()
    (cell,) = read_results(fake.folder / "cells.jsonl").values()
    images = tmp_path / "set"
    images.mkdir()
    taught = {"base": None, "method": {"name": "lora", "settings": {"rank": 8}}, "batch_size": 2}
    source = {"base": None, "components": [{"snapshot": {"source": taught, "step": 1}}]}
    told = {"spec": {"snapshot": {"source": source}}}
    (images / "images.json").write_text(json.dumps(told), encoding="utf-8")
    found = {one.key: one.value for one in params(cell, tmp_path / "none", images)}
    assert (found["method.rank"], found["batch_size"]) == ("8", "2")


def test_a_run_without_pictures_of_both_is_logged_anew(tmp_path: Path) -> None:
    fake = FakeSweep(tmp_path, {"lr": [1e-3]})
    cells = [fake.add(lr=1e-3), fake.add(lr=1e-3)]
    cells[1]["parts"] = {"together": ["both", "base"]}
    cells[1]["cell"] = "b"
    fake.write()
    alone, both = read_results(fake.folder / "cells.jsonl").values()
    assert digest(both) != digest(replace(both, parts={}))
    assert digest(alone) == digest(replace(alone, parts={"leak": ["a", "b"]}))
