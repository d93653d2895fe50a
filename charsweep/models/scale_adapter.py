"""Scaling what an adapter's files change of a base, so that strength 1 is what another was; no
torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import safe_open

from charsweep.core.errors import ModelsError
from charsweep.models.adapter_file import ADAPTER_FILE, FACTORED_FILE
from charsweep.models.foreign_adapter import split
from charsweep.models.kohya import tensors_in
from charsweep.models.safetensors_file import header_of, in_order

# One of the factors of every layer, by kind; whole differences are all there is of theirs.
SCALED = ("up", "hada_w1_a", "lokr_w1", "lokr_w1_a", "diff", "diff_b")


def scale_snapshot(folder: Path, strength: float) -> None:
    """The same of what lies in a snapshot's copy."""
    file = folder / FACTORED_FILE
    scale_adapter(file if file.exists() else folder / ADAPTER_FILE, strength)


def scale_adapter(file: Path, strength: float) -> None:
    """Multiply one factor of each layer in an adapter's file, of whatever program.

    ModelsError for DoRA, whose magnitudes would have to change with the base's weights.
    """
    tensors = tensors_in(file)
    parts = {name: split(name)[1] for name in tensors}
    if {"magnitude", "dora_scale"} & set(parts.values()):
        raise ModelsError(
            "a DoRA cannot be scaled in its file, since its magnitudes belong to the base's "
            "weights; set export.strength=note, or teach with method.adapter=lora"
        )
    with safe_open(file, "np") as opened:
        metadata = opened.metadata() or {}
    entries = {name: entry for name, (entry, _) in tensors.items()}
    data = {name: content for name, (_, content) in tensors.items()}
    for name in (name for name, part in parts.items() if part in SCALED):
        data[name] = scaled(data[name], entries[name].dtype, strength)
    content = b"".join(data[name] for name in in_order(entries))
    file.write_bytes(header_of(entries, metadata) + content)


def scaled(data: bytes, kind: str, strength: float) -> bytes:
    """Numbers of a kind, in safetensors' words, multiplied in float32, or wider where they are."""
    if kind == "BF16":  # which numpy has not: the upper half of a float32, rounded to even
        upper = np.frombuffer(data, "<u2").astype(np.uint32) << 16
        bits = (upper.view(np.float32) * np.float32(strength)).view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()
    width = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[kind]
    numbers = np.frombuffer(data, width)
    wide = numbers if kind == "F64" else numbers.astype(np.float32)
    return (wide * wide.dtype.type(strength)).astype(width).tobytes()
