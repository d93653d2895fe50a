"""A sweep's MLflow experiment: a parent run, and a nested run for each finished cell.

A run exists for charsweep when its status is final: that is written last. A run that is still
RUNNING was cut short; it is deleted and logged anew, and so is one whose cell has another result
now (a failed cell that has been tried again).
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow import MlflowClient
from mlflow.entities import Experiment as MlflowExperiment
from mlflow.entities import Metric, Run
from mlflow.store.db.db_types import DATABASE_ENGINES

from charsweep.core.errors import TrackingError
from charsweep.core.store.files import (
    claim,
    clear_abandoned,
    inside,
    read_json,
    temporary_name,
    write_text,
)
from charsweep.core.store.losses import read_losses
from charsweep.core.system.sqlite import address_of
from charsweep.results import CellResult, Recommendation, Record, judge, load_record
from charsweep.results.candidates import strengths_of
from charsweep.results.cells import TOGETHER, json_line
from charsweep.track import pictures, ui_view, values
from charsweep.track.server import VIEW_TAG, database
from charsweep.track.sweep_run import log_image, log_outcome

STATUS = {"finished": "FINISHED", "left": "KILLED", "diverged": "KILLED", "stopped": "KILLED",
          "failed": "FAILED"}  # fmt: skip
NOTE_LENGTH = 4900  # of a tag, at most 5000


class Experiment:
    """One sweep in MLflow: an experiment, a parent run, and a nested run per cell."""

    def __init__(self, sweep_folder: Path, store_folder: Path, uri: str) -> None:
        self.folder, self.store, self.uri = sweep_folder, store_folder, uri
        self.sweep = read_json(sweep_folder / "sweep.json")
        self.name: str = self.sweep["name"]
        create_database(uri)
        self.client = MlflowClient(tracking_uri=uri)
        self.id = self._experiment()
        self.runs, self.parent = self._existing()
        self._describe(ui_view.note_while_running(self.sweep))
        self._write_runs("RUNNING")

    def log(self, result: CellResult) -> None:
        """Log the cell, unless MLflow has it already, whole and with this result."""
        cell, digest = result.cell, values.digest(result)
        known = self.runs.get(cell)
        if known and known[1] == digest:
            return
        if known:
            self.client.delete_run(known[0])
        self.runs[cell] = (self._log_run(result, digest), digest)
        self._write_runs("RUNNING")

    def close(self, status: str) -> None:
        """Log what is known when all is done: the verdict, the tables, the report.

        FINISHED when all cells that were given are logged.
        """
        self.sweep = read_json(self.folder / "sweep.json")
        report = log_outcome(self.client, self.id, self.parent, self.sweep, self.folder, self.store)
        record = load_record(self.folder, self.store)
        verdict = judge(record)
        self._log_preferences(record)
        shown = self.parent if self._show(verdict.recommendation) else ""
        note = ui_view.note_with_verdict(self.sweep, verdict, report, shown)
        self._describe((ui_view.unfinished(self.sweep) + note)[:NOTE_LENGTH])
        self._note_recommended(verdict.recommendation)
        self.client.set_terminated(self.parent, status)
        self._write_runs(status)

    # -- the sweep -----------------------------------------------------------------------------

    def _experiment(self) -> str:
        root = self.folder.parent.parent
        known = experiment_of(self.client, self.name, self.uri, root)
        ours = database(self.uri) == root / "mlflow.db"
        place = Path(url2pathname(urlsplit(known.artifact_location).path))
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
        for run in list(search(self.client, self.id, self.name)):  # before any is deleted
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

    def _describe(self, note: str) -> None:
        sweep = self.sweep
        named = {
            "mlflow.note.content": note,
            "mlflow.experimentKind": "custom_model_development",
            VIEW_TAG: ui_view.saved_view(sweep),
        }
        for name, value in named.items():
            self.client.set_experiment_tag(self.id, name, value)
        tags = {
            "mlflow.note.content": note,
            "mlflow.source.name": sweep.get("command", ""),
            "charsweep.axes": json.dumps(sweep.get("axes")),
            "charsweep.plan": json.dumps(sweep.get("plan")),
            "charsweep.environment": json.dumps(sweep.get("environment")),
        }
        self.client.log_batch(self.parent, tags=values.as_tags(tags))
        self.client.log_artifact(self.parent, str(self.folder / "sweep.json"))

    def _show(self, found: Recommendation) -> bool:
        """Log what the recommended cell draws, for the note; whether it draws anything."""
        cell = found.cell
        images = cell.parts.get(TOGETHER, [cell.images])[0] if cell else None
        picture = pictures.strip(inside(self.store, images)) if images else None
        if picture:
            self.client.log_image(self.parent, picture, artifact_file=ui_view.STRIP)
        return picture is not None

    def _log_preferences(self, record: Record) -> None:
        """How often people prefer a cell, as metrics of its run, where that has changed."""
        steps, at = {cell.cell: cell.step for cell in record.cells}, int(time.time() * 1000)
        for cell, strength in strengths_of(record).items():
            if cell not in self.runs or cell not in steps:
                continue
            run_id, _ = self.runs[cell]
            known = self.client.get_run(run_id).data.metrics
            changed = {n: v for n, v in strength.fields.items() if known.get(n) != v}
            logged = [Metric(name, value, at, steps[cell]) for name, value in changed.items()]
            self.client.log_batch(run_id, metrics=logged)

    def _note_recommended(self, found: Recommendation) -> None:
        """The recommended cell and its run, as tags of the experiment and of the sweep's run; where
        cells do not all compare, one of each exam."""
        chosen = [found, *(own for _, own in found.each)]
        cells = [one.cell.cell for one in chosen if one.cell]
        runs = [self.runs[cell][0] for cell in cells if cell in self.runs]
        tags = {
            "charsweep.recommended": " ".join(cells),
            "charsweep.recommended_run": " ".join(runs),
        }
        for name, value in tags.items():
            self.client.set_experiment_tag(self.id, name, value)
        self.client.log_batch(self.parent, tags=values.as_tags(tags))

    def _write_runs(self, status: str) -> None:
        """What has been delivered: runs of cells, and whether the sweep's own run is whole."""
        cells = {cell: run_id for cell, (run_id, _) in self.runs.items()}
        content = {
            "experiment": self.id, "sweep": self.parent, "status": status, "cells": cells,
        }  # fmt: skip
        write_text(self.folder / "runs.json", json.dumps(content) + "\n")

    # -- a cell --------------------------------------------------------------------------------

    def _log_run(self, result: CellResult, digest: str) -> str:
        trajectory = inside(self.store, result.trajectory)
        images = inside(self.store, result.images) if result.images else None
        losses = read_losses(trajectory / "loss.csv", result.step)
        end = _finished_at(images, trajectory)
        paid = sum(row.seconds for row in losses) + (result.sample_seconds or 0)
        start = end - int(paid * 1000)
        run = self.client.create_run(
            self.id,
            start_time=start,
            run_name=values.run_name(result, list(self.sweep.get("axes") or {})),
            tags={
                "mlflow.parentRunId": self.parent,
                "mlflow.source.name": self.sweep.get("command", ""),
                "charsweep.cell": result.cell,
                "charsweep.digest": digest,
                "charsweep.sweep": self.name,
            },
        )
        run_id = str(run.info.run_id)
        tags = {**values.links(result), "charsweep.loss_parts": values.parts_of(losses)}
        self.client.log_batch(
            run_id,
            metrics=values.curves(losses, start) + values.numbers(result, end),
            params=values.params(result, trajectory, images),
            tags=values.as_tags(tags),
        )
        self._log_files(run_id, result, trajectory, images)
        self.client.set_terminated(run_id, STATUS[result.state], end_time=end)
        return run_id

    def _log_files(
        self, run_id: str, result: CellResult, trajectory: Path, images: Path | None
    ) -> None:
        sheet = pictures.contact_sheet(images) if images else None
        both = inside(self.store, result.parts[TOGETHER][0]) if TOGETHER in result.parts else None
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_text(folder / "cell.json", json_line(result))
            found = [trajectory / "spec.json", trajectory / "provenance.json"]
            found += [images / "images.json"] if images else []
            for path in found:
                if path.exists():
                    shutil.copy(path, folder)
            if images and (images / "scores").exists():
                (folder / "scores").mkdir()
                for path in sorted((images / "scores").glob("*.json")):
                    shutil.copy(inside(images, f"scores/{path.name}"), folder / "scores")
            if both and (both / "images.json").exists():
                (folder / TOGETHER).mkdir()
                shutil.copy(both / "images.json", folder / TOGETHER)
            if sheet:
                sheet.save(folder / "contact_sheet.png")
            self.client.log_artifacts(run_id, name)
        if images and sheet:  # once more for the image grid, which compares runs
            rows = [("contact_sheet", sheet), *pictures.exam_rows(images)]
            rows += pictures.exam_rows(both, TOGETHER) if both else ()
            for key, picture in rows:
                log_image(self.client, run_id, key, picture)


