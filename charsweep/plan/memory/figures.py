"""A network's shapes and a way to use it in, the instants at which it holds most memory out.

`engine.measure_memory` measures them: those of the published and the embedded bases are in
architectures/memory.json; those of another base a run on an accelerator measures once, and the
store remembers them. A network is known by the shapes of its tensors, so every fine-tune of
SD 1.5 or SDXL is. No torch: planning asks this.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from charsweep.core.keys import canonical_json, digest_of
from charsweep.core.store.files import read_json, write_json
from charsweep.core.store.store import Store
from charsweep.models.architectures import FOLDER

FULL, HALF = 4, 2
VALUE = {"fp32": FULL, "tf32": FULL, "bf16": HALF, "fp16": HALF}  # bytes
DECODING = "decoding, full"
PACKED = "lora in packs of batches"  # where a stack of adapters copies what goes into each layer


class Instant(NamedTuple):
    """Bytes at one instant of a pass that may be the one with the most.

    fixed + samples × (sample + position × positions + rank × (ranked + ranked_position ×
    positions)), and the gradients of weights that are whole by then.
    """

    fixed: float
    sample: float
    position: float
    ranked: float = 0.0
    ranked_position: float = 0.0
    gradients: float = 0.0

    def activations(self, samples: int, positions: int, rank: int) -> float:
        """All but the gradients; `positions` of the latent of one sample."""
        ranks = rank * (self.ranked + self.ranked_position * positions)
        return self.fixed + samples * (self.sample + self.position * positions + ranks)


def training_way(trains: str, precision: str, checkpointing: bool) -> str:
    """The name of a way to train: `weights`, a kind of adapter, or `PACKED`."""
    kept = "checkpointing" if checkpointing else "all kept"
    return f"{trains}, {_width(precision)}, {kept}"


def drawing_way(precision: str) -> str:
    return f"drawing, {_width(precision)}"


def _width(precision: str) -> str:
    return "full" if VALUE[precision] == FULL else "half"


def fingerprint(shapes: Mapping[str, Sequence[int]]) -> str:
    """What a network is known by: its tensors' shapes, whatever their names.

    Names differ between versions of one network, and so does whether a 1 × 1 convolution is one.
    """
    bare = sorted([size for size in shape if size != 1] for shape in shapes.values())
    return digest_of(canonical_json(bare).encode())


@cache
def shipped() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "memory.json").read_text(encoding="utf-8"))
    return found


class Known:
    """The figures of networks: the shipped ones, and those that a store remembers."""

    def __init__(self, store: Store | None = None) -> None:
        own = read_json(_path(store)) if store and _path(store).exists() else {}
        self._all: dict[str, dict[str, Any]] = {**own, **shipped()}

    def find(self, shapes: Mapping[str, Sequence[int]], way: str) -> tuple[Instant, ...]:
        """The instants of a network in a way; () where that has not been measured."""
        rows = self._all.get(fingerprint(shapes), {}).get("ways", {}).get(way, ())
        return tuple(Instant(*row) for row in rows)


def remember(
    store: Store,
    what: str,
    shapes: Mapping[str, Sequence[int]],
    ways: Mapping[str, Sequence[Instant]],
) -> None:
    """Add a network's figures to the store's."""
    known = read_json(_path(store)) if _path(store).exists() else {}
    key = fingerprint(shapes)
    before = known.get(key, {}).get("ways", {})
    store.folder.mkdir(parents=True, exist_ok=True)
    write_json(_path(store), {**known, key: {"what": what, "ways": {**before, **ways}}})


def _path(store: Store) -> Any:
    return store.folder / "memory.json"
