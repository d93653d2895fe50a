"""The recommendation: the one setting of a sweep that charsweep names, why, and how sure that is.

`recommend` alone says what is best. The report, MLflow, the export, the story, the notebooks and
the command line ask it; none of them knows its rule, which is this:

A setting is a point of the grid with all its training seeds. Its mean identity (DINO) and its mean
prompt score (CLIP-T) are each put as the distance from the mean over all settings, in standard
deviations, and added; the highest sum is recommended, of equals the first in the grid's order.
Rejected: ranks (they make much of differences that are none), and the sum of the bare cosines
(DINO spreads several times as wide as CLIP-T and would decide alone). Weights belong to one
training seed: those taken are of the seed that is highest, by the same rule, among the setting's.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from charsweep.core.errors import StoreError
from charsweep.core.system.console import span
from charsweep.results.cells import CellResult
from charsweep.results.labels import (
    axis_label,
    bytes_text,
    listing,
    metric_label,
    score_text,
    value_text,
)
from charsweep.results.points import SEED, Point, is_tie, points_of, ranked, tie_width
from charsweep.results.read import load_cells
from charsweep.results.records import Objective, Record, Value, is_numeric

IDENTITY, PROMPT = PAIR = ("dino", "clip_t")
RULE = "its images are most like the character and the prompt, taken together"


@dataclass(frozen=True)
class Recommendation:
    """A setting, the cell whose weights are taken, how sure that is; or why there is none."""

    point: Point | None
    cell: CellResult | None
    reason: str  # why this one, in words that follow its name; or why none, a whole sentence
    evidence: str  # its scores
    alike: tuple[Point, ...]  # settings that the scores cannot tell from it
    doubts: tuple[str, ...]  # sentences: how sure it is
    command: str  # writes its weights as files for other programs; empty for none
    stand_in: Point | None  # what a table shows for these cells: the setting, or an example

    @property
    def label(self) -> str:
        """The setting in words, as far as it differs from others: "lr = 1e-3"."""
        return self.point.label if self.point else ""

    @property
    def sentence(self) -> str:
        """What is recommended and why, or why nothing is."""
        if self.point is None:
            return self.reason
        return f"{self.label} is recommended: {self.reason} ({self.evidence})."

    @property
    def why(self) -> str:
        """The reason as a sentence of its own."""
        return f"{self.reason[:1].upper()}{self.reason[1:]} ({self.evidence})."

    @property
    def title(self) -> str:
        """The setting as a heading: "Learning rate 1e-3 · 1,000 training steps"."""
        text = setting_text(self.point.values) if self.point else ""
        # The name of a method is written as it is typed.
        is_name = self.point is not None and "method" in self.point.values
        return text if is_name else text[:1].upper() + text[1:]

    @property
    def costs(self) -> tuple[str, ...]:
        """What it takes: training steps, time by itself, size of its file."""
        if self.point is None or self.cell is None:
            return ()
        size, seconds = self.point.cost("size_mb"), self.point.cost("train_seconds")
        known = (
            f"{self.cell.step:,} training steps",
            f"{span(seconds)} of training by itself" if seconds is not None else "",
            f"{bytes_text(size * 1e6)} of weights" if size is not None else "",
        )
        return tuple(text for text in known if text)

    def lines(self) -> list[tuple[str, str]]:
        """All of it as labelled lines, for a terminal or a notebook."""
        if self.point is None:
            return [("best", self.reason)]
        known = [("best", self.sentence), *(("doubt", doubt) for doubt in self.doubts)]
        return [*known, ("costs", ", ".join(self.costs)), ("take it", self.command)]


def recommendation_of(sweep_folder: Path) -> Recommendation:
    """The recommendation of a sweep's folder; StoreError for a file that cannot be read."""
    return recommend(load_cells(sweep_folder, sweep_folder.parent / "store"))


def recommended_cell(
    sweep_folder: Path, results: Mapping[str, CellResult], remedy: str
) -> tuple[CellResult, str]:
    """The cell whose weights are taken, and why in words that follow its name.

    StoreError if none is recommended; `remedy` is what to do where cells have finished.
    """
    found = recommendation_of(sweep_folder)
    if found.cell is None:
        texts = [found.reason, *([remedy] if any(c.finished for c in results.values()) else [])]
        raise StoreError(f"sweep {sweep_folder.name}: {' '.join(texts)}")
    return results[found.cell.cell], f"the recommended one: {found.reason}"


