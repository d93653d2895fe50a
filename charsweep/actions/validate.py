"""`action=validate`: how far the scores of a sweep can be believed, without knowing the truth.

Three things can be asked of one's own sweep: whether metrics agree on the order of its settings,
whether halves of the exam and single seeds do, and whether planted sets of one's own drawings, of
which it is known what they are worth, get the scores that they deserve.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.stats import spearmanr

from charsweep.config import Sweep
from charsweep.core.cells import Cell
from charsweep.core.errors import StoreError
from charsweep.core.store import Store
from charsweep.core.store.files import write_text
from charsweep.core.system.console import out
from charsweep.results import Record
from charsweep.results.cells import SCORE
from charsweep.results.labels import listing, metric_label, score_text
from charsweep.results.points import SEED, Point, points_of
from charsweep.results.read import load_cells
from charsweep.results.unlike import unlike

JUDGED = (SCORE, "quality_ratio")  # what planted sets get
LEAST = 3  # settings: fewer have no order to agree on
OF_TWO = ("together", "both", "swapped", "merged", "missing", "nearest")
OTHER_QUESTIONS = ("leak", "drift", "flexibility", *OF_TWO)  # need not agree with the score


@dataclass(frozen=True)
class Agreement:
    """How alike two ways of scoring order the settings, and what the pick of the first costs."""

    what: str
    correlation: float  # Spearman's, over settings
    loss: float  # what the first one's best lacks of the highest score by the second


@dataclass(frozen=True)
class Planted:
    """A made-up image set: what it gets, and whether it should get much."""

    what: str
    is_right: bool
    score: float
    quality_ratio: float | None


def validate(sweep: Sweep) -> Path:
    """Write validation.md beside the sweep's report and say what is in it. Raises `StoreError`."""
    if not (sweep.folder / "sweep.json").exists():
        raise StoreError(
            f"there is no sweep {sweep.name} in {sweep.folder}; run it first: the same command "
            "without action=validate"
        )
    store = Store(sweep.root)
    record = load_cells(sweep.folder, store.folder)
    if told := unlike(record):
        raise StoreError(
            f"sweep {sweep.name}: {' '.join(told)} Run each as a sweep of its own, with another "
            "name=NAME, and validate that: what is stored is not made again"
        )
    points = [point for point in points_of(record) if point.mean(SCORE) is not None]
    if len(points) < LEAST:
        raise StoreError(
            f"sweep {sweep.name}: {len(points)} of its settings have a score, and fewer than "
            f"{LEAST} have no order that could be checked; widen an axis and run it again"
        )
    lines = [f"# Can the scores of {sweep.name} be believed?", ""]
    lines += as_table("Do other metrics order its settings alike?", metrics_agree(record, points))
    lines += as_table("Does the score, on parts of the exam?", list(parts_agree(points)))
    lines += planted_table(list(planted(sweep, store)))
    path = sweep.folder / "validation.md"
    write_text(path, "\n".join(lines))
    for line in lines:
        out(line)
    out(f"written to {path}")
    return path


# -- agreement -------------------------------------------------------------------------------------


def metrics_agree(record: Record, points: Sequence[Point]) -> list[Agreement]:
    """Every other metric against the score, over the settings that have both."""
    found = []
    for metric in record.metrics:
        known = [point for point in points if point.mean(metric) is not None]
        if metric in (SCORE, *OTHER_QUESTIONS) or len(known) < LEAST:
            continue
        sign = 1 if metric_label(metric).higher_is_better else -1
        values = np.array([sign * (point.mean(metric) or 0.0) for point in known])
        scores = np.array([point.mean(SCORE) or 0.0 for point in known])
        found.append(agreement(metric_label(metric).short, values, scores))
    return found


def parts_agree(points: Sequence[Point]) -> Iterator[Agreement]:
    """The score on one part of the images against that on the rest."""
    images = [images_of(point) for point in points]
    if images[0].size and all(image.shape == images[0].shape for image in images):
        found = np.stack(images)  # settings, prompts, exam seeds
        if found.shape[1] > 1:
            first, second = found[:, ::2].mean((1, 2)), found[:, 1::2].mean((1, 2))
            yield agreement("every second prompt, by the others", first, second)
        if found.shape[2] > 1:
            first, second = found[:, :, 0].mean(1), found[:, :, 1:].mean((1, 2))
            yield agreement("the first exam seed, by the others", first, second)
    by_seed = [{cell.values.get(SEED): cell.scores[SCORE] for cell in p.finished} for p in points]
    shared = sorted(set.intersection(*(set(own) for own in by_seed)), key=str)
    if len(shared) > 1:
        scores = np.array([[own[seed] or 0.0 for seed in shared] for own in by_seed])
        yield agreement(
            "the first training seed, by the others", scores[:, 0], scores[:, 1:].mean(1)
        )


