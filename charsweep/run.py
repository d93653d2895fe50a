"""A sweep in, its results on disk, in Optuna and in MLflow, and its report out: the main loop."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Set
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from charsweep import cost, fits
from charsweep.config import Sweep
from charsweep.describe import describe, describe_search
from charsweep.energy import Energy, Meter, energy_of
from charsweep.engine.stored import StoredEngine
from charsweep.errors import ConfigError, StoreError, TrainingError
from charsweep.hardware import find_card
from charsweep.locks import locked
from charsweep.measured import Known
from charsweep.plan import Plan, plan_work
from charsweep.progress import View, out
from charsweep.recommendation import Recommendation, recommend, recommendation_of
from charsweep.record import in_order, known_record, new_record, now, references
from charsweep.report import write_report, write_report_together
from charsweep.report.parts import together
from charsweep.report.reading import load_cells
from charsweep.results import CellResult, json_line, read_results, write_results
from charsweep.search import check
from charsweep.stopping import Stopped, held
from charsweep.stopping import check as check_stop
from charsweep.store import Store, clear_abandoned, unwritable, write_json
from charsweep.study import Study, open_study
from charsweep.team import Team, join_team
from charsweep.track import Tracker, fetch, is_delivered, read_runs, rebuild, start
from charsweep.trials import explained, hold


class Engine(Protocol):
    """Who executes a plan, yielding each cell as it is finished."""

    @property
    def environment(self) -> Mapping[str, Any]: ...
    def execute(self, plan: Plan) -> Generator[CellResult, None, None]: ...
    def among_references(self) -> Mapping[str, float]: ...


def run(sweep: Sweep) -> Path:
    """Do what is missing of a sweep; returns the report's page.

    TrainingError, after the report, if cells failed (a diverged one has not: it is a result).
    """
    check(sweep)
    store = Store(sweep.root)
    measure_memory(sweep, store)
    refuse_too_much(sweep, store)
    team = join_team(on_cpu=sweep.settings.runtime.device == "cpu")
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        clear_abandoned(store.folder)
    except OSError as error:
        raise unwritable(store.folder, error) from error
    with hold(sweep), explained(sweep):
        work = Run(sweep, store, team)
        page = work.run()
    team.hear(None)  # to those who train along: that was all
    team.part_ways()
    say_where(sweep, page)
    if work.failed:
        raise TrainingError(
            f"{len(work.failed)} of {len(work.asked)} cells failed, as said above and in the "
            "report; what is finished stays, and the same command tries them again"
        )
    return page


def follow(sweep: Sweep) -> None:
    """Train along with the process that leads."""
    from charsweep.engine.local import LocalEngine

    team = join_team(on_cpu=sweep.settings.runtime.device == "cpu")
    with View() as view:
        try:
            with held():  # a signal reaches all; the one that leads says when to stop
                LocalEngine(sweep, Store(sweep.root), view, team).follow()
        except RuntimeError:  # it has left us
            check_stop()
            raise
    team.part_ways()


class Run:
    """One command's work on a sweep, and the books it keeps."""

    def __init__(self, sweep: Sweep, store: Store, team: Team) -> None:
        self.sweep, self.store, self.team = sweep, store, team
        self.study: Study = open_study(sweep)  # first: it may refuse
        self.plan = plan_work(sweep.cells, store, sweep.truth)  # of a search: none, as yet
        self.record = new_record(sweep, store, reckon(sweep, store, self.plan))
        out(describe_plan(sweep, self.record["plan"]))
        self.known = known_record(sweep)
        self.earlier = read_results(sweep.folder / "cells.jsonl")
        self.results = dict(self.earlier)
        self.engine: Engine | None = None  # the one that works; none while nothing needs work
        self.plans: list[dict[str, Any]] = []

    def run(self) -> Path:
        """The main loop."""
        was_finished = self._is_finished()
        runtime = self.sweep.settings.runtime
        if not was_finished:  # before tracking starts, which reads it
            self.record |= {n: self.known[n] for n in ("environment", "energy") if n in self.known}
            write_json(self.sweep.folder / "sweep.json", self.record)
            self._write_results()  # whole lines to append to
        tracker = None if was_finished else start_tracking(self.sweep, self.store)
        with View() as view, Meter(runtime.country) if runtime.energy else nullcontext() as meter:
            try:
                for cells in self.study.batches():
                    plan = plan_work(cells, self.store, self.sweep.truth, self.study.kept)
                    expect(view, plan)
                    with closing(self._engine(plan, view).execute(plan)) as results:
                        for result in results:
                            done = self._add(result, meter.read() if meter else None)
                            self.study.tell(done)
                            view.cell(done, list(self.sweep.axes))
                self._finish(meter.read() if meter else None)
                page = self.sweep.folder / "report" / "index.html"
                if not (was_finished and self.results == self.earlier and page.exists()):
                    page = write_report(self.sweep.folder, self.store.folder)
                    self._note_report()
                if tracker:  # which logs the report too
                    wait_for_tracking(tracker, view, self.study, self.sweep)
            except BaseException as error:
                if isinstance(error, Stopped):
                    view.say(self._leave(meter.read() if meter else None))
                if tracker:
                    tracker.close()
                raise
        return page

    @property
    def asked(self) -> Set[str]:
        """Keys of the cells that were asked for; of a search, those that it has tried."""
        return {cell.key for cell in self.sweep.cells} or self.results.keys()

    @property
    def failed(self) -> Set[str]:
        known = self.asked & self.results.keys()
        return {key for key in known if self.results[key].state == "failed"}

    def _leave(self, energy: Energy | None) -> str:
        """Write down what a stopped command leaves undone, for the study and MLflow to show."""
        asked = len(self.sweep.cells) or self.sweep.settings.search.trials
        done = len((self.asked & self.results.keys()) - self.failed)
        if not (self._is_finished() or self.record["finished"]):
            self.record["stopped"] = {"at": now(), "finished": done, "asked": asked}
            if energy:
                self.record["energy"] = energy_record(
                    energy, self.results, self.earlier, self.known
                )
            write_json(self.sweep.folder / "sweep.json", self.record)
        self.study.trials.note_unfinished()
        return f"{done} of {asked} cells are finished; what is begun goes on from here"

    def _engine(self, plan: Plan, view: View) -> Engine:
        """This process; or, with nothing left to do, one that only looks (and needs no torch)."""
        if plan.is_done:
            return self.engine or StoredEngine(self.store)
        self.plans.append(reckon(self.sweep, self.store, plan))
        if self.engine is None:
            from charsweep.engine.local import LocalEngine

            self.engine = LocalEngine(self.sweep, self.store, view, self.team)
        self.record["environment"] = dict(self.engine.environment)
        self.record["plan"] = cost.total(self.plans)
        write_json(self.sweep.folder / "plan.json", self.record["plan"])
        write_json(self.sweep.folder / "sweep.json", self.record)
        self._write_results()
        return self.engine

    def _note_report(self) -> None:
        """From now on, an earlier report is not taken for this one."""
        self.record["reported"] = self.record["finished"]
        write_json(self.sweep.folder / "sweep.json", self.record)

    def _write_results(self) -> None:
        write_results(self.sweep.folder / "cells.jsonl", in_order(self.sweep, self.results))

    def _add(self, result: CellResult, energy: Energy | None) -> CellResult:
        """Put a result into the books: its trial, and what it cost here over all commands."""
        earlier = self.results.get(result.cell)
        watt_hours, grams = energy_alone(result, earlier, energy)
        done = replace(
            result,
            trial=self.study.number(result),
            paid_seconds=round(result.paid_seconds + (earlier.paid_seconds if earlier else 0.0), 3),
            energy_wh=watt_hours,
            co2_g=grams,
        )
        self.results[result.cell] = done
        append_result(self.sweep.folder / "cells.jsonl", done)
        return done

    def _is_finished(self) -> bool:
        """Whether an earlier command ended with just these cells, tracked where that is wanted."""
        known = self.known
        if self.failed or not self.plan.is_done:
            return False
        same = all(known.get(name) == self.record[name] for name in ("axes", "fixed", "settings"))
        tracking = self.sweep.settings.runtime.tracking
        tracked = not tracking or is_delivered(self.sweep.folder, self.asked)
        return bool(same and tracked and known.get("finished") and known.get("reported"))

    def _finish(self, energy: Energy | None) -> None:
        """Write the whole record, and the cells in order."""
        known, record = self.known, self.record
        among = dict(self.engine.among_references()) if self.engine else {}
        real = among or record["references"]["real"]
        record |= {
            "references": references(self.sweep, self.store, real),
            "importance": self.study.trials.importances(),
            "finished": now(),
        }
        if self.engine is None:  # nothing was left to do: how it was done stands in the old one
            record |= {
                name: known[name]
                for name in ("environment", "plan", "started", "energy", "reported")
                if name in known
            }
        elif energy:
            cost.Speeds(self.store).remember_watts(energy.watts)
            record["energy"] = energy_record(energy, self.results, self.earlier, known)
        write_json(self.sweep.folder / "sweep.json", record)
        self._write_results()
        self.study.trials.note_unfinished()


