"""A race: the cells of a grid draw their exam in rounds, and those far behind draw no more of it.

A round is a few exam seeds with all prompts, the same noise for all. After each,
`charsweep.results.racing` says which settings are worse than the leader beyond doubt; their cells
have left, with the scores of the images that they drew. What a cell has drawn lies under the key of
the exam with these seeds alone, and the whole exam takes its images from there: cells that stay to
the end have what a grid gives, and a grid completes the others.

Nothing of a race is kept but what it drew: after a kill it is run once more, on stored images as
far as it came, and ends alike.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from charsweep.config import Sweep
from charsweep.core.keys import canonical_json
from charsweep.core.specs import Cell
from charsweep.core.store import Store
from charsweep.results import CellResult
from charsweep.results.cells import judged_by
from charsweep.results.points import SCORE, SEED
from charsweep.results.racing import left_behind
from charsweep.study.grid import Grid
from charsweep.study.trials import stands

Keys = tuple[str, ...]  # of a setting's cells


class Race(Grid):
    """The cells of a grid, in rounds; results that stand are of whole cells or of those left."""

    unfinished = ("failed",)

    def __init__(self, sweep: Sweep) -> None:
        super().__init__(sweep)
        self.store = Store(sweep.root)
        self.looks = looks_of(sweep.cells)
        self._running = dict(self._cells)  # by key, those that draw on
        self._whole: dict[str, Cell] = {}  # those behind that are stored whole already
        self._asked: dict[str, Cell] = {}  # cells of this round by the key of what they draw
        self._told: list[CellResult] = []  # of this round, by the keys of their cells
        self._paid = dict.fromkeys(self._cells, 0.0)  # seconds, in all rounds

    def _rounds(self) -> Generator[tuple[Cell, ...]]:
        """The beginnings of the exam, longer and longer, and at last the whole of it."""
        for seeds in self.looks:
            begun = [
                (cell, cell.begun(images))
                for cell in self._running.values()
                for images in cell.images.beginnings
                if len(images.seeds) == seeds
            ]
            self._asked, self._told = {own.key: cell for cell, own in begun}, []
            if begun:
                yield tuple(own for _, own in begun)
        self._asked = {k: c for k, c in self._cells.items() if k in self._running | self._whole}
        if self._asked:
            yield tuple(self._asked.values())

    def settle(self, result: CellResult) -> Sequence[CellResult]:
        """Those that have ended: by their last image, badly, or by the last result of a round."""
        cell = self._asked[result.cell]
        self._paid[cell.key] += result.paid_seconds
        told = replace(
            result,
            cell=cell.key,
            paid_seconds=self._paid[cell.key],
            judged_by=judged_by(cell),
        )
        if result.cell == cell.key:
            ended = [told]
        else:
            self._told.append(told)
            ended = self._leaving() if len(self._told) == len(self._asked) else []
        for one in ended:
            known = self._known.get(one.cell)
            if known and not one.left and not stands(known):
                self._await(one.cell)  # it had left, and has gone on since
        return ended

    def _leaving(self) -> list[CellResult]:
        """Of a round's results those that end with it; the other cells run on."""
        errors = self.sweep.settings.search.errors
        assert errors is not None
        behind = {
            key
            for rivals in rivals_of(self._told)
            for keys in left_behind(rivals, len(self.looks), errors)
            for key in keys
        }
        ended = []
        for told in self._told:
            cell = self._cells[told.cell]
            if told.finished and told.cell not in behind:
                continue
            del self._running[told.cell]
            if not told.finished:
                ended.append(told)
            elif self.store.has_images(cell.images):
                self._whole[told.cell] = cell
            else:
                drawn = np.size(told.per_image[SCORE])
                left = [int(drawn), cell.images.count]
                ended.append(replace(told, state="left", left_after=left, gains={}))
        return ended

    def wanted(self, results: Mapping[str, CellResult]) -> tuple[Cell, ...]:
        """Of cells that have left, what they drew until then."""
        return tuple(
            next(
                (
                    cell.begun(images)
                    for images in cell.images.beginnings
                    if key in results and results[key].left_after[:1] == [images.count]
                ),
                cell,
            )
            for key, cell in self._cells.items()
        )

    @staticmethod
    def _stands(trial: FrozenTrial) -> bool:
        return stands(trial) or trial.user_attrs.get("state") == "left"


def looks_of(cells: Sequence[Cell]) -> tuple[int, ...]:
    """After how many exam seeds a race looks who is behind."""
    return tuple(sorted({len(own.seeds) for cell in cells for own in cell.images.beginnings}))


def rivals_of(results: Sequence[CellResult]) -> Iterator[dict[Keys, NDArray[np.float64]]]:
    """Scores by image of settings that compare, by the keys of their cells.

    A setting is cells that differ in their training seeds alone: of each image their mean. Settings
    compare on one base, as in the recommendation. What has no score is nobody's rival.
    """
    settings: dict[tuple[str, int], dict[str, list[CellResult]]] = {}
    for result in results:
        if result.finished and (scores := result.per_image.get(SCORE)):
            values = {name: value for name, value in result.values.items() if name != SEED}
            rivals = settings.setdefault((result.base, np.size(scores)), {})
            rivals.setdefault(canonical_json(values), []).append(result)
    for rivals in settings.values():
        yield {
            tuple(one.cell for one in own): np.mean(
                [np.ravel(one.per_image[SCORE]) for one in own], axis=0
            )
            for own in rivals.values()
        }
