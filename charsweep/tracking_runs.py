"""One record of `cells.jsonl` and the store in, one MLflow run out. The only file with MLflow.

A run exists for charsweep when its status is final: that is written last. A run that is still
RUNNING was cut short; it is deleted and logged anew, and so is one whose cell has another result
now (a failed cell that has been tried again).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from PIL import Image

from charsweep.errors import TrackingError
from charsweep.keys import canonical_json, short_number
from charsweep.store import LossRow, read_json, read_losses, write_text

STATUS = {"finished": "FINISHED", "diverged": "KILLED", "failed": "FAILED"}
COSTS = ("size_mb", "train_seconds", "paid_seconds", "sample_seconds", "seconds_per_step")
MEMORY = "peak_memory_mb"
RESULT = ("state", "trial", "values", "base", "trajectory", "step", "images", "scores", "gains")
CURVE_POINTS = 200  # of lr and grad_norm: every step would treble the database (245 B a row)
TILE = 160  # px; a contact sheet of 8 x 2 stays under 1 MB
PARAM_LENGTH = 500


class Experiment:
    """One sweep in MLflow: an experiment, a parent run, and a nested run per cell."""

    def __init__(self, sweep_folder: Path, store_folder: Path, uri: str) -> None:
        self.folder, self.store, self.uri = sweep_folder, store_folder, uri
        self.sweep = read_json(sweep_folder / "sweep.json")
        self.name: str = self.sweep["name"]
        _create_database(uri)
        self.client = MlflowClient(tracking_uri=uri)
        self.id = self._experiment()
        self.runs, self.parent = self._existing()
        self._describe_sweep()
        self._write_runs()

    def log(self, record: dict[str, Any]) -> None:
        """Log the cell, unless MLflow has it already, whole and with this result."""
        cell, digest = record["cell"], _digest(record)
        known = self.runs.get(cell)
        if known and known[1] == digest:
            return
        if known:
            self.client.delete_run(known[0])
        self.runs[cell] = (self._log_run(record, digest), digest)
        self._write_runs()

    def close(self, status: str) -> None:
        """FINISHED when all cells that were given are logged."""
        self.sweep = read_json(self.folder / "sweep.json")
        self._describe_sweep()
        self.client.set_terminated(self.parent, status)

    # -- the sweep -----------------------------------------------------------------------------

    def _experiment(self) -> str:
        known = self.client.get_experiment_by_name(self.name)
        if known is None:
            return str(self.client.create_experiment(self.name))
        if known.lifecycle_stage == "deleted":  # by a person in the UI, who now runs it again
            self.client.restore_experiment(known.experiment_id)
        root = self.folder.parent.parent
        ours = self.uri == f"sqlite:///{root / 'mlflow.db'}"
        place = Path(urlsplit(known.artifact_location).path)
        if ours and not place.is_relative_to(root):
            raise TrackingError(
                f"{root / 'mlflow.db'} keeps the artifacts of {self.name} in {place}: the folder "
                "was moved or copied; move mlflow.db and mlruns away and run the same command "
                "again: MLflow is rebuilt from the store"
            )
        return str(known.experiment_id)

    def _existing(self) -> tuple[dict[str, tuple[str, str]], str]:
        """Whole runs: cell -> (run id, digest); the parent run. Deletes what was cut short."""
        runs: dict[str, tuple[str, str]] = {}
        parent = None
        for run in self._search():
            tags, run_id = run.data.tags, run.info.run_id
            cell = tags.get("charsweep.cell")
            if cell is None:
                parent = parent or run_id
            elif run.info.status in STATUS.values() and cell not in runs:
                runs[cell] = (run_id, tags.get("charsweep.digest", ""))
            else:
                self.client.delete_run(run_id)
        if parent is None:
            tags = {"charsweep.sweep": self.name}
            parent = self.client.create_run(self.id, tags=tags, run_name=self.name).info.run_id
        self.client.update_run(parent, status="RUNNING")
        return runs, str(parent)

    def _search(self) -> list[Run]:
        ours = f"tags.`charsweep.sweep` = '{self.name}'"
        found, token = [], None
        while True:
            page = self.client.search_runs([self.id], ours, max_results=1000, page_token=token)
            found += list(page)
            token = page.token
            if not token:
                return found

    def _describe_sweep(self) -> None:
        sweep = self.sweep
        note = f"**{sweep.get('question') or self.name}**\n\n`{sweep.get('command', '')}`"
        kind = ("mlflow.experimentKind", "custom_model_development")
        for name, value in (("mlflow.note.content", note), kind):
            self.client.set_experiment_tag(self.id, name, value)
        tags = {
            "mlflow.note.content": note,
            "mlflow.source.name": sweep.get("command", ""),
            "charsweep.axes": json.dumps(sweep.get("axes")),
            "charsweep.plan": json.dumps(sweep.get("plan")),
            "charsweep.environment": json.dumps(sweep.get("environment")),
        }
        self.client.log_batch(self.parent, tags=_tags(tags))
        self.client.log_artifact(self.parent, str(self.folder / "sweep.json"))

    def _write_runs(self) -> None:
        cells = {cell: run_id for cell, (run_id, _) in self.runs.items()}
        content = {"experiment": self.id, "sweep": self.parent, "cells": cells}
        write_text(self.folder / "runs.json", json.dumps(content) + "\n")

    # -- a cell --------------------------------------------------------------------------------

    def _log_run(self, record: dict[str, Any], digest: str) -> str:
        trajectory = self.store / record["trajectory"]
        images = self.store / record["images"] if record.get("images") else None
        losses = _losses(trajectory / "loss.csv", record["step"])
        end = _finished_at(images, trajectory)
        paid = sum(row.seconds for row in losses) + (record.get("sample_seconds") or 0)
        start = end - int(paid * 1000)
        run = self.client.create_run(
            self.id,
            start_time=start,
            run_name=run_name(record, list(self.sweep.get("axes") or {})),
            tags={
                "mlflow.parentRunId": self.parent,
                "mlflow.source.name": self.sweep.get("command", ""),
                "charsweep.cell": record["cell"],
                "charsweep.digest": digest,
                "charsweep.sweep": self.name,
            },
        )
        run_id = str(run.info.run_id)
        self.client.log_batch(
            run_id,
            metrics=_curves(losses, start) + _numbers(record, end),
            params=_params(record, trajectory, images),
            tags=_tags(_links(record)),
        )
        self._log_files(run_id, record["step"], trajectory, images)
        self.client.set_terminated(run_id, STATUS[record["state"]], end_time=end)
        return run_id

    def _log_files(self, run_id: str, step: int, trajectory: Path, images: Path | None) -> None:
        with tempfile.TemporaryDirectory() as folder:
            found = [trajectory / "spec.json", trajectory / "provenance.json"]
            found += [images / "images.json"] if images else []
            for path in found:
                if path.exists():
                    shutil.copy(path, folder)
            if images and (images / "scores").exists():
                shutil.copytree(images / "scores", Path(folder) / "scores")
            sheet = contact_sheet(images) if images else None
            if sheet:
                sheet.save(Path(folder) / "contact_sheet.png")
            self.client.log_artifacts(run_id, folder)
        if sheet:  # once more for the image grid, which compares runs
            self.client.log_image(run_id, sheet, key="contact_sheet", step=step, synchronous=True)


# -- what a run holds ------------------------------------------------------------------------------


def run_name(record: dict[str, Any], axes: list[str]) -> str:
    """`lr=1e-04 seed=1`: the values that vary; without any, the method."""
    values = record["values"]
    named = [f"{name}={_short(values[name])}" for name in axes if name in values]
    return " ".join(named)[:200] or str(values["method"])


def contact_sheet(images: Path) -> Image.Image | None:
    """The image set as one picture, rows prompts, columns seeds; None without images."""
    manifest = images / "images.json"
    files = [entry["file"] for entry in read_json(manifest)["files"]] if manifest.exists() else []
    present = [images / name for name in files if (images / name).exists()]
    if not present:
        return None
    columns = max(1, len(read_json(manifest)["seeds"]))
    with Image.open(present[0]) as first:
        size = min(TILE, first.width)
    rows = -(-len(files) // columns)
    sheet = Image.new("RGB", (columns * size, rows * size), "white")
    for index, name in enumerate(files):
        if images / name in present:
            with Image.open(images / name) as image:
                tile = image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
            sheet.paste(tile, (index % columns * size, index // columns * size))
    return sheet


def _curves(losses: list[LossRow], start: int) -> list[Metric]:
    """`loss` for every step; `lr` and `grad_norm` at up to `CURVE_POINTS` steps and the last."""
    metrics, elapsed = [], 0.0
    thin = -(-len(losses) // CURVE_POINTS)
    for index, row in enumerate(losses):
        elapsed += row.seconds
        names = ["loss"]
        if index % thin == 0 or index == len(losses) - 1:
            names += ["lr", "grad_norm"]
        at = start + int(elapsed * 1000)
        metrics += [Metric(name, _finite(getattr(row, name)), at, row.step) for name in names]
    return metrics


def _numbers(record: dict[str, Any], at: int) -> list[Metric]:
    """Scores under their names, their gains over the untaught base, sizes and times."""
    numbers = {name: record.get(name) for name in (*COSTS, MEMORY)}
    numbers |= record.get("scores") or {}
    numbers |= {f"{name}_gain": value for name, value in (record.get("gains") or {}).items()}
    return [
        Metric(name, float(value), at, record["step"])
        for name, value in numbers.items()
        if value is not None
    ]


def _params(record: dict[str, Any], trajectory: Path, images: Path | None) -> list[Param]:
    """The cell's values, the base, and the plain settings of its trajectory and image set."""
    params = {**record["values"], "base": record.get("base")}
    manifests = [(trajectory / "spec.json", "base"), *_drawn(images)]
    for path, parent in manifests:
        spec = read_json(path).get("spec", {}) if path.exists() else {}
        for name, value in _flat(spec, parent):
            params.setdefault(name, value)
    return [Param(name, _plain(value)[:PARAM_LENGTH]) for name, value in params.items()]


