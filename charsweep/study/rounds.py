"""A race of some cells: they draw their exam in rounds, and those far behind draw no more of it.

A round is a few exam seeds with all prompts, the same noise for all. After each,
`charsweep.results.racing` says which settings are worse than the leader beyond doubt; their cells
have left, with the scores of the images that they drew. What a cell has drawn lies under the key of
the exam with these seeds alone, and the whole exam takes its images from there: cells that stay to
the end have what a grid gives, and a grid completes the others.

Nothing of a race is kept but what it drew: after a kill it is run once more, on stored images as
far as it came, and ends alike. Optuna is not known here.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from charsweep.config.settings import Settings
from charsweep.core.cells import Cell
from charsweep.core.keys import canonical_json
from charsweep.results import CellResult
from charsweep.results.cells import SCORE, judged_by
from charsweep.results.points import SEED
from charsweep.results.racing import LEAVING, left_behind

Keys = tuple[str, ...]  # of a setting's cells


class Rounds:
    """One race: yields what its cells draw, round by round, and is told the results.

    Where the score is the worst of several, which only whole cells have, there is one round.

    `known` has, by key, after how many images a cell is known to end: it is not judged again, and
    where that is known of all, they are only looked up.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        settings: Settings,
        known: Mapping[str, int] | None = None,
        is_race: bool = True,
    ) -> None:
        self.cells = {cell.key: cell for cell in cells}
        self.errors = settings.search.errors or LEAVING
        self.known = known or {}
        is_race = is_race and settings.by_score and not any(cell.worst_of for cell in cells)
        is_race = is_race and (len(cells) > 1 or bool(known))
        self.looks = looks_of(cells) if is_race else ()
        self.round = 0  # from 1
        self.out: set[str] = set()  # keys of what is drawn in this round and has not been told
        self._running = dict(self.cells)  # those that draw on
        self._asked: dict[str, Cell] = {}  # cells of this round by the key of what they draw
        self._told: list[CellResult] = []  # of this round, by the keys of their cells
        self._paid = dict.fromkeys(self.cells, 0.0)  # seconds, in all rounds

    @property
    def running(self) -> Mapping[str, Cell]:
        """The cells that have not ended, by key."""
        return self._running

    def run(self) -> Generator[tuple[Cell, ...]]:
        """The beginnings of the exam, longer and longer, and at last the whole of it."""
        for seeds in self.looks:
            drawn = {key: own for key in self._running if (own := begun(self.cells[key], seeds))}
            if self._running.keys() <= self.known.keys():
                drawn = {k: own for k, own in drawn.items() if own.images.count == self.known[k]}
            yield from self._round(drawn)
        yield from self._round(dict(self._running))

    def _round(self, drawn: Mapping[str, Cell]) -> Generator[tuple[Cell, ...]]:
        """What the cells with these keys draw."""
        self._asked, self._told = {own.key: self.cells[key] for key, own in drawn.items()}, []
        self.out = set(self._asked)
        if drawn:
            self.round += 1
            yield tuple(drawn.values())

    def settle(self, result: CellResult) -> list[CellResult]:
        """Those that have ended: by their last image, badly, or by the last result of a round."""
        cell = self._asked[result.cell]
        self.out.remove(result.cell)
        self._paid[cell.key] += result.paid_seconds
        told = replace(
            result, cell=cell.key, paid_seconds=self._paid[cell.key], judged_by=judged_by(cell)
        )
        if result.cell == cell.key:
            del self._running[cell.key]
            return [told]
        self._told.append(told)
        return [] if self.out else self._leaving()

    def _leaving(self) -> list[CellResult]:
        """Of a round's results those that end with it; the other cells run on."""
        behind = {
            key
            for rivals in rivals_of(self._told)
            for keys in left_behind(rivals, len(self.looks), self.errors)
            for key in keys
        }
        ended = []
        for told in self._told:
            drawn, whole = np.size(told.per_image.get(SCORE, ())), self.cells[told.cell].images
            ends = self.known.get(told.cell)
            goes_on = told.cell not in behind if ends is None else ends != drawn
            if told.finished and goes_on:
                continue
            del self._running[told.cell]
            if told.finished:
                left = [int(drawn), whole.count]
                ended.append(replace(told, state="left", left_after=left, gains={}))
            else:
                ended.append(told)
        return ended


def looks_of(cells: Sequence[Cell]) -> tuple[int, ...]:
    """After how many exam seeds a race looks who is behind."""
    return tuple(sorted({len(own.seeds) for cell in cells for own in cell.images.beginnings}))


def begun(cell: Cell, seeds: int) -> Cell | None:
    """The cell as far as its first exam seeds go; None if these are not drawn as in the whole."""
    for images in cell.images.beginnings:
        if len(images.seeds) == seeds:
            return cell.begun(images)
    return None


def as_drawn(cell: Cell, images: int | None) -> Cell:
    """The cell as far as so many of its images go: where it has left a race, what it drew."""
    seeds = images // len(cell.images.prompts) if images else 0
    return begun(cell, seeds) or cell


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
