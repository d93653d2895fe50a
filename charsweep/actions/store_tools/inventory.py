"""The items of a store, by what their places and names say; nothing is opened to list them.

    <trajectory>--KEY/ resume/step-000400/ step-000400/ <image set>--KEY/ scores/<metric>--KEY.json
    base-…--KEY/  truth-…--KEY/  adapter-…--KEY/  weights/random-…

`cost` and `widths` keep what they have measured beside them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from charsweep.core.keys import key_of
from charsweep.core.specs import image_set_key, score_key
from charsweep.core.store import Store

Kind = Literal[
    "trajectory", "base", "truth", "adapter", "snapshot", "resume state", "image set", "score",
    "made weights", "left half-written", "foreign",
]  # fmt: skip
KEYED = re.compile(r".+--([0-9a-f]{12})(\.json)?")
STEP = re.compile(r"step-(\d{6,})")
MANIFESTS: Mapping[str, str] = {
    "trajectory": "spec.json", "snapshot": "snapshot.json", "resume state": "resume.json",
    "image set": "images.json", "made weights": "recipe.json",
}  # fmt: skip
OF_STORE = ("speeds.json", "widths.json", "weights")
OF_SOURCE = ("spec.json", "loss.csv", "provenance.json", "diverged.json", "resume")


@dataclass(frozen=True)
class Item:
    """Something in the store; a score is a file, anything else a folder."""

    kind: Kind
    path: Path
    parent: Item | None = None

    @property
    def key(self) -> str:
        """Of a source, an image set or a score; else of what it belongs to."""
        found = KEYED.fullmatch(self.path.name)
        return found[1] if found else self.parent.key if self.parent else ""

    @property
    def step(self) -> int:
        """The training step that it belongs to; 0 for a source."""
        found = STEP.fullmatch(self.path.name)
        return int(found[1]) if found else self.parent.step if self.parent else 0

    @property
    def source(self) -> Item:
        """The trajectory, base, truth or adapter that it lies in."""
        return self.parent.source if self.parent else self

    @property
    def manifest(self) -> Path | None:
        """The file that makes it count as written; None for what has none."""
        if self.kind == "score":
            return self.path
        # a base is its own snapshot, the true pictures have none
        if self.kind == "snapshot" and self.source.kind in ("base", "truth"):
            return None
        name = MANIFESTS.get(self.kind)
        return self.path / name if name else None

    @property
    def is_whole(self) -> bool:
        """Whether its manifest is there, by which it counts as written."""
        return self.manifest is None or self.manifest.is_file()

    @property
    def spec(self) -> dict[str, Any]:
        """What its manifest says was asked; empty where that cannot be read."""
        try:
            assert self.manifest is not None
            return dict(json.loads(self.manifest.read_text(encoding="utf-8"))["spec"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError, AssertionError):
            return {}

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        if not self.path.is_dir():
            return self.path.lstat().st_size
        return sum(path.lstat().st_size for path in self.path.rglob("*") if not path.is_dir())


def items_of(store: Store) -> Iterator[Item]:
    """Everything in the store, what contains before what is contained."""
    for path in _entries(store.folder):
        if _is_left(path):
            yield Item("left half-written", path)
        elif path.is_dir() and KEYED.fullmatch(path.name):
            yield from _of_source(Item(_kind_of_source(path), path))
        elif path.name == "weights":
            for made in _entries(path):
                is_made = made.is_dir() and made.name.startswith("random-")
                kind: Kind = "made weights" if is_made else "foreign"
                yield Item("left half-written" if _is_left(made) else kind, made)
        elif path.name not in OF_STORE:
            yield Item("foreign", path)


def _of_source(source: Item) -> Iterator[Item]:
    yield source
    for path in _entries(source.path):
        if _is_left(path):
            yield Item("left half-written", path, source)
        elif path.is_dir() and STEP.fullmatch(path.name):
            yield from _of_snapshot(Item("snapshot", path, source))
        elif path.is_dir() and path.name == "resume":
            for state in _entries(path):
                is_state = state.is_dir() and STEP.fullmatch(state.name)
                kind: Kind = "resume state" if is_state else "foreign"
                yield Item("left half-written" if _is_left(state) else kind, state, source)
        elif path.name not in OF_SOURCE:
            yield Item("foreign", path, source)


def _of_snapshot(snapshot: Item) -> Iterator[Item]:
    yield snapshot
    own = names_in(snapshot)
    for path in _entries(snapshot.path):
        if _is_left(path):
            yield Item("left half-written", path, snapshot)
        elif path.is_dir() and KEYED.fullmatch(path.name):
            yield from _of_images(Item("image set", path, snapshot))
        elif path.name not in own:
            yield Item("foreign", path, snapshot)


def _of_images(images: Item) -> Iterator[Item]:
    yield images
    own = names_in(images)
    for path in _entries(images.path):
        if path.name == "scores" and path.is_dir():
            for score in _entries(path):
                is_score = KEYED.fullmatch(score.name) and score.suffix == ".json"
                kind: Kind = "score" if is_score else "foreign"
                yield Item("left half-written" if _is_left(score) else kind, score, images)
        elif path.name not in own:
            yield Item("left half-written" if _is_left(path) else "foreign", path, images)


def names_in(item: Item) -> set[str]:
    """First parts of the names of all files that its manifest lists, and the manifest's own."""
    if item.manifest is None:
        return set()
    try:
        known = json.loads(item.manifest.read_text(encoding="utf-8")).get("sha256") or {}
        return {item.manifest.name, *(str(name).partition("/")[0] for name in known)}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        # nothing can be told from it, so nothing is called foreign either
        return {path.name for path in item.path.iterdir()}


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, without its locks."""
    return [path for path in sorted(folder.iterdir()) if path.name != ".lock"]


def _is_left(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".tmp")


def _kind_of_source(path: Path) -> Kind:
    if not (path / "spec.json").exists():
        kinds: tuple[Kind, ...] = ("base", "truth", "adapter")
        for kind in kinds:
            if path.name.startswith(f"{kind}-"):
                return kind
    return "trajectory"


# -- keys, from specs as they are stored -----------------------------------------------------------


def key_by_spec(item: Item) -> str:
    """The key that an item's own spec gives; empty where the spec is none."""
    make = {"trajectory": key_of, "image set": image_set_key, "score": score_key}.get(item.kind)
    try:
        return make(item.spec) if make and item.spec else ""
    except (KeyError, TypeError, ValueError, AttributeError):
        return ""
