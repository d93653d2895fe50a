"""The weights of an exported cell, in every format that can hold them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from charsweep.actions.export.chosen import Chosen
from charsweep.actions.export.metadata import kohya_metadata, prediction
from charsweep.core.errors import ModelsError
from charsweep.core.store import Store
from charsweep.core.store.files import read_json
from charsweep.core.system.names import as_title
from charsweep.models.identify import index_of
from charsweep.models.kohya import write_kohya
from charsweep.models.scale_adapter import scale_snapshot


@dataclass(frozen=True)
class WrittenWeights:
    """What lies in the folder: kohya's file, or why there is none."""

    is_pipeline: bool  # a whole one, in diffusers' folders
    kohya: str | None
    refusal: str | None  # None where there is a kohya file, or nobody would look for one


def write_weights(
    chosen: Chosen, store: Store, folder: Path, licence: str | None
) -> WrittenWeights:
    """Copy the snapshot's own files and, of an adapter, add one in kohya's keys.

    Of a strength that is baked, they are changed so that they draw at it.
    """
    snapshot = store.snapshot(chosen.images.snapshot)
    for path in own_files(snapshot):
        if path.is_dir():
            shutil.copytree(path, folder / path.name)
        else:
            shutil.copyfile(path, folder / path.name)
    if chosen.is_baked and chosen.method.low_rank:
        scale_snapshot(folder, chosen.images.strength)
    elif chosen.is_baked:
        interpolate_weights(chosen, snapshot, folder)
    is_pipeline = index_of(folder) is not None
    if chosen.method.low_rank is None or chosen.base_model is None:
        return WrittenWeights(is_pipeline, None, None)
    base = chosen.base_model.weights
    try:
        naming = base.family.naming(base.configs, prediction(base))
        whom = " and ".join(one.identifier for one in chosen.trajectory.characters)
        title = f"{as_title(whom)}-{naming.suffix}"
        file = folder / f"{title}.safetensors"
        metadata = kohya_metadata(chosen, naming, title, licence, ended(chosen, store))
        write_kohya(folder, naming, file, metadata)
    except ModelsError as error:
        return WrittenWeights(is_pipeline, None, str(error))
    return WrittenWeights(is_pipeline, file.name, None)


def interpolate_weights(chosen: Chosen, snapshot: Path, folder: Path) -> None:
    """Write the pipeline whose weights lie as far from the base's as the strength says."""
    import torch  # takes seconds; all else that is exported needs none

    from charsweep.models.load import load_base
    from charsweep.models.pipeline import quiet

    assert chosen.base_model is not None
    weights = chosen.base_model.weights
    base = load_base(weights.spec, weights, torch.device("cpu"))
    with base.with_snapshot(snapshot, chosen.images.strength), quiet():
        base.pipeline.save_pretrained(folder, safe_serialization=True)


def own_files(snapshot: Path) -> Iterator[Path]:
    """The weights, without the store's manifest and the image sets that lie with them."""
    for path in sorted(snapshot.iterdir()):
        manifest = path.name == "snapshot.json" or path.name.startswith(".")
        if not manifest and not (path / "images.json").exists():
            yield path


def ended(chosen: Chosen, store: Store) -> str | None:
    """When the run that trained these weights ended; None if that was not recorded."""
    path = store.source(chosen.trajectory) / "provenance.json"
    runs = read_json(path)["runs"] if path.exists() else []
    step = chosen.images.snapshot.step
    return next((str(run["ended"]) for run in runs if run["steps"][1] >= step), None)
