"""Variants of a test: those that are run every time, and those that `make test-all` adds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def slow(*values: Any) -> Any:
    """A variant for `make test-all` alone."""
    return pytest.param(*values, marks=pytest.mark.slow)


def first(count: int, variants: Iterable[Any]) -> list[Any]:
    """The first variants, and all others for `make test-all` alone."""
    known = list(variants)
    others = (one if isinstance(one, tuple) else (one,) for one in known[count:])
    return [*known[:count], *(slow(*one) for one in others)]


FAMILIES = [slow("sd15"), "sdxl"]  # with one text encoder, with two
