"""A sweep in, its results on disk, in Optuna and in MLflow, and its report out: the main loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from charsweep import cost
from charsweep.config import Sweep
from charsweep.engine.stored import StoredEngine
from charsweep.errors import StoreError
from charsweep.keys import canonical
from charsweep.plan import Plan, plan_work
from charsweep.progress import View, out, span
from charsweep.report import write_report
from charsweep.results import (
    CellResult,
    json_line,
    read_results,
    scores_of,
    write_results,
)
from charsweep.settings import ALWAYS
from charsweep.specs import examined
from charsweep.store import Store, read_json, unwritable, write_json
from charsweep.study import Study, hold
from charsweep.track import Tracker, read_runs, rebuild, start


class Engine(Protocol):
    """Who executes a plan, yielding each cell as it is finished."""

    @property
    def environment(self) -> Mapping[str, Any]: ...
    def execute(self, plan: Plan) -> Iterator[CellResult]: ...
    def among_references(self) -> Mapping[str, float]: ...


def run(sweep: Sweep) -> Path:
    """Do what is missing of a sweep; returns the report's page."""
    store = Store(sweep.root)
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        store.clear_abandoned()
    except OSError as error:
        raise unwritable(store.folder, error) from error
    with hold(sweep):
        plan = plan_work(sweep.cells, store, sweep.truth)
        record = new_record(sweep, store, plan)
        out(describe(sweep, record["plan"]))
        page = execute(sweep, store, plan, record)
    say_where(sweep, page)
    return page


def execute(sweep: Sweep, store: Store, plan: Plan, record: dict[str, Any]) -> Path:
    """The main loop."""
    study = Study(sweep)
    with View() as view:
        engine = make_engine(sweep, store, plan, view)
        earlier = read_results(sweep.folder / "cells.jsonl")
        results = dict(earlier)
        was_finished = is_finished(sweep, record)
        if not plan.is_done:
            record |= {"environment": dict(engine.environment)}
            write_json(sweep.folder / "plan.json", record["plan"])
            write_json(sweep.folder / "sweep.json", record)
            write_results(sweep.folder / "cells.jsonl", list(results.values()))
        tracker = None if was_finished else start_tracking(sweep, store)
        try:
            for cells in study.batches():
                plan = plan_work(cells, store, sweep.truth)
                expect(view, plan)
                for result in engine.execute(plan):
                    numbered = with_paid(study.numbered(result), results.get(result.cell))
                    results[result.cell] = numbered
                    append_result(sweep.folder / "cells.jsonl", numbered)
                    study.tell(numbered)
                    view.cell(numbered, list(sweep.axes))
        except BaseException:
            if tracker:
                tracker.close()
            raise
        finish(sweep, store, results, record, engine)
        wait_for_tracking(tracker, view, study, sweep)
    page = sweep.folder / "report" / "index.html"
    if not (was_finished and results == earlier and page.exists()):
        page = write_report(sweep.folder, store.folder)
    return page


def make_engine(sweep: Sweep, store: Store, plan: Plan, view: View) -> Engine:
    """This process; or, when nothing is left to do, one that only looks (and needs no torch)."""
    if plan.is_done:
        return StoredEngine(store)
    from charsweep.engine.local import LocalEngine

    return LocalEngine(sweep, store, view)


def is_finished(sweep: Sweep, record: Mapping[str, Any]) -> bool:
    """Whether an earlier command ended with just these cells, tracked where that is wanted."""
    known = known_record(sweep)
    same = all(known.get(name) == record[name] for name in ("axes", "fixed", "settings"))
    keys = {cell.key for cell in sweep.cells}
    tracked = not sweep.settings.runtime.tracking or keys <= read_runs(sweep.folder).keys()
    return bool(same and tracked and known.get("finished"))


