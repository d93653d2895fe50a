"""The cells of two characters in one picture.

Taught together, a trajectory has both in it; taught apart, a cell is composed of two trajectories,
each at its own strength. Either way a cell is asked for the first character alone (the exam
itself), for the second alone (part `other`), and for both (part `together`); it is compared by the
worst of the three.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from charsweep.character import Character
from charsweep.config.cells import as_drawn, cells_of, plain_values
from charsweep.config.settings import Settings
from charsweep.core.errors import ConfigError
from charsweep.core.methods import method_of
from charsweep.core.specs import (
    Cell,
    ComposedSpec,
    Component,
    ExamPart,
    ImageSetSpec,
    Plugin,
    SnapshotSpec,
)
from charsweep.results.cells import SCORE

OTHER, TOGETHER = "other", "together"  # parts of the exam
FIRST_SCORE = f"first_{SCORE}"
OF_OTHER = (SCORE, "identity", "prompt")  # metrics that the second character is judged by too
WORST = (FIRST_SCORE, f"{OTHER}_{SCORE}", TOGETHER)


def taught_apart(
    axes: Mapping[str, Any],
    chosen: Mapping[str, Any],
    settings: tuple[Settings, Settings],
    characters: tuple[Character, Character],
) -> Iterator[Cell]:
    """The cells of one combination, with an adapter of each character.

    Each adapter alone is among them, whatever strengths were asked for: there is nothing to compose
    before both are trained, and what company costs is seen beside them.
    """
    ones = [
        list(cells_of({**axes, "strength": (1.0,)}, chosen, own, who))
        for own, who in zip(settings, characters, strict=True)
    ]
    spans = [plain_values(name, axes, settings[0]) for name in ("strength", "other_strength")]
    strengths = dict.fromkeys([*itertools.product(*spans), (1.0, 0.0), (0.0, 1.0)])
    for (first, other), pair in itertools.product(zip(*ones, strict=True), strengths):
        _check_composed(first)
        values = {**first.values, "strength": pair[0], "other_strength": pair[1]}
        images = composed(first.images, other.images, *pair)
        yield in_company(replace(first, values=values), other, images)


def composed(first: ImageSetSpec, other: ImageSetSpec, strength: float, beside: float) -> ImageSetSpec:
    """What two adapters draw together for the exam of the first; alone where one is at 0."""
    if not beside:
        return replace(first, strength=strength)
    if not strength:
        return replace(first, snapshot=other.snapshot, strength=beside)
    snapshots, base = (first.snapshot, other.snapshot), first.drawing_base
    parts = zip(snapshots, (strength, beside), strict=True)
    source = ComposedSpec(base, tuple(Component(*part) for part in parts))
    last = max(snapshot.step for snapshot in snapshots)
    return replace(first, snapshot=SnapshotSpec(source, last), strength=1.0)


def in_company(cell: Cell, other: Cell, images: ImageSetSpec) -> Cell:
    """A cell that draws so, asked for the other cell's character too."""
    ...
