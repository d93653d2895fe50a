"""The verdict on a sweep: what is recommended, which points lead on each score, what remains.

`charsweep.results.recommendation` says what is recommended; leaders of single scores explain it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from charsweep.results.cells import SCORE, CellResult
from charsweep.results.labels import (
    listing,
    metric_label,
    score_text,
)
from charsweep.results.points import Point, comparable, pareto, points_of, ranked, which
from charsweep.results.recommendation import Recommendation, recommend
from charsweep.results.records import Objective, Record
from charsweep.results.unlike import unlike

DEFAULT_OBJECTIVES = (Objective(SCORE, True),)
TRADE_OFF = (Objective("identity", True), Objective("prompt", True))  # what a score is made of
EXPLAINING = ("dino", "clip_t")
RECOMMENDED, ALIKE, PARETO = "recommended", "as good", "Pareto"


@dataclass(frozen=True)
class Leader:
    """The point that is ahead on one objective, by its mean score."""

    objective: Objective
    point: Point
    score: float

    @property
    def mark(self) -> str:
        """ "highest DINO"."""
        word = "highest" if self.objective.maximize else "lowest"
        return f"{word} {metric_label(self.objective.metric).short}"


@dataclass(frozen=True)
class Verdict:
    """What is said first, and what the tables mark."""

    recommendation: Recommendation
    sentences: tuple[str, ...]  # the recommendation, its doubts, the rest
    rest: str  # the Pareto set, and how many cells ended badly
    remarks: tuple[str, ...]
    leaders: tuple[Leader, ...]  # one per objective that has a score
    front: tuple[Point, ...]  # the Pareto set

    def marks(self, cell: CellResult) -> tuple[str, ...]:
        """The labels of a table row."""
        if not cell.finished:
            return ()
        marks = []
        best = self.recommendation.point
        if best is not None and cell in best.cells:
            marks.append(RECOMMENDED)
        elif any(cell in point.cells for point in self.recommendation.alike):
            marks.append(ALIKE)
        marks += [leader.mark for leader in self.leaders[:2] if cell in leader.point.cells]
        if len(self.leaders) > 1 and any(cell in point.cells for point in self.front):
            marks.append(PARETO)
        return tuple(marks)


def objectives_of(record: Record) -> tuple[Objective, ...]:
    """The sweep's objectives, or the score."""
    return record.sweep.objectives or DEFAULT_OBJECTIVES


def judge(record: Record) -> Verdict:
    """The verdict on whatever has finished so far; no leaders of cells that do not compare."""
    found = recommend(record)
    told = unlike(record)
    points = () if told else points_of(record)
    objectives = objectives_of(record)
    judged = comparable(points, objectives)
    leaders = tuple(
        Leader(objective, *order[0])
        for objective in objectives
        if (order := ranked(judged, objective))
    )
    front = pareto(points, objectives) if len(objectives) > 1 else ()
    rest = rest_sentence(record, front, len(objectives)) if leaders or told else ""
    sentences = (
        *((found.reason, *found.answers) if found.each else (found.sentence,)),
        *(step.text for step in found.next_steps),
        *found.doubts,
        *([rest] if rest else []),
    )
    return Verdict(found, sentences, rest, remarks(record, points, leaders), leaders, front)


def rest_sentence(record: Record, front: Sequence[Point], objectives: int) -> str:
    """The Pareto set, and how many cells ended badly."""
    finished = sum(cell.finished for cell in record.cells)
    bad = ended_badly(record)
    ended = f"{finished} of {len(record.cells)} cells finished" + (f" ({bad})" if bad else "")
    if len(front) > 1:
        weighed = "both" if objectives == 2 else f"all {objectives}"
        labels = listing([point.label for point in front], most=4)
        return f"Weighing {weighed} objectives, nothing beats {labels} (the Pareto set); {ended}."
    if len(front) == 1 and finished > 1:
        return f"Nothing else is better on any objective (it alone is the Pareto set); {ended}."
    return f"{ended[0].upper()}{ended[1:]}."


def ended_badly(record: Record) -> str:
    """ "1 diverged: lr = 1e-1; 2 failed: …; 9 left the race: …", or nothing."""
    parts = []
    for state, word in {
        "diverged": "",
        "failed": "",
        "stopped": " by hand",
        "left": " the race",
    }.items():
        cells = [cell for cell in record.cells if cell.state == state]
        if cells:
            parts.append(f"{len(cells)} {state}{word}: {which(record, cells)}")
    return "; ".join(parts)


def remarks(record: Record, points: Sequence[Point], leaders: Sequence[Leader]) -> tuple[str, ...]:
    """What a careful reader should know besides."""
    texts = []
    explaining = [
        Leader(Objective(metric, True), *order[0])
        for metric in EXPLAINING
        if metric not in {leader.objective.metric for leader in leaders}
        and (order := ranked(points, Objective(metric, True)))
    ]
    if len(points) > 1 and explaining:
        ahead = [
            f"{leader.mark} has {leader.point.label} ({score_text(leader.score)})"
            for leader in explaining
        ]
        texts.append(
            "The answer does not rest on single similarities, which explain it at most: "
            f"{listing(ahead, most=6)}. Copies of the drawings have the highest DINO, and the "
            "untaught base already follows prompts."
        )
    copying = [point for point in points if any(cell.repeats for cell in point.finished)]
    if copying:
        texts.append(repeats_sentence(copying))
    quality = ranked(points, Objective("quality_ratio", True))
    if quality and quality[0][1] <= 0:
        texts.append(
            "No cell has a quality ratio above 0: no image is at once the character and all that "
            "the prompt asks for."
        )
    return (*texts, *unranked_remarks(record, points))


def repeats_sentence(points: Sequence[Point]) -> str:
    """ "Copies: 12 of 16 images of lr = 1e-1 repeat drawing 3"."""
    texts = []
    for point in points:
        counts: Counter[str] = Counter()
        for cell in point.finished:
            counts.update(cell.repeats)
        images = sum(np.size(cell.per_image.get("copy", ())) for cell in point.finished)
        drawings = listing(sorted(counts, key=int), most=6)
        word = "drawing" if len(counts) == 1 else "drawings"
        texts.append(
            f"{counts.total()} of {images} images of {point.label} repeat {word} {drawings}"
        )
    return f"Copies: {listing(texts, most=3)}."


def unranked_remarks(record: Record, points: Sequence[Point]) -> list[str]:
    """What has no score is not ranked; how like the drawings it becomes is said, by method."""
    others = [point for point in points if point.finished and point.mean(SCORE) is None]
    texts = []
    for method in dict.fromkeys(point.finished[0].values.get("method") for point in others):
        own = [p for p in others if p.finished[0].values.get("method") == method]
        order = ranked(own, Objective("dino", True))
        if not order:
            continue
        point, likeness = order[0]
        spread = point.mean("diversity")
        text = f"{method} is not ranked: a score needs a base and prompts. It reaches DINO "
        text += score_text(likeness)
        text += f" with diversity {score_text(spread)}" if spread is not None else ""
        texts.append(f"{text} ({point.label}).")
    return texts
