"""What a cell of a store is worth by the judge, and what it is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.validity.characters import PROMPTS, Character
from benchmarks.validity.judge import Judge
from benchmarks.validity.truth import truth_of
from charsweep.core.store import Store
from charsweep.core.system.images import open_image
from charsweep.results import CellResult
from charsweep.results.cells import SCORE


def truth(cell: CellResult, who: Character, store: Store, judge: Judge) -> float:
    """Mean truth of a cell's images."""
    assert cell.images is not None
    return truth_in(store.folder / cell.images, who, judge)


def truth_in(folder: Path, who: Character, judge: Judge) -> float:
    """Mean truth of a folder's images, each prompt's after those of the last."""
    images = sorted(folder.glob("[0-9]*.png"))
    prompts = [prompt for prompt in PROMPTS for _ in range(len(images) // len(PROMPTS))]
    readings = judge.read([open_image(path) for path in images])
    return float(truth_of(readings, who.figure, prompts).values.mean())


def images_of(cells: Sequence[CellResult]) -> tuple[int, int]:
    """How many images cells have drawn, and how many their whole exams have."""
    drawn = [np.size(cell.per_image.get(SCORE, ())) for cell in cells]
    known = zip(cells, drawn, strict=True)
    return sum(drawn), sum(cell.left_after[1] if cell.left else own for cell, own in known)


def name_of(cell: CellResult) -> str:
    """A cell in the words of the page: "0.001 × 1,000", or "0.001 × 1,000, strength 0.8"."""
    strength = cell.values.get("strength", 1)
    told = f"{cell.values['lr']:g} × {cell.values['train_steps']:,}"
    return told if strength == 1 else f"{told}, strength {strength:g}"
