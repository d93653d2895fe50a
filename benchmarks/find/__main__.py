"""`python -m benchmarks.find`: does `+sweep=find` find what a grid would, and for how much of it?

For every character and training seed: the search in an empty store, by the clock; then the grid of
nine rates × six numbers of steps on top of it; then the truth of both by the judge of
`benchmarks.validity`. Writes benchmarks/FIND.md; hours of one core, and the same command goes on.

`--simulate FOLDER` trains nothing: it runs the same rule on the sweeps of `benchmarks.validity`
that lie there (seven rates × 200, 500 and 1,000 steps), where a rate that they lack counts as
diverged, or as the nearest that they have past the rates that teach anything. Their stages race
after each of the seeds that their exams have.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.racing.simulate import raced
from benchmarks.validity.characters import CHARACTERS, PROMPTS, Character, write_character
from benchmarks.validity.judge import Judge, train
from benchmarks.validity.sweeps import words_of
from benchmarks.validity.truth import truth_of
from charsweep.config import load_settings, load_sweep
from charsweep.config.find import start_of
from charsweep.core.store import Store
from charsweep.core.system.console import span
from charsweep.core.system.images import open_image
from charsweep.plan import Speeds, cost, plan_work
from charsweep.results import CellResult, read_results
from charsweep.results.points import SCORE
from charsweep.results.recommendation import recommendation_of
from charsweep.study.stages import Stages

HERE = Path(__file__).parent
NAMES = [who.name for who in CHARACTERS]
RATES = "1e-4,3e-4,5e-4,1e-3,2e-3,3e-3,5e-3,1e-2,3e-2"
STEPS = "125,250,375,500,750,1000"
CLOSE = 0.03  # of truth: what a search may lose
STORED_STEPS = [200, 500, 1000]
# Rates that the stored sweeps lack, where the next that they have teaches as little.
ALIKE = {1e-5: 1e-4, 3e-5: 1e-4, 5e-5: 1e-4, 2e-4: 1e-4, 3e-2: 1e-1, 2e-2: 1e-1}


@dataclass(frozen=True)
class Outcome:
    """What one search came to, and the best of the grid."""

    who: Character
    seed: int
    found: str
    truth: float
    best: str
    best_truth: float
    cells: int
    images: tuple[int, int] = (0, 0)  # drawn, and what whole exams would take
    seconds: float | None = None  # None: simulated
    grid_seconds: float | None = None  # on the same trainer
    alone_seconds: float | None = None  # each cell of the grid by itself

    @property
    def lost(self) -> float:
        return self.best_truth - self.truth


# -- for real --------------------------------------------------------------------------------------


def measure(who: Character, seed: int, work: Path, judge: Judge) -> Outcome:
    """One search in a store of its own, then the grid there."""
    root = work / f"{who.name}-{seed}"
    write_character(who, work / "characters")
    words = [*who.words(work / "characters"), f"root={root}", f"seed={seed}"]
    words += ["runtime.tracking=false"]
    grid = ["exam=quick", "inference_steps=20", "name=grid", f"+axes.lr=[{RATES}]"]
    grid += [f"+axes.train_steps=[{STEPS}]"]
    timed = root / "seconds.json"
    root.mkdir(parents=True, exist_ok=True)
    if not timed.exists():
        shutil.rmtree(root / "sweeps", ignore_errors=True)  # one that was stopped says no time
        began = time.monotonic()
        command(["+sweep=find", *words], root / "find.log")
        timed.write_text(json.dumps(time.monotonic() - began), encoding="utf-8")
    command([*words, *grid], root / "grid.log")
    store = Store(root)
    truths = {
        cell.cell: truth(cell, who, store, judge)
        for name in ("find", "grid")
        for cell in read_results(root / "sweeps" / name / "cells.jsonl").values()
        if cell.images
    }
    found = recommendation_of(root / "sweeps" / "find").cell
    assert found is not None
    cells = read_results(root / "sweeps" / "grid" / "cells.jsonl").values()
    best = max((cell for cell in cells if cell.images), key=lambda cell: truths[cell.cell])
    tried = read_results(root / "sweeps" / "find" / "cells.jsonl")
    seconds = json.loads(timed.read_text(encoding="utf-8"))
    return Outcome(
        who, seed, name_of(found), truths[found.cell], name_of(best), truths[best.cell],
        len(tried), images_of(list(tried.values())), seconds, *of_grid([*words, *grid], store),
    )  # fmt: skip


def command(words: Sequence[str], log: Path) -> None:
    with log.open("a", encoding="utf-8") as file:
        done = [sys.executable, "-m", "charsweep", *words]
        subprocess.run(done, stdout=file, stderr=subprocess.STDOUT, check=True)


def of_grid(words: Sequence[str], store: Store) -> tuple[float, float]:
    """Seconds of the grid from nothing, on one trainer and cell by cell, at this store's speeds."""
    sweep = load_sweep(words)
    with TemporaryDirectory() as folder:
        empty = Store(Path(folder))
        empty.folder.mkdir(parents=True)
        shutil.copy(store.folder / "speeds.json", empty.folder)
        plan, speeds = plan_work(sweep.cells, empty), Speeds(empty)
        return cost.summary(plan, empty, sweep.bases)["seconds"], cost.seconds_alone(plan, speeds)


