"""The exam of a cell: what images are judged by, its further parts, and the true pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from charsweep.character import Character
from charsweep.character.attributes import named_in
from charsweep.config.drawing import size_of
from charsweep.config.locations import encoders_of
from charsweep.config.settings import Settings
from charsweep.config.settings.groups import OF_TWO
from charsweep.core.cells import ExamPart
from charsweep.core.columns import regional
from charsweep.core.sides import in_halves, left_of
from charsweep.core.specs import (
    CHARACTER,
    PLACE,
    AttributeSpec,
    ExamSpec,
    ImageSetSpec,
    Plugin,
    SnapshotSpec,
    TruthSpec,
)
from charsweep.results.cells import TOGETHER

OF_PART = ("prompts", "seeds", "size", "whose")  # of its images: what the part says, not the cell
OTHERS = "others"  # the part of the exam whose prompts are not of the character


class Other(NamedTuple):
    """The second of two characters, and what prompts call it by."""

    character: Character
    identifier: str


def exam_of(
    settings: Settings, character: Character, prompts: Sequence[str], other: Character | None = None
) -> ExamSpec:
    """What images are judged by that are drawn for these prompts, {subject} still in them; {other}
    too, where they ask for two. A place is the other alone too: see `metrics.Exam`."""
    spec = character.spec
    beside = other or (character if spec.kind == PLACE else None)
    filled = of_class([regional(prompt).whole for prompt in prompts], character, other)
    known = settings.attributes | settings.exam.attributes
    vocabulary = [AttributeSpec(name, tuple(one.words)) for name, one in known.items()]
    named = {name for prompt in filled for name in named_in(prompt, vocabulary)}
    return ExamSpec(
        encoders=tuple(spec for spec, _ in encoders_of(settings).values()),
        references=references_of(settings, character),
        held_out=character.held_out.digests if character.held_out else (),
        truth=character.truth.digests
        if character.truth and prompts == settings.exam.prompts
        else (),
        prompts=filled,
        class_prompt=settings.character.class_prompt,
        attributes=tuple(one for one in vocabulary if one.name in named),
        other=_drawings_of(settings, beside) if beside else (),
        left=tuple(map(left_of, prompts)) if other and other.spec.kind != PLACE else (),
        kind=beside.spec.kind if beside else CHARACTER,
    )


def _drawings_of(settings: Settings, other: Character) -> tuple[str, ...]:
    """What the second character is known by: drawings that are not taught, where it has any."""
    return other.held_out.digests if other.held_out else references_of(settings, other)


def references_of(settings: Settings, character: Character) -> tuple[str, ...]:
    """What images are scored against: training images, or what the masks keep of them, which a
    place has none of."""
    if settings.references == "whole" or character.spec.kind == PLACE:
        return character.spec.digests
    assert character.masks is not None
    pairs = zip(character.spec.digests, character.masks.digests, strict=True)
    return tuple(f"{image}/{mask}" for image, mask in pairs)


def truth_of(images: ImageSetSpec, character: Character) -> ImageSetSpec | None:
    """The true pictures as an image set, so that they are scored like any other."""
    if character.truth is None:
        return None
    spec = TruthSpec(character.spec.name, character.truth.digests, images.resolution)
    drawn = Plugin("drawn", "", 1, {})
    return replace(
        images, snapshot=SnapshotSpec(spec, 0), sampler=drawn, inference_steps=1,
        guidance_scale=1.0, negative_prompt="", seeds=(0,),
    )  # fmt: skip


def parts_of(
    settings: Settings,
    character: Character,
    images: ImageSetSpec,
    untaught: ImageSetSpec,
    identifier: str,
    other: Other | None = None,
) -> Iterator[ExamPart]:
    """The parts of the exam that any metric is on. Of others, {subject} is one of the class.

    Of two characters, a part has both only where it asks for them together.
    """
    for name, part in (settings.exam.parts or {}).items():
        company = other if name == TOGETHER else None
        if not (metrics := settings.metrics_on(name)) or (name in OF_TWO and company is None):
            continue
        subject = character.spec.one_of_class if name == OTHERS else identifier
        prompts = [
            in_halves(prompt) if company and settings.by_halves else regional(prompt).whole
            for prompt in part.prompts
        ]
        judged = exam_of(settings, character, part.prompts, company and company.character)
        nouns = of_class(prompts, character, company and company.character)
        asked = tuple(prompt.replace("{subject}", subject) for prompt in prompts)
        if company:
            asked = tuple(prompt.replace("{other}", company.identifier) for prompt in asked)
        size, seeds = size_of(part.size, images), tuple(part.seeds)
        yield ExamPart(
            name=name,
            images=replace(images, prompts=asked, seeds=seeds, size=size),
            untaught=replace(untaught, prompts=nouns, seeds=seeds, size=size),
            exam=judged,
            metrics=metrics,
        )


def of_class(
    prompts: Sequence[str], character: Character, other: Character | None
) -> tuple[str, ...]:
    """Prompts with one of its class in the place of the character, and of the other."""
    named = {"{subject}": character} | ({"{other}": other} if other else {})
    for name, who in named.items():
        prompts = [prompt.replace(name, who.spec.one_of_class) for prompt in prompts]
    return tuple(prompts)


def parts_as_drawn(parts: Iterable[ExamPart], images: ImageSetSpec) -> tuple[ExamPart, ...]:
    """Parts of the exam, with what each asks for drawn as a cell's images are."""
    return tuple(
        replace(
            part,
            images=replace(images, **{name: getattr(part.images, name) for name in OF_PART}),
        )
        for part in parts
    )
