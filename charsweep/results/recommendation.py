"""The recommendation: the one setting of a sweep that charsweep names, why, and how sure that is.

`recommend` alone says what is best. The report, MLflow, the export, the story, the notebooks and
the command line ask it; none of them knows its rule, which is this:

A setting is a point of the grid with all its training seeds. First those count that are as high in
score as the best. Where enough settings that differ in numbers alone are measured whole and near
the best, these are the ones within .005 of the highest on a surface that is fitted to their scores,
but for those that their own images tell from the highest score: see `charsweep.results.surface`.
Else they are those whose paired difference from the highest mean `score` is within half a standard
error, or less than .005: see `charsweep.results.points`. Of these, those within one standard error
of the highest `identity` are kept: it varies less by chance than the share of what a prompt names,
and tells apart what the score cannot. Taken is the cheapest of them (fewest training steps, then
inference steps, then the smallest file), of equally cheap ones that with the highest score, of
equals the first in the grid's order. What a surface names competes so, by their own scores, with
what others name and with settings near the best that are on none, such as those of a number of
inference steps that was tried once. The cheapest within one standard error of the score alone is
the rule of Breiman et al. 1984 (section 3.4.3); what each is worth is measured in
benchmarks/FIND.md.

Rivals are those within two errors of the score: with two in the place of one, 6 % of picks among
seven settings are truly worse by .05, with one 2.5 %. Settings on different bases are compared
within each base, since the score is measured from the untaught base; named is the one whose base
gets the highest score. Weights belong to one training seed: those taken are of the seed with the
highest score.

Of two characters, a setting in which one of their adapters draws alone is not recommended.

Where people have voted and their votes are decisive (`charsweep.results.preference`), the setting
that they prefer is recommended, whatever the scores say.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from charsweep.core.errors import StoreError
from charsweep.core.system.console import command, span
from charsweep.results.candidates import preferences_of
from charsweep.results.cells import SCORE, CellResult
from charsweep.results.choice import Bounds, chosen, keeps, on_each_base
from charsweep.results.labels import bytes_text
from charsweep.results.next_steps import NextStep, next_steps
from charsweep.results.parts import comparable
from charsweep.results.points import Point, points_of, ranked, with_score
from charsweep.results.preference import Candidate, Preferences
from charsweep.results.read import load_cells
from charsweep.results.reasons import (
    doubts,
    evidence_of,
    left_out,
    nothing_to_recommend,
    of_bases,
    reason_for,
    setting_text,
    side_effects,
    voted_for,
    votes_beside,
)
from charsweep.results.records import Objective, Record
from charsweep.results.unlike import unlike

RULE = (
    "of those as high in score as the best (within 0.005 on a surface that is fitted to the scores "
    "of 12 settings or more, else within half a standard error of the difference) and within one "
    "standard error of the highest identity, the cheapest"
)


@dataclass(frozen=True)
class Recommendation:
    """A setting, the cell whose weights are taken, how sure that is; or why there is none."""

    point: Point | None
    cell: CellResult | None
    reason: str  # why this one, in words that follow its name; or why none, a whole sentence
    evidence: str  # its score, and how many of its images are right
    alike: tuple[Point, ...]  # settings that are as good, as far as the paired test tells
    next_steps: tuple[NextStep, ...]  # what to try now
    doubts: tuple[str, ...]  # sentences: how sure it is
    command: str  # writes its weights as files for other programs; empty for none
    stand_in: Point | None  # what a table shows for these cells: the setting, or an example
    # Scores that surfaces give, by cell: those of all its training seeds are the same.
    fitted: Mapping[str, float] = field(default_factory=dict)
    # Where the cells do not all compare, what is recommended of those that do, by their name.
    each: tuple[tuple[str, Recommendation], ...] = ()

    @property
    def sure(self) -> bool:
        """Whether every other setting is told apart from it."""
        return self.point is not None and not self.alike

    @property
    def is_taught(self) -> bool:
        """Whether it is better than the untaught base beyond doubt, as far as both are known."""
        return self.point is not None and self.point.is_taught

    @property
    def label(self) -> str:
        """The setting in words, as far as it differs from others: "lr = 1e-3"."""
        return self.point.label if self.point else ""

    @property
    def sentence(self) -> str:
        """What is recommended and why, or why nothing is."""
        if self.point is None:
            return " ".join([self.reason, *self.answers])
        return f"{self.label} {self.named}: {self.reason} ({self.evidence})."

    @property
    def named(self) -> str:
        """What is said of it: one that is no better than the base is not recommended outright."""
        return "is recommended" if self.is_taught else "is the best so far"

    @property
    def answers(self) -> tuple[str, ...]:
        """What is recommended of cells that compare, where not all do, a sentence each."""
        return tuple(
            f"Of {name}: {found.label} {found.named}." if found.point
            else f"Of {name}: {found.reason}"
            for name, found in self.each
        )  # fmt: skip

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
            steps_text(self.cell) if self.cell.step else "",
            f"{span(seconds)} of training by itself" if seconds is not None else "",
            f"{bytes_text(size * 1e6)} of weights" if size is not None else "",
        )
        return tuple(text for text in known if text)

    def lines(self) -> list[tuple[str, str]]:
        """All of it as labelled lines, for a terminal or a notebook."""
        if self.point is None:
            answers = [[("of", name), *found.lines()] for name, found in self.each]
            return [("best", self.reason), *itertools.chain.from_iterable(answers)]
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
        texts += [f"Of {name}: {own.cell.cell}." for name, own in found.each if own.cell]
        raise StoreError(f"sweep {sweep_folder.name}: {' '.join(texts)}")
    return results[found.cell.cell], f"the recommended one: {found.reason}"


def recommend(record: Record, cells: Sequence[CellResult] | None = None) -> Recommendation:
    """The recommendation among all cells of a record, or among some of them."""
    points = points_of(record, cells)
    scored = with_score(points)
    constraints: Mapping[str, Bounds] = record.sweep.settings.get("constraints") or {}
    kept = [point for point in scored if keeps(point, constraints)]
    groups = on_each_base(kept or scored)
    if told := unlike(record, cells):
        reason = " ".join([*told, "So nothing is recommended over all of them."])
        parts = () if cells is not None else comparable(record)
        each = tuple((part.sweep.name, recommend(part)) for part in parts)
        return Recommendation(None, None, reason, "", (), (), (), "", None, each=each)
    on_each = [chosen(group) for group in groups]
    fitted = {k: score for choice in on_each for k, score in choice.fitted_cells.items()}
    by_score = max(on_each, key=lambda one: one.best.mean(SCORE) or 0.0) if on_each else None
    votes, preferred = decided(record, cells, points)
    if preferred is not None:
        cell = cell_of(preferred)
        return Recommendation(
            point=preferred,
            cell=cell,
            reason=voted_for(votes),
            evidence=evidence_of(preferred),
            alike=tuple(point for point in points if is_one_of(point, votes.alike)),
            next_steps=next_steps(record, preferred, ()) if scored else (),
            doubts=(
                *votes_beside(votes, preferred, by_score.best if by_score else None),
                *left_out(constraints, scored, kept),
                *side_effects(record, preferred),
            ),
            command=export_command(record, cell, is_named=cells is not None),
            stand_in=preferred,
            fitted=fitted,
        )
    if by_score is None:
        reason = nothing_to_recommend(record.cells if cells is None else cells)
        return Recommendation(None, None, reason, "", (), (), (), "", example(points))
    best, alike = by_score.best, by_score.alike
    cell, left = cell_of(best), sum(point.left for point in points)
    return Recommendation(
        point=best,
        cell=cell,
        reason=reason_for(by_score, left),
        evidence=evidence_of(best),
        alike=alike,
        next_steps=next_steps(record, best, alike),
        doubts=(
            *doubts(by_score, left),
            *left_out(constraints, scored, kept),
            *of_bases(groups, [one.best for one in on_each]),
            *side_effects(record, best),
            *([f"Votes: {votes.says}"] if votes.votes else []),
        ),
        command=export_command(record, cell, is_named=cells is not None),
        stand_in=best,
        fitted=fitted,
    )


# -- what is taken ---------------------------------------------------------------------------------


def cell_of(point: Point) -> CellResult:
    """Of a point's training seeds, the one whose weights are taken; the first without a score."""
    return max(point.finished, key=lambda cell: cell.scores.get(SCORE) or 0.0)


