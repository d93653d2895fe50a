"""A sweep in, its results on disk, in Optuna and in MLflow, and its report out: the main loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charsweep import cost
from charsweep.config import Sweep
from charsweep.errors import StoreError
from charsweep.keys import canonical
from charsweep.plan import Plan, plan_work
from charsweep.progress import View, out, span
from charsweep.report import write_report
from charsweep.results import (
    CellResult,
    json_line,
    read_results,
    result_of,
    scores_of,
    write_results,
)
from charsweep.settings import ALWAYS
from charsweep.store import Store, read_json, unwritable, write_json
from charsweep.study import Study, hold
from charsweep.track import Tracker, read_runs, rebuild, start

if TYPE_CHECKING:
    from charsweep.engine.local import LocalEngine


def run(sweep: Sweep) -> Path:
    """Do what is missing of a sweep; returns the report's page."""
    store = Store(sweep.root)
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(store.folder, error) from error
    with hold(sweep):
        began = datetime.now(UTC).isoformat(timespec="seconds")
        plan = plan_work(sweep.cells, store, sweep.truth)
        numbers = cost.summary(plan, store, dict(sweep.bases))
        out(describe(sweep, numbers))
        write_json(sweep.folder / "plan.json", numbers)
        if plan.is_done:
            return finish_stored(sweep, store, numbers, began)
        return execute(sweep, store, numbers, began)


def execute(sweep: Sweep, store: Store, numbers: dict[str, Any], began: str) -> Path:
    """The main loop."""
    from charsweep.engine.local import LocalEngine, environment  # torch, only where it is needed

    results = earlier_results(sweep)
    study = Study(sweep)
    varied = list(sweep.axes)
    with View() as view:
        engine = LocalEngine(sweep, store, view)
        record = sweep_record(sweep, store, numbers, began, environment(engine.device))
        write_json(sweep.folder / "sweep.json", record)
        write_results(sweep.folder / "cells.jsonl", list(results.values()))
        tracker = start_tracking(sweep, store)
        try:
            for cells in study.batches():
                plan = plan_work(cells, store, sweep.truth)
                expect(view, plan)
                for result in engine.execute(plan):
                    numbered = with_paid(study.numbered(result), results.get(result.cell))
                    results[result.cell] = numbered
                    append_result(sweep.folder / "cells.jsonl", numbered)
                    study.tell(numbered)
                    view.cell(numbered, varied)
        except BaseException:
            if tracker:
                tracker.close()
            raise
        record = sweep_record(sweep, store, numbers, began, record["environment"], engine)
        finish(sweep, results, record)
        wait_for_tracking(tracker, view, study, sweep)
    page = write_report(sweep.folder, store.folder)
    say_where(sweep, page)
    return page


def finish_stored(sweep: Sweep, store: Store, numbers: dict[str, Any], began: str) -> Path:
    """Everything is in the store: bring study, MLflow and report up to date, if they are not."""
    study = Study(sweep)
    earlier, results = earlier_results(sweep), {}
    for cells in study.batches():
        for cell in cells:
            result = study.numbered(result_of(cell, store, 0.0))
            results[cell.key] = with_paid(result, earlier.get(cell.key))
            study.tell(results[cell.key])
    page = sweep.folder / "report" / "index.html"
    path = sweep.folder / "sweep.json"
    known = read_json(path) if path.exists() else {}
    if is_up_to_date(sweep, known, earlier, results) and page.exists():
        say_where(sweep, page)
        return page
    record = sweep_record(sweep, store, numbers, began, known.get("environment", {}))
    record["references"]["real"] = known.get("references", {}).get("real", {})
    finish(sweep, {**earlier, **results}, record)
    with View() as view:
        wait_for_tracking(start_tracking(sweep, store), view, study, sweep)
    page = write_report(sweep.folder, store.folder)
    say_where(sweep, page)
    return page


def is_up_to_date(
    sweep: Sweep,
    known: Mapping[str, Any],
    earlier: Mapping[str, CellResult],
    results: Mapping[str, CellResult],
) -> bool:
    """Whether record, report and MLflow already say all that this command asks for."""
    same = all(earlier.get(key) == result for key, result in results.items())
    tracked = (
        not sweep.settings.runtime.tracking or results.keys() <= read_runs(sweep.folder).keys()
    )
    asked = known.get("axes") == {name: list(values) for name, values in sweep.axes.items()}
    return bool(same and tracked and asked and known.get("finished"))


def finish(sweep: Sweep, results: Mapping[str, CellResult], record: dict[str, Any]) -> None:
    """Rewrite cells in the order they were asked for, those of earlier commands behind."""
    asked = [results[cell.key] for cell in sweep.cells if cell.key in results]
    keys = {result.cell for result in asked}
    earlier = [result for key, result in results.items() if key not in keys]
    write_json(sweep.folder / "sweep.json", {**record, "finished": now()})
    write_results(sweep.folder / "cells.jsonl", [*asked, *earlier])


def earlier_results(sweep: Sweep) -> dict[str, CellResult]:
    """Results of earlier commands of this sweep; they are kept, and their paid time with them."""
    return read_results(sweep.folder / "cells.jsonl")


def with_paid(result: CellResult, earlier: CellResult | None) -> CellResult:
    """What a cell cost here adds up over the commands that worked on it."""
    if earlier is None:
        return result
    return replace(result, paid_seconds=round(result.paid_seconds + earlier.paid_seconds, 3))