def energy_alone(
    result: CellResult, earlier: CellResult | None, energy: Energy | None
) -> tuple[float | None, float | None]:
    """What a cell would take by itself, like its seconds: watt-hours and grams of CO2.

    So that cells compare, whoever paid for what they share; as it was reckoned first.
    """
    if earlier and earlier.energy_wh is not None:
        return earlier.energy_wh, earlier.co2_g
    if energy is None or result.train_seconds is None:
        return None, None
    return energy_of(result.train_seconds + (result.sample_seconds or 0.0), energy)


def energy_record(
    energy: Energy,
    results: Mapping[str, CellResult],
    earlier: Mapping[str, CellResult],
    known: Mapping[str, Any],
) -> dict[str, Any]:
    """This command's energy, added to what the sweep's earlier ones took.

    `saved_kwh` is what the cells finished here would have taken alone, less what they took.
    """
    here = [result for key, result in results.items() if earlier.get(key) != result]
    alone = sum((one.train_seconds or 0.0) + (one.sample_seconds or 0.0) for one in here)
    before = sum(earlier[one.cell].paid_seconds for one in here if one.cell in earlier)
    paid = sum(one.paid_seconds for one in here) - before
    before_kwh = known.get("energy") or {}
    saved = max(0.0, energy_of(alone - paid, energy)[0] / 1000)
    return {
        "kwh": energy.kwh + before_kwh.get("kwh", 0.0),
        "co2_kg": energy.co2_kg + before_kwh.get("co2_kg", 0.0),
        "saved_kwh": saved + before_kwh.get("saved_kwh", 0.0),
        "watts": round(energy.watts, 2),
        "measured": energy.measured,
        "source": energy.source,
        "country": energy.country,
    }


