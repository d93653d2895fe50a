"""A stored cell, to draw or export from again: its image set, and its base as it was then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from charsweep.config import Settings
from charsweep.config.locations import base_weights
from charsweep.core.errors import ModelsError, StoreError
from charsweep.core.specs import BaseSpec, ImageSetSpec, revived
from charsweep.core.store import Store
from charsweep.core.store.files import inside, read_json
from charsweep.models.weights import BaseWeights
from charsweep.results import CellResult

AGAIN = "run the sweep's own command once more, then this one"


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
    if holder := store.held_by(images.snapshot):
        raise StoreError(
            f"{store.snapshot(images.snapshot)}: its weights stayed with a worker on {holder}; run "
            "the sweep's command again with runtime.bring=all"
        )
    if not store.has_snapshot(images.snapshot):
        raise StoreError(f"cell {cell.cell}: its weights are gone from the store; {AGAIN}")
    return images


def saved_settings(record: Mapping[str, Any], cell: CellResult) -> dict[str, Any]:
    """The settings in a sweep's record that a cell was made with; of variants, its own."""
    saved = dict(record.get("settings") or {})
    for variant in record.get("variants") or ():
        if variant["values"].items() <= cell.values.items():
            return saved | {name: own for name, own in variant.items() if name != "values"}
    return saved


def base_as_it_was(settings: Settings, base: BaseSpec) -> BaseWeights:
    """The base of that name; `ModelsError` if its weights are others than the spec says."""
    weights = replace(base_weights(settings, base.name), plugin=base.family)  # of its own cell
    if weights.spec.key != base.key:
        raise ModelsError(
            f"the weights of {base.name} in {weights.pipeline.name} are not those that the sweep "
            f"was made with; put them back, or {AGAIN}"
        )
    return weights
