"""Published architectures: their configs, and the names and shapes of their tensors.

The configs are those of Stable Diffusion 1.5, SDXL, CLIP ViT-B/32 and DINO ViT-S/16: what a single
checkpoint file leaves out, and what `random:NAME` makes weights from. No torch: planning asks
this. `shapes.json` is checked against the real modules by the tests.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from charsweep.core.keys import canonical_json, digest_of, digest_of_files

FOLDER = Path(__file__).parent
NAMES = ("sd15", "sdxl", "clip", "dino")
SEED = 0
VERSION = 1  # of the numbers that charsweep.models.random_weights makes
VOCABULARY = 49_408  # CLIP's: 256 bytes, 256 that end a word, 48,894 merges, start and end

Shapes = dict[str, dict[str, list[int]]]  # part of the pipeline -> tensor -> shape


def folder_of(name: str) -> Path:
    """The configs of an architecture, laid out as its weights' folder is."""
    assert name in NAMES, name
    return FOLDER / name


@cache
def shapes_of(name: str) -> Shapes:
    """Shapes of all tensors, by part; the one part of an encoder is called ""."""
    text = (folder_of(name) / "shapes.json").read_text(encoding="utf-8")
    shapes: Shapes = json.loads(text)
    return shapes


@cache
def recipe_digest(name: str) -> str:
    """Digest of all that decides an architecture's random weights, made or not made yet."""
    files = digest_of_files(list(folder_of(name).rglob("*.json")), folder_of(name))
    recipe = {"files": files, "seed": SEED, "version": VERSION, "vocabulary": VOCABULARY}
    return digest_of(canonical_json(recipe).encode())
