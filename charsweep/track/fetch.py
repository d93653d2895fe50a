"""A sweep's folder rebuilt from MLflow alone, for a machine without the store.

What a report is made from comes back: `sweep.json`, `cells.jsonl`, `cells.csv`, and, in `fetched/`
in the store's own layout, each trajectory's `loss.csv` and the images, as large as MLflow keeps
them. No weights: nothing can be trained on or drawn from this, so it is kept apart from a store.

MLflow keeps the loss of every step exactly, the time of a step to the millisecond, and `lr` and
`grad_norm` of some steps only; where it has none, they are NaN.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from charsweep.core.errors import TrackingError
from charsweep.core.store.files import inside, read_json, write_json
from charsweep.core.store.losses import LossRow, write_losses
from charsweep.results import CellResult
from charsweep.results.cells import TOGETHER, result_from
from charsweep.results.votes import FILE, Votes
from charsweep.results.write import write_cells
from charsweep.track.cell_runs import STATUS, search
from charsweep.track.pictures import cut, index_of, plain
from charsweep.track.server import database, public
from charsweep.track.sweep_run import references
from charsweep.track.values import CURVES

FETCHED = "fetched"
NAN = float("nan")


def fetch(
    name: str, sweep_folder: Path, uri: str, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write the sweep's folder; returns the folder that stands in for the store."""
    refuse_own(sweep_folder)
    client, parent, runs = find(name, uri)
    sweep_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=sweep_folder) as scratch:
        source = Source(client, Path(scratch))
        store = Path(scratch) / FETCHED
        store.mkdir()
        sweep = fetch_sweep(source, parent, store, sweep_folder / FETCHED)
        results = []
        for number, run in enumerate(runs, 1):
            results.append(fetch_cell(source, run, store))
            if progress:
                progress(number, len(runs))
        for run in longest(runs, results):
            fetch_losses(client, run, store)
        if FILE in source.names(parent) and Votes(votes := source.file(parent, FILE)).read():
            Votes(sweep_folder / FILE).merge(votes)
        shutil.rmtree(sweep_folder / FETCHED, ignore_errors=True)
        store.rename(sweep_folder / FETCHED)
    write_json(sweep_folder / "sweep.json", sweep)
    write_cells(sweep_folder, sweep_folder / FETCHED, results)
    return sweep_folder / FETCHED


def refuse_own(sweep_folder: Path) -> None:
    """A folder that a sweep wrote here knows more than MLflow does."""
    if (sweep_folder / "sweep.json").exists() and not (sweep_folder / FETCHED).exists():
        raise TrackingError(
            f"{sweep_folder} was written by the sweep itself; its report needs no MLflow. To see "
            "what MLflow alone holds, choose an empty folder with root="
        )


def find(name: str, uri: str) -> tuple[MlflowClient, Run, list[Run]]:
    """The sweep's parent run and its finished cells, in the order they were asked for."""
    path = database(uri)
    if path is not None and not path.exists():  # MLflow would make an empty one
        raise TrackingError(f"there is no {path}; set root= or runtime.tracking_uri= to MLflow's")
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(name)
    runs = list(search(client, experiment.experiment_id, name)) if experiment else []
    parents = [run for run in runs if "charsweep.cell" not in run.data.tags]
    if not parents:
        known = [other.name for other in client.search_experiments() if other.name != "Default"]
        raise TrackingError(
            f"MLflow at {public(uri)} has no sweep {name}; "
            f"it has {', '.join(sorted(known)) or 'none'}; choose one with name="
        )
    cells = [run for run in runs if "charsweep.cell" in run.data.tags]
    whole = [run for run in cells if run.info.status in STATUS.values()]
    last = 1 << 31  # place of those that no sampler asked for
    whole.sort(
        key=lambda run: (
            int(run.data.tags.get("charsweep.trial", last)),
            int(run.info.start_time),
        )
    )
    return client, parents[0], whole


class Source:
    """Artifacts of runs, downloaded to a scratch folder."""

    def __init__(self, client: MlflowClient, folder: Path) -> None:
        self.client, self.folder = client, folder

    def names(self, run: Run, below: str | None = None) -> list[str]:
        return [item.path for item in self.client.list_artifacts(run.info.run_id, below)]

    def file(self, run: Run, path: str) -> Path:
        place = inside(self.folder, run.info.run_id)
        place.mkdir(exist_ok=True)
        inside(place, path)  # a server may say anything
        return Path(self.client.download_artifacts(run.info.run_id, path, str(place)))

    def rows(self, run: Run, label: str) -> dict[int, Path]:
        """The images of one label, by their number."""
        numbered = {
            path: index_of(Path(path).name, label)
            for path in self.names(run, "images")
            if path.endswith(".png")
        }
        return {n: self.file(run, path) for path, n in numbered.items() if n is not None}


