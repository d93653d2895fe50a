"""The main loop of a run: batches of cells are planned, executed, told and written down."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Mapping, Sequence, Set
from contextlib import closing, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charsweep.actions.plan import seconds_for
from charsweep.actions.requests import requests_of
from charsweep.actions.sweep_record import compared_with, in_order, known_record, new_record, now
from charsweep.config import Sweep
from charsweep.core.cells import Cell
from charsweep.core.errors import TrainingError
from charsweep.core.specs import ExamSpec
from charsweep.core.store import Store
from charsweep.core.store.files import write_json
from charsweep.core.system.console import command, out, span
from charsweep.core.system.distributed import ALONE, Team
from charsweep.core.system.energy import Energy, Meter
from charsweep.core.system.signals import Stopped, time_limit
from charsweep.engine.progress import ProgressView
from charsweep.engine.units import More
from charsweep.plan import Plan, cost, plan_work
from charsweep.plan.describe import describe_plan, reckon
from charsweep.plan.workers import is_asynchronous, is_elsewhere, threads_of
from charsweep.report import write_report
from charsweep.results import CellResult, read_results, recommend
from charsweep.results.candidates import strengths_of
from charsweep.results.cells import append_result, result_of, stopped_result, write_asked
from charsweep.results.energy import energy_alone, energy_record
from charsweep.results.facts import stage_text
from charsweep.results.read import load_cells
from charsweep.results.votes import FILE
from charsweep.results.write import write_cells
from charsweep.study import Study, open_study
from charsweep.track import Tracker, is_delivered, read_runs, start

if TYPE_CHECKING:
    from charsweep.engine.local import LocalEngine
    from charsweep.engine.workers import WorkersEngine

PATIENCE = 60.0  # seconds that MLflow is waited for by a command that is stopped
TRACKING_SECONDS = 5.0  # the same where the time is up; the next command logs the rest
OF_CELLS = (  # of a plan
    "cells", "trajectories", "adapters", "composed", "steps_asked", "stored", "kwh_alone",
)  # fmt: skip


class Run:
    """One command's work on a sweep, and the books it keeps."""

    def __init__(
        self,
        sweep: Sweep,
        store: Store,
        team: Team,
        plan: Plan,
        expected: Mapping[str, Any] | None,
        workers: int,
    ) -> None:
        self.sweep, self.store, self.team, self.workers = sweep, store, team, workers
        self.known = known_record(sweep)
        take = partial(seconds_for, sweep, store, workers)
        free = workers if is_asynchronous(sweep, workers) else None
        stages = self.known.get("stages") or ()
        self.study: Study = open_study(sweep, take, stages, free)  # may refuse
        self.earlier = read_results(sweep.folder / "cells.jsonl")
        wanted = self.study.wanted(self.earlier)
        known = plan if wanted is sweep.cells else plan_work(wanted, store)
        self.plan = known if known.is_done else plan
        self.asked_for = reckon(sweep, store, self.plan, workers)
        self.record = new_record(sweep, store, self.asked_for)
        self.record["stages"] = self.study.stages
        if sweep.settings.search.sampler is not None:  # by all commands so far
            earlier = (self.known.get("search") or {}).get("repeatable", True)
            self.record["search"]["repeatable"] = earlier and self.study.is_repeatable
        self.record["requests"] = [asdict(one) for one in requests_of(sweep.folder)]
        out(describe_plan(sweep, expected or self.record["plan"]))
        self.results = self.earlier | {
            cell.key: stopped_result(cell, store) for cell in sweep.stopped
        }
        self.engine: LocalEngine | WorkersEngine | None = None  # none while nothing needs work
        self.plans: list[dict[str, Any]] = []
        self.worked_on: list[Cell] = []
        self.batch: Sequence[Cell] = sweep.cells  # the one at hand
        self.stopped: Stopped | None = None  # by the time limit
        self.missing = ""  # what is then
        self.said = 0  # stages of a search

    def run(self) -> Path:
        """The main loop, then the report."""
        was_finished = self._is_finished()
        runtime = self.sweep.settings.runtime
        if not was_finished:  # before tracking starts, which reads it
            self.record |= {n: self.known[n] for n in ("environment", "energy") if n in self.known}
            write_json(self.sweep.folder / "sweep.json", self.record)
            write_asked(self.sweep.folder, self.sweep.cells, self.store)
            self._write_results()  # whole lines to append to
        tracker = None
        if runtime.tracking and not was_finished:
            tracker = start(self.sweep.folder, self.store.folder, runtime.tracking_uri)
        with (
            ProgressView() as view,
            Meter(runtime.country, workers=self.workers)
            if runtime.energy and not is_elsewhere(runtime)  # this machine does little
            else nullcontext() as meter,
        ):
            try:
                view.expect(cells=len(self.sweep.cells))
                self._batches(view, meter)
                page = self.sweep.folder / "report" / "index.html"
                if not (was_finished and self.results == self.earlier and page.exists()):
                    page = self._report()
                if tracker and self.stopped:
                    tracker.close(TRACKING_SECONDS)
                elif tracker:  # which logs the report too
                    wait_for_tracking(tracker, view, self.study, self.sweep)
            except BaseException as error:
                in_haste = isinstance(error, Stopped) and error.is_time_up
                if isinstance(error, Stopped) and not self.stopped:
                    view.say(self._leave(meter.read() if meter else None))
                if tracker:
                    tracker.close(TRACKING_SECONDS if in_haste else PATIENCE)
                raise
        return page

    def _batches(self, view: ProgressView, meter: Meter | None) -> None:
        """All batches, as far as there is time for them, and the record of what came of them."""
        whole = self.sweep.settings.runtime.stop_after
        seconds = whole and cost.seconds_for_work(whole, self.record["plan"]["seconds_to_stop"])
        try:
            # closed before anybody looks at the store: what is begun is saved then
            with closing(self), time_limit(seconds), closing(self.study.batches()) as batches:
                for cells in batches:
                    self._say_stages(view)
                    self._work(cells, view, meter)
                self._say_stages(view)
                self._fetch_best()
        except Stopped as stopped:
            if not stopped.is_time_up:
                raise
            self._break_off(stopped)
        energy = meter.read() if meter else None
        if self.stopped:
            view.say(self._leave(energy))
            self._write_results()
        else:
            self._finish(energy)

    def _fetch_best(self) -> None:
        """Bring the recommended weights, if they stayed with a worker."""
        runtime = self.sweep.settings.runtime
        if self.engine is None or not runtime.cluster or runtime.bring != "best":
            return
        held = [cell for cell in self.worked_on if self.store.held_by(cell.images.snapshot)]
        if not held:
            return
        self._write_results()
        best = recommend(load_cells(self.sweep.folder, self.store.folder)).cell
        for cell in held:
            if best and cell.key == best.cell:
                self.engine.fetch(cell.images.snapshot)

    def close(self) -> None:
        """Have those end who work."""
        if self.engine:
            self.engine.close()

    def _break_off(self, stopped: Stopped) -> None:
        """See what is missing when the time is up, unless nothing is.

        TrainingError if nothing came of that time: so it would be again.
        """
        left = plan_work(self.batch, self.store, self.study.snapshot_steps)
        missing = self.study.total - self._done()
        if self.sweep.cells and left.is_done and not missing:
            return
        numbers = reckon(self.sweep, self.store, left, self.workers)
        begun = self.plans[-1] if self.plans else self.record["plan"]
        led_nowhere = len(self.plans) <= 1 and self.results == self.earlier
        if led_nowhere and all(numbers[name] == begun[name] for name in cost.MISSING):
            raise too_short(self.sweep, cost.longest_unit(left, self.store))
        self.missing = f"{missing} of {self.study.total} {self.study.unit}"
        if self.study.stages:
            self.missing += ", and what they lead to"
        elif self.batch is self.sweep.cells:
            work = f"{numbers['steps_needed']:,} steps, {numbers['images']:,} images"
            self.missing += f": {work}, about {span(numbers['seconds'])}"
        self.stopped = stopped

    def _report(self) -> Path:
        """Write the report, and that it is on what the record says."""
        started = time.perf_counter()
        try:
            page = write_report(self.sweep.folder, self.store.folder)
        except Stopped as stopped:
            if stopped.is_time_up:
                words = ["action=report", f"name={self.sweep.name}", f"root={self.sweep.root}"]
                out(f"report   no time was left for it; {command(words)} writes it")
            raise
        cost.Speeds(self.store).remember_report(len(self.results), time.perf_counter() - started)
        if not self.stopped:
            self.record["reported"] = self.record["finished"]  # no earlier one is taken
            write_json(self.sweep.folder / "sweep.json", self.record)
        return page

    def _work(self, cells: Sequence[Cell], view: ProgressView, meter: Meter | None) -> None:
        """Do what is missing of a batch, and tell each result as it comes; of a search that waits
        for no batch, what it comes to meanwhile, too."""
        more = None if self.study.is_repeatable else partial(self._further, view, meter)
        with closing(self._execute(self._plan(cells), view, more)) as results:
            for result in results:
                self._tell(result, view, meter)
                if self.study.is_spent:
                    break

    def _further(self, view: ProgressView, meter: Meter | None, workers: int) -> Plan | None:
        """What one of so many workers who is free is to do; what is stored is told at once."""
        while cells := self.study.next_cells(workers):
            plan = self._plan(cells)
            self._expect(plan, view)
            if not plan.is_done:
                self._begin(plan, view)
                return plan
            for result in self._looked_up(plan):
                self._tell(result, view, meter)
        return None

    def _tell(self, result: CellResult, view: ProgressView, meter: Meter | None) -> None:
        """Tell what has ended with a result."""
        for settled in self.study.settle(result):
            done = self._add(settled, meter.read() if meter else None)
            self.study.tell(done)
            view.cell(done, list(self.sweep.axes))
        if self.study.stages and self.engine:  # the time that they took
            write_json(self.sweep.folder / "sweep.json", self.record)

    def _say_stages(self, view: ProgressView) -> None:
        """The stages of a search that have not been said, unless all is only looked up."""
        find = self.sweep.settings.find
        for stage in self.study.stages[self.said :]:
            if not (self.known.get("finished") and self.engine is None):
                view.say(f"stage: {stage_text(stage, find.budget if find else None)}")
            self.said += 1

    def _plan(self, cells: Sequence[Cell]) -> Plan:
        """What is missing of these cells: of a grid, as it was planned at the start."""
        self.batch = cells
        if cells is self.sweep.cells:
            return self.plan
        return plan_work(cells, self.store, self.study.snapshot_steps)

    @property
    def asked(self) -> Set[str]:
        """Keys of the cells that were asked for; of a search, those that it has tried."""
        return {cell.key for cell in self.sweep.cells} or self.results.keys()

    @property
    def failed(self) -> Set[str]:
        known = self.asked & self.results.keys()
        return {key for key in known if self.results[key].state == "failed"}

    def _done(self) -> int:
        """How many of those that are asked for are finished."""
        known = self.asked & self.results.keys()
        return self.study.done([self.results[key] for key in known])

    def _leave(self, energy: Energy | None) -> str:
        """Write down what a stopped command leaves undone, for the study and MLflow to show."""
        if not (self._is_finished() or self.record["finished"]):
            self.record["stopped"] = {
                "at": now(), "finished": self._done(), "asked": self.study.total
            }  # fmt: skip
            if energy:
                self.record["energy"] = energy_record(
                    energy, self.results, self.earlier, self.known
                )
            write_json(self.sweep.folder / "sweep.json", self.record)
        finished = f"{self._done()} of {self.study.total} {self.study.unit}"
        return f"{finished} are finished; what is begun goes on from here"

    def _execute(
        self, plan: Plan, view: ProgressView, more: More | None
    ) -> Generator[CellResult, None, None]:
        """Do the plan; where nothing is left to do, its cells are only looked up, without torch."""
        self._expect(plan, view)
        if plan.is_done:
            return self._looked_up(plan)
        return self._begin(plan, view).execute(plan, more)

    def _looked_up(self, plan: Plan) -> Generator[CellResult, None, None]:
        cells = (cell for training in plan.trainings for cell in training.cells)
        return (result_of(cell, self.store, 0.0) for cell in cells)

    def _expect(self, plan: Plan, view: ProgressView) -> None:
        is_known = bool(self.sweep.cells) or self.study.is_further
        view.expect(
            steps=plan.steps_needed, images=sum(scoring.to_draw for scoring in plan.scorings),
            cells=0 if is_known else len(plan.cells), trajectories=len(plan.trainings),
        )  # fmt: skip

    def _begin(self, plan: Plan, view: ProgressView) -> LocalEngine | WorkersEngine:
        """Put a plan that is to be done into the books; the engine that does it."""
        self.worked_on += plan.cells
        numbers = reckon(self.sweep, self.store, plan, self.workers)
        self.plans.append(cost.further(numbers) if self.study.is_further else numbers)
        if self.engine is None:
            self.engine = open_engine(self.sweep, self.store, view, self.workers, self.team)
        self.record["environment"] = dict(self.engine.environment)
        self.record["plan"] = cost.total(self.plans)
        if self.sweep.cells:  # a race works on the same ones in several rounds
            self.record["plan"] |= {name: self.asked_for[name] for name in OF_CELLS}
        else:
            begun = {training.trajectory.key for training in plan.trainings}
            needed = self.record["needs"]
            needed["sources"] = sorted(begun.union(needed["sources"]))
        write_json(self.sweep.folder / "plan.json", self.record["plan"])
        write_json(self.sweep.folder / "sweep.json", self.record)
        self._write_results()
        return self.engine

    def _write_results(self) -> None:
        write_cells(self.sweep.folder, self.store.folder, in_order(self.sweep, self.results))

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
        """Whether an earlier command ended with just these cells, tracked where that is wanted, and
        nobody has voted since."""
        known = self.known
        if self.failed or not self.plan.is_done or self._has_new_votes():
            return False
        same = all(known.get(name) == self.record[name] for name in ("axes", "fixed", "settings"))
        tracking = self.sweep.settings.runtime.tracking
        tracked = not tracking or is_delivered(self.sweep.folder, self.asked)
        return bool(same and tracked and known.get("finished") and known.get("reported"))

    def _has_new_votes(self) -> bool:
        """Whether votes came after the report."""
        votes, page = self.sweep.folder / FILE, self.sweep.folder / "report" / "index.html"
        both = votes.exists() and page.exists()
        return both and votes.stat().st_mtime_ns > page.stat().st_mtime_ns

    def _finish(self, energy: Energy | None) -> None:
        """Write the whole record, and the cells in order."""
        known, record = self.known, self.record
        before = [exam["references"]["real"] for exam in record["exams"] or [record]]

        def real(at: int, exam: ExamSpec) -> Mapping[str, float]:
            ours = self.engine.among_references.get(exam.measure) if self.engine else None
            return {**before[at], **(ours or {})}

        record |= {
            **compared_with(self.sweep, self.store, real),
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
            cost.Speeds(self.store).remember(cost.WATTS, energy.watts / energy.workers)
            record["energy"] = energy_record(energy, self.results, self.earlier, known)
        write_json(self.sweep.folder / "sweep.json", record)
        self._write_results()
        cells = load_cells(self.sweep.folder, self.store.folder)
        self.study.trials.note_recommended(recommend(cells), strengths_of(cells))


def open_engine(
    sweep: Sweep, store: Store, view: ProgressView, workers: int, team: Team = ALONE
) -> LocalEngine | WorkersEngine:
    """Torch is imported where the work is done: here, or by each worker."""
    runtime, threads = sweep.settings.runtime, threads_of(sweep, "cpu") or 1
    if runtime.cluster:
        return open_cluster(sweep, store, view, workers)
    if workers > 1:
        from charsweep.engine.pipes import Pipes
        from charsweep.engine.workers import WorkersEngine

        return WorkersEngine(sweep, store, view, Pipes(workers, threads))
    from charsweep.engine.local import LocalEngine

    return LocalEngine(sweep, store, view, team)


def open_cluster(sweep: Sweep, store: Store, view: ProgressView, workers: int) -> WorkersEngine:
    """Workers on Ray; ConfigError where it does not take us."""
    from charsweep.engine.cluster import RayCluster
    from charsweep.engine.workers import WorkersEngine

    runtime, threads = sweep.settings.runtime, threads_of(sweep, "cpu") or 1
    return WorkersEngine(sweep, store, view, RayCluster(runtime, workers, threads, view.say))


# -- tracking --------------------------------------------------------------------------------------


def wait_for_tracking(tracker: Tracker, view: ProgressView, study: Study, sweep: Sweep) -> None:
    """Let MLflow catch up; a tracking failure is said and stops nothing."""
    view.doing("waiting for MLflow to catch up")
    problem = tracker.wait()
    if problem:
        view.say(f"tracking: {problem}")
    study.trials.link_runs(read_runs(sweep.folder))


def too_short(sweep: Sweep, longest: float = 0.0) -> TrainingError:
    """What is said of a time limit that leads nowhere; `longest` in seconds: a piece of work."""
    return TrainingError(
        f"runtime.stop_after={sweep.settings.runtime.stop_after:g}s was over before anything was "
        "finished that goes on from here; give it more, as in "
        f"runtime.stop_after={math.ceil(10 + longest / 20)}min"
    )
