"""What the page shows of a sweep: exams, axes, cells and their places in the ranking. Pure.

Everything that a request may name is looked up here: an image set by the digest of its folder, a
cell by its key, an exam and an image by their number. No path comes from a request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from charsweep.core.columns import regional
from charsweep.core.keys import digest_of
from charsweep.core.sides import NAMES
from charsweep.core.store.files import inside
from charsweep.core.store.losses import read_losses
from charsweep.report.figures.contact_sheets import image_files
from charsweep.results.candidates import candidates_of
from charsweep.results.cells import COSTS, SCORE, TOGETHER, AskedCell, CellResult
from charsweep.results.facts import failure
from charsweep.results.labels import (
    axis_label,
    cost_label,
    cost_text,
    error_text,
    gain_text,
    made_label,
    metric_label,
    score_text,
    value_text,
)
from charsweep.results.parts import comparable
from charsweep.results.points import Point, interval, points_of, ranked
from charsweep.results.preference import Candidate, preferences
from charsweep.results.reasons import setting_text
from charsweep.results.recommendation import Recommendation, export_command, recommend
from charsweep.results.records import Objective, Record, hashable
from charsweep.results.votes import Vote

DIGITS = 4  # of a score; a tile shows two
OF_PARTS = {  # metrics on the pictures of the second of two characters, and of both
    NAMES[1]: ("other_score", "other_identity", "other_prompt"),
    TOGETHER: (TOGETHER, "both", "swapped", "merged", "missing", "nearest"),
}


@dataclass(frozen=True)
class Exam:
    """Cells that compare: their prompts and seeds, what they are compared with, who is best."""

    record: Record
    recommendation: Recommendation
    points: tuple[tuple[Point, float], ...]  # with their scores, best first
    candidates: tuple[Candidate, ...]  # what can be voted for; votes change nothing of it

    @property
    def drawings(self) -> list[tuple[int, Path, str]]:
        """Number, file and caption of the character's drawings that are still there."""
        known = enumerate(self.record.sweep.character.captioned)
        return [(number, path, caption) for number, (path, caption) in known if path.is_file()]

    @property
    def references(self) -> list[tuple[str, str]]:
        """Image sets that no cell drew, by what they are called."""
        sweep = self.record.sweep
        known = [("true picture", sweep.truth)] if sweep.truth else []
        alone = len(sweep.bases) == 1
        known += [
            ("untaught base" if alone else f"untaught {name}", base)
            for name, base in sweep.bases.items()
        ]
        return [(name, found.images) for name, found in known if found.images]

    @cached_property
    def of_two(self) -> tuple[str, ...]:
        """Parts of the exam whose pictures are shown behind those of the exam itself: of the second
        of two characters, and of both, where all cells drew them with the exam's seeds."""
        store, drawn = self.record.store, [cell for cell in self.record.cells if cell.images]

        def is_alike(cell: CellResult, part: str) -> bool:
            if part not in cell.parts:
                return False
            return image_files(store, cell.parts[part][0]).numbers == self.record.sweep.seeds

        return tuple(
            part for part in (NAMES[1], TOGETHER)
            if drawn and all(is_alike(cell, part) for cell in drawn)
        )  # fmt: skip

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """All that cells are shown by."""
        first = next((cell for cell in self.record.cells if cell.images), None)
        further = [first.parts[part][0] for part in self.of_two] if first else []
        texts = [text for one in further for text in image_files(self.record.store, one).prompts]
        return (*self.record.sweep.prompts, *(regional(text).whole for text in texts))

    @cached_property
    def image_sets(self) -> dict[str, tuple[str, ...]]:
        """Folders below the store by their ids, those of the further parts behind each other: of
        its cells and of references."""
        cells = [cell for cell in self.record.cells if cell.images]
        untaught = {cell.base: [cell.parts[part][1] for part in self.of_two] for cell in cells}
        found = {
            str(cell.images): (str(cell.images), *(cell.parts[part][0] for part in self.of_two))
            for cell in cells
        }
        bases = {one.images: name for name, one in self.record.sweep.bases.items()}
        found |= {
            folder: (folder, *untaught.get(bases.get(folder, ""), ()))
            for _, folder in self.references
        }
        return {id_of(folder): folders for folder, folders in found.items()}

    @cached_property
    def places(self) -> dict[str, int]:
        """By cell, the place of its setting, from 1."""
        return {
            cell.cell: place
            for place, (point, _) in enumerate(self.points, start=1)
            for cell in point.cells
        }

    @cached_property
    def good(self) -> frozenset[str]:
        """The cells of the recommended setting, and of those that cannot be told from it."""
        found = self.recommendation
        points = [*([found.point] if found.point else []), *found.alike]
        return frozenset(cell.cell for point in points for cell in point.cells)


