"""Adapters from elsewhere: which files are meant, what each is called, and its copy in the store.

A file, a folder or a pattern names one adapter or several; no torch.
"""

from __future__ import annotations

import glob
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from charsweep.core.errors import ConfigError, ModelsError
from charsweep.core.keys import digest_of, digest_of_content
from charsweep.core.specs import AdapterSpec, SnapshotSpec
from charsweep.core.store import Store
from charsweep.core.store.files import new_folder
from charsweep.core.system.images import natural_order
from charsweep.models.adapter_file import ADAPTER_FILE
from charsweep.models.adapter_metadata import making_of, steps_in
from charsweep.models.foreign_adapter import (
    CONFIG,
    FILES,
    AdapterLayer,
    adapter_layers,
    plain_shapes,
)
from charsweep.models.safetensors_file import is_zero, metadata_of, tensor_shapes
from charsweep.models.weights import PICKLES, SAFETENSORS, BaseWeights

CHECKPOINTS = "checkpoint-*"  # folders of one run, as diffusers and SimpleTuner write them


@dataclass(frozen=True)
class AdapterFile:
    """An adapter from elsewhere: its file, what it is called among others, the words for it."""

    path: Path
    name: str
    trigger: str | None = None  # what prompts call the character by; None: her identifier
    run_steps: int | None = None  # training steps, of a run that has several checkpoints

    @cached_property
    def making(self) -> dict[str, Any]:
        """What it says of itself; see `making_of`."""
        try:
            return making_of(self.path)
        except ModelsError as error:
            raise ModelsError(f"adapters={self.path}: {error}") from error

    @cached_property
    def digest(self) -> str:
        """Of all that it is read from, whatever its name and place are."""
        if (config := config_of(self.path)) is None:
            return digest_of_content(self.path)
        return digest_of(self.path.read_bytes() + b" with " + config.read_bytes())


def config_of(file: Path) -> Path | None:
    """peft's settings that a file is read with, if they lie beside it."""
    config = file.with_name(CONFIG)
    return config if file.name in FILES and config.is_file() else None


# -- which are meant -------------------------------------------------------------------------------


def find_adapters(path: str, given: str) -> list[Path]:
    """The adapter files that a path, a folder or a pattern names, in their natural order.

    ConfigError if there are none, or one of them may not be read.
    """
    place = Path(path).expanduser()
    if place.exists() or not glob.has_magic(path):
        return _in_folder(place, given) if place.is_dir() else [adapter_file(place, given)]
    found = _in_order(Path(place.anchor).glob(str(place.relative_to(place.anchor))))
    files = [file for one in found for file in (_in_folder(one, "") if one.is_dir() else [one])]
    chosen = [file for file in files if file.suffix.lower() in SAFETENSORS]
    if not chosen:
        raise ConfigError(
            f"{given}: no adapter lies where that pattern leads; give an adapter's .safetensors "
            "file, a folder of them, or a pattern as in runs/*.safetensors"
        )
    return [adapter_file(file, given) for file in chosen]


def _in_folder(folder: Path, given: str) -> list[Path]:
    """One adapter's folder is that adapter, and its checkpoints; any other holds several."""
    saved = [file for one in _in_order(folder.glob(CHECKPOINTS)) for file in _whole(one)]
    found = [*saved, *(_whole(folder) or _in_order(folder.glob("*.safetensors")))]
    if not found and given:
        raise ConfigError(
            f"{given}: no .safetensors file lies in that folder; give an adapter's file, or the "
            "folder that holds it"
        )
    return found


def _whole(folder: Path) -> list[Path]:
    """The file of a folder that is one adapter's; none of any other."""
    return [folder / name for name in FILES if (folder / name).is_file()][:1]


def _in_order(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: natural_order(str(path)))


def adapter_file(path: Path, given: str) -> Path:
    """The one file that is meant; ConfigError if there is none that may be read."""
    if path.is_dir():
        others = _in_order(path.glob("*.safetensors"))
        found = _whole(path) or others
        if len(found) != 1:
            names = ", ".join(file.name for file in others) or "no .safetensors file"
            raise ConfigError(
                f"{given}: there is no {FILES[0]} in that folder, but {names}; give the adapter's "
                "file itself"
            )
        path = found[0]
    if path.suffix.lower() in PICKLES:
        raise ConfigError(
            f"{given}: it may hold pickled code and is not read; give the adapter as a "
            ".safetensors file, as which most are published too"
        )
    if not path.is_file():
        raise ConfigError(
            f"{given}: there is no such file; give an adapter's .safetensors file, or its folder"
        )
    tensor_shapes(path)
    return path


# -- what they are called --------------------------------------------------------------------------