def decided(
    record: Record, cells: Sequence[CellResult] | None, points: Sequence[Point]
) -> tuple[Preferences, Point | None]:
    """What votes say, of all cells or else of these, and the setting that they decide on."""
    votes = preferences_of(record)
    for own in (votes, preferences_of(record, cells)):
        for point in points:
            if own.taken and is_one_of(point, [own.taken]):
                return own, point
    return votes, None


def is_one_of(point: Point, asked: Sequence[Candidate]) -> bool:
    """Whether it is one of those that were voted on."""
    return any(cell.cell in one.sets for cell in point.cells for one in asked)


def example(points: Sequence[Point]) -> Point | None:
    """Of points that nothing is recommended of: one to show beside others, in a table."""
    order = ranked(points, Objective("dino", True))
    return order[0][0] if order else next((point for point in points if point.finished), None)


def steps_text(cell: CellResult) -> str:
    """How long its weights were trained: "1,000 training steps"."""
    each = f" for each of {cell.trainings} adapters" if cell.trainings > 1 else ""
    return f"{cell.step:,} training steps{each}"


# -- the command that takes it ---------------------------------------------------------------------


def export_command(record: Record, cell: CellResult, is_named: bool) -> str:
    """`python -m charsweep action=export name=lr_grid`, with the cell where it must be named."""
    sweep = record.sweep if record.sweep.folder else record.part_of(cell).sweep
    words = ["action=export", f"name={sweep.folder}"]
    if re.search(r"(^|[\s'\"])root=", sweep.command):
        words.append(f"root={record.store.parent.parent}")
    if is_named or sweep.folder != record.sweep.name:
        words.append(f"export.cell={cell.cell}")
    return command(words)