def recommend(record: Record, cells: Sequence[CellResult] | None = None) -> Recommendation:
    """The recommendation among all cells of a record, or among some of them."""
    points = points_of(record, cells)
    known = scored(points)
    if not known:
        reason = nothing_to_recommend(record.cells if cells is None else cells)
        return Recommendation(None, None, reason, "", (), (), "", example(points))
    order = in_order(known)
    best, *others = order
    alike = tuple(point for point in others if is_alike(best, point))
    following = next((point for point in others if point not in alike), None)
    cell = cell_of(best)
    return Recommendation(
        point=best,
        cell=cell,
        reason=reason_for(best, cell, len(known)),
        evidence="; ".join(with_gain(best, metric) for metric in PAIR),
        alike=alike,
        doubts=doubts(record, best, alike, following),
        command=export_command(record, cell, is_named=cells is not None),
        stand_in=best,
    )


# -- the rule --------------------------------------------------------------------------------------


def scored(points: Sequence[Point]) -> list[Point]:
    """The points that have both scores."""
    return [point for point in points if all(point.mean(metric) is not None for metric in PAIR)]


def in_order(points: Sequence[Point]) -> list[Point]:
    """Points that have both scores, the recommended one first."""
    scores = [[point.mean(metric) or 0.0 for point in points] for metric in PAIR]
    sums = standings(scores, [0] * len(points))
    # Rounded: sums that are equal differ by floating point's last digits.
    order = sorted(range(len(points)), key=lambda at: -round(sums[at], 9))
    return [points[at] for at in order]


def cell_of(point: Point) -> CellResult:
    """Of a point's training seeds, the one whose weights are taken."""
    return in_order(scored([Point({}, (cell,)) for cell in point.finished]))[0].cells[0]


def standings(scores: Sequence[Sequence[float]], groups: Sequence[int]) -> list[float]:
    """Per item, the sum over scores of its distance from its group's mean in pooled deviations."""
    total = np.zeros(len(groups))
    for column in scores:
        values, members = np.array(column, dtype=np.float64), np.array(groups)
        means = {group: values[members == group].mean() for group in set(groups)}
        distance = values - np.array([means[group] for group in groups])
        spread = float(np.sqrt((distance**2).mean()))
        if spread > 1e-12:  # all alike: this score decides nothing
            total += distance / spread
    return [float(value) for value in total]


def is_alike(best: Point, point: Point) -> bool:
    """Whether neither score can tell two points apart."""
    return all(
        is_tie(best, best.mean(metric) or 0.0, point, point.mean(metric) or 0.0, metric)
        for metric in PAIR
    )


def example(points: Sequence[Point]) -> Point | None:
    """Of points that nothing is recommended of: one to show beside others, in a table."""
    order = ranked(points, Objective(IDENTITY, True))
    return order[0][0] if order else next((point for point in points if point.finished), None)


COUNTED = ("train_steps", "inference_steps")  # read as "400 training steps"


def setting_text(values: Mapping[str, Value]) -> str:
    """Values by the names that people read: "lora · learning rate 1e-3 · 400 training steps"."""
    texts = [str(values["method"])] if "method" in values else []
    for axis, value in values.items():
        if axis in COUNTED and isinstance(value, int):
            texts.append(f"{value:,} {axis_label(axis)}")
        elif axis != "method":
            texts.append(f"{axis_label(axis)} {value_text(axis, value)}")
    return " · ".join(texts)


# -- words -----------------------------------------------------------------------------------------


def reason_for(best: Point, cell: CellResult, among: int) -> str:
    """Why it is recommended."""
    if among == 1:
        return "it is the one setting that has both scores"
    seeds = len(best.scores(IDENTITY))
    text = f"of {among} settings, {RULE}"
    if seeds > 1:
        text += f", in the mean over {seeds} training seeds; the weights taken are those of seed "
        text += str(cell.values.get(SEED))
    return text


