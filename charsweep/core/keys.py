"""Keys and content digests: SHA-256 over canonical JSON or over bytes, shortened.

Two specs that mean the same must give the same key, so numbers are canonical (`1`, `1.0` and
`1e0` agree) and mappings are sorted. Keys are never made from raw YAML or from pickles.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

PLAIN = (str, int, bool, type(None))  # are what they are, in JSON too
# Of a field that came after keys were made: at its default it is in none, so that they hold.
CAME_LATER: Mapping[Any, Any] = MappingProxyType({"came later": True})


def canonical(value: Any) -> Any:
    """Reduce a spec to plain JSON values; a whole float becomes an int."""
    kind: Any = type(value)
    if kind in PLAIN:
        return value
    if _fields(kind):
        return {name: canonical(own) for name, own in keyed(value).items()}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no place in a spec")
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return {str(name): canonical(item) for name, item in sorted(value.items())}
    if isinstance(value, PLAIN):  # of a class of its own
        return value
    raise TypeError(f"{kind.__name__} has no place in a spec")


def keyed(spec: Any) -> dict[str, Any]:
    """The fields of a dataclass that are in keys, with their values: see `CAME_LATER`."""
    kind: Any = type(spec)
    values = {name: getattr(spec, name) for name in _fields(kind)}
    for name, default in _later(kind).items():
        if values[name] == default:
            del values[name]
    return values


@cache
def _fields(kind: Any) -> tuple[str, ...]:
    """The names of a dataclass's fields; () for any other type."""
    return tuple(f.name for f in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else ()


@cache
def _later(kind: Any) -> dict[str, Any]:
    """Of a dataclass, the fields that came later and their defaults."""
    return {f.name: f.default for f in dataclasses.fields(kind) if "came later" in f.metadata}


def canonical_json(value: Any) -> str:
    """The canonical form as JSON: sorted names, no spaces, no escapes of Unicode."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def key_of(value: Any) -> str:
    """12 hexadecimal digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:12]


def digest_of(data: bytes) -> str:
    """16 hexadecimal digits of the SHA-256 of some content."""
    return hashlib.sha256(data).hexdigest()[:16]


def digest_of_content(path: Path) -> str:
    """Digest of one file's content, whatever its name."""
    return sha256_of(path)[:16]


def sha256_of(path: Path) -> str:
    """64 hexadecimal digits of the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_files(paths: list[Path], root: Path) -> str:
    """Digest of files' names below `root` and contents, in the order of their names."""
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(f"{path.relative_to(root).as_posix()} {sha256_of(path)}\n".encode())
    return total.hexdigest()[:16]


def short_number(value: float) -> str:
    """`1e-04`, `5e-05`, `0.00015`: the shortest text that reads back as the same number."""
    short = f"{value:.0e}"
    return short if float(short) == value else f"{value:g}"


def differences(first: Any, second: Any, name: str = "") -> Iterator[str]:
    """Name the fields in which two specs differ: `method.settings.rank: 4 is not 8`."""
    first, second = canonical(first), canonical(second)
    if isinstance(first, dict) and isinstance(second, dict):
        for field in sorted(first.keys() | second.keys()):
            if first.get(field, ...) != second.get(field, ...):
                below = f"{name}.{field}" if name else field
                yield from differences(first.get(field), second.get(field), below)
    elif first != second:
        yield f"{name or 'value'}: {json.dumps(first)} is not {json.dumps(second)}"
