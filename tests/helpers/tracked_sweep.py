"""A sweep written by hand, cell by cell, for MLflow to follow."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

from charsweep.track.server import QUIET

STEPS = 120


READER = """
import json, sys
from mlflow import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path

client = MlflowClient(tracking_uri=sys.argv[1])

def files(run, path=None):
    for item in client.list_artifacts(run, path):
        yield from files(run, item.path) if item.is_dir else [item.path]

experiment = client.get_experiment_by_name(sys.argv[2])
runs = []
for run in client.search_runs([experiment.experiment_id], max_results=1000):
    history = lambda name: client.get_metric_history(run.info.run_id, name)
    curves = {
        name: [(m.step, m.value, m.timestamp) for m in history(name)]
        for name in run.data.metrics if name.startswith("loss") or name in ("lr", "grad_norm")
    }
    runs.append({
        "id": run.info.run_id, "name": run.info.run_name, "status": run.info.status,
        "start": run.info.start_time, "end": run.info.end_time, "params": run.data.params,
        "tags": run.data.tags, "metrics": run.data.metrics, "curves": curves,
        "files": sorted(files(run.info.run_id)),
        "artifacts": local_file_uri_to_path(run.info.artifact_uri),
    })
print(json.dumps({"tags": experiment.tags, "runs": runs}))
"""


def make_cell(root: Path, index: int, state: str = "finished", steps: int = STEPS) -> str:
    """A trajectory with one image set in the store; returns the cell's line."""
    store = root / "sweeps" / "store"
    key = f"{index:012x}"
    trajectory = store / f"dreambooth_lora-sdxl-r4-seed{index}--{key}"
    trajectory.mkdir(parents=True)
    spec = {"learning_rate": 1e-4, "base": {"name": "sdxl"}, "batch_size": 1}
    spec["method"] = {"name": "dreambooth_lora", "settings": {"rank": 4, "targets": ["q"]}}
    (trajectory / "spec.json").write_text(json.dumps({"key": key, "spec": spec}))
    rows = [f"{s},{losses(index, s)},0.0001,{1 / s},0.025" for s in range(1, steps + 50)]
    if state == "diverged":
        rows = [*rows[:36], "37,inf,0.0001,nan,0.025"]
    (trajectory / "loss.csv").write_text("\n".join(["step,loss,lr,grad_norm,seconds", *rows, ""]))
    images = trajectory / f"step-{steps:06d}" / f"ddim50-cfg7.5-exam2x2--{key}"
    if state == "finished":
        make_images(images)
    score = 0.3 if index == 0 else None  # does not apply to the others
    record = {
        "cell": key,
        "state": state,
        "trial": index,
        "values": {"method": "dreambooth_lora", "lr": 10.0 ** -(index + 1), "train_steps": steps}
        | {"inference_steps": 50, "seed": index, "method.rank": 4},
        "base": "sdxl",
        "trajectory": trajectory.name,
        "step": steps,
        "images": str(images.relative_to(store)) if state == "finished" else None,
        "diverged_at": 37 if state == "diverged" else None,
        "error": "out of memory" if state == "failed" else None,
        "scores": {"score": score, "dino": 0.75} if state == "finished" else {},
        "gains": {"score": None, "dino": 0.25} if state == "finished" else {},
        "size_mb": 0.31,
        "train_seconds": 3.0,
        "paid_seconds": 2.0,
        "sample_seconds": 6.0 if state == "finished" else None,
        "seconds_per_step": 0.025,
        "peak_memory_mb": 900.0,
        "energy_wh": None,
        "co2_g": None,
        "per_image": {"dino": [[0.7, 0.8], [0.72, 0.78]]} if state == "finished" else {},
        "repeats": {"2": 1} if state == "finished" else {},
        "made": {},
        "parts": {},
        "judged_by": {"prompts": "0123456789ab"},
        "left_after": [],
        "worst": "",
        "trainings": 1,
    }
    return json.dumps(record) + "\n"


def make_gan_cell(root: Path, index: int) -> str:
    """A cell from nothing: no base, no inference steps, two losses beside the loss, energy."""
    record = json.loads(make_cell(root, index))
    trajectory = root / "sweeps" / "store" / record["trajectory"]
    spec = {"base": None, "learning_rate": 1e-4, "method": {"name": "gan", "settings": {}}}
    (trajectory / "spec.json").write_text(json.dumps({"key": record["cell"], "spec": spec}))
    header, *rows = (trajectory / "loss.csv").read_text().splitlines()
    rows = [f"{row},{2 * n},{-0.5 * n}" for n, row in enumerate(rows)]
    text = "\n".join([f"{header},loss_discriminator,loss_generator", *rows, ""])
    (trajectory / "loss.csv").write_text(text)
    record["values"] = {"method": "gan", "lr": 1e-4, "train_steps": STEPS, "seed": 0}
    record |= {"base": "", "gains": {}, "energy_wh": 1.5, "co2_g": None}
    return json.dumps(record) + "\n"


def losses(index: int, step: int) -> float:
    return index + 1 / step


def make_images(folder: Path) -> None:
    (folder / "scores").mkdir(parents=True)
    (folder / "scores" / "dino--0.json").write_text('{"value": 0.75}')
    files = []
    for index, colour in enumerate(("red", "lime", "blue", "black")):
        Image.new("RGB", (16, 16), colour).save(folder / f"{index:03d}.png")
        files.append({"file": f"{index:03d}.png", "prompt": index // 2, "seed": index % 2})
    manifest = {"prompts": ["jumping", "asleep"], "seeds": [0, 1], "files": files, "seconds": 6.0}
    manifest["spec"] = {"guidance_scale": 7.5, "sampler": {"name": "ddim"}, "snapshot": {"step": 1}}
    (folder / "images.json").write_text(json.dumps(manifest))


def make_sweep(root: Path, name: str) -> Path:
    folder = root / "sweeps" / name
    folder.mkdir(parents=True)
    sweep = {"name": name, "question": "Which learning rate?", "command": "python -m charsweep"}
    sweep |= {"axes": {"lr": [0.1, 0.01, 0.001]}, "plan": {"cells": 3}}
    sweep |= {"metrics": ["score", "dino"], "objectives": [{"metric": "score"}]}
    (folder / "sweep.json").write_text(json.dumps(sweep))
    (folder / "cells.jsonl").touch()
    return folder


def append(sweep: Path, text: str) -> None:
    with (sweep / "cells.jsonl").open("a") as file:
        file.write(text)


def until(condition: Any, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def read(uri: str, name: str) -> Any:
    environment = {**os.environ, **QUIET}
    command = [sys.executable, "-c", READER, uri, name]
    out = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def peek(database: Path) -> dict[str, list[tuple[str, str, int]]]:
    """Cell -> (run id, status, losses) by SQL, because importing MLflow takes 4 s."""
    query = """
        SELECT tags.value, runs.run_uuid, runs.status,
               (SELECT count(*) FROM metrics WHERE run_uuid = runs.run_uuid AND key = 'loss')
        FROM runs JOIN tags USING (run_uuid)
        WHERE lifecycle_stage = 'active' AND tags.key = 'charsweep.cell'
    """
    found: dict[str, list[tuple[str, str, int]]] = {}
    with contextlib.closing(sqlite3.connect(database)) as connection:
        for cell, *run in connection.execute(query):
            found.setdefault(cell, []).append(tuple(run))
    return found