def with_gain(point: Point, metric: str) -> str:
    """ "DINO 0.812, 0.243 above the untaught base"."""
    text = f"{metric_label(metric).short} {score_text(point.mean(metric))}"
    gain = point.gain(metric)
    if gain is None:
        return text
    return f"{text}, {score_text(abs(gain))} {'above' if gain >= 0 else 'below'} the untaught base"


def doubts(
    record: Record, best: Point, alike: Sequence[Point], following: Point | None
) -> tuple[str, ...]:
    """How sure a recommendation is, in sentences."""
    texts = []
    if alike:
        labels = listing([point.label for point in alike], most=3)
        texts.append(f"The scores cannot tell it from {labels}: {noise(best)}.")
    elif following:
        scores = [f"{metric_label(m).short} {score_text(following.mean(m))}" for m in PAIR]
        texts.append(
            f"No other setting is so close that chance could decide; the next, {following.label}, "
            f"has {' and '.join(scores)}."
        )
    else:
        texts.append("Nothing stands beside it, so nothing is compared.")
    gain, score = best.gain(IDENTITY), best.mean(IDENTITY)
    if gain is not None and score is not None and round(gain, 6) < tie_width(IDENTITY):
        texts.append(
            "It hardly draws the character: its identity "
            f"({metric_label(IDENTITY).short} {score_text(score)}) is not clearly above the "
            f"untaught base's ({score_text(score - gain)})."
        )
    return (*texts, *at_the_edge(record, (best, *alike)))


def noise(best: Point) -> str:
    """What is taken for chance."""
    widths = [f"{tie_width(m):.2f} {metric_label(m).short}" for m in PAIR]
    seeds = len(best.scores(IDENTITY))
    if seeds > 1:
        return (
            f"they differ by less than {' and '.join(widths)}, or the 95 % intervals of their "
            f"means over {seeds} training seeds overlap"
        )
    return f"on one training seed, less than {' and '.join(widths)} is chance"


def at_the_edge(record: Record, points: Sequence[Point]) -> list[str]:
    """Where all that cannot be told apart lies at the end of what was tried on an axis."""
    texts = []
    for axis, values in record.axes.items():
        if axis == SEED or len(values) < 3 or not is_numeric(values):
            continue
        at = {point.values.get(axis) for point in points}
        for end, word in ((values[0], "smallest"), (values[-1], "largest")):
            if at == {end}:
                texts.append(
                    f"Its {axis_label(axis)}, {value_text(axis, end)}, is the {word} tried: a "
                    "wider range may hold a better one."
                )
    return texts


def nothing_to_recommend(cells: Sequence[CellResult]) -> str:
    """Why no cell is recommended, and what to do then."""
    if not cells:
        return "No cell has ended yet, so there is nothing to recommend: run the sweep first."
    states = [cell.state for cell in cells]
    how_many = f"All {len(cells)} cells" if len(cells) > 1 else "The one cell"
    if set(states) == {"diverged"}:
        return (
            f"{how_many} diverged: the loss stopped being finite, so nothing was drawn and nothing "
            "can be recommended. Try smaller learning rates."
        )
    if "finished" not in states:
        counts = {state: states.count(state) for state in dict.fromkeys(states)}
        ended = ", ".join(f"{count} {state}" for state, count in counts.items())
        return (
            f"No cell finished ({ended}), so nothing can be recommended; the report says why. "
            "The sweep's command tries failed cells again."
        )
    return (
        f"There is no finished cell with both {IDENTITY} (identity) and {PROMPT} (prompt), the "
        "scores of a method that follows prompts, so nothing is recommended; look at the images."
    )


# -- the command that takes it ---------------------------------------------------------------------


def export_command(record: Record, cell: CellResult, is_named: bool) -> str:
    """`python -m charsweep action=export name=lr_grid`, with the cell where it must be named."""
    sweep = record.sweep if record.sweep.folder else record.part_of(cell).sweep
    words = ["python", "-m", "charsweep", "action=export", f"name={sweep.folder}"]
    if re.search(r"(^|[\s'\"])root=", sweep.command):
        words.append(f"root={record.store.parent.parent}")
    if is_named or sweep.folder != record.sweep.name:
        words.append(f"export.cell={cell.cell}")
    return shlex.join(words)
