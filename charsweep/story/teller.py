"""A sweep's folder, or an adapter file, in; out, what draws the story: weights, sampler, character.

A cell is taken as it is stored, whatever the command line says of models, method and character, so
`name=lr_grid` alone is enough to tell a story with it.
"""

from __future__ import annotations

import dataclasses
import shutil
import types
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import pydantic

from charsweep.adapterfile import ADAPTER_FILE
from charsweep.cells import base_weights, character_of, encoders_of
from charsweep.character import Character
from charsweep.config import Sweep
from charsweep.errors import CharacterError, ConfigError, ModelsError, StoreError
from charsweep.keys import digest_of
from charsweep.recommendation import recommended_cell
from charsweep.results import CellResult, named_cell, read_results
from charsweep.settings import CharacterSettings, ModelsSettings, Settings
from charsweep.specs import AdapterSpec, BaseSpec, ImageSetSpec, SnapshotSpec, TrajectorySpec
from charsweep.store import Store, inside, new_folder, read_json
from charsweep.tensorfile import tensor_shapes
from charsweep.weights import BaseWeights

AGAIN = "run the sweep's own command once more, then this one"


@dataclass(frozen=True)
class Teller:
    """What draws: the sweep with the right models in it, an image set to fill in, words on it."""

    sweep: Sweep
    images: ImageSetSpec
    about: Mapping[str, Any]

    @property
    def character(self) -> Character:
        return self.sweep.character


def find_teller(sweep: Sweep, store: Store) -> Teller:
    """The adapter that the story names, else the cell, else the recommended cell."""
    if sweep.settings.story.adapter is not None:
        return _from_adapter(sweep, store)
    record = sweep.folder / "sweep.json"
    if not record.exists():
        raise StoreError(
            f"there is no sweep {sweep.name} in {sweep.folder}; run it first, give another name= "
            "or root=, or tell the story with story.adapter=PATH"
        )
    return _from_cell(sweep, store, read_json(record).get("settings", {}))


# -- a cell of a sweep -----------------------------------------------------------------------------


def _from_cell(sweep: Sweep, store: Store, saved: Mapping[str, Any]) -> Teller:
    results = read_results(sweep.folder / "cells.jsonl")
    wanted = sweep.settings.story.cell
    if wanted is not None:
        cell, why = named_cell(results, wanted, sweep.name, "story.cell"), "named by story.cell"
    else:
        cell, why = recommended_cell(sweep.folder, results, "Give story.adapter=PATH.")
    images = stored_images(cell, store)
    if not any(images.prompts):
        raise ConfigError(
            f"story.cell={wanted}: its method, {cell.values['method']}, follows no prompts; choose "
            "a cell whose method does"
        )
    about = {"cell": cell.cell, "values": dict(cell.values), "scores": dict(cell.scores)}
    return Teller(_as_it_was(sweep, saved, images), images, {**about, "why": why})


