"""A search in a store of its own, a race and a grid on top of it, and the truth of all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.find.outcomes import RATES, STEPS, STRENGTHS, Outcome, Raced
from benchmarks.find.truths import images_of, name_of, truth, truth_in
from benchmarks.validity.characters import Character, write_character
from benchmarks.validity.judge import Judge
from charsweep.config import load_sweep
from charsweep.core.store import Store
from charsweep.engine.local import LocalEngine
from charsweep.engine.progress import ProgressView
from charsweep.plan import Speeds, cost, plan_work
from charsweep.results import CellResult, read_results
from charsweep.results.read import load_cells
from charsweep.results.recommendation import recommend, recommendation_of

GRID = [
    f"+axes.lr=[{RATES}]",
    f"+axes.train_steps=[{STEPS}]",
    f"+axes.strength=[{STRENGTHS}]",
    "inference_steps=10",  # as +sweep=race and +sweep=lr_grid draw; what is compared gets 20
    "sampler.batch_width=8",  # so that a race looks after each exam seed
]
SEEDS, RACED_SEEDS = "exam.seeds=[0,1]", "exam.seeds=[0,1,2,3,4,5,6,7]"
FRESH_SEEDS = "exam.seeds=[10,11,12,13,14,15,16,17]"  # nothing was chosen by these
TRUEST = 3  # cells of the grid that are judged by them


def measure(who: Character, seed: int, work: Path, judge: Judge, race: bool) -> Outcome:
    """One search, by the clock; with `race` a race over the grid; then the whole grid."""
    root = work / f"{who.name}-{seed}"
    write_character(who, work / "characters")
    words = [*who.words(work / "characters"), f"root={root}", f"seed={seed}", "exam=quick"]
    words += ["runtime.tracking=false"]
    grid = [*words, *GRID, RACED_SEEDS if race else SEEDS]
    timed = root / "seconds.json"
    root.mkdir(parents=True, exist_ok=True)
    if not timed.exists():
        shutil.rmtree(root / "sweeps", ignore_errors=True)  # one that was stopped says no time
        began = time.monotonic()
        command(["+sweep=find", *words], root / "find.log")
        timed.write_text(json.dumps(time.monotonic() - began), encoding="utf-8")
    if race:
        command([*grid, "name=race", "search=race"], root / "race.log")
    command([*grid, "name=grid"], root / "grid.log")
    store, sweeps = Store(root), root / "sweeps"
    found = recommendation_of(sweeps / "find").cell
    assert found is not None
    cells = [one for one in cells_in(sweeps / "grid") if one.images]
    cells.sort(key=lambda cell: truth(cell, who, store, judge), reverse=True)
    by_score = recommendation_of(sweeps / "grid").cell
    assert by_score is not None
    likely = [by_score, *cells[:TRUEST]]
    compared = [found, *(with_steps(cell, 20) for cell in likely)]
    pick, *others = judged(compared, words, who, judge)
    best = max(range(len(likely)), key=lambda index: others[index])
    tried = cells_in(sweeps / "find")
    seconds = json.loads(timed.read_text(encoding="utf-8"))
    return Outcome(
        who.name, seed, name_of(found), pick, name_of(likely[best]), others[best],
        len(tried), images_of(tried), seconds, *of_grid([*grid, SEEDS], store),
        raced(sweeps) if race else None, name_of(by_score), others[0],
    )  # fmt: skip


def command(words: Sequence[str], log: Path) -> None:
    with log.open("a", encoding="utf-8") as file:
        done = [sys.executable, "-m", "charsweep", *words]
        subprocess.run(done, stdout=file, stderr=subprocess.STDOUT, check=True)


def cells_in(sweep: Path) -> list[CellResult]:
    return list(read_results(sweep / "cells.jsonl").values())


def with_steps(cell: CellResult, inference_steps: int) -> CellResult:
    """The cell drawn in so many inference steps."""
    return replace(cell, values={**cell.values, "inference_steps": inference_steps})


def judged(
    cells: Sequence[CellResult], words: Sequence[str], who: Character, judge: Judge
) -> list[float]:
    """Truth of cells by images of exam seeds that none of them was chosen by."""
    truths = []
    for cell in cells:
        names = ("lr", "train_steps", "inference_steps", "strength")
        values = [f"{name}={cell.values[name]}" for name in names if name in cell.values]
        sweep = load_sweep([*words, *values, FRESH_SEEDS, "name=fresh"])
        store = Store(sweep.root)
        (one,) = sweep.cells
        for result in LocalEngine(sweep, store, ProgressView()).execute(plan_work([one], store)):
            assert result.state == "finished", result
        truths.append(truth_in(store.images(one.images), who, judge))
    return truths


def of_grid(words: Sequence[str], store: Store) -> tuple[float, float]:
    """Seconds of the grid from nothing, on one trainer and cell by cell, at this store's speeds."""
    sweep = load_sweep(words)
    with TemporaryDirectory() as folder:
        empty = Store(Path(folder))
        empty.folder.mkdir(parents=True)
        shutil.copy(store.folder / "speeds.json", empty.folder)
        plan, speeds = plan_work(sweep.cells, empty), Speeds(empty)
        return cost.summary(plan, empty, sweep.bases)["seconds"], cost.seconds_alone(plan, speeds)


def raced(sweeps: Path) -> Raced:
    """What a race named, and what the grid that was drawn after it says of that."""
    found = recommendation_of(sweeps / "race").cell
    record = load_cells(sweeps / "grid", sweeps / "store")
    grid = recommend(record)
    assert found is not None
    assert grid.cell is not None
    assert grid.point is not None
    good = [cell.cell for point in (grid.point, *grid.alike) for cell in point.cells]
    return Raced(
        images_of(cells_in(sweeps / "race")), name_of(found), name_of(grid.cell), found.cell in good
    )