def finish(
    sweep: Sweep,
    store: Store,
    results: Mapping[str, CellResult],
    record: Mapping[str, Any],
    engine: Engine,
) -> None:
    """Rewrite cells in the order they were asked for, those of earlier commands behind."""
    known = known_record(sweep)
    real = dict(engine.among_references()) or record["references"]["real"]
    done = {**record, "references": references(sweep, store, real), "finished": now()}
    if not record["environment"]:  # nothing was left to do: how it was done stands in the old one
        done |= {n: known[n] for n in ("environment", "plan", "started") if n in known}
    asked = [results[cell.key] for cell in sweep.cells if cell.key in results]
    keys = {result.cell for result in asked}
    others = [result for key, result in results.items() if key not in keys]
    write_json(sweep.folder / "sweep.json", done)
    write_results(sweep.folder / "cells.jsonl", [*asked, *others])


def known_record(sweep: Sweep) -> dict[str, Any]:
    """What an earlier command wrote to sweep.json; empty if there was none."""
    path = sweep.folder / "sweep.json"
    known: dict[str, Any] = read_json(path) if path.exists() else {}
    return known


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


def new_record(sweep: Sweep, store: Store, plan: Plan) -> dict[str, Any]:
    """What sweep.json says: asked, fixed, compared with, planned and run on."""
    first = sweep.cells[0].values
    settings = sweep.settings
    return {
        "name": sweep.name,
        "question": settings.question,
        "command": sweep.command,
        "started": now(),
        "finished": None,
        "axes": {name: list(values) for name, values in sweep.axes.items()},
        "fixed": {name: first[name] for name in ALWAYS if name in first and name not in sweep.axes},
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
            "prompts": list(examined(sweep.cells).images.prompts),
            "seeds": list(sweep.cells[0].images.seeds),
        },
        "references": references(
            sweep, store, known_record(sweep).get("references", {}).get("real")
        ),
        "plan": cost.summary(plan, store, dict(sweep.bases)),
        "environment": {},
    }


def references(sweep: Sweep, store: Store, real: dict[str, float] | None) -> dict[str, Any]:
    """Scores of the untaught bases, of the true pictures, and of the training images themselves."""
    bases: dict[str, Any] = {}
    for cell in sweep.cells:
        name = cell.trajectory.base_name
        if cell.reference and name not in bases and store.has_images(cell.reference):
            bases[name] = {
                "scores": scores_of(cell, cell.reference, store),
                "images": store.relative(store.images(cell.reference)),
            }
    truth = None
    if sweep.truth is not None and store.has_images(sweep.truth):
        truth = {
            "scores": scores_of(examined(sweep.cells), sweep.truth, store),
            "images": store.relative(store.images(sweep.truth)),
        }
    return {"base": bases, "truth": truth, "real": real or {}}


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
        f"  packs         {_packs(numbers)}",
        f"  images        {numbers['images']:,} to draw, {numbers['scores']:,} scores to compute",
        f"  estimate      {span(numbers['seconds'])}"
        f"{'' if numbers['measured'] else ' (not measured here yet)'}, "
        f"{numbers['bytes'] / 1e6:,.1f} MB",
    ]
    return "\n".join(lines) + _to_measure(sweep)


def _packs(numbers: Mapping[str, Any]) -> str:
    """ "7 trajectories, 8 at once: 1,000 passes; slots idle 12.5 %"."""
    packs = numbers["packs"]
    if not packs:
        return "none"
    together = [pack for pack in packs if pack["width"] > 1]
    alone = len(packs) - len(together)
    parts = [
        f"{pack['trajectories']} trajectories, {pack['width']} at once: {pack['passes']:,} passes"
        for pack in together
    ]
    if alone:
        parts.append(f"{alone} trained alone")
    return "; ".join(parts) + f"; slots idle {numbers['idle']:.1%}"


def _to_measure(sweep: Sweep) -> str:
    if not sweep.unmeasured:
        return ""
    return "\n  pack=auto      not measured here yet: reckoned one by one; a run measures it first"


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def say_where(sweep: Sweep, page: Path) -> None:
    out(f"report   {page}")
    out(f"cells    {sweep.folder / 'cells.csv'}")
    if sweep.settings.runtime.tracking:
        out("MLflow   run `mlflow ui` in " + str(sweep.root))


def measure_widths(sweep: Sweep) -> None:
    """Find out how wide packs should be, where that is left to measurement."""
    from charsweep.engine import probe

    probe.measure_widths(sweep, out)


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
