"""The recommendation: the one setting of a sweep that charsweep names, why, and how sure that is.

`recommend` alone says what is best. The report, MLflow, the export, the story, the notebooks and
the command line ask it; none of them knows its rule, which is this:

A setting is a point of the grid with all its training seeds. The best has the highest mean `score`.
Recommended is the cheapest (fewest training steps, then inference steps, then the smallest file)
whose paired difference from the best is within one standard error, the rule of Breiman et al. 1984
(section 3.4.3); see `charsweep.results.points`. Of equally cheap ones it is that with the highest
score, of equals the first in the grid's order. Rivals are those within two errors: with two in the
place of one, 6 % of picks among seven settings are truly worse by .05, with one 2.5 %. Settings on
different bases are compared within each base, since the score is measured from the untaught base;
named is the one whose base gets the highest score. Weights belong to one training seed: those taken
are of the seed with the highest score.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from charsweep.core.errors import StoreError
from charsweep.core.system.console import span
from charsweep.results.cells import CellResult
from charsweep.results.labels import (
    axis_label,
    bytes_text,
    error_text,
    gain_text,
    listing,
    metric_label,
    score_text,
    value_text,
)
from charsweep.results.next_steps import NextStep, next_steps, with_seeds
from charsweep.results.parts import differences
from charsweep.results.points import ERRORS, Point, difference, points_of, ranked
from charsweep.results.read import load_cells
from charsweep.results.records import Objective, Record, Value

SCORE = "score"
RULE = "the cheapest within one standard error of the highest score"
MUCH = 0.25  # of leak, or of what flexibility lacks, to be worth a word
MOST_SEEDS = 5  # more training seeds than this are not asked for


@dataclass(frozen=True)
class Recommendation:
    """A setting, the cell whose weights are taken, how sure that is; or why there is none."""

    point: Point | None
    cell: CellResult | None
    reason: str  # why this one, in words that follow its name; or why none, a whole sentence
    evidence: str  # its score, and how many of its images are right
    alike: tuple[Point, ...]  # settings that the paired test cannot tell from it
    next_steps: tuple[NextStep, ...]  # what to try now
    doubts: tuple[str, ...]  # sentences: how sure it is
    command: str  # writes its weights as files for other programs; empty for none
    stand_in: Point | None  # what a table shows for these cells: the setting, or an example

    @property
    def sure(self) -> bool:
        """Whether every other setting is told apart from it."""
        return self.point is not None and not self.alike

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
        known = [("best", self.sentence), *(("next", step.line) for step in self.next_steps)]
        known += [("doubt", doubt) for doubt in self.doubts]
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
    scored = [point for point in points if point.mean(SCORE) is not None]
    kept = [point for point in scored if keeps(point, constraints_of(record))]
    groups = on_each_base(kept or scored)
    unlike = differences([part.sweep for part in record.parts]) if cells is None else []
    if not groups or unlike:
        reason = (
            " ".join([*unlike, "So nothing is recommended over all of them."])
            if unlike
            else (nothing_to_recommend(record.cells if cells is None else cells))
        )
        return Recommendation(None, None, reason, "", (), (), (), "", example(points))
    best, alike, others = max(map(chosen, groups), key=lambda found: found[0].mean(SCORE) or 0.0)
    cell = cell_of(best)
    return Recommendation(
        point=best,
        cell=cell,
        reason=reason_for(best, alike, others),
        evidence=evidence_of(best),
        alike=alike,
        next_steps=(*next_steps(record, best, alike), *too_close(record, best, alike)),
        doubts=(
            *doubts(best, alike, others),
            *left_out(record, scored, kept),
            *of_bases(groups),
            *side_effects(record, best),
        ),
        command=export_command(record, cell, is_named=cells is not None),
        stand_in=best,
    )


# -- the rule --------------------------------------------------------------------------------------


def on_each_base(points: Sequence[Point]) -> list[list[Point]]:
    """The points by the base that they are taught on."""
    together: dict[str, list[Point]] = {}
    for point in points:
        together.setdefault(point.finished[0].base, []).append(point)
    return list(together.values())


def constraints_of(record: Record) -> Mapping[str, Mapping[str, float | None]]:
    """What must hold besides: by metric the least and the most that it may be."""
    return record.sweep.settings.get("constraints") or {}


def keeps(point: Point, constraints: Mapping[str, Mapping[str, float | None]]) -> bool:
    """Whether all its mean scores keep to them; one that it lacks does."""
    for name, bounds in constraints.items():
        score, least, most = point.mean(name), bounds.get("least"), bounds.get("most")
        if score is not None and (
            (least is not None and score < least) or (most is not None and score > most)
        ):
            return False
    return True


def chosen(points: Sequence[Point]) -> tuple[Point, tuple[Point, ...], tuple[Point, ...]]:
    """Of points with a score: the recommended one, those as good as the best, and the others."""
    order = [point for point, _ in ranked(points, Objective(SCORE, True))]
    best = order[0]
    found = {id(point): difference(best, point, SCORE) for point in order}
    cheapest = min((point for point in order if found[id(point)].is_within(1)), key=price)
    good = [point for point in order if found[id(point)].is_within(ERRORS)]
    alike = tuple(point for point in good if point is not cheapest)
    return cheapest, alike, tuple(point for point in order if point not in good)


def price(point: Point) -> tuple[float, ...]:
    """What a setting costs, most important first."""
    steps = {cell.step for cell in point.finished}
    drawn = [cell.values.get("inference_steps") or 1 for cell in point.finished]
    return max(steps), max(drawn), round(point.cost("size_mb") or 0.0, 2)


def cell_of(point: Point) -> CellResult:
    """Of a point's training seeds, the one whose weights are taken."""
    known = [cell for cell in point.finished if cell.scores.get(SCORE) is not None]
    return max(known, key=lambda cell: cell.scores[SCORE] or 0.0)


