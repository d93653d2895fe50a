"""Small adapter files in sd-scripts' names, without torch: what planning looks at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

LAYER = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q"
WIDTH = 96  # of that layer of the embedded bases


def adapter_file(path: Path, seed: int = 0, **metadata: str) -> Path:
    """A LoRA of rank 4 on one layer that both embedded bases have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = np.random.default_rng(seed)
    tensors = {
        f"{LAYER}.lora_down.weight": numbers.normal(size=(4, WIDTH)).astype(np.float32),
        f"{LAYER}.lora_up.weight": numbers.normal(size=(WIDTH, 4)).astype(np.float32),
        f"{LAYER}.alpha": np.array(4, np.float32),
    }
    save_file(tensors, path, metadata or None)
    return path
