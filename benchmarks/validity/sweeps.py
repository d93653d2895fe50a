"""Real sweeps through charsweep's command line, and what its store holds of them, with the truth.

Learning rates from too small to far too large, each at three numbers of training steps.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.validity.characters import PROMPTS, Character, write_character
from benchmarks.validity.judge import Judge
from benchmarks.validity.measure import Row, Rule
from benchmarks.validity.planted import PER_IMAGE, SEEDS, Planted, planted_sets
from benchmarks.validity.truth import truth_of
from charsweep.config import load_settings, load_sweep
from charsweep.config.sweep import Sweep
from charsweep.core.cells import Cell
from charsweep.core.keys import digest_of
from charsweep.core.specs import ImageSetSpec, Plugin, SnapshotSpec, TruthSpec
from charsweep.core.store import Store
from charsweep.core.system.images import open_image
from charsweep.engine.local import LocalEngine
from charsweep.engine.progress import ProgressView
from charsweep.evaluate.sample import PartialImageSet
from charsweep.results.read import load_cells
from charsweep.results.recommendation import recommend

RATES, STEPS = "1e-4,3e-4,1e-3,2e-3,3e-3,1e-2,1e-1", "200,500,1000"
TRAINING_SEEDS = {"unicorn_girl": 2}  # of the others: one


def words_of(who: Character, work: Path, further: Sequence[str]) -> list[str]:
    """The command line of a character's sweep; further words may be `metric=NAME` and any other."""
    metrics = [word.removeprefix("metric=") for word in further if word.startswith("metric=")]
    known = [*load_settings([]).metric, *metrics]
    return [
        *who.words(work / "characters"),
        f"name={who.name}",
        f"root={work}",
        f"+axes.lr=[{RATES}]",
        f"+axes.train_steps=[{STEPS}]",
        f"seeds={TRAINING_SEEDS.get(who.name, 1)}",
        "exam=quick",
        f"metric=[{','.join(dict.fromkeys(known))}]",
        f"question=Does the recommendation name what is truly best for {who.name}?",
        "runtime.tracking=false",
        *(word for word in further if not word.startswith("metric=")),
    ]


def run(who: Character, work: Path, further: Sequence[str]) -> None:
    """Do what is missing of the character's sweep; its output goes to a file beside the store."""
    write_character(who, work / "characters")
    words = [sys.executable, "-m", "charsweep", *words_of(who, work, further)]
    with (work / f"{who.name}.log").open("a", encoding="utf-8") as log:
        subprocess.run(words, stdout=log, stderr=subprocess.STDOUT, check=True)


@dataclass(frozen=True)
class Measured:
    """A character's image sets, judged and scored."""

    who: Character
    cells: tuple[tuple[Row, ...], ...]  # by training seed; settings in the grid's order
    untaught: Row  # the base, asked with the character's identifier
    planted: tuple[Row, ...]
    built: tuple[float, ...]  # mean truth of the planted sets by how they were made
    recommended: Rule  # charsweep's own recommendation


def measured(who: Character, work: Path, further: Sequence[str], judge: Judge) -> Measured:
    """Read a finished sweep, plant the planted sets in its store, judge and score all of them."""
    sweep = load_sweep(words_of(who, work, further))
    store, first = Store(sweep.root), sweep.cells[0]
    assert first.untaught_set is not None
    made = planted_sets(who)
    readings = [[one.reading for one in images] for images in made.values()]
    built = [truth_of(known, who.figure, PER_IMAGE).values.mean() for known in readings]
    planted = plant(who, made, sweep, store)
    seeds = dict.fromkeys(cell.trajectory.seed for cell in sweep.cells)
    return Measured(
        who=who,
        cells=tuple(
            tuple(
                _row(cell.key, who, cell, cell.images, store, judge)
                for cell in sweep.cells
                if cell.trajectory.seed == seed and store.has_images(cell.images)
            )
            for seed in seeds
        ),
        untaught=_row("untaught base", who, first, first.untaught_set, store, judge),
        planted=tuple(_row(n, who, first, spec, store, judge) for n, spec in planted.items()),
        built=tuple(map(float, built)),
        recommended=recommended(sweep),
    )


def plant(
    who: Character, made: Mapping[str, Sequence[Planted]], sweep: Sweep, store: Store
) -> dict[str, ImageSetSpec]:
    """Put the planted sets into the store as image sets of true pictures, and have them scored."""
    cell, specs = sweep.cells[0], {}
    engine = LocalEngine(sweep, store, ProgressView())
    for name, planted in made.items():
        images = [one.image for one in planted]
        digests = tuple(digest_of(image.tobytes()) for image in images)
        source = TruthSpec(f"{who.name}-planted", digests, cell.images.resolution)
        spec = specs[name] = ImageSetSpec(
            snapshot=SnapshotSpec(source, 0),
            sampler=Plugin("drawn", "", 1, {}),
            inference_steps=1,
            guidance_scale=1.0,
            negative_prompt="",
            prompts=cell.images.prompts,
            seeds=SEEDS,
            resolution=cell.images.resolution,
            batch_width=cell.images.batch_width,
            precision=cell.images.precision,
        )
        if not store.has_images(spec):
            PartialImageSet(spec, list(images)).store(store)
        missing = [cell.score_spec(metric, spec) for metric in cell.metrics]
        missing = [one for one in missing if not store.has_score(one)]
        if missing:
            engine.scorer(missing[0].exam).score(missing, spec, cell.class_noun_set)
    return specs


def recommended(sweep: Sweep) -> Rule:
    """Charsweep's recommendation among some cells of a sweep that has ended."""
    record = load_cells(sweep.folder, sweep.folder.parent / "store")
    by_key = {cell.cell: cell for cell in record.cells}

    def rule(rows: Sequence[Row]) -> tuple[int, bool]:
        found = recommend(record, [by_key[row.name] for row in rows])
        names = [row.name for row in rows]
        return names.index(found.cell.cell) if found.cell else 0, bool(
            found.cell
        ) and not found.alike

    return rule


def _row(
    name: str, who: Character, cell: Cell, images: ImageSetSpec, store: Store, judge: Judge
) -> Row:
    """An image set of the store with its truth by the judge, and its scores as they are stored."""
    folder = store.images(images)
    count = len(PROMPTS) * len(images.seeds)
    readings = judge.read([open_image(folder / f"{index:03d}.png") for index in range(count)])
    prompts = [prompt for prompt in PROMPTS for _ in images.seeds]
    scores = {}
    for metric in cell.metrics:
        spec = cell.score_spec(metric, images)
        stored = store.read_score(spec) if store.has_score(spec) else {"value": None}
        if stored["value"] is not None:
            scores[metric.name] = np.array(stored["per_image"] or [stored["value"]], dtype=float)
    return Row(name, truth_of(readings, who.figure, prompts).values, scores)