def append_result(path: Path, result: CellResult) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json_line(result))
    except OSError as error:
        raise unwritable(path, error) from error


# -- tracking --------------------------------------------------------------------------------------


def start_tracking(sweep: Sweep, store: Store) -> Tracker | None:
    if not sweep.settings.runtime.tracking:
        return None
    return start(sweep.folder, store.folder, sweep.settings.runtime.tracking_uri)


def wait_for_tracking(tracker: Tracker, view: View, study: Study, sweep: Sweep) -> None:
    """Let MLflow catch up; a tracking failure is said and stops nothing."""
    view.doing("waiting for MLflow to catch up")
    problem = tracker.wait()
    if problem:
        view.say(f"tracking: {problem}")
    study.trials.link_runs(read_runs(sweep.folder))


# -- memory ----------------------------------------------------------------------------------------


def reckon(sweep: Sweep, store: Store, plan: Plan) -> dict[str, Any]:
    """The plan in numbers, its memory too."""
    card = find_card(sweep.settings.runtime.device)
    found = fits.expected(plan, sweep.bases, sweep.settings.runtime, card, Known(store))
    return {
        **cost.summary(plan, store, dict(sweep.bases)),
        "memory": fits.summary(found, card),
    }


def measure_memory(sweep: Sweep, store: Store) -> None:
    """What a card must hold, where the architecture is not one whose figures are known."""
    card, specs = find_card(sweep.settings.runtime.device), [c.trajectory for c in sweep.examples]
    if card and card.device != "cpu" and fits.unmeasured(specs, sweep.bases, Known(store)):
        from charsweep.engine import probe

        probe.measure_memory(sweep, store, out)


