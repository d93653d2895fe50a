"""Keys and content digests: SHA-256 over canonical JSON or over bytes, shortened.

Two specs that mean the same must give the same key, so numbers are canonical (`1`, `1.0` and
`1e0` agree) and mappings are sorted. Keys are never made from raw YAML or from pickles.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

# Of a field that came after keys were made: at its default it is in none, so that they hold.
CAME_LATER: Mapping[Any, Any] = MappingProxyType({"came later": True})


def canonical(value: Any) -> Any:
    """Reduce a spec to plain JSON values; a whole float becomes an int."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError(f"{value} has no place in a spec")
        return int(value) if value.is_integer() else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: canonical(getattr(value, name)) for name in keyed_fields(value)}
    if isinstance(value, Mapping):
        return {str(name): canonical(item) for name, item in sorted(value.items())}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no place in a spec")


def keyed_fields(value: Any) -> list[str]:
    """Names of the fields of a dataclass that are in keys: see `CAME_LATER`."""
    return [
        field.name
        for field in dataclasses.fields(value)
        if not ("came later" in field.metadata and getattr(value, field.name) == field.default)
    ]


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