def append_result(path: Path, result: CellResult) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json_line(result))
    except OSError as error:
        raise unwritable(path, error) from error


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# -- the record of a sweep -------------------------------------------------------------------------


def sweep_record(
    sweep: Sweep,
    store: Store,
    numbers: dict[str, Any],
    began: str,
    environment: Mapping[str, Any],
    engine: LocalEngine | None = None,
) -> dict[str, Any]:
    """What sweep.json says: asked, fixed, compared with, planned and run on."""
    first = sweep.cells[0].values
    settings = sweep.settings
    return {
        "name": sweep.name,
        "question": settings.question,
        "command": sweep.command,
        "started": began,
        "finished": None,
        "axes": {name: list(values) for name, values in sweep.axes.items()},
        "fixed": {name: first[name] for name in ALWAYS if name not in sweep.axes},
        "settings": canonical(sweep.resolved),
        "objectives": [
            {"metric": metric, "direction": direction}
            for metric, direction in settings.objectives.items()
        ],
        "metrics": list(settings.metric),
        "character": {
            "name": sweep.character.name,
            "identifier": sweep.character.identifier,
            "class_noun": sweep.character.class_noun,
            "images": [str(path) for path in sweep.character.paths],
            "captions": list(sweep.character.captions),
        },
        "exam": {
            "prompts": list(sweep.cells[0].images.prompts),
            "seeds": list(sweep.cells[0].images.seeds),
        },
        "references": references(sweep, store, engine),
        "plan": numbers,
        "environment": dict(environment),
    }


def references(sweep: Sweep, store: Store, engine: LocalEngine | None) -> dict[str, Any]:
    """Scores of the untaught bases, of the true pictures, and of the training images themselves."""
    bases: dict[str, Any] = {}
    for cell in sweep.cells:
        name = cell.trajectory.base.name
        if name not in bases and store.has_images(cell.reference):
            bases[name] = {
                "scores": scores_of(cell, cell.reference, store),
                "images": store.relative(store.images(cell.reference)),
            }
    truth = None
    if sweep.truth is not None and store.has_images(sweep.truth):
        truth = {
            "scores": scores_of(sweep.cells[0], sweep.truth, store),
            "images": store.relative(store.images(sweep.truth)),
        }
    return {
        "base": bases,
        "truth": truth,
        "real": engine.among_references() if engine else {},
    }


# -- tracking --------------------------------------------------------------------------------------


def start_tracking(sweep: Sweep, store: Store) -> Tracker | None:
    if not sweep.settings.runtime.tracking:
        return None
    return start(sweep.folder, store.folder, sweep.settings.runtime.tracking_uri)


def wait_for_tracking(tracker: Tracker | None, view: View, study: Study, sweep: Sweep) -> None:
    """Let MLflow catch up; a tracking failure is said and stops nothing."""
    if tracker is None:
        return
    view.doing("waiting for MLflow to catch up")
    problem = tracker.wait()
    if problem:
        view.say(f"tracking: {problem}")
    study.link_runs(read_runs(sweep.folder))


# -- words -----------------------------------------------------------------------------------------


def expect(view: View, plan: Plan) -> None:
    images = sum(cost.count(scoring.images) for scoring in plan.scorings if scoring.draw)
    view.expect(
        steps=plan.steps_needed, images=images, cells=len(plan.cells),
        trajectories=len(plan.trainings),
    )  # fmt: skip


def describe(sweep: Sweep, numbers: Mapping[str, Any]) -> str:
    """The plan in a few lines."""
    stored = numbers["stored"]
    axes = "; ".join(f"{k}: {', '.join(map(_short, v))}" for k, v in sweep.axes.items())
    asked, needed = numbers["steps_asked"], numbers["steps_needed"]
    lines = [
        f"{sweep.name}: {sweep.settings.question}",
        f"  axes          {axes or 'none'}",
        f"  cells         {numbers['cells']} ({stored['cells']} stored already)",
        f"  trajectories  {numbers['trajectories']} ({stored['trajectories']} need no training)",
        f"  steps         {needed:,} to train; each cell alone would take {asked:,}",
        f"  images        {numbers['images']:,} to draw, {numbers['scores']:,} scores to compute",
        f"  estimate      {span(numbers['seconds'])}"
        f"{'' if numbers['measured'] else ' (not measured here yet)'}, "
        f"{numbers['bytes'] / 1e6:,.1f} MB",
    ]
    return "\n".join(lines)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def say_where(sweep: Sweep, page: Path) -> None:
    out(f"report   {page}")
    out(f"cells    {sweep.folder / 'cells.csv'}")
    if sweep.settings.runtime.tracking:
        out("MLflow   run `mlflow ui` in " + str(sweep.root))


# -- other actions ---------------------------------------------------------------------------------


def show_plan(sweep: Sweep) -> None:
    """Print what would be done, reused and paid; writes nothing."""
    store = Store(sweep.root)
    plan = plan_work(sweep.cells, store, sweep.truth)
    out(describe(sweep, cost.summary(plan, store, dict(sweep.bases))))


def rebuild_report(sweep: Sweep) -> Path:
    """Report and MLflow once more from what is stored."""
    if not (sweep.folder / "sweep.json").exists():
        raise StoreError(
            f"there is no sweep {sweep.name} in {sweep.folder}; run it first: the same command "
            "without action=report"
        )
    store = Store(sweep.root)
    if sweep.settings.runtime.tracking:
        rebuild(sweep.folder, store.folder, sweep.settings.runtime.tracking_uri)
    page = write_report(sweep.folder, store.folder)
    say_where(sweep, page)
    return page
