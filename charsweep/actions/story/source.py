"""What draws a story: weights, sampler and character, of a stored cell or an adapter file.

A cell is taken as it is stored, whatever the command line says of models, method and character, so
`name=lr_grid` alone is enough to tell a story with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydantic

from charsweep.actions.stored_cell import AGAIN, base_as_it_was, saved_settings, stored_images
from charsweep.character import Character
from charsweep.config import Sweep
from charsweep.config.locations import base_weights, encoders_of
from charsweep.config.settings.groups import CharacterSettings, ModelsSettings
from charsweep.config.variants import Variants
from charsweep.core.columns import regional
from charsweep.core.errors import CharacterError, ConfigError, ModelsError, StoreError
from charsweep.core.keys import digest_of
from charsweep.core.sides import NAMES
from charsweep.core.specs import (
    PLACE,
    AdapterSpec,
    Added,
    ComposedSpec,
    ImageSetSpec,
    SnapshotSpec,
    Source,
    TrajectorySpec,
    trained_in,
)
from charsweep.core.store import Store
from charsweep.core.store.files import inside, read_json
from charsweep.models.adapter_source import adapter_file, config_of, keep_adapter, layers_on
from charsweep.models.foreign_adapter import CONFIG, FILES, PLAIN, AdapterLayer
from charsweep.models.weights import BaseWeights
from charsweep.results import CellResult, read_results
from charsweep.results.cells import TOGETHER, named_cell
from charsweep.results.recommendation import recommended_cell

STRENGTHS = ("strength", "other_strength")  # at which a cell draws the first and the second
REMEDY = "Name a cell with story.cell=KEY, or give story.adapter=PATH."
OF_TWO = "tell it with a sweep of two characters, as of +sweep=company"
OF_ADAPTERS = "say whom it knows, as in 'characters=[unicorn_girl,thunder_bear]'"
OTHERWISE = "; give a LoRA, DoRA, LoHa or LoKr file, and story.base= the base that it was taught on"


@dataclass(frozen=True)
class StorySource:
    """What draws: the sweep with the right models in it, an image set to fill in, words on it, what
    prompts call the character by, and the second of two, where the story asks for it; and whether
    each half of a picture of both has words of its own."""

    sweep: Sweep
    images: ImageSetSpec
    about: Mapping[str, Any]
    identifier: str
    other: Character | None
    in_halves: bool = False
    other_trigger: str = ""  # what prompts call the second by, unless its identifier

    @property
    def identifiers(self) -> tuple[str, ...]:
        """What prompts call them by."""
        if self.other is None:
            return (self.identifier,)
        return (self.identifier, self.other_trigger or self.other.spec.identifier)

    @property
    def names(self) -> tuple[str, ...]:
        """What readers know them as."""
        known = (self.sweep.character, *([self.other] if self.other else []))
        return tuple(one.spec.identifier for one in known)


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
    other = _second(drawn, f"cell {cell.cell} of sweep {sweep.name}", identifier, OF_TWO)
    if drawn.settings.characters:
        _check_cell(drawn, cell, images)
    in_halves = other is not None and draws_halves(cell, images, store)
    trigger = str(cell.made.get("other_trigger") or "")
    about |= {"why": why}
    return StorySource(drawn, images, about, identifier, other, in_halves, trigger)


def draws_halves(cell: CellResult, images: ImageSetSpec, store: Store) -> bool:
    """Whether a cell drew pictures of both with words of its own for each half, or would have: its
    exam may ask for none."""
    source = images.snapshot.source
    if isinstance(source, ComposedSpec) and source.called:
        return True
    drawn, *_ = cell.parts.get(TOGETHER) or [""]
    manifest = inside(store.folder, drawn) / "images.json"
    known = read_json(manifest)["prompts"] if manifest.exists() else ()
    return any(regional(prompt).columns for prompt in known)


def _check_cell(sweep: Sweep, cell: CellResult, images: ImageSetSpec) -> None:
    """ConfigError for one of two characters that a cell draws alone, without the other."""
    taught = [who for one in trained_in(images.snapshot.source) for who in one.characters]
    names = [who.identifier for who in taught]
    pair = [cell.values.get(name, 1) for name in STRENGTHS]
    if not names and 0 in pair:  # of two adapters from elsewhere, the other draws
        names = [sweep.settings.characters[0 if pair[0] else 1].identifier]
    prompts = {f"scene {n}": one.prompt for n, one in enumerate(sweep.settings.story.scenes, 1)}
    for name, who in zip(NAMES, sweep.settings.characters, strict=True):
        where = _first_with(name, prompts)
        if where and names and who.identifier not in names:
            raise ConfigError(
                f"{where} asks for {{{name}}}, {who.identifier}, and cell {cell.cell} draws "
                f"{names[0]} alone; give story.cell= the key of one whose strength and "
                "other_strength in cells.csv are above 0"
            )


def _as_it_was(sweep: Sweep, saved: Mapping[str, Any], images: ImageSetSpec) -> Sweep:
    """The sweep with the models and the character that the image set was drawn with."""
    try:
        models = ModelsSettings.model_validate(saved["models"])
        character, *others = (
            CharacterSettings.model_validate(one)
            for one in saved.get("characters") or [saved["character"]]
        )
        was = {"models": models, "character": character, "references": saved["references"],
               "characters": [character, *others] if others else []}  # fmt: skip
    except (KeyError, pydantic.ValidationError) as error:
        raise StoreError(
            f"{sweep.folder / 'sweep.json'} was written by another version; {AGAIN}"
        ) from error
    settings = sweep.settings.model_copy(update=was)
    source = images.snapshot.source
    assert isinstance(source, TrajectorySpec | Added)
    bases = [base for base in (source.base, images.base) if base]  # without one, no prompts
    variants = Variants()
    variants.of({}, settings)
    variants.companion(settings)
    drawn = replace(
        sweep, settings=settings, variants=variants, encoders=dict(encoders_of(settings).values()),
        bases={base.key: base_as_it_was(settings, base) for base in bases},
    )  # fmt: skip
    _check_drawings(drawn, source, [character, *others])
    return drawn


def _check_drawings(sweep: Sweep, source: Source, were: Sequence[CharacterSettings]) -> None:
    """CharacterError where drawings are not those that taught whom they show."""
    here = [sweep.character, *(companion.other for companion in sweep.variants.companions)]
    known = {one.spec.identifier: one.spec.digests for one in here}
    images = {one.identifier: one.images for one in were}
    for who in (who for one in trained_in(source) for who in one.characters):
        if who.digests and known.get(who.identifier) != who.digests:
            raise CharacterError(
                f"the drawings in {images.get(who.identifier)} are not those that taught "
                f"{who.identifier} in sweep {sweep.name}; put them back, or {AGAIN}"
            )


# -- who is asked for ------------------------------------------------------------------------------


def _second(sweep: Sweep, drawn_by: str, identifier: str, remedy: str) -> Character | None:
    """The second of two characters, where the story asks for it; ConfigError without any."""
    story = sweep.settings.story
    scenes = {f"scene {n}": f"{one.prompt} {one.caption}" for n, one in enumerate(story.scenes, 1)}
    where = _first_with(NAMES[1], {"story.title": story.title, **scenes})
    companion = sweep.variants.companion(sweep.settings)
    if where and companion is None:
        raise ConfigError(
            f"{where} asks for {{{NAMES[1]}}}, and {drawn_by} draws {identifier} alone; take it "
            f"out, as story=unicorn_day does, or {remedy}"
        )
    return companion.other if where and companion else None


def _first_with(name: str, texts: Mapping[str, str]) -> str:
    """Where a place for that name stands first; empty where nowhere."""
    return next((where for where, text in texts.items() if f"{{{name}}}" in text), "")


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
    identifier = sweep.character.spec.identifier
    other = _second(drawn, f"story.adapter={story.adapter}", identifier, OF_ADAPTERS)
    has_halves = other is not None and other.spec.kind != PLACE
    is_asked = sweep.settings.sampler.regional is not False
    in_halves = has_halves and is_asked and weights.family.draws_columns
    return StorySource(drawn, images, about, identifier, other, in_halves)


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