def experiment_of(client: MlflowClient, name: str, uri: str, root: Path) -> MlflowExperiment:
    """A sweep's experiment, made if there is none: its artifacts below root, or as a server says.

    Their place is given as an address: MLflow would read `%20` in a plain path as a blank.
    """
    known = client.get_experiment_by_name(name)
    if known is None:
        kept_here = urlsplit(uri).scheme.partition("+")[0] in DATABASE_ENGINES
        place = (root / "mlruns" / name).as_uri() if kept_here else None
        return client.get_experiment(client.create_experiment(name, place))
    if known.lifecycle_stage == "deleted":  # by a person in the UI, who now runs it again
        client.restore_experiment(known.experiment_id)
    return known


def search(client: MlflowClient, experiment: str, sweep: str) -> Iterator[Run]:
    """All runs of a sweep that are not deleted."""
    token = None
    while True:
        page = client.search_runs(
            [experiment], f"tags.`charsweep.sweep` = '{sweep}'", max_results=1000, page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _finished_at(images: Path | None, trajectory: Path) -> int:
    """Milliseconds: when the image set was committed, else when the last loss was written."""
    candidates = [images / "images.json"] if images else []
    for path in [*candidates, trajectory / "loss.csv"]:
        if path.exists():
            return int(path.stat().st_mtime * 1000)
    return int(time.time() * 1000)


def create_database(uri: str) -> None:
    """Make a new SQLite file under a temporary name.

    MLflow creates it in some 50 migrations over 2 s; one that is killed meanwhile leaves a file
    that MLflow can neither use nor mend.
    """
    path = database(uri)
    if path is None:
        return
    clear_abandoned(path.parent)
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_name(path) as temporary:
        MlflowClient(tracking_uri=address_of(temporary)).search_experiments(max_results=1)
        claim(temporary, path)  # unless another process was faster