def stored_images(cell: CellResult, store: Store) -> ImageSetSpec:
    """The spec of a cell's image set, read back from its manifest."""
    assert cell.images is not None
    path = inside(store.folder, cell.images) / "images.json"
    if not path.exists():
        raise StoreError(f"cell {cell.cell}: {path} is gone; {AGAIN}")
    manifest = read_json(path)
    try:
        images: ImageSetSpec = revived(ImageSetSpec, manifest["spec"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} was written by another version ({error}); {AGAIN}") from error
    if images.key != cell.cell or not store.has_images(images):
        raise StoreError(f"{path} was written by another version; {AGAIN}")
    if not store.has_snapshot(images.snapshot):
        raise StoreError(f"cell {cell.cell}: its weights are gone from the store; {AGAIN}")
    return images


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
    assert isinstance(source, TrajectorySpec)
    assert source.base is not None  # without one it follows no prompts
    drawn = replace(
        sweep, settings=settings, character=character_of(settings),
        encoders=encoders_of(settings),
        bases={source.base.name: base_as_it_was(settings, source.base)},
    )  # fmt: skip
    if drawn.character.spec.digests != source.character.digests:
        raise CharacterError(
            f"the drawings in {character.images} are not those that taught {character.identifier} "
            f"in sweep {sweep.name}; put them back, or {AGAIN}"
        )
    return drawn


def base_as_it_was(settings: Settings, base: BaseSpec) -> BaseWeights:
    """The base of that name; `ModelsError` if its weights are others than the spec says."""
    weights = base_weights(settings, base.name)
    if weights.spec.key != base.key:
        raise ModelsError(
            f"the weights of {base.name} in {weights.pipeline.name} are not those that the sweep "
            f"was made with; put them back, or {AGAIN}"
        )
    return weights


# -- an adapter from elsewhere ---------------------------------------------------------------------


def _from_adapter(sweep: Sweep, store: Store) -> Teller:
    story, models = sweep.settings.story, sweep.settings.models
    template, own = sweep.examples[0].images, sweep.examples[0].trajectory.base
    name = story.base or (own.name if own else "")
    if name not in models.bases or not any(template.prompts):
        raise ConfigError(
            f"story.base={name}: story.adapter needs a base of models={models.name} "
            f"({', '.join(models.bases)}) and a method= that follows prompts"
        )
    assert story.adapter is not None
    file = _adapter_file(Path(story.adapter).expanduser())
    weights = base_weights(sweep.settings, name)
    spec = AdapterSpec(
        file.parent.name if file.name == ADAPTER_FILE else file.stem,
        digest_of(file.read_bytes()),
        weights.spec,
    )
    _keep(file, spec, store)
    images = replace(
        template, snapshot=SnapshotSpec(spec, 0),
        resolution=sweep.settings.resolution or models.bases[name].resolution,
    )  # fmt: skip
    about = {"adapter": story.adapter, "base": name, "why": "named by story.adapter"}
    return Teller(replace(sweep, bases={name: weights}), images, about)


def _adapter_file(path: Path) -> Path:
    file = path / ADAPTER_FILE if path.is_dir() else path
    if not file.is_file() or file.suffix != ".safetensors":
        raise ConfigError(
            f"story.adapter={path}: there is no {ADAPTER_FILE} in that folder, or no such "
            ".safetensors file; give a LoRA adapter as diffusers and kohya-ss write it"
        )
    tensor_shapes(file)
    return file


def _keep(file: Path, spec: AdapterSpec, store: Store) -> None:
    """Copy an adapter into the store, where the pictures that it draws will lie."""
    snapshot = SnapshotSpec(spec, 0)
    with store.lock(spec):
        folder = store.snapshot(snapshot)
        if not (folder / "snapshot.json").exists():
            content = {"spec": {"step": 0}, "bytes": file.stat().st_size}
            with new_folder(folder, "snapshot.json", content) as new:
                shutil.copyfile(file, new / ADAPTER_FILE)


# -- specs read back -------------------------------------------------------------------------------


def revived(kind: Any, value: Any) -> Any:
    """A spec from the plain values of its manifest; KeyError where they do not fit."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        fields = [field.name for field in dataclasses.fields(kind) if field.init]
        if set(value) != set(fields):
            raise KeyError(f"{kind.__name__}: {', '.join(sorted(set(value) ^ set(fields)))}")
        return kind(**{name: revived(hints[name], value[name]) for name in fields})
    if get_origin(kind) in (Union, types.UnionType) and isinstance(value, Mapping):
        return revived(_one_of(get_args(kind), value), value)
    if get_origin(kind) is tuple:
        return tuple(revived(get_args(kind)[0], item) for item in value)
    return value


def _one_of(kinds: tuple[Any, ...], value: Mapping[str, Any]) -> type:
    """The spec whose fields a manifest's values are."""
    specs = [kind for kind in kinds if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
    for kind in specs:
        if {field.name for field in dataclasses.fields(kind)} == set(value):
            return kind
    raise KeyError(f"none of {', '.join(kind.__name__ for kind in specs)}: {', '.join(value)}")