def refuse_too_much(sweep: Sweep, store: Store) -> None:
    """ConfigError if what is missing cannot fit this machine's memory."""
    card, known = find_card(sweep.settings.runtime.device), Known(store)
    plan = plan_work(sweep.cells or sweep.examples, store, sweep.truth)
    found = fits.expected(plan, sweep.bases, sweep.settings.runtime, card, known)
    if found and card and fits.is_too_much(found, card):
        raise fits.refusal(found, sweep.bases, card, known)


# -- words -----------------------------------------------------------------------------------------


def describe_plan(sweep: Sweep, numbers: Mapping[str, Any]) -> str:
    return describe(sweep, numbers) if sweep.cells else describe_search(sweep)


def expect(view: View, plan: Plan) -> None:
    images = sum(cost.count(scoring.images) for scoring in plan.scorings if scoring.draw)
    view.expect(
        steps=plan.steps_needed, images=images, cells=len(plan.cells),
        trajectories=len(plan.trainings),
    )  # fmt: skip


def say(found: Recommendation) -> None:
    """The recommendation, as the last thing but where to look."""
    for label, text in found.lines():
        out(f"{label:<9}{text}")


def say_where(sweep: Sweep, page: Path) -> None:
    say(recommendation_of(sweep.folder))
    out(f"report   {page}")
    out(f"cells    {sweep.folder / 'cells.csv'}")
    if sweep.settings.runtime.tracking:
        out(f"MLflow   python -m charsweep action=ui name={sweep.name} root={sweep.root}")


def measure_widths(sweep: Sweep) -> None:
    """Find out how wide packs should be, where that is left to measurement."""
    from charsweep.engine import probe

    folder = Store(sweep.root).folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".widths.lock", "the width of packs"):
            probe.measure_widths(sweep, out)
    except OSError as error:
        raise unwritable(folder, error) from error


# -- other actions ---------------------------------------------------------------------------------


def show_plan(sweep: Sweep) -> None:
    """Print what would be done, reused and paid; writes nothing."""
    check(sweep)
    store = Store(sweep.root)
    plan = plan_work(sweep.cells, store, sweep.truth)
    out(describe_plan(sweep, reckon(sweep, store, plan)))
    card = find_card(sweep.settings.runtime.device)
    if card and card.device != "cpu":  # on a machine without one, plans are made for another
        refuse_too_much(sweep, store)


def rebuild_report(sweep: Sweep) -> Path:
    """A report once more, on one sweep or on several together, from the store or from MLflow."""
    settings = sweep.settings
    if settings.together:
        return report_together(sweep)
    if settings.source == "mlflow":
        return report_fetched(sweep)
    if not (sweep.folder / "sweep.json").exists():
        raise StoreError(
            f"there is no sweep {sweep.name} in {sweep.folder}; run it first: the same command "
            "without action=report"
        )
    store = Store(sweep.root)
    results = read_results(sweep.folder / "cells.jsonl")
    if results:
        write_results(sweep.folder / "cells.jsonl", list(results.values()))  # and cells.csv
    page = write_report(sweep.folder, store.folder)
    if settings.runtime.tracking:  # after the report, which MLflow gets too
        rebuild(sweep.folder, store.folder, settings.runtime.tracking_uri)
    say_where(sweep, page)
    return page


def report_together(sweep: Sweep) -> Path:
    """One report on several sweeps, in the folder of this one's name."""
    folders = [sweep.folder.parent / name for name in sweep.settings.together]
    for folder in folders:
        if not (folder / "sweep.json").exists():
            raise StoreError(f"together: there is no sweep {folder.name} in {folder}; run it first")
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
    with View() as view:
        view.doing(f"reading {sweep.name} from MLflow")
        store = fetch(sweep.name, sweep.folder, sweep.settings.runtime.tracking_uri)
    page = write_report(sweep.folder, store)
    say(recommendation_of(sweep.folder))
    out(f"report   {page}")
    return page
