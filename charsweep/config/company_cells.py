"""The cells of two characters in one picture, or of a character with an object or in a place.

Taught together, a trajectory has both in it; taught apart, a cell is composed of two trajectories,
each at its own strength. Either way a cell is asked for the first character alone (the exam
itself), for the second alone (part `other`, with prompts of its own where the exam has any), and
for both (part `together`); it is compared by the worst of the three.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from charsweep.character import Character, Companion
from charsweep.config.adapters import Adapters
from charsweep.config.axes import plain_values
from charsweep.config.cells import cell_of, cells_of
from charsweep.config.exam import OTHERS, Other, parts_as_drawn
from charsweep.config.settings import Settings
from charsweep.core.cells import Cell, ExamPart
from charsweep.core.errors import ConfigError
from charsweep.core.methods import method_of
from charsweep.core.specs import (
    ADAPTER,
    BESIDE,
    AdapterSpec,
    Component,
    ComposedSpec,
    ImageSetSpec,
    Plugin,
    SnapshotSpec,
    TrajectorySpec,
)
from charsweep.core.words import holds
from charsweep.results.cells import SCORE, TOGETHER

OTHER = "other"  # the part of the exam that is the second character's
FIRST_SCORE = f"first_{SCORE}"
OF_OTHER = (SCORE, "identity", "prompt")  # metrics that the second character is judged by too
WORST = (FIRST_SCORE, f"{OTHER}_{SCORE}", TOGETHER)


class Second(NamedTuple):
    """The second character, and the settings with it in the place of the first."""

    settings: Settings
    companion: Companion

    @property
    def other(self) -> Other:
        """It, as exams ask for it."""
        character = self.companion.other
        return Other(character, character.spec.identifier)


def trained(
    axes: Mapping[str, Any], chosen: Mapping[str, Any], settings: Settings, first: Character,
    companion: Companion | None,
) -> Iterator[Cell]:  # fmt: skip
    """The cells of one combination that are trained: every product of the plain axes, of one
    character or two."""
    if companion is None:
        yield from cells_of(axes, chosen, settings, first)
        return
    second = Second(settings_of_other(settings), companion)
    taught = taught_together if settings.is_together else taught_apart
    yield from taught(axes, chosen, settings, first, second)


def from_elsewhere(
    adapters: Adapters, axes: Mapping[str, Any], chosen: Mapping[str, Any], settings: Settings,
    first: Character, companion: Companion | None,
) -> Iterator[Cell]:  # fmt: skip
    """The cells of one combination with adapters that were made elsewhere: one by one, or of two
    characters one of each, in that order, put together.

    Raises `ConfigError` for two characters and another number of adapters.
    """
    if companion is None or not settings.adapters:
        yield from adapters.cells(axes, chosen, settings, first)
        return
    second = Second(settings_of_other(settings), companion)
    own, others = adapters.pair(settings)  # first that of the first
    if settings.by_halves:
        _check_called(
            own.trigger or first.spec.identifier, others.trigger or second.other.identifier
        )
    beside = second.other._replace(identifier=others.trigger or second.other.identifier)
    at = _alone(axes)
    each = (
        *(adapters.cells(at, chosen, way, first, [own], beside) for way in _ways(settings)),
        adapters.cells(at, chosen, second.settings, companion.other, [others]),
    )
    for ones in zip(*each, strict=False):  # none of what belongs on another base
        for cell in _at_strengths(ones, axes, settings, second):
            yield replace(
                cell, values={**cell.values, ADAPTER: BESIDE.join((own.name, others.name))}
            )


def settings_of_other(settings: Settings) -> Settings:
    """The settings with the second of two as the only one, and what it is asked alone."""
    alone = {
        "character": settings.characters[1],
        "characters": [],
        "other_strength": 1.0,
        "exam": settings.exam.of_second,
    }
    return settings.model_copy(update=alone)


def taught_together(
    axes: Mapping[str, Any], chosen: Mapping[str, Any], settings: Settings, first: Character,
    second: Second,
) -> Iterator[Cell]:  # fmt: skip
    """The cells of one combination, with both characters in one adapter."""
    for cell in cells_of(axes, chosen, settings, first, second.companion, second.other):
        yield in_company(cell, second, cell.images)


def taught_apart(
    axes: Mapping[str, Any], chosen: Mapping[str, Any], settings: Settings, first: Character,
    second: Second,
) -> Iterator[Cell]:  # fmt: skip
    """The cells of one combination, with an adapter of each character.

    Each adapter alone is among them, whatever strengths were asked for: there is nothing to compose
    before both are trained, and what company costs is seen beside them.
    """
    at = _alone(axes)
    each = (
        *(cells_of(at, chosen, way, first, other=second.other) for way in _ways(settings)),
        cells_of(at, chosen, second.settings, second.companion.other),
    )
    for ones in zip(*each, strict=True):
        _check_adapters(ones[0])
        yield from _at_strengths(ones, axes, settings, second)


def _ways(settings: Settings) -> tuple[Settings, Settings]:
    """How one alone draws pictures of both, as a whole, and how two do."""
    sampler = settings.sampler.model_copy(update={"regional": False})
    return settings.model_copy(update={"sampler": sampler}), settings


def _alone(axes: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**axes, "strength": (1.0,), "other_strength": (1.0,)}


def _at_strengths(
    ones: tuple[Cell, ...], axes: Mapping[str, Any], settings: Settings, second: Second
) -> Iterator[Cell]:
    """What two adapters draw at all the strengths that are asked for, and each alone; where they
    draw apart, at each of its own. Of the cells given one is the first as it draws alone, one as it
    does beside the other, and one the other."""
    one, beside, other = ones
    spans = [plain_values(name, axes, settings) for name in ("strength", "other_strength")]
    is_apart = settings.by_halves
    alone = [(1.0, 0.0), (0.0, 1.0)]
    if is_apart:
        alone += [(own, 0.0) for own in spans[0] if own] + [(0.0, own) for own in spans[1] if own]
    called = (one.identifier, other.identifier) if is_apart else ("", "")
    of_other = {"other_trigger": other.made["trigger"]} if "trigger" in other.made else {}
    both = {name: own for name, own in one.made.items() if name == "trigger"} | of_other
    for pair in dict.fromkeys([*itertools.product(*spans), *alone]):
        values = {**one.values, "strength": pair[0], "other_strength": pair[1]}
        template, drawing = beside if all(pair) else one, one if pair[0] else other
        cell = replace(
            template, values=values,
            class_images=drawing.class_images,  # that are learned from
            identifier=drawing.identifier,
            made=both if all(pair) else one.made if pair[0] else {**other.made, **of_other},
        )  # fmt: skip
        images = composed(one.images, other.images, pair[0], pair[1], called)
        yield in_company(cell, second, images, other.identifier)


def strengths_of(cells: Sequence[Cell]) -> dict[str, tuple[float, ...]]:
    """The strengths of cells with an adapter each, as axes; none without any."""
    if not any(isinstance(cell.source, ComposedSpec) for cell in cells):
        return {}
    return {
        name: tuple(sorted({cell.values[name] for cell in cells if name in cell.values}))
        for name in ("strength", "other_strength")
    }


def _check_called(first: str, other: str) -> None:
    """ConfigError where a text that names one of two names both, and tells of no adapter."""
    for short, long in ((first, other), (other, first)):
        if holds(long, short):
            raise ConfigError(
                "adapters: each half of a picture is drawn by the adapter that it names, and "
                f"whatever has {long} has {short} too; give adapters triggers that are apart, or "
                "set sampler.regional=false"
            )


def _check_adapters(cell: Cell) -> None:
    """ConfigError for weights that cannot be added up."""
    method = method_of(cell.trajectory.method)
    if method.low_rank is None:
        otherwise = ", or company=together" if method.trains_base else ""
        raise ConfigError(
            f"company=separate: method={cell.trajectory.method.name} makes no adapter, and nothing "
            "else of two can be put on one base together; choose one that does, as method=lora"
            f"{otherwise}"
        )


def composed(
    first: ImageSetSpec, other: ImageSetSpec, strength: float, beside: float,
    called: tuple[str, str] = ("", ""),
) -> ImageSetSpec:  # fmt: skip
    """What two adapters draw together of the first one's prompts, apart if they are `called` by
    names; one alone, where the other is at 0."""
    if not beside:
        return replace(first, strength=strength)
    if not strength:
        return replace(first, snapshot=other.snapshot, strength=beside)
    snapshots = (first.snapshot, other.snapshot)
    source = first.snapshot.source
    assert isinstance(source, TrajectorySpec | AdapterSpec)
    assert source.base is not None
    parts = zip(snapshots, (strength, beside), called, strict=True)
    both = ComposedSpec(source.base, tuple(Component(*part) for part in parts))
    last = max(snapshot.step for snapshot in snapshots)
    return replace(first, snapshot=SnapshotSpec(both, last), strength=1.0, regional=False)


def in_company(cell: Cell, second: Second, images: ImageSetSpec, identifier: str = "") -> Cell:
    """A cell that draws so, asked for the second character too, and compared by the worst."""
    template = cell_of(
        second.settings, second.companion.other, cell.images.snapshot, images.resolution,
        images.precision, method_of(cell.trajectory.method) if cell.is_trained else None,
        identifier,
    )  # fmt: skip
    known = {part.name: part for part in template.parts}
    assert template.class_noun_set is not None
    others = [
        ExamPart(OTHER, template.images, template.class_noun_set, template.exam,
                 tuple(m for m in template.metrics if m.name in OF_OTHER)),
        *(replace(known[n], name=f"{n} of the {OTHER}") for n in (OTHERS,) if n in known),
    ]  # fmt: skip
    if isinstance(images.snapshot.source, ComposedSpec) and images.snapshot.source.called:
        others = [replace(one, images=replace(one.images, whose=1)) for one in others]
    parts = [
        *cell.parts,
        *(replace(one, metrics=tuple(map(_of_other, one.metrics))) for one in others),
    ]
    metrics = [replace(m, name=FIRST_SCORE) if m.name == SCORE else m for m in cell.metrics]
    measured = {m.name for m in (*metrics, *(m for part in parts for m in part.metrics))}
    return replace(
        cell, images=images, metrics=tuple(metrics),
        worst_of=tuple(name for name in WORST if name in measured),
        parts=parts_as_drawn(parts, images),
    )  # fmt: skip


def _of_other(metric: Plugin) -> Plugin:
    return replace(metric, name=f"{OTHER}_{metric.name}")
