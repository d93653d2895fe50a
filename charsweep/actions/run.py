"""A sweep in; its results on disk, in Optuna and in MLflow, and its report and last words out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from charsweep.actions.main_loop import Run, open_cluster, too_short
from charsweep.actions.plan import reckon_whole
from charsweep.actions.requests import honoured, looking
from charsweep.config import Sweep, load_sweep
from charsweep.config.precision import is_open, remember_precision
from charsweep.core.errors import ConfigError, ModelsError, TrainingError
from charsweep.core.specs import AdapterSpec, SnapshotSpec
from charsweep.core.store import Store
from charsweep.core.store.files import clear_abandoned, unwritable
from charsweep.core.system.console import command, out
from charsweep.core.system.distributed import join_team
from charsweep.core.system.signals import Stopped, delay_signals, time_is_up
from charsweep.core.system.signals import check as check_stop
from charsweep.engine.progress import ProgressView
from charsweep.models.adapter_source import keep_adapter
from charsweep.plan import plan_work
from charsweep.plan.describe import refuse_too_much
from charsweep.plan.workers import check_cluster, is_elsewhere, workers_of
from charsweep.results import Recommendation
from charsweep.results.recommendation import recommendation_of
from charsweep.study import check, lock_sweep, study_errors


def run(sweep: Sweep) -> Path:
    """Do what is missing of a sweep, and what is asked of it meanwhile; returns the report's page.

    TrainingError, after the report, if cells failed (a diverged one has not: it is a result);
    `Stopped`, after the report too, if the time was up before all was done.
    """
    while True:
        try:
            with looking(sweep):
                return run_once(honoured(sweep))
        except Stopped as stopped:
            if not stopped.is_asked:
                raise


def run_once(sweep: Sweep) -> Path:
    """The same as it is asked for now."""
    with time_to_begin(sweep):
        check(sweep)
        check_cluster(sweep.settings.runtime)
        store = Store(sweep.root, whole=sweep.settings.runtime.bring == "all")
        plan = plan_work(sweep.cells or sweep.examples, store)
        workers = workers_of(sweep)
        refuse_too_much(sweep, store, plan, workers)  # before anything is written
        expected = reckon_whole(sweep, store, plan, workers) if sweep.settings.find else None
        team = join_team(on_cpu=sweep.settings.runtime.device == "cpu")
        if team.size > 1 and sweep.settings.runtime.cluster:
            raise ConfigError(
                f"runtime.cluster={sweep.settings.runtime.cluster}: of several processes that a "
                "launcher starts each would join; start the command without one"
            )
        workers = workers if team.size == 1 else 1
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        clear_abandoned(store.folder)
        remember_precision(sweep.settings, store)
    except OSError as error:
        raise unwritable(store.folder, error) from error
    with lock_sweep(sweep) as waited, study_errors(sweep):
        with time_to_begin(sweep):
            keep_adapters(sweep, store)
            if waited or not sweep.cells:  # of a search nothing is planned as yet
                plan = plan_work(sweep.cells, store)
            work = Run(sweep, store, team, plan, expected, workers)
        with closing(work.study):
            page = work.run()
    if work.stopped:
        say_where(sweep, page, work.missing)
        raise work.stopped
    team.broadcast(None)  # to those who train along: that was all
    team.close()
    say_where(sweep, page)
    export_found(sweep)
    if work.failed:
        raise TrainingError(
            f"{len(work.failed)} of {len(work.asked)} cells failed, as said above and in the "
            "report; what is finished stays, and the same command tries them again"
        )
    return page


def keep_adapters(sweep: Sweep, store: Store) -> None:
    """Have all adapters from elsewhere in the store, whatever becomes of their files."""
    for source in {cell.source.key: cell.source for cell in sweep.cells}.values():
        if isinstance(source, AdapterSpec):
            file = sweep.adapters[source.key]
            is_there = store.has_snapshot(SnapshotSpec(source, 0))
            if not is_there and file.path.is_file() and replace(file).digest != source.digest:
                raise ModelsError(
                    f"adapters={file.path}: it has changed since this command was begun; run the "
                    "same command again"
                )
            keep_adapter(file.path, source, store)


def asked_of_workers(sweep: Sweep, words: Sequence[str]) -> Sweep:
    """The sweep with what only those who will do the work can tell: the precision that their card
    is good at, and how many trials share a pass best there. Remembered by the store."""
    runtime, store = sweep.settings.runtime, Store(sweep.root)
    if is_elsewhere(runtime) and is_open(sweep.settings, store):
        check_cluster(runtime)
        from charsweep.engine.cluster import card_there

        remember_precision(sweep.settings, store, card_there(runtime))
        sweep = load_sweep(words)
    if sweep.unmeasured:
        with time_to_begin(sweep):
            if is_elsewhere(runtime):
                check_cluster(runtime)
                with ProgressView() as view, closing(open_cluster(sweep, store, view, 1)) as engine:
                    engine.measure_widths()
            else:
                from charsweep.engine.measure_pack_width import measure_widths

                measure_widths(sweep, out)
            sweep = load_sweep(words)
    return sweep


@contextmanager
def time_to_begin(sweep: Sweep) -> Iterator[None]:
    """TrainingError where the time is up before any work has begun: so it would be again."""
    try:
        yield
    except Stopped as stopped:
        if stopped.is_time_up:
            raise too_short(sweep) from stopped
        raise


def follow(sweep: Sweep) -> None:
    """Train along with the process that leads."""
    from charsweep.engine.local import LocalEngine

    team = join_team(on_cpu=sweep.settings.runtime.device == "cpu")
    with ProgressView() as view:
        try:
            with delay_signals():  # a signal reaches all; the one that leads says when to stop
                LocalEngine(sweep, Store(sweep.root), view, team).packs.follow()
        except RuntimeError:  # it has left us
            check_stop()
            if sweep.settings.runtime.stop_after:  # which the one that leads has kept to
                time_is_up()
            raise
    team.close()


def export_found(sweep: Sweep) -> None:
    """Export what a search in stages has found, unless that is there."""
    if not (sweep.settings.find and sweep.settings.find.export):
        return
    if recommendation_of(sweep.folder).cell is None:
        return
    from charsweep.actions.export.write import export, exported

    if there := exported(sweep):
        out(f"export   {there}")
    else:
        export(sweep)


# -- words -----------------------------------------------------------------------------------------


def say(found: Recommendation) -> None:
    """The recommendation, as the last thing but where to look."""
    for label, text in found.lines():
        out(f"{label:<9}{text}")


def say_where(sweep: Sweep, page: Path, missing: str = "") -> None:
    say(recommendation_of(sweep.folder))
    if missing:
        out(f"missing  {missing}")
    out(f"report   {page}")
    out(f"cells    {sweep.folder / 'cells.csv'}")
    if sweep.settings.runtime.tracking:
        look = command(["action=ui", f"name={sweep.name}", f"root={sweep.root}"])
        out(f"MLflow   {look}")
