"""SHA-256 checksums of a manifest and of the files beside it: written into it, and checked.

So that what was written can be told, years later, from what a failing disk or a hand made of it.
It is no signature: who can write the store can write its manifests too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from charsweep.core.keys import sha256_of

FILES, OWN = "sha256", "manifest_sha256"


def with_checksums(content: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """The manifest with the digest of every file below `folder`, and its own."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file()) if folder else []
    files = {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths if folder}
    whole = {**content, **({FILES: files} if folder else {})}
    return {**whole, OWN: _own(whole)}


def wrong_with(manifest: Path) -> Iterator[str]:
    """What of a manifest and its files is not as it was written; nothing if all is."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        known = content.pop(OWN, None)
        files = dict(content.get(FILES) or {})
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        yield f"{manifest.name} cannot be read ({str(error) or type(error).__name__})"
        return
    if known is None:
        yield f"{manifest.name} holds no checksum"
    elif known != _own(content):
        yield f"{manifest.name} was changed"
    else:  # else its names and digests mean nothing
        for name, digest in files.items():
            path = manifest.parent / name
            if not path.is_file():
                yield f"{name} is gone"
            elif sha256_of(path) != digest:
                yield f"{name} was changed"


def _own(content: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(content))  # as it is read back: names are text, tuples lists
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
