"""`action=show`: one item's spec, what it was made from, what was made from it, its scores.

    python -m charsweep action=show 3f9ac1

What stands in the store is shown as text: it moves no terminal's cursor.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from charsweep.actions.store_tools.inventory import Item, find, items_of, spec_of
from charsweep.actions.store_tools.references import uses_of
from charsweep.config import Settings
from charsweep.core.errors import ConfigError, StoreError
from charsweep.core.store import Store
from charsweep.core.store.files import read_json
from charsweep.core.system.console import out
from charsweep.results.labels import bytes_text

WIDTH = 24  # of the names
LONGEST = 300  # characters of a value
OF_RUN = ("started", "ended", "steps", "device", "charsweep", "torch", "diffusers", "git")


def act(settings: Settings, store: Store) -> None:
    """Print what the key names; ConfigError where that is not one thing."""
    if len(settings.store.keys) != 1:
        raise ConfigError("action=show takes one key, or the beginning of one: action=show 3f9ac1")
    items = list(items_of(store))
    item = find(settings.store.keys[0], items, store)
    head = "cell, image set" if item.kind == "image set" else item.kind
    out(f"{head} {item.key}")
    line("in", item.path.relative_to(store.folder).as_posix())
    line("size", bytes_text(item.size))
    for use in uses_of(store, items):
        asked = use.images if item.kind in ("image set", "score") else use.sources
        if (item.parent.key if item.kind == "score" and item.parent else item.key) in asked:
            line("sweep", use.name)
    for title, lines in (
        ("made from", made_from(item, items)), ("made of it", made_of(item, items)),
        ("scores", scores(item, items)), ("made by", provenance(item)),
        ("spec", own_spec(item, items)),
    ):  # fmt: skip
        rows = list(lines)
        if rows:
            out(title)
        for name, value in rows:
            line(name, value)


def line(name: str, value: Any) -> None:
    """Print a name and its value, cut to LONGEST and without control characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    shown = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown)
    out(f"  {name:<{WIDTH}}  {printable}")


def made_from(item: Item, items: Sequence[Item]) -> Iterator[tuple[str, str]]:
    """Its parents, the nearest first."""
    above = item.parent
    while above is not None:
        if above.kind == "snapshot":
            yield "snapshot", f"step {above.step}"
        else:
            yield above.kind, f"{above.key}  {above.path.name}"
        above = above.parent
    taught = item.source
    if taught.kind == "trajectory":
        spec = spec_of(taught, items)
        if spec.get("base"):
            yield "base", f"{spec['base']['name']}, weights {spec['base']['digest']}"
        if spec.get("class_images"):
            yield "class pictures", str(spec["class_images"])
        if (company := spec.get("company")) and company["class_images"]:
            yield "class pictures", str(company["class_images"])
    if item.kind == "score" and item.spec.get("untaught"):
        yield "compared with", str(item.spec["untaught"])


def made_of(item: Item, items: Sequence[Item]) -> Iterator[tuple[str, str]]:
    """Its children."""
    for other in items:
        if other != item and other.parent is not None and other.path.is_relative_to(item.path):
            if other.kind in ("snapshot", "resume state"):
                yield other.kind, f"step {other.step}, {bytes_text(other.size)}"
            elif other.kind == "image set":
                yield other.kind, f"{other.key}  step {other.step}, {other.path.name}"


def scores(item: Item, items: Sequence[Item]) -> Iterator[tuple[str, str]]:
    """Every score of an image set, or the one."""
    for score in items:
        if score.kind == "score" and (score == item or score.parent == item):
            stored = read_json(score.path)
            if not isinstance(stored, dict) or "value" not in stored:
                raise StoreError(f"{score.path} is no score; see action=check")
            value = stored["value"]
            shown = "does not apply" if value is None else f"{value:.4f}"
            yield score.path.name.partition("--")[0], f"{shown}  {score.key}"


def provenance(item: Item) -> Iterator[tuple[str, Any]]:
    """What each command that trained its trajectory ran on."""
    path = item.source.path / "provenance.json"
    runs = read_json(path).get("runs", []) if path.exists() else []
    for run in runs:
        for name in OF_RUN:
            if run.get(name) is not None:
                yield name, run[name]


def own_spec(item: Item, items: Sequence[Item]) -> Iterator[tuple[str, Any]]:
    """Its spec without that of its parents, which have keys of their own."""
    spec = spec_of(item, items)
    without = {"image set": "snapshot", "score": "images"}.get(item.kind, "")
    yield from flat({name: value for name, value in spec.items() if name != without})


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and plain values of a spec."""
    if isinstance(value, dict) and value:
        for field, below in value.items():
            yield from flat(below, f"{name}.{field}" if name else str(field))
    else:
        yield name, value
