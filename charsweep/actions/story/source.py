"""What draws a story: weights, sampler and character, of a stored cell or an adapter file.

A cell is taken as it is stored, whatever the command line says of models, method and character, so
`name=lr_grid` alone is enough to tell a story with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydantic

from charsweep.actions.stored_cell import AGAIN, base_as_it_was, saved_settings, stored_images
from charsweep.config import Sweep
from charsweep.config.cells import base_weights, encoders_of
from charsweep.config.settings import CharacterSettings, ModelsSettings
from charsweep.config.variants import Variants
from charsweep.core.errors import CharacterError, ConfigError, ModelsError, StoreError
from charsweep.core.keys import digest_of
from charsweep.core.specs import AdapterSpec, ImageSetSpec, SnapshotSpec, TrajectorySpec
from charsweep.core.store import Store
from charsweep.core.store.files import read_json
from charsweep.models.adapter_source import adapter_file, config_of, keep_adapter, layers_on
from charsweep.models.foreign_adapter import CONFIG, FILES, PLAIN, AdapterLayer
from charsweep.models.weights import BaseWeights
from charsweep.results import read_results
from charsweep.results.cells import named_cell
from charsweep.results.recommendation import recommended_cell

REMEDY = "Name a cell with story.cell=KEY, or give story.adapter=PATH."
OTHERWISE = "; give a LoRA, DoRA, LoHa or LoKr file, and story.base= the base that it was taught on"


@dataclass(frozen=True)
class StorySource:
    """What draws: the sweep with the right models in it, an image set to fill in, words on it, and
    what prompts call the character by."""

    sweep: Sweep
    images: ImageSetSpec
    about: Mapping[str, Any]
    identifier: str


def find_source(sweep: Sweep, store: Store) -> StorySource:
    """The adapter that the story names, else the cell, else the recommended cell."""
    if sweep.settings.story.adapter is not None:
        return _from_adapter(sweep, store)
    record = sweep.folder / "sweep.json"
    if not record.exists():
        raise StoreError(
            f"there is no sweep {sweep.name} in {sweep.folder}; run it first, give another name= "
            "or root=, or tell the story with story.adapter=PATH"
        )
    return _from_cell(sweep, store, read_json(record))


# -- a cell of a sweep -----------------------------------------------------------------------------


def _from_cell(sweep: Sweep, store: Store, record: Mapping[str, Any]) -> StorySource:
    results = read_results(sweep.folder / "cells.jsonl")
    wanted = sweep.settings.story.cell
    if wanted is not None:
        cell, why = named_cell(results, wanted, sweep.name, "story.cell"), "named by story.cell"
    else:
        cell, why = recommended_cell(sweep.folder, results, REMEDY)
    images = stored_images(cell, store)
    if not any(images.prompts):
        raise ConfigError(
            f"story.cell={wanted}: its method, {cell.values['method']}, follows no prompts; choose "
            "a cell whose method does"
        )
    about = {"cell": cell.cell, "values": dict(cell.values), "scores": dict(cell.scores)}
    drawn = _as_it_was(sweep, saved_settings(record, cell), images)
    identifier = str(cell.made.get("trigger") or drawn.character.spec.identifier)
    return StorySource(drawn, images, {**about, "why": why}, identifier)


def _as_it_was(sweep: Sweep, saved: Mapping[str, Any], images: ImageSetSpec) -> Sweep:
    """The sweep with the models and the character that the image set was drawn with."""
    try:
        models = ModelsSettings.model_validate(saved["models"])
        character = CharacterSettings.model_validate(saved["character"])
        was = {"models": models, "character": character, "references": saved["references"]}
    except (KeyError, pydantic.ValidationError) as error:
        raise StoreError(
            f"{sweep.folder / 'sweep.json'} was written by another version; {AGAIN}"
        ) from error
    settings = sweep.settings.model_copy(update=was)
    source = images.snapshot.source
    assert isinstance(source, TrajectorySpec | AdapterSpec)
    bases = [base for base in (source.base, images.base) if base]  # without one, no prompts
    variants = Variants()
    variants.of({}, settings)
    drawn = replace(
        sweep, settings=settings, variants=variants, encoders=dict(encoders_of(settings).values()),
        bases={base.key: base_as_it_was(settings, base) for base in bases},
    )  # fmt: skip
    taught = source.character.digests if isinstance(source, TrajectorySpec) else ()
    if taught and drawn.character.spec.digests != taught:
        raise CharacterError(
            f"the drawings in {character.images} are not those that taught {character.identifier} "
            f"in sweep {sweep.name}; put them back, or {AGAIN}"
        )
    return drawn


# -- an adapter from elsewhere ---------------------------------------------------------------------


def _from_adapter(sweep: Sweep, store: Store) -> StorySource:
    story, models = sweep.settings.story, sweep.settings.models
    template, own = sweep.examples[0].images, sweep.examples[0].base
    name = story.base or (own.name if own else "")
    if name not in models.bases or not any(template.prompts):
        raise ConfigError(
            f"story.base={name}: story.adapter needs a base of models={models.name} "
            f"({', '.join(models.bases)}) and a method= that follows prompts"
        )
    assert story.adapter is not None
    file = adapter_file(Path(story.adapter).expanduser(), f"story.adapter={story.adapter}")
    weights = base_weights(sweep.settings, name)
    layers = _layers(sweep, file, weights)
    called = file.parent.name if file.name in FILES else file.stem
    spec = AdapterSpec(_digest(file, layers), weights.spec, called)
    keep_adapter(file, spec, store)
    images = replace(
        template, snapshot=SnapshotSpec(spec, 0), base=None,
        resolution=sweep.settings.resolution or models.bases[name].resolution,
    )  # fmt: skip
    about = {"adapter": story.adapter, "base": name, "why": "named by story.adapter"}
    drawn = replace(sweep, bases={weights.spec.key: weights})
    return StorySource(drawn, images, about, sweep.character.spec.identifier)


def _layers(sweep: Sweep, file: Path, weights: BaseWeights) -> list[AdapterLayer] | None:
    """What the adapter changes of the base; None where the base is not here to say.

    Raises ModelsError where it is not whole, or of another base, which is named if it is among the
    models.
    """
    adapter, name = sweep.settings.story.adapter, weights.plugin.name
    try:
        return layers_on(file, weights)
    except ModelsError as error:
        fitting = [
            other
            for other in sweep.settings.models.bases
            if other != name and _is_of(sweep, file, other)
        ]
        remedy = f"; give story.base={fitting[0]}" if fitting else ""
        raise ModelsError(
            f"story.adapter={adapter}: it cannot be put on {name}: {error}{remedy or OTHERWISE}"
        ) from error


def _is_of(sweep: Sweep, file: Path, name: str) -> bool:
    try:
        return bool(layers_on(file, base_weights(sweep.settings, name)))
    except ModelsError:
        return False


def _digest(file: Path, layers: list[AdapterLayer] | None) -> str:
    """Of all that it is read from; one that once was read in part has another."""
    content, config = file.read_bytes(), file.with_name(CONFIG)
    is_plain = all(own.kind == "lora" and own.tensors.keys() <= PLAIN for own in layers or ())
    if is_plain and config_of(file) is None:
        return digest_of(content)
    return digest_of(content + b" whole " + (config.read_bytes() if config.exists() else b""))