def told_apart(files: Iterable[AdapterFile]) -> list[AdapterFile]:
    """Each file once, by a name of its own; the checkpoints of one run by its name and their steps.

    Of one run are files of one folder, or of its checkpoints' folders, whose names differ in a
    number, if it is known how long each was trained.
    """
    once: dict[tuple[str, str | None], AdapterFile] = {}
    for file in files:
        once.setdefault((file.digest, file.trigger), file)
    runs: dict[tuple[Any, ...], dict[int, AdapterFile]] = {}
    for file in once.values():
        steps = file.making.get("steps")
        run: tuple[Any, ...] = (*_run_of(file.path), file.name, file.trigger)
        if steps is None or steps in runs.get(run, {}):
            run, steps = (file.path, *run), 0
        runs.setdefault(run, {})[steps] = file
    groups = [[own[steps] for steps in sorted(own)] for own in runs.values()]
    return [
        replace(file, name=name, run_steps=file.making["steps"] if len(group) > 1 else None)
        for name, group in zip(_names(groups), groups, strict=True)
        for file in group
    ]


def _names(groups: Sequence[Sequence[AdapterFile]]) -> list[str]:
    """One for each run or file, with as much beside it as tells it apart."""

    def name_of(group: Sequence[AdapterFile], beside: int) -> str:
        file, is_run = group[0], len(group) > 1
        above, run = _run_of(file.path)
        own = file.path.parent.resolve().name if file.path.name in FILES else file.path.stem
        name = file.name or (run if is_run else own)
        above = above.parent if file.path.name in FILES and not is_run else above
        folder = f"{above.resolve().name}/" if beside else ""
        return f"{folder}{name}{f' ({file.trigger or file.digest[:6]})' if beside > 1 else ''}"

    runs = {_run_of(group[0].path) for group in groups if len(group) > 1}
    of_runs = [len(group) == 1 and _run_of(group[0].path) in runs for group in groups]
    names = [
        f"{name_of(group, 0)}{' (last)' if is_last else ''}"
        for group, is_last in zip(groups, of_runs, strict=True)
    ]
    for beside in (1, 2):
        counts = Counter(names)
        names = [
            name if counts[name] == 1 else name_of(group, beside)
            for name, group in zip(names, groups, strict=True)
        ]
    return names


def _run_of(path: Path) -> tuple[Path, str]:
    """Where a checkpoint's run lies, and what it is called."""
    if path.name not in FILES:
        return path.parent, steps_in(path.stem)[0]
    folder = path.parent.parent if path.parent.match(CHECKPOINTS) else path.parent
    return folder, folder.resolve().name


# -- on a base -------------------------------------------------------------------------------------


def layers_on(file: Path, weights: BaseWeights) -> list[AdapterLayer] | None:
    """What the adapter changes of the base; None where the base is not here to say.

    Raises `ModelsError` where it is not whole, or of another base.
    """
    shapes, parts = plain_shapes(weights.shapes), weights.family.taught(text_encoder=True)
    modules = [part for part in parts if (weights.configs / part).is_dir()]
    if not set(modules) <= shapes.keys():
        return None
    return adapter_layers(file, shapes, modules)


def is_made_for(file: Path, weights: BaseWeights) -> bool | None:
    """Whether a file's header names the kind of a base; None where it names none."""
    told = metadata_of(file)
    architecture = told.get("modelspec.architecture", "").partition("/")[0]
    said = {told.get("ss_base_model_version", ""), architecture} - {""}
    try:
        naming = weights.family.naming(weights.configs, "epsilon")
    except ModelsError:
        return None
    known = (naming.version, naming.architecture)
    alike = (one.startswith(own) or own.startswith(one) for one in said for own in known)
    return any(alike) if said else None


def check_changes(file: Path, layers: Sequence[AdapterLayer]) -> None:
    """Raise `ModelsError` for an adapter that would leave every weight as it is."""
    for layer in layers:
        parts = layer.tensors
        if parts.keys() & {"magnitude", "dora_scale"}:
            return  # lengths change a weight without any factors
        zeros = [is_zero(file, name) for name in parts.values()]
        if not (all(zeros) if layer.kind == "diff" else any(zeros)):
            return
    raise ModelsError(
        "it changes nothing: in each of its layers a factor is zero, as before the first step of "
        "training; take a later checkpoint"
    )


def keep_adapter(file: Path, spec: AdapterSpec, store: Store) -> None:
    """Copy an adapter into the store, where the images that it draws will lie."""
    snapshot = SnapshotSpec(spec, 0)
    with store.lock(spec):
        folder = store.snapshot(snapshot)
        if not (folder / "snapshot.json").exists():
            if not file.is_file():
                raise ModelsError(
                    f"adapters={file}: it was there a moment ago and is gone; put it back"
                )
            content = {"spec": {"step": 0}, "bytes": file.stat().st_size}
            with new_folder(folder, "snapshot.json", content) as new:
                shutil.copyfile(file, new / ADAPTER_FILE)
                if config := config_of(file):
                    shutil.copyfile(config, new / CONFIG)
