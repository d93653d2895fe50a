"""The packages that the numbers of a training step come from, and their versions; none is imported.

A trajectory that went on under another version of one of them would be a result of two, which
nobody could repeat: going on is refused. Whole results of different versions may stand side by
side, as they do in print; `provenance.json` and `sweep.json` tell which was made with what. What is
only near the numbers (optuna, mlflow, pillow, ...) is recorded there too, and refuses nothing.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("torch", "diffusers", "transformers", "peft")


@cache
def numerical_versions() -> dict[str, str]:
    """By package, without the build (`2.15.0`, not `2.15.0+cpu`), as no key holds the device."""
    return {package: version(package).partition("+")[0] for package in PACKAGES}


@cache
def source_digest() -> str:
    """Of charsweep's own code: a version number says little of a checkout."""
    folder, whole = Path(__file__).parents[2], hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        whole.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()[:12]
