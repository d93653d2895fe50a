"""Cells in, the two sentences of the verdict out: the best, by how much, ties said. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from charsweep.report.data import Objective, Record, is_numeric
from charsweep.report.groups import SEED, Point, comparable, pareto, points_of, ranked
from charsweep.report.labels import (
    axis_label,
    level_text,
    listing,
    metric_label,
    point_text,
    score_text,
    value_text,
)
from charsweep.results import CellResult

# One seed is noise: .02 DINO is what scoring anew or another card moves. CLIP-T of SD spans only
# about .25 to .33, so half of DINO's; the others like DINO. By hand.
TIES = {"clip_t": 0.01}
TIE = 0.02
DEFAULT_OBJECTIVES = (Objective("dino", True), Objective("clip_t", True))
ROLES = {"dino": "identity", "clip_i": "identity", "clip_t": "prompt"}


@dataclass(frozen=True)
class Winner:
    """The best point of one objective, those that tie with it, and the base it stands on."""

    objective: Objective
    point: Point
    score: float
    gain: float | None
    ties: tuple[Point, ...]

    @property
    def tie_width(self) -> float:
        """Differences smaller than this are ties."""
        return tie_width(self.objective.metric)

    @property
    def ahead(self) -> float | None:
        """The gain with the sign that makes better positive."""
        if self.gain is None:
            return None
        return self.gain if self.objective.maximize else -self.gain


@dataclass(frozen=True)
class Verdict:
    """What the page says first, and what the table marks."""

    sentences: tuple[str, ...]
    remarks: tuple[str, ...]
    winners: tuple[Winner, ...]  # one per objective that has a score
    front: tuple[Point, ...]  # the Pareto set

    def marks(self, cell: CellResult) -> tuple[str, ...]:
        """The labels of a table row: best, tie, Pareto."""
        marks = []
        for winner in self.winners[:2]:
            role = ROLES.get(winner.objective.metric, metric_label(winner.objective.metric).short)
            if cell in winner.point.cells:
                marks.append(f"best {role}")
            elif any(cell in tied.cells for tied in winner.ties):
                marks.append(f"tie {role}")
        if len(self.winners) > 1 and any(cell in point.cells for point in self.front):
            marks.append("Pareto")
        return tuple(marks) if cell.finished else ()


def tie_width(metric: str) -> float:
    """Differences smaller than this are ties on one seed."""
    return TIES.get(metric, TIE)


def objectives_of(record: Record) -> tuple[Objective, ...]:
    """The sweep's objectives, or identity and prompt."""
    return record.sweep.objectives or DEFAULT_OBJECTIVES


def judge(record: Record) -> Verdict:
    """The verdict on whatever has finished so far."""
    points = points_of(record)
    objectives = objectives_of(record)
    judged = comparable(points, objectives)
    winners = tuple(won for one in objectives if (won := find_winner(judged, one)) is not None)
    front = pareto(points, objectives) if len(objectives) > 1 else ()
    if not winners:
        return Verdict((nothing_to_compare(record),), (), (), ())
    sentences = (best_sentence(record, winners), rest_sentence(record, front, len(objectives)))
    return Verdict(sentences, remarks(record, points, winners), winners, front)


def find_winner(points: Sequence[Point], objective: Objective) -> Winner | None:
    """The best point of an objective and its ties, or None when no point has the score."""
    order = ranked(points, objective)
    if not order:
        return None
    best, top = order[0]
    ties = tuple(p for p, score in order[1:] if is_tie(best, top, p, score, objective.metric))
    return Winner(objective, best, top, best.gain(objective.metric), ties)


def is_tie(best: Point, top: float, point: Point, score: float, metric: str) -> bool:
    """Whether two means are too close to tell apart: by the width of ties, or by their seeds."""
    # Rounded: .80 - .78 in floating point is a hair less than .02.
    if round(abs(top - score), 6) < tie_width(metric):
        return True
    one, other = best.interval(metric), point.interval(metric)
    several = len(best.scores(metric)) > 1 and len(point.scores(metric)) > 1
    return bool(several and one and other and one[0] <= other[1] and other[0] <= one[1])


def nothing_to_compare(record: Record) -> str:
    """The verdict when no cell has a score."""
    cells = record.cells
    if not cells:
        return "No cell has ended yet, so there is nothing to compare."
    states = {cell.state for cell in cells}
    how_many = f"All {len(cells)} cells" if len(cells) > 1 else "The one cell"
    if states == {"diverged"}:
        return (
            f"{how_many} diverged: the loss stopped being finite, so nothing was drawn and nothing "
            "can be compared. Try smaller learning rates."
        )
    if states == {"failed"}:
        return f"{how_many} failed; the reasons are listed below."
    if "finished" in states:
        return "No finished cell has a score on the study's objectives, so none can be called best."
    return f"No cell finished: {ended_badly(record)}."


def best_sentence(record: Record, winners: Sequence[Winner]) -> str:
    """Which point is best on each objective, by how much above the base, and what ties."""
    first, *others = winners[:2]
    if len(record.cells) == 1:
        scores = listing([f"{name(won)} {score_text(won.score)}{above(won)}" for won in winners])
        return f"The one cell reaches {scores}; with nothing beside it there is no best."
    if others and others[0].point == first.point:
        return (
            f"{first.point.label} is best on {role(first)} and on {role(others[0])}: "
            f"{evidence(first)}; {evidence(others[0])}."
        )
    if first.ahead is not None and round(first.ahead, 6) < first.tie_width:
        beats = "beats" if first.ahead <= 0 else "clearly beats"
        opening = f"Nothing {beats} the untaught base on {role(first)}: the best, "
        opening += f"{first.point.label}, reaches {evidence(first)}"
    else:
        opening = f"{first.point.label} is best on {role(first)}: {evidence(first)}"
    if not others:
        return f"{opening}."
    return f"{opening}; on {role(others[0])}, {others[0].point.label} is: {evidence(others[0])}."


