"""Dotted name in, the object it names out: the one way plug-ins are reached."""

from __future__ import annotations

import importlib
from typing import Any

from charsweep.errors import ConfigError


def resolve(target: str) -> Any:
    """Import `package.module.Name`; ConfigError if there is no such thing."""
    module_name, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"_target_={target}: {error}; give the dotted name of a class that can be imported, or "
            "install its package"
        ) from error
