"""Where results live: one folder per thing, under the key of what it is."""

from charsweep.core.store.store import Store

__all__ = ["Store"]