def truth(cell: CellResult, who: Character, store: Store, judge: Judge) -> float:
    """Mean truth of a cell's images."""
    assert cell.images is not None
    images = sorted((store.folder / cell.images).glob("[0-9]*.png"))
    each = len(images) // len(PROMPTS)
    prompts = [prompt for prompt in PROMPTS for _ in range(each)]
    readings = judge.read([open_image(path) for path in images])
    return float(truth_of(readings, who.figure, prompts).values.mean())


def images_of(cells: Sequence[CellResult]) -> tuple[int, int]:
    """How many images cells have drawn, and how many their whole exams have."""
    drawn = [np.size(cell.per_image.get(SCORE, ())) for cell in cells]
    known = zip(cells, drawn, strict=True)
    return sum(drawn), sum(cell.left_after[1] if cell.left else own for cell, own in known)


def name_of(cell: CellResult) -> str:
    return f"{cell.values['lr']:g} × {cell.values['train_steps']:,}"


# -- on what is stored -----------------------------------------------------------------------------


def simulate(who: Character, folder: Path, judge: Judge) -> list[Outcome]:
    """The rule on a stored sweep, for each of its training seeds."""
    store = Store(folder)
    results = list(read_results(folder / "sweeps" / who.name / "cells.jsonl").values())
    outcomes = []
    for seed in sorted({cell.values["seed"] for cell in results}):
        known = {
            (cell.values["lr"], cell.values["train_steps"]): cell
            for cell in results
            if cell.values["seed"] == seed
        }
        words = words_of(who, folder, ["search=find"])
        words = [word for word in words if not word.startswith(("+axes", "seeds"))]
        settings = load_settings([*words, f"find.steps={STORED_STEPS}", "find.over=[lr,steps]"])
        assert settings.find is not None
        looks = range(1, max(np.shape(cell.per_image[SCORE])[1] for cell in known.values()))
        rule = Stages(settings.find, start_of(settings))
        running = rule.run()
        try:
            stage = next(running)
            while True:
                told = raced([answer(values, known) for values in stage.cells], looks)
                stage = running.send(told or None)
        except StopIteration:
            pass
        point = rule.recommended()
        assert point is not None
        found = point.cells[0]
        truths = {key: truth(cell, who, store, judge) for key, cell in known.items()}
        best = max(truths, key=lambda key: truths[key])
        got = truths[stored(found.values)]
        outcomes.append(
            Outcome(who, seed, name_of(found), got, name_of(known[best]), truths[best],
                    len(rule.asked), images_of(rule.told))
        )  # fmt: skip
    return outcomes


def stored(values: Mapping[str, Any]) -> tuple[float, int]:
    return ALIKE.get(values["lr"], values["lr"]), values["train_steps"]