def images_of(point: Point) -> NDArray[np.float64]:
    """The scores of a setting's images (prompts, exam seeds), means over its training seeds; of two
    characters none, whose scores are not all of the same images."""
    if any(cell.worst for cell in point.finished):
        return np.zeros(0)
    rows = [cell.per_image[SCORE] for cell in point.finished if cell.per_image.get(SCORE)]
    return np.mean(rows, axis=0) if rows else np.zeros(0)


def agreement(what: str, values: NDArray[np.float64], scores: NDArray[np.float64]) -> Agreement:
    """Of two scores of the same settings."""
    alike = np.ptp(values) == 0 or np.ptp(scores) == 0
    correlation = float("nan") if alike else float(spearmanr(values, scores).statistic)
    return Agreement(what, correlation, float(scores.max() - scores[values.argmax()]))


# -- planted sets ----------------------------------------------------------------------------------


def planted(sweep: Sweep, store: Store) -> Iterator[Planted]:
    """Sets made of the character's own drawings, judged like any cell's images."""
    # Imported here: torch takes seconds.
    from charsweep.engine.local import LocalEngine
    from charsweep.engine.progress import ProgressView
    from charsweep.evaluate.score import squares

    cell = judged_cell(sweep, store)
    metrics = [metric for metric in cell.metrics if metric.name in JUDGED]
    with ProgressView() as view:
        scorer = LocalEngine(sweep, store, view).scorer(cell.exam)
        view.doing("judging planted sets")
        assert cell.class_noun_set is not None
        base = scorer.seen(cell.class_noun_set)
        count = len(cell.exam.prompts)
        sets = planted_images(sweep, cell, count)

        def judged(pictures: Sequence[Image.Image]) -> dict[str, float | None]:
            images = squares(lambda: pictures, count)
            exams = ((one, scorer.exam(cell.exam, one, images, base)) for one in metrics)
            return {metric.name: metric.made(exam).value for metric, exam in exams}

        for what, (is_right, pictures) in sets.items():
            found = judged(pictures)
            if (score := found[SCORE]) is not None:
                yield Planted(what, is_right, score, found.get("quality_ratio"))


def judged_cell(sweep: Sweep, store: Store) -> Cell:
    """A cell whose untaught base has drawn the exam."""
    for cell in sweep.cells or sweep.examples:
        if cell.class_noun_set is not None and store.has_images(cell.class_noun_set):
            return cell
    raise StoreError(
        f"sweep {sweep.name}: no untaught base has drawn its exam, from which scores are measured; "
        "run the sweep's command again"
    )


def planted_images(
    sweep: Sweep, cell: Cell, count: int
) -> Mapping[str, tuple[bool, Sequence[Image.Image]]]:
    """By what they are: whether they are right, and a picture for each of the prompts."""
    drawings = sweep.drawings.open(cell.character.digests)
    cycled = [drawings[index % len(drawings)] for index in range(count)]
    noise = Image.effect_noise(drawings[0].size, 120).convert("RGB")
    sets: dict[str, tuple[bool, Sequence[Image.Image]]] = {}
    if cell.exam.truth:
        sets["true pictures"] = (True, sweep.drawings.open(cell.exam.truth))
    sets["copies of the drawings"] = (False, cycled)
    sets["the same, mirrored"] = (False, [ImageOps.mirror(picture) for picture in cycled])
    sets["the same, in grey"] = (False, [ImageOps.grayscale(p).convert("RGB") for p in cycled])
    sets["one drawing for every prompt"] = (False, [drawings[0]] * count)
    sets["noise"] = (False, [noise] * count)
    return sets


# -- what is written -------------------------------------------------------------------------------


def as_table(title: str, found: Sequence[Agreement]) -> list[str]:
    """Agreements as Markdown."""
    if not found:
        return []
    head = [
        "| | Spearman's correlation | its best lacks, of the highest score |",
        "|---|---:|---:|",
    ]
    rows = [
        f"| {one.what} | {'' if np.isnan(one.correlation) else f'{one.correlation:.2f}'} | "
        f"{score_text(one.loss)} |"
        for one in found
    ]
    return [f"## {title}", "", *head, *rows, ""]


def planted_table(found: Sequence[Planted]) -> list[str]:
    """Planted sets as Markdown, and which of them deceive."""
    head = ["| images | deserve | score | quality ratio |", "|---|---|---:|---:|"]
    rows = [
        f"| {one.what} | {'much' if one.is_right else 'little'} | {score_text(one.score)} | "
        f"{score_text(one.quality_ratio)} |"
        for one in found
    ]
    deceiving = [one.what for one in found if (one.score >= 0.5) != one.is_right]
    verdict = (
        f"Deceived by {listing(deceiving)}: look at the images before you believe a score."
        if deceiving
        else "No planted set deceives the score."
    )
    title = "## Do planted sets get what they deserve?"
    return [title, "", *head, *rows, "", verdict, ""]