@dataclass(frozen=True)
class Shown:
    """A sweep as it was when it was read; `version` changes with its files."""

    record: Record
    exams: tuple[Exam, ...]
    waiting: Mapping[str, AskedCell]  # by key, those without a result
    version: str

    @cached_property
    def cells(self) -> dict[str, CellResult]:
        """By key."""
        return {cell.cell: cell for cell in self.record.cells}

    @cached_property
    def exam_of(self) -> dict[str, int]:
        """By cell, the number of its exam."""
        return {
            cell.cell: number
            for number, exam in enumerate(self.exams)
            for cell in exam.record.cells
        }

    @cached_property
    def image_sets(self) -> dict[str, tuple[str, ...]]:
        """Folders below the store by their ids."""
        return {name: found for exam in self.exams for name, found in exam.image_sets.items()}

    def files(self, images: str) -> list[Path]:
        """The files of what has that id, in the order of the exam's prompts and seeds."""
        folders = self.image_sets.get(images, ())
        return [file for one in folders for file in image_files(self.record.store, one).files]

    @cached_property
    def page(self) -> bytes:
        """All that the page needs to lay images out, as JSON; written once."""
        text = json.dumps(self._page(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()

    def _page(self) -> dict[str, Any]:
        sweep, axes, metrics = self.record.sweep, self.record.axes, self.record.metrics
        places = {axis: {v: at for at, v in enumerate(values)} for axis, values in axes.items()}
        return {
            "version": self.version,
            "name": sweep.name,
            "question": sweep.question,
            "axes": [
                {
                    "name": axis,
                    "label": axis_label(axis),
                    "values": [value_text(axis, value) for value in values],
                }
                for axis, values in axes.items()
            ],
            "metrics": [
                {"name": name, "label": metric_label(name).short,
                 "meaning": metric_label(name).meaning} for name in metrics
            ],
            "exams": [exam_on_page(exam) for exam in self.exams],
            "cells": [
                {
                    "key": cell.cell,
                    "exam": self.exam_of[cell.cell],
                    "at": [places[axis].get(cell.values.get(axis), -1) if axis in cell.values
                           else -1 for axis in axes],
                    "images": id_of(cell.images) if cell.images else None,
                    "state": cell.state,
                    "scores": [rounded(cell.scores.get(name)) for name in metrics],
                }
                for cell in self.record.cells
                if cell.cell in self.exam_of
            ] + [
                {
                    "key": cell.cell,
                    "exam": 0,
                    "at": [places[axis].get(hashable(cell.values.get(axis)), -1)
                           if axis in cell.values else -1 for axis in axes],
                    "images": None,
                    "state": "waiting",
                    "scores": [None] * len(metrics),
                }
                for cell in self.waiting.values()
            ],
        }  # fmt: skip

    def details(self, cell: CellResult) -> dict[str, Any]:
        """All that is known of a cell, in words."""
        exam = self.exams[self.exam_of[cell.cell]]
        place = exam.places.get(cell.cell)
        varied = {axis: cell.values[axis] for axis in self.record.axes if axis in cell.values}
        return {
            "key": cell.cell,
            "title": title_of(setting_text(varied) or cell.cell, "method" in varied),
            "note": failure(cell) or cell.left,
            "place": f"{place} of {len(exam.points)}" if place else "",
            "recommended": self._standing(exam, cell),
            "preference": preference_of(exam, cell),
            "settings": [
                *([axis_label(axis), value_text(axis, value)]
                  for axis, value in cell.values.items()),
                *([made_label(name), value_text(name, value)]
                  for name, value in cell.made.items()),
            ],
            "scores": [
                {
                    "label": metric_label(name).short,
                    "meaning": metric_label(name).meaning,
                    "text": score_text(score),
                    "error": error_text(interval([cell], name)),
                    "gain": gain_text(cell.gains.get(name)),
                    "images": by_place(exam, cell, name),
                }
                for name in self.record.metrics
                if (score := cell.scores.get(name)) is not None
            ],
            "costs": [[cost_label(name), cost_text(name, cell.cost(name))]
                      for name in COSTS if cell.cost(name) is not None],
            "command": export_command(self.record, cell, is_named=True) if cell.images else "",
        }  # fmt: skip

    def details_waiting(self, cell: AskedCell) -> dict[str, Any]:
        """What is known of a cell that has no result yet."""
        varied = {axis: cell.values[axis] for axis in self.record.axes if axis in cell.values}
        losses = read_losses(inside(self.record.store, cell.trajectory) / "loss.csv", cell.step)
        note = f"{len(losses):,} of {cell.step:,} steps are trained" if cell.step else ""
        if is_composed(cell.trajectory):
            note = "drawn once both of its adapters are there"
        return {
            "key": cell.cell,
            "title": title_of(setting_text(varied) or cell.cell, "method" in varied),
            "note": note,
            **dict.fromkeys(("place", "recommended", "preference", "command"), ""),
            "scores": [],
            "costs": [],
            "settings": [[axis_label(axis), value_text(axis, value)]
                         for axis, value in cell.values.items()],
        }  # fmt: skip

    def _standing(self, exam: Exam, cell: CellResult) -> str:
        found = exam.recommendation
        if found.point is None or cell.cell not in exam.good:
            return ""
        if any(one.cell == cell.cell for one in found.point.cells):
            named = found.named.removeprefix("is ")
            return f"{named[:1].upper()}{named[1:]}: {found.reason}"
        return "Cannot be told from the recommended one"


def by_place(exam: Exam, cell: CellResult, metric: str) -> list[Sequence[float]] | None:
    """A metric's scores of images by the prompts that are shown, of others none; None where it
    scores no image that is shown."""
    measured = cell.worst if metric == SCORE and cell.worst else metric
    rows = cell.per_image.get(metric)
    part = next((part for part, names in OF_PARTS.items() if measured in names), "")
    if rows is None or (not part and not metric_label(measured).of_exam):
        return None
    if not part:
        return list(rows)
    if part not in exam.of_two:
        return None
    before = len(exam.record.sweep.prompts)
    if exam.of_two.index(part):
        store, first = exam.record.store, cell.parts[exam.of_two[0]][0]
        before += len(image_files(store, first).prompts)
    return [[] for _ in range(before)] + list(rows)


def preference_of(exam: Exam, cell: CellResult) -> str:
    """How often its setting is preferred, in words; empty for one that nobody voted on."""
    if not exam.record.votes:
        return ""
    found = preferences(exam.record.votes, exam.candidates).strengths.get(cell.cell)
    return f"{found.value:.0%} ({found.low:.0%} to {found.high:.0%})" if found else ""


def exam_on_page(exam: Exam) -> dict[str, Any]:
    """Its prompts, seeds and references, the drawings, and the recommended cell with its rivals."""
    sweep, found = exam.record.sweep, exam.recommendation
    return {
        "name": sweep.name,
        "prompts": list(exam.prompts),
        "seeds": list(sweep.seeds),
        "character": sweep.character.identifier,
        "references": [
            {
                "name": name,
                "images": id_of(folder),
                "seeds": image_files(exam.record.store, folder).seeds,
                "count": sum(
                    len(image_files(exam.record.store, one).files)
                    for one in exam.image_sets[id_of(folder)]
                ),
            }
            for name, folder in exam.references
        ],
        "drawings": [{"number": number, "caption": text} for number, _, text in exam.drawings],
        "title": f"{found.title} {found.named}" if found.point else "",
        "says": f"{found.reason[:1].upper()}{found.reason[1:]} ({found.evidence})."
        if found.point
        else found.sentence,
        "best": found.cell.cell if found.cell else None,
        "good": sorted(exam.good),
    }


def title_of(text: str, begins_with_name: bool) -> str:
    """A setting as a heading; the name of a method is written as it is typed."""
    return text if begins_with_name else text[:1].upper() + text[1:]


def shown(record: Record, asked: Sequence[AskedCell], version: str) -> Shown:
    """A record as the page shows it, and the cells that have no result yet.

    Those are not shown where cells do not all compare: of which exam they are is not known.
    """
    exams = comparable(record) if record.sweep.exams else (record,)
    ended = {cell.cell for cell in record.cells}
    waiting = {} if record.sweep.exams else {a.cell: a for a in asked if a.cell not in ended}
    return Shown(record, tuple(exam_of(exam) for exam in exams), waiting, version)


def exam_of(record: Record) -> Exam:
    """The cells of a record, compared."""
    points = ranked(points_of(record), Objective(SCORE, True))
    return Exam(record, recommend(record), tuple(points), candidates_of(record))


def with_votes(before: Shown, votes: tuple[Vote, ...], version: str) -> Shown:
    """The same cells after more votes: what is recommended may be another."""
    exams = []
    for exam in before.exams:
        record = replace(exam.record, votes=votes)
        exams.append(replace(exam, record=record, recommendation=recommend(record)))
    record = replace(before.record, votes=votes)
    return Shown(record, tuple(exams), before.waiting, version)


def is_composed(trajectory: str) -> bool:
    """Whether that is a folder of adapters put together, of which nothing is trained."""
    return trajectory.startswith("composed-")


def id_of(folder: str) -> str:
    """What a request calls the image set in a folder below the store."""
    return digest_of(folder.encode())[:12]


def rounded(score: float | None) -> float | None:
    return None if score is None else round(score, DIGITS)
