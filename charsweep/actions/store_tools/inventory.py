"""The items of a store, by what their places and names say; nothing is opened to list them.

    <trajectory>--KEY/ resume/step-000400/ step-000400/ <image set>--KEY/ scores/<metric>--KEY.json
    base-…--KEY/  truth-…--KEY/  adapter-…--KEY/  composed-…--KEY/  weights/random-…

`cost` and `widths` keep what they have measured beside them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from charsweep.core.errors import ConfigError, StoreError
from charsweep.core.keys import key_of
from charsweep.core.specs import image_set_key, score_key
from charsweep.core.store import Store
from charsweep.core.store.files import is_abandoned

Kind = Literal[
    "trajectory", "base", "truth", "adapter", "composed", "snapshot", "resume state", "image set",
    "score", "made weights", "left half-written", "foreign",
]  # fmt: skip
KEYED = re.compile(r".+--([0-9a-f]{12})(\.json)?")
SCORE = re.compile(r".+--[0-9a-f]{12}\.json")
STEP = re.compile(r"step-(\d{6,})")
MADE, NOTHING = re.compile(r"random-.*"), re.compile(r"(?!)")
MANIFESTS: Mapping[str, str] = {
    "trajectory": "spec.json", "snapshot": "snapshot.json", "resume state": "resume.json",
    "image set": "images.json", "made weights": "recipe.json",
}  # fmt: skip
LIGHT = ("base", "truth", "adapter", "composed")  # sources of which nothing is trained
KEYED_KINDS = ("trajectory", *LIGHT, "image set", "score")
MOST_NAMED = 8  # of what an ambiguous key may mean
OF_STORE = ("speeds.json", "widths.json", "precision.json", "weights")
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
        return sum(one.st_size for one in self._files)

    @property
    def freed(self) -> int:
        """Bytes that its removal frees: of a file that has other names too, as the adapters have
        that are put together, a part."""
        return sum(one.st_size // max(one.st_nlink, 1) for one in self._files)

    @property
    def _files(self) -> Iterator[os.stat_result]:
        files = self.path.rglob("*") if self.path.is_dir() else iter((self.path,))
        return (path.lstat() for path in files if not path.is_dir())


def items_of(store: Store) -> Iterator[Item]:
    """Everything in the store, what contains before what is contained."""
    yield from _inside(store.folder, None, "trajectory", KEYED, OF_STORE)
    yield from _inside(store.made_weights, None, "made weights", MADE)


def _inside(
    folder: Path, parent: Item | None, kind: Kind, name: re.Pattern[str], own: Collection[str] = ()
) -> Iterator[Item]:
    """What lies in a folder: things of a kind have such names, and none asks for `own` ones."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith(".") and path.name.endswith(".tmp"):
            if is_abandoned(path):  # else somebody is writing it
                yield Item("left half-written", path, parent)
        elif name.fullmatch(path.name) and (path.is_dir() or kind == "score"):
            item = Item(_kind_of_source(path) if kind == "trajectory" else kind, path, parent)
            yield item
            yield from _within(item)
        elif path.name not in (*own, ".lock"):
            yield Item("foreign", path, parent)


def _within(item: Item) -> Iterator[Item]:
    if item.kind == "snapshot":
        yield from _inside(item.path, item, "image set", KEYED, names_in(item))
    elif item.kind == "image set":
        yield from _inside(item.path, item, "score", NOTHING, {*names_in(item), "scores"})
        yield from _inside(item.path / "scores", item, "score", SCORE)
    elif item.parent is None and item.kind != "made weights":
        yield from _inside(item.path, item, "snapshot", STEP, OF_SOURCE)
        yield from _inside(item.path / "resume", item, "resume state", STEP)


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


def _kind_of_source(path: Path) -> Kind:
    if not (path / "spec.json").exists():
        kinds: tuple[Kind, ...] = ("base", "truth", "adapter", "composed")
        for kind in kinds:
            if path.name.startswith(f"{kind}-"):
                return kind
    return "trajectory"


# -- keys and specs, as they are stored -----------------------------------------------------------


def key_by_spec(item: Item) -> str:
    """The key that an item's own spec gives; empty where the spec is none."""
    make = {"trajectory": key_of, "image set": image_set_key, "score": score_key}.get(item.kind)
    try:
        return make(item.spec) if make and item.spec else ""
    except (KeyError, TypeError, ValueError, AttributeError):
        return ""


def find(key: str, items: Sequence[Item], store: Store) -> Item:
    """What a key, or the beginning of one, names; ConfigError where that is not one thing."""
    found = [item for item in items if item.kind in KEYED_KINDS and item.key.startswith(key)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigError(
            f"store.keys=[{key}]: nothing in {store.folder} has such a key; cells.csv and the "
            "folders' names hold them"
        )
    named = [f"{item.key} ({item.kind})" for item in found[:MOST_NAMED]]
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    raise ConfigError(
        f"store.keys=[{key}]: begins the keys of {', '.join(named)}{more}; give more of its digits"
    )


def spec_of(item: Item, items: Sequence[Item]) -> dict[str, Any]:
    """The spec of what has a key; that of what is not trained by its image sets."""
    if item.kind in LIGHT:
        sets = (other for other in items if other.kind == "image set" and other.source == item)
        specs = (images.spec.get("snapshot", {}).get("source") for images in sets)
        spec: dict[str, Any] | None = next((found for found in specs if found), None)
    else:
        spec = item.spec
    if not spec:
        raise StoreError(f"{item.path} holds no spec; see action=check")
    return dict(spec)
