"""Items by the first digits of their keys, and their whole specs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from charsweep.actions.store_tools.inventory import Item
from charsweep.core.errors import ConfigError, StoreError
from charsweep.core.store import Store

KEYED_KINDS = ("trajectory", "base", "truth", "adapter", "image set", "score")
MOST_NAMED = 8  # of what an ambiguous key may mean


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
    """The spec of what has a key; that of a base, a truth or an adapter by its image sets."""
    if item.kind in ("base", "truth", "adapter"):
        sets = (other for other in items if other.kind == "image set" and other.source == item)
        specs = (images.spec.get("snapshot", {}).get("source") for images in sets)
        spec: dict[str, Any] | None = next((found for found in specs if found), None)
    else:
        spec = item.spec
    if not spec:
        raise StoreError(f"{item.path} holds no spec; see action=check")
    return dict(spec)


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and plain values of a spec."""
    if isinstance(value, dict) and value:
        for field, below in value.items():
            yield from flat(below, f"{name}.{field}" if name else str(field))
    else:
        yield name, value
