"""The tools that look after the store: check it, clean it, show one thing in it, compare two."""

from __future__ import annotations

from charsweep.config import Settings
from charsweep.config.locations import store_of
from charsweep.core.errors import StoreError


def keep(settings: Settings) -> None:
    """Do what `action=check`, `gc`, `show` or `why` asks for; StoreError without a store."""
    from charsweep.actions.store_tools import check, gc, show, why

    store = store_of(settings)
    if not store.folder.is_dir():
        raise StoreError(
            f"there is no store in {store.root}: {store.folder} is missing; set root= to the "
            "folder that a sweep was run in"
        )
    {"check": check.act, "gc": gc.act, "show": show.act, "why": why.act}[settings.action](
        settings, store
    )
