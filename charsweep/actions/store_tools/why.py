"""`action=why`: the fields of their specs in which two items differ.

    python -m charsweep action=why 3f9ac1 b04d77

What they are made from is compared too: two cells may differ in their training or in their drawing.
"""

from __future__ import annotations

from charsweep.actions.store_tools.inventory import find, items_of, spec_of
from charsweep.config import Settings
from charsweep.core.errors import ConfigError
from charsweep.core.keys import differences
from charsweep.core.store import Store
from charsweep.core.system.console import out


def act(settings: Settings, store: Store) -> None:
    """Print the differences; ConfigError unless the keys name two items of one kind."""
    if len(settings.store.keys) != 2:
        raise ConfigError(
            "action=why takes two keys, or their beginnings: action=why 3f9ac1 b04d77"
        )
    items = list(items_of(store))
    first, second = (find(key, items, store) for key in settings.store.keys)
    if first.kind != second.kind:
        raise ConfigError(
            f"store.keys={settings.store.keys}: the first is a {first.kind}, the second a "
            f"{second.kind}; give two of one kind"
        )
    found = list(differences(spec_of(first, items), spec_of(second, items)))
    out(f"{first.kind} {first.key} and {second.key}")
    for difference in found:
        out(f"  {difference}")
    if not found:
        out("  the same")