def example(points: Sequence[Point]) -> Point | None:
    """Of points that nothing is recommended of: one to show beside others, in a table."""
    order = ranked(points, Objective("dino", True))
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


def reason_for(best: Point, alike: Sequence[Point], others: Sequence[Point]) -> str:
    """Why it is recommended."""
    if not alike and not others:
        return "it is the one setting that has a score"
    if not alike:
        rest = f"each of the {len(others)} others" if len(others) > 1 else "the other"
        return f"sure, {rest} is worse by more than chance would do"
    dearer = [point for point in alike if price(point) > price(best)]
    if dearer and (saved := savings(best, dearer)):
        labels = listing([point.label for point in dearer], most=3)
        return f"as good as {labels}, as far as these images tell, and cheaper: {saved}"
    labels = listing([point.label for point in alike], most=3)
    return f"highest in score, though {labels} cannot be told from it by these images"


def savings(best: Point, dearer: Sequence[Point]) -> str:
    """What it saves against the dearest of these."""
    dearest = max(dearer, key=price)
    (steps, drawn, size), (most_steps, most_drawn, most_size) = price(best), price(dearest)
    texts = []
    if most_steps > steps:
        seconds = (dearest.cost("train_seconds") or 0.0) - (best.cost("train_seconds") or 0.0)
        time = f" ({span(seconds)} of training)" if seconds > 0 else ""
        texts.append(f"{most_steps - steps:,.0f} training steps{time}")
    if most_drawn > drawn:
        quick, slow = best.cost("sample_seconds"), dearest.cost("sample_seconds")
        share = f" ({1 - quick / slow:.0%} of the drawing time)" if quick and slow else ""
        texts.append(f"{most_drawn - drawn:,.0f} inference steps{share}")
    if most_size > size and not texts:
        texts.append(bytes_text((most_size - size) * 1e6))
    return f"up to {' and '.join(texts)} less" if texts else ""


def evidence_of(best: Point) -> str:
    """ "score 0.866 ± 0.050; 94 % of its images are the character and show all that was asked"."""
    text = with_error(best)
    right = best.mean("quality_ratio")
    if right is not None:
        text += f"; {right:.0%} of its images are the character and show all that was asked"
    seeds = len(best.scores(SCORE))
    return f"{text}, over {seeds} training seeds" if seeds > 1 else text


def with_error(point: Point) -> str:
    """ "score 0.866 ± 0.050"."""
    return f"score {score_text(point.mean(SCORE))}{error_text(point.interval(SCORE))}"


