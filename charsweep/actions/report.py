"""`action=report`: rebuilt from the store, on several sweeps together, or from MLflow."""

from __future__ import annotations

from pathlib import Path

from charsweep.actions.run import say, say_where
from charsweep.config import Sweep
from charsweep.core.errors import ConfigError, StoreError
from charsweep.core.store import Store
from charsweep.core.system.console import out
from charsweep.engine.progress import ProgressView
from charsweep.report import write_report, write_report_together
from charsweep.results import read_results, recommend
from charsweep.results.candidates import strengths_of
from charsweep.results.parts import together
from charsweep.results.read import load_cells
from charsweep.results.recommendation import recommendation_of
from charsweep.results.votes import FILE
from charsweep.results.write import write_cells
from charsweep.study import note_votes, study_errors
from charsweep.track import rebuild
from charsweep.track.process import fetch


def rebuild_report(sweep: Sweep) -> Path:
    """A report once more, on one sweep or on several together, from the store or from MLflow."""
    settings = sweep.settings
    if settings.report.together:
        return report_together(sweep)
    if settings.report.source == "mlflow":
        return report_fetched(sweep)
    if not (sweep.folder / "sweep.json").exists():
        raise StoreError(
            f"there is no sweep {sweep.name} in {sweep.folder}; run it first: the same command "
            "without action=report"
        )
    store = Store(sweep.root)
    results = read_results(sweep.folder / "cells.jsonl")
    if results:
        write_cells(sweep.folder, store.folder, list(results.values()))
    page = write_report(sweep.folder, store.folder)
    if (sweep.folder / FILE).exists():
        cells = load_cells(sweep.folder, store.folder)
        with study_errors(sweep):
            note_votes(sweep, recommend(cells), strengths_of(cells))
    if settings.runtime.tracking:  # after the report, which MLflow gets too
        rebuild(sweep.folder, store.folder, settings.runtime.tracking_uri)
    say_where(sweep, page)
    return page


def report_together(sweep: Sweep) -> Path:
    """One report on several sweeps, in the folder of this one's name."""
    folders = [sweep.folder.parent / name for name in sweep.settings.report.together]
    for folder in folders:
        if not (folder / "sweep.json").exists():
            raise StoreError(
                f"report.together: there is no sweep {folder.name} in {folder}; run it first"
            )
    if (sweep.folder / "sweep.json").exists():
        raise ConfigError(
            f"name={sweep.name} is a sweep of its own, whose report would be lost; give the common "
            "report another name with name=NAME"
        )
    store, final = Store(sweep.root), sweep.folder / "report"
    sweep.folder.mkdir(parents=True, exist_ok=True)
    page = write_report_together(sweep.name, folders, store.folder, final)
    records = [load_cells(folder, store.folder) for folder in folders]
    say(recommend(together(sweep.name, records, store.folder)))
    out(f"report   {page}")
    return page


def report_fetched(sweep: Sweep) -> Path:
    """The report of a sweep that MLflow has and this folder has not."""
    with ProgressView() as view:
        view.doing(f"reading {sweep.name} from MLflow")
        store = fetch(sweep.name, sweep.folder, sweep.settings.runtime.tracking_uri)
    page = write_report(sweep.folder, store)
    say(recommendation_of(sweep.folder))
    out(f"report   {page}")
    return page
