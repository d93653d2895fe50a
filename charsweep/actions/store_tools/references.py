"""What of the store each sweep refers to, and needs to go on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from charsweep.actions.store_tools.inventory import KEYED, Item
from charsweep.core.errors import StoreError
from charsweep.core.specs import image_set_key
from charsweep.core.store import Store
from charsweep.core.store.files import read_json, unwritable
from charsweep.core.system.locks import locked
from charsweep.models import architectures
from charsweep.results import read_results


@dataclass(frozen=True)
class Use:
    """What one sweep refers to, by keys."""

    name: str
    is_finished: bool
    sources: set[str] = field(default_factory=set)
    images: set[str] = field(default_factory=set)
    steps: set[tuple[str, int]] = field(default_factory=set)  # snapshots: source and step
    recipes: set[str] = field(default_factory=set)  # of random weights
    missing: dict[str, str] = field(default_factory=dict)  # image sets of its cells: key -> path


def uses_of(store: Store, items: Sequence[Item]) -> list[Use]:
    """What every sweep beside the store refers to; StoreError for one that cannot be read."""
    found = {item.key: item for item in items if item.kind in ("image set", "trajectory")}
    return [_followed(_use(folder), found, items) for folder in sweep_folders(store)]


def sweep_folders(store: Store) -> list[Path]:
    """Folders beside the store that a sweep, or a story, was written to."""
    marks = ("sweep.json", "cells.jsonl", "study.db", "story/story.json")
    return [
        folder
        for folder in sorted(store.folder.parent.iterdir())
        if folder != store.folder and any((folder / mark).exists() for mark in marks)
    ]


def _use(folder: Path) -> Use:
    path = folder / "sweep.json"
    record: dict[str, Any] = read_json(path) if path.exists() else {}
    use = Use(folder.name, bool(record.get("finished")))
    needs = record.get("needs") or {}
    use.sources.update(needs.get("sources") or ())
    use.images.update(needs.get("images") or ())
    for one in (record, *(record.get("exams") or ())):
        known = one.get("references") or {}
        for reference in (*(known.get("base") or {}).values(), known.get("truth")):
            if reference and reference.get("images"):
                _add(use, str(reference["images"]))
    for cell in read_results(folder / "cells.jsonl").values():
        use.sources.add(_key(cell.trajectory))
        if cell.images:
            use.steps.add((_key(cell.trajectory), cell.step))
            use.missing[_add(use, cell.images)] = cell.images
        for relative in (one for pair in cell.parts.values() for one in pair):
            _add(use, relative)
    story = folder / "story" / "story.json"
    if story.exists():
        _add(use, str(read_json(story).get("images", "")))
    if not use.is_finished:
        variants = [own.get("models") for own in record.get("variants") or ()]
        models = json.dumps([(record.get("settings") or {}).get("models", {}), *variants])
        use.recipes.update(recipe for recipe in architectures.NAMES if f"random:{recipe}" in models)
    return use


def _add(use: Use, relative: str) -> str:
    """Note an image set by its place in the store, and the source that it is drawn from."""
    parts = Path(relative).parts
    if parts:
        use.sources.add(_key(parts[0]))
        use.images.add(_key(parts[-1]))
    return _key(parts[-1]) if parts else ""


def _key(name: str) -> str:
    found = KEYED.fullmatch(name)
    return found[1] if found else ""


def _followed(use: Use, found: Mapping[str, Item], items: Sequence[Item]) -> Use:
    """Add what its image sets and trajectories themselves refer to, by their manifests."""
    for key in list(use.images):
        if key in found:
            use.missing.pop(key, None)
            use.images.update(_beside(found[key]))
    for key in use.sources & found.keys():
        spec = found[key].spec
        use.images.add(str(spec.get("class_images") or ""))
        use.images.add(str((spec.get("company") or {}).get("class_images") or ""))
    for item in items:
        if item.kind == "image set" and item.key in use.images:
            use.sources.add(item.source.key)
            use.steps.add((item.source.key, item.step))
    return use


def _beside(images: Item) -> Iterator[str]:
    """The untaught base's sets that a cell's image set is compared with, and what of it a race
    may have begun with."""
    spec = images.spec
    seeds = spec.get("seeds") or ()
    yield from (image_set_key({**spec, "seeds": seeds[:n]}) for n in range(1, len(seeds)))
    base = spec.get("base") or spec.get("snapshot", {}).get("source", {}).get("base")
    if base and images.source.kind in ("trajectory", "adapter", "composed"):
        of_cell = ("strength", "base", "regional", "whose")
        own = {name: value for name, value in spec.items() if name not in of_cell}
        yield image_set_key({**own, "snapshot": {"source": base, "step": 0}})
    for path in sorted((images.path / "scores").glob("*.json"))[:1]:  # the same in all of them
        yield str(Item("score", path, images).spec.get("untaught") or "")


@contextmanager
def nothing_running(store: Store, why: str) -> Iterator[None]:
    """Hold all sweeps; StoreError, which says `why`, while one of them runs."""
    with ExitStack() as held:
        for folder in sweep_folders(store):
            try:
                ours = held.enter_context(locked(folder / ".lock", folder.name, wait=False))
            except OSError as error:
                raise unwritable(folder / ".lock", error) from error
            if not ours:
                raise StoreError(
                    f"sweep {folder.name} is running, so nothing is {why}; wait for it"
                )
        yield


@contextmanager
def left_alone(item: Item) -> Iterator[bool]:
    """Hold what an item lies in; False where another process works on it, as a story's does."""
    folder = item.path.parent if item.kind == "made weights" else item.source.path
    if not folder.is_dir():
        yield True
        return
    with locked(folder / ".lock", folder.name, wait=False) as ours:
        yield ours