def answer(values: Mapping[str, Any], known: Mapping[tuple[float, int], CellResult]) -> CellResult:
    """The stored result of a cell, or one that diverged."""
    name = f"{values['lr']:g} {values['train_steps']}"
    if cell := known.get(stored(values)):
        return replace(cell, cell=name, values={**cell.values, **values})
    other = next(iter(known.values()))
    return replace(other, cell=name, state="diverged", values=values, scores={}, per_image={})


# -- the page --------------------------------------------------------------------------------------


def page(outcomes: Sequence[Outcome], simulated: Sequence[Outcome]) -> str:
    lines = ["# Does `+sweep=find` find what a grid finds?", ""]
    lines += ["What `python -m benchmarks.find` measured, disappointing figures included."]
    lines += [f"*Lost* is truth against the best cell of the grid; close is {CLOSE:g} or less."]
    lines += ["*Images* are those drawn, of what the whole exams of its cells have."]
    lines += ["Characters marked *kept* were not looked at when the rule was made.", ""]
    if outcomes:
        lines += [f"## Searches, and grids of 9 rates × 6 numbers of steps ({RATES}; {STEPS})", ""]
        lines += [*table(outcomes), ""]
    if simulated:
        lines += ["## The rule on stored sweeps of 7 rates × 200, 500 and 1,000 steps", ""]
        lines += [*table(simulated), ""]
    return "\n".join(lines).rstrip() + "\n"


def table(outcomes: Sequence[Outcome]) -> list[str]:
    heads = ["character", "seed", "found", "truth", "best of the grid", "truth", "lost", "cells"]
    heads.append("images")
    timed = outcomes[0].seconds is not None
    heads += ["time", "of the grid's", "of its cells' one by one"] if timed else []
    lines = [f"| {' | '.join(heads)} |", "|---" * 2 + "|---:" * (len(heads) - 2) + "|"]
    for one in outcomes:
        kept = " *kept*" if one.who.kept else ""
        row = [one.who.name + kept, str(one.seed), one.found, f"{one.truth:.2f}", one.best]
        row += [f"{one.best_truth:.2f}", f"{one.lost:.3f}", str(one.cells)]
        drawn, whole = one.images
        row += [f"{drawn} of {whole}" if drawn < whole else str(drawn)]
        if one.seconds is not None and one.grid_seconds and one.alone_seconds:
            row += [span(one.seconds), f"{one.seconds / one.grid_seconds:.0%}"]
            row += [f"{one.seconds / one.alone_seconds:.1%}"]
        lines.append(f"| {' | '.join(row)} |")
    close = sum(one.lost <= CLOSE for one in outcomes)
    mean = np.mean([one.lost for one in outcomes])
    return [*lines, "", f"{close} of {len(outcomes)} are close; the mean loss is {mean:.3f}."]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.find", description=__doc__)
    add = made.add_argument
    add("--work", type=Path, default=HERE / "work", help="default: benchmarks/find/work")
    add("--judge", type=Path, default=HERE.parent / "validity" / "work" / "judge")
    add("--only", choices=NAMES, nargs="*", default=NAMES, help="default: all characters")
    add("--seeds", type=int, nargs="*", default=[0, 1, 2], help="training seeds; default: 0 1 2")
    add("--simulate", type=Path, metavar="FOLDER", help="what benchmarks.validity has worked in")
    add("--out", type=Path, default=HERE.parent / "FIND.md", help="the page")
    return made


def main(arguments: list[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    judge = train(options.judge.resolve())
    chosen = [who for who in CHARACTERS if who.name in options.only]
    outcomes = [
        measure(who, seed, options.work.resolve(), judge)
        for who in chosen
        for seed in options.seeds
    ]
    simulated: list[Outcome] = []
    if options.simulate:
        folder = options.simulate.resolve()
        simulated = [one for who in CHARACTERS for one in simulate(who, folder, judge)]
    options.out.write_text(page(outcomes, simulated), encoding="utf-8")
    print(options.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