def _drawn(images: Path | None) -> list[tuple[Path, str]]:
    return [(images / "images.json", "snapshot")] if images else []


def _flat(spec: dict[str, Any], without: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`method.settings.rank` as `method.rank`; no lists, and not the field named `without`."""
    for name, value in spec.items():
        if isinstance(value, dict):
            below = prefix if name == "settings" else f"{prefix}{name}."
            yield from () if name == without else _flat(value, without, below)
        elif not isinstance(value, list) and name not in ("learning_rate", "target"):
            yield f"{prefix}{name}", value


def _links(record: dict[str, Any]) -> dict[str, Any]:
    """Tags that lead from the run to the Optuna trial and the store."""
    names = ("state", "trial", "trajectory", "images", "diverged_at", "error")
    tags = {f"charsweep.{name}": record.get(name) for name in names}
    note = {
        "diverged": f"Diverged: the loss was not finite at step {record.get('diverged_at')}.",
        "failed": f"Failed: {record.get('error')}",
    }
    return {**tags, "mlflow.note.content": note.get(record["state"])}


def _tags(tags: dict[str, Any]) -> list[RunTag]:
    return [RunTag(name, str(value)[:5000]) for name, value in tags.items() if value is not None]


def _digest(record: dict[str, Any]) -> str:
    """Tells whether a run shows this result; what the cell cost is no part of it."""
    result = {name: record.get(name) for name in RESULT}
    return hashlib.sha256(canonical_json(result).encode()).hexdigest()[:12]


def _losses(path: Path, step: int) -> list[LossRow]:
    """Rows up to `step`; the same trajectory may go on for other cells."""
    return [row for row in read_losses(path) if row.step <= step] if path.exists() else []


def _finished_at(images: Path | None, trajectory: Path) -> int:
    """Milliseconds: when the image set was committed, else when the last loss was written."""
    candidates = [images / "images.json"] if images else []
    for path in [*candidates, trajectory / "loss.csv"]:
        if path.exists():
            return int(path.stat().st_mtime * 1000)
    return int(time.time() * 1000)


def _finite(value: float) -> float:
    """MLflow keeps NaN; infinity it would show as 1.8e308, which ruins every plot."""
    return float("nan") if value in (float("inf"), float("-inf")) else value


def _short(value: Any) -> str:
    return short_number(value) if isinstance(value, float) else str(value)


def _plain(value: Any) -> str:
    """Plain decimals, so that MLflow's axes stay numeric: `0.00001`, not `1e-05`."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.12f}".rstrip("0").rstrip(".") if 1e-6 <= abs(value) < 1e6 else f"{value:g}"


def _create_database(uri: str) -> None:
    """Make a new SQLite file under a temporary name.

    MLflow creates it in some 50 migrations over 2 s; one that is killed meanwhile leaves a file
    that MLflow can neither use nor mend.
    """
    if not uri.startswith("sqlite:///"):
        return
    path = Path(uri.removeprefix("sqlite:///"))
    for torn in path.parent.glob(f".{path.name}.*.tmp*"):
        if time.time() - torn.stat().st_mtime > 600:
            torn.unlink(missing_ok=True)
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        MlflowClient(tracking_uri=f"sqlite:///{temporary}").search_experiments(max_results=1)
        try:
            os.link(temporary, path)
        except FileExistsError:  # another process was faster
            pass
        except OSError:  # a file system without links
            temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