def doubts(best: Point, alike: Sequence[Point], others: Sequence[Point]) -> list[str]:
    """How sure a recommendation is, in sentences."""
    texts = []
    if others:
        following = difference(best, others[0], SCORE)
        error = f" ± {score_text(ERRORS * following.error)}" if following.error else ""
        told = " that is told apart" if alike else ""
        texts.append(
            f"The next{told}, {others[0].label}, scores {score_text(following.value)}{error} less."
        )
    elif not alike:
        texts.append("Nothing stands beside it, so nothing is compared.")
    spread, gain = best.interval(SCORE), best.gain(SCORE)
    if spread is None:
        texts.append(
            "One image a cell says nothing of chance: more exam prompts or exam.seeds would."
        )
    elif gain is not None and gain <= (spread[1] - spread[0]) / 2:
        texts.append(
            f"It hardly draws the character: its score is {gain_text(gain)} from the untaught "
            "base's, which chance could do."
        )
    return texts


def left_out(record: Record, scored: Sequence[Point], kept: Sequence[Point]) -> list[str]:
    """How many settings do not keep the constraints."""
    lost = len(scored) - len(kept)
    if not lost:
        return []
    signs = {"least": "≥", "most": "≤"}
    told = listing(
        [
            f"{metric_label(name).short} {signs[end]} {value:g}"
            for name, bounds in constraints_of(record).items()
            for end, value in bounds.items()
            if value is not None
        ]
    )
    if not kept:
        return [f"No setting keeps to {told}: this is the best of those that do not."]
    return [f"Left out: {lost} of {len(scored)} settings, which do not keep to {told}."]


def side_effects(record: Record, best: Point) -> list[str]:
    """What else teaching did to the model, where it is more than chance and worth a word."""
    noun = record.sweep.character.class_noun or "other"
    known = {name: best.mean(name) for name in ("leak", "flexibility")}
    spans = {name: best.interval(name) or (-math.inf, math.inf) for name in known}
    texts = []
    if (known["leak"] or 0.0) >= MUCH and spans["leak"][0] > 0:
        texts.append(
            f"It also turns every {noun} into the character (leak {score_text(known['leak'])} of "
            "1): prior preservation (method.prior_weight=1) or fewer steps may mend that."
        )
    if known["flexibility"] is not None and known["flexibility"] <= 1 - MUCH:
        texts.append(
            f"It hardly changes when asked to (flexibility {score_text(known['flexibility'])} of "
            "1): captions that name the clothes (method.prompts=captions), or fewer steps, may."
        )
    return texts


def of_bases(groups: Sequence[Sequence[Point]]) -> list[str]:
    """What may be the base's doing and not the method's."""
    if len(groups) < 2:
        return []
    methods = [
        dict.fromkeys(str(point.finished[0].values.get("method")) for point in group)
        for group in groups
    ]
    bases = [group[0].finished[0].base for group in groups]
    rest = [
        f"on {base} the best is {found[0].label} ({with_error(found[0])})"
        for base, found in zip(bases, map(chosen, groups), strict=True)
    ]
    text = (
        "Scores are measured from each untaught base, so they are compared within one: "
        f"{'; '.join(rest)}."
    )
    if set.intersection(*map(set, methods)):
        return [text]
    told = [f"{listing(list(own))} on {base}" for own, base in zip(methods, bases, strict=True)]
    return [
        f"{text} Method and base are mixed up here ({'; '.join(told)}): what differs may be the "
        "base. `python -m charsweep +sweep=methods` crosses them."
    ]


def too_close(record: Record, best: Point, alike: Sequence[Point]) -> list[NextStep]:
    """A few more training seeds, where these may tell rivals of the same price apart."""
    rivals = [point for point in alike if price(point) == price(best)]
    gaps = [difference(best, point, SCORE) for point in rivals]
    if not rivals or any(gap.error is None or gap.value <= 0 for gap in gaps):
        return []
    seeds = len(best.scores(SCORE))
    needed = max(math.ceil(seeds * (ERRORS * (gap.error or 0.0) / gap.value) ** 2) for gap in gaps)
    wanted = max(needed, seeds + 1)
    if wanted > MOST_SEEDS:
        return [NextStep("Such gaps are ties: no handful of training seeds would tell more.", "")]
    trained = f"{seeds} training seed{'s' if seeds > 1 else ''}"
    text = f"It is too close to call on {trained}; {wanted} may tell."
    return [NextStep(text, with_seeds(record, (best, *rivals), wanted))]


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
        "There is no finished cell with a score, which needs a base and prompts, so nothing is "
        "recommended; look at the images."
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