# -- the sweep -------------------------------------------------------------------------------------


def fetch_sweep(source: Source, parent: Run, store: Path, final: Path) -> dict[str, Any]:
    """sweep.json, with the training images where `store` will finally be."""
    sweep: dict[str, Any] = read_json(source.file(parent, "sweep.json"))
    drawings = source.rows(parent, "drawing")
    (store / "drawings").mkdir()
    for index, path in drawings.items():
        shutil.copy(path, store / "drawings" / f"{index + 1:02d}.png")
    if sweep.get("character"):
        before = sweep["character"]["images"]
        here = {
            before[index]: str(final / "drawings" / f"{index + 1:02d}.png")
            for index in sorted(drawings)
            if index < len(before)
        }
        for one in (sweep, *(sweep.get("exams") or ())):
            one["character"]["images"] = [
                here[path] for path in one["character"]["images"] if path in here
            ]
    logged = source.names(parent, "references")
    for label, relative in references(sweep).items():
        place = f"references/{plain(label)}"
        if place in logged:
            manifest = source.file(parent, f"{place}/images.json")
            unpack(manifest, source.rows(parent, label), inside(store, relative))
    return sweep


def unpack(manifest: Path, rows: Mapping[int, Path], folder: Path) -> None:
    """An image set: its manifest, and its images cut from the rows that were logged."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(manifest, folder / "images.json")
    cut(rows, read_json(manifest), folder)


# -- a cell ----------------------------------------------------------------------------------------


def fetch_cell(source: Source, run: Run, store: Path) -> CellResult:
    """The result of a cell; its specs and images go to `store`."""
    names = source.names(run)
    try:
        if "cell.json" not in names:
            raise ValueError("it was logged by an earlier version")
        result = result_from(read_json(source.file(run, "cell.json")))
    except (TypeError, ValueError) as error:
        raise TrackingError(
            f"the run {run.info.run_name} ({run.info.run_id}) does not hold its cell: {error}; run "
            "the sweep's command again where its store is: MLflow is brought up to date then"
        ) from error
    trajectory = inside(store, result.trajectory)
    trajectory.mkdir(exist_ok=True)
    for name in ("spec.json", "provenance.json"):
        if name in names and not (trajectory / name).exists():
            shutil.copy(source.file(run, name), trajectory / name)
    if result.images and "images.json" in names:
        folder = inside(store, result.images)
        unpack(source.file(run, "images.json"), source.rows(run, "exam"), folder)
        if "scores" in names:
            shutil.copytree(source.file(run, "scores"), folder / "scores")
    if TOGETHER in result.parts and TOGETHER in names:  # two characters in one picture
        manifest, rows = source.file(run, f"{TOGETHER}/images.json"), source.rows(run, TOGETHER)
        unpack(manifest, rows, inside(store, result.parts[TOGETHER][0]))
    return result


# -- losses ----------------------------------------------------------------------------------------


def longest(runs: Sequence[Run], results: Sequence[CellResult]) -> list[Run]:
    """One run of each trajectory: that with the most steps, whose curve holds the others'."""
    pairs = sorted(zip(runs, results, strict=True), key=lambda pair: pair[1].step)
    return list({result.trajectory: run for run, result in pairs}.values())


def fetch_losses(client: MlflowClient, run: Run, store: Path) -> None:
    """loss.csv of the run's trajectory; none where not one step was logged."""
    if "loss" not in run.data.metrics:
        return
    parts = json.loads(run.data.tags.get("charsweep.loss_parts", "[]"))
    columns = {
        name: {metric.step: metric for metric in client.get_metric_history(run.info.run_id, name)}
        for name in (*CURVES, *parts)
    }
    rows, before = [], int(run.info.start_time)
    for step, loss in sorted(columns["loss"].items()):
        at = {name: column[step].value for name, column in columns.items() if step in column}
        rows.append(
            LossRow(
                step=step,
                loss=loss.value,
                lr=at.get("lr", NAN),
                grad_norm=at.get("grad_norm", NAN),
                seconds=(loss.timestamp - before) / 1000,
                parts={name: at.get(name, NAN) for name in parts},
            )
        )
        before = loss.timestamp
    write_losses(inside(store, run.data.tags["charsweep.trajectory"]) / "loss.csv", rows, parts)
