"""Scaling what an adapter's files change of a base, so that strength 1 is what another was; no
torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import safe_open

from charsweep.core.errors import ModelsError
from charsweep.models.adapter_file import ADAPTER_FILE, FACTORED_FILE, MAGNITUDE
from charsweep.models.kohya import tensors_in
from charsweep.models.safetensors_file import header_of, in_order

SCALED = ("lora_B.weight", "hada_w1_a", "lokr_w1")  # one of the factors of every layer, by kind


def scale_adapter(folder: Path, strength: float) -> None:
    """Multiply one factor of each layer in a snapshot's copy.

    ModelsError for DoRA, whose magnitudes would have to change with the base's weights.
    """
    file = folder / FACTORED_FILE
    file = file if file.exists() else folder / ADAPTER_FILE
    tensors = tensors_in(file)
    if any(MAGNITUDE in name for name in tensors):
        raise ModelsError(
            "a DoRA cannot be scaled in its file, since its magnitudes belong to the base's "
            "weights; set export.strength=note, or teach with method.adapter=lora"
        )
    with safe_open(file, "np") as opened:
        metadata = opened.metadata() or {}
    entries = {name: entry for name, (entry, _) in tensors.items()}
    data = {name: content for name, (_, content) in tensors.items()}
    for name in (name for name in tensors if name.endswith(SCALED)):
        assert entries[name].dtype == "F32"
        data[name] = (np.frombuffer(data[name], "<f4") * np.float32(strength)).tobytes()
    content = b"".join(data[name] for name in in_order(entries))
    file.write_bytes(header_of(entries, metadata) + content)
