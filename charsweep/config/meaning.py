"""What a study does not vary, and what must therefore stay the same for it to go on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from charsweep.config.company_cells import OTHER
from charsweep.config.settings import Settings
from charsweep.config.variants import Variant
from charsweep.core.cells import Cell
from charsweep.core.encoders import encoders_of
from charsweep.core.keys import canonical, keyed
from charsweep.core.specs import (
    BaseSpec,
    Company,
    EncoderSpec,
    ImageSetSpec,
    Plugin,
    TrajectorySpec,
)


def meaning_of(
    variants: Iterable[Variant], cells: Sequence[Cell], axes: Mapping[str, Any]
) -> dict[str, Any]:
    """By name; where variants do not agree, each has the values of its axes in the name."""
    found: dict[str, dict[str, Any]] = {}  # name -> words of the variant -> value
    every = list(variants)
    for variant in every:
        found.setdefault("objectives", {}).setdefault("", _objectives(variant.settings))
        if cell := next((cell for cell in cells if variant.has(cell)), None):
            for name, value in _of_variant(variant.settings, cell).items():
                found.setdefault(name, {})[variant.words] = value
    for cell in cells:
        method = str(cell.values["method"])  # each may have its own
        words = next((variant.words for variant in every if variant.has(cell)), "")
        taught = cell.trajectory if cell.is_trained else None
        if taught and (masks := taught.framing.masks):
            own = found.setdefault("masks", {})
            own[words] = max(masks, own.get(words, ()))
        if taught and taught.class_images and cell.class_images is None:  # a person's own
            name = f"{method}.own_class_images"
            found.setdefault(name, {})[words] = taught.class_images
        for name, value in (*_of_company(taught.company if taught else None), *_of_second(cell)):
            own = found.setdefault(name, {})
            own[words] = max(value, own.get(words, ()))
        for name, axis, value in (*_of_taught(taught), *_of_drawn(cell.base, cell.images)):
            if axis not in axes:
                found.setdefault(f"{method}.{name}", {})[words] = value
    meaning: dict[str, Any] = {}
    for name, by_words in found.items():
        first, *others = by_words.values()
        if all(other == first for other in others):
            meaning[name] = first
        else:
            meaning |= {f"{name} of {words}": value for words, value in by_words.items()}
    return meaning


def _of_variant(settings: Settings, cell: Cell) -> dict[str, Any]:
    """What its cells are measured by."""
    return {
        "character": keyed(cell.character),
        "exam": {"prompts": settings.exam.prompts, "seeds": settings.exam.seeds},
        "encoders": {spec.name: canonical(spec) for spec in _deciding(settings, cell)},
        "references": cell.exam.references,
        "held_out": cell.exam.held_out,
        "truth": cell.exam.truth,
        "attributes": [asdict(attribute) for attribute in cell.exam.attributes],
    }


def _deciding(settings: Settings, cell: Cell) -> Iterator[EncoderSpec]:
    """The encoders by which the search decides: the models' own, and those of its objectives."""
    asked = {
        n for name in settings.objectives for n in encoders_of(settings.metric_plugin(name).made)
    }
    yield from (one for one in cell.exam.encoders if one.kind is None or one.name in asked)


def _objectives(settings: Settings) -> dict[str, str]:
    """Which way each goes, and the version of its metric: with another, its numbers are others."""
    plugins = {name: settings.metric_plugin(name) for name in settings.objectives}
    return {name: f"{way}, {plugins[name].version}" for name, way in settings.objectives.items()}


def _of_company(company: Company | None) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Who else is taught, and what shows both: in steps of one cell perhaps, and not of another."""
    if company:
        yield "other", tuple(keyed(company.other).values())
        yield "both", (company.cut, company.joint, company.joint_captions)
        yield "other_masks", company.masks


def _of_second(cell: Cell) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The second of two: who is put together with the first, and by what it is judged."""
    if len(cell.trainings) > 1:
        yield "other", tuple(keyed(cell.trainings[1].character).values())
    for exam in (part.exam for part in cell.parts if part.name == OTHER):
        yield "other_judged_by", (exam.references, exam.held_out, exam.class_prompt)


def _of_taught(taught: TrajectorySpec | None) -> Iterator[tuple[str, str, Any]]:
    """Name, name as an axis, and value of each field of what is trained."""
    if taught is None:
        return
    if taught.base:
        axis = f"models.bases.{taught.base.family.name}.teaching_adapter"
        yield "teaching_adapter", axis, taught.teaching_adapter
    for name in ("batch_size", "max_grad_norm", "pack"):
        yield name, name, getattr(taught, name)
    yield "framing", "framing", taught.framing.crop
    yield "flip", "flip", taught.framing.flip
    yield "mask_background", "mask_background", taught.framing.background
    yield "together", "company", taught.company is not None
    if taught.company:
        yield "joint_share", "company.joint_share", taught.company.joint_share
    for name, value in taught.method.settings.items():
        yield name, f"method.{name}", value
    for group in ("optimizer", "schedule"):
        plugin: Plugin = getattr(taught, group)
        yield group, group, plugin.name
        for name, value in plugin.settings.items():
            yield f"{plugin.name}.{name}", f"{group}.{name}", value


def _of_drawn(base: BaseSpec | None, images: ImageSetSpec) -> Iterator[tuple[str, str, Any]]:
    """The same of how it is drawn, and of the base."""
    if base:
        family = base.family
        yield f"base.{family.name}", "", base.digest
        yield f"base.{family.name}.family", "", family.identity
        for name, value in family.settings.items():
            yield f"base.{family.name}.{name}", f"models.bases.{family.name}.{name}", value
    for name in ("resolution", "precision"):  # as they are trained
        yield name, name, getattr(images, name)
    yield "strength", "strength", images.strength
    sampler = images.sampler
    yield "sampler", "sampler", sampler.name
    for name in ("guidance_scale", "negative_prompt", "batch_width"):
        yield f"{sampler.name}.{name}", f"sampler.{name}", getattr(images, name)
    yield f"{sampler.name}.regional", "sampler.regional", images.regional
    other = images.base.digest if images.base else None
    yield f"{sampler.name}.base", "sampler.base", other
    for name, value in sampler.settings.items():
        yield f"{sampler.name}.{name}", f"sampler.settings.{name}", value