def name(winner: Winner) -> str:
    """The metric as a column calls it."""
    return metric_label(winner.objective.metric).short


def role(winner: Winner) -> str:
    """What the metric stands for: identity, prompt, or itself."""
    return ROLES.get(winner.objective.metric, name(winner))


def evidence(winner: Winner) -> str:
    """ "DINO 0.812, 0.243 above the untaught base (0.569), tied with lr = 1e-2"."""
    ties = [tied.label for tied in winner.ties]
    if is_base_tie(winner):
        base = score_text(winner.score - (winner.gain or 0))
        text = listing([f"the untaught base ({base})", *ties], most=4)
        return f"{name(winner)} {score_text(winner.score)}, a tie with {text}"
    tied = f", tied with {listing(ties, most=3)}" if ties else ""
    return f"{name(winner)} {score_text(winner.score)}{above(winner)}{tied}"


def is_base_tie(winner: Winner) -> bool:
    """Whether the best is too close to the untaught base to be told from it."""
    return winner.gain is not None and round(abs(winner.gain), 6) < winner.tie_width


def above(winner: Winner) -> str:
    """How far the best is from the untaught base."""
    if winner.gain is None:
        return ""
    side = "above" if winner.gain >= 0 else "below"
    base = score_text(winner.score - winner.gain)
    return f", {score_text(abs(winner.gain))} {side} the untaught base ({base})"


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
    """ "1 diverged: lr = 1e-1; 2 failed: …", or nothing."""
    parts = []
    for state in ("diverged", "failed"):
        cells = [cell for cell in record.cells if cell.state == state]
        if cells:
            parts.append(f"{len(cells)} {state}: {which(record, cells)}")
    return "; ".join(parts)


def which(record: Record, cells: Sequence[CellResult]) -> str:
    """Some cells in few words: "all with lr = 1e-1" where that says it, else their labels."""
    for axis in record.axes:
        values = dict.fromkeys(cell.values.get(axis) for cell in cells)
        alike = [cell for cell in record.cells if cell.values.get(axis) in values]
        if len(alike) == len(cells) > len(values):
            texts = [f"{axis} = {value_text(axis, value)}" for value in values]
            if len(alike) < len(record.cells):
                return f"all with {listing(texts)}"
    axes = tuple(axis for axis in record.axes if axis != SEED) or tuple(record.axes)
    labels = dict.fromkeys(point_text(cell.values, axes) for cell in cells)
    return listing(tuple(labels), most=3)


def remarks(record: Record, points: Sequence[Point], winners: Sequence[Winner]) -> tuple[str, ...]:
    """What a careful reader should know before believing the verdict."""
    seeds = len(record.axes.get(SEED, ())) or 1
    widths = listing(
        [f"{tie_width(won.objective.metric):.2f} on {name(won)}" for won in winners], most=6
    )
    why = "on one training seed they are noise"
    if seeds > 1:
        why = f"points are means over {seeds} training seeds, and those whose 95 % intervals "
        why += "overlap are called ties too"
    texts = [f"Differences under {widths} are called ties; {why}."]
    quality = ranked(points, Objective("quality_ratio", True))
    if quality and quality[0][1] > 0:
        top = [point.label for point, score in quality if score == quality[0][1]]
        level = level_text(quality[0][1])
        text = f"The quality ratio is highest, {quality[0][1]:.3f} ({level}), with "
        text += f"{listing(top, most=2)}."
        if winners[0].point.label not in top and role(winners[0]) == "identity":
            text += " Identity scores rise with over-fitting, so look at copy and diversity too."
        texts.append(text)
    elif quality:
        texts.append(
            "No cell has a quality ratio above 0: no picture is at once the character, "
            "the prompt and not a copy."
        )
    return (*texts, *unranked_remarks(record, points), *edge_remarks(record, winners[0]))


def unranked_remarks(record: Record, points: Sequence[Point]) -> list[str]:
    """What lacks an objective is not ranked; what it reaches on the first is said, by method."""
    objectives = objectives_of(record)
    ranked_ones = comparable(points, objectives)
    others = [point for point in points if point not in ranked_ones]
    texts = []
    for method in dict.fromkeys(cell.values.get("method") for p in others for cell in p.cells):
        own = [p for p in others if any(c.values.get("method") == method for c in p.cells)]
        order = ranked(own, objectives[0])
        if not order:
            continue
        best, score = order[0]
        lacks = [o for o in objectives if best.mean(o.metric) is None]
        spread = best.mean("diversity")
        text = f"{method} is not ranked, because it has no {metric_label(lacks[0].metric).short}"
        text += f": it reaches {metric_label(objectives[0].metric).short} {score_text(score)}"
        text += f" with diversity {score_text(spread)}" if spread is not None else ""
        texts.append(f"{text} ({best.label}).")
    return texts


def edge_remarks(record: Record, winner: Winner) -> list[str]:
    """Say when the best value of a numeric axis is the last one tried."""
    if winner.ahead is None or winner.ahead < winner.tie_width:
        return []
    texts = []
    for axis, values in record.axes.items():
        if axis == SEED or len(values) < 3 or not is_numeric(values):
            continue
        at = {point.values.get(axis) for point in (winner.point, *winner.ties)}
        for end, word in ((values[0], "smallest"), (values[-1], "largest")):
            if at == {end}:
                texts.append(
                    f"The best {axis_label(axis)}, {value_text(axis, end)}, is the {word} tried: "
                    "a wider range may hold a better one."
                )
    return texts
