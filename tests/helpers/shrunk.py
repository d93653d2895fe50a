"""The published architectures with few channels: the same parts and names, made in a second."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from charsweep.models import architectures

FEWER: dict[str, dict[str, Any]] = {
    "sd15/unet": {"block_out_channels": [32, 32, 64, 64], "cross_attention_dim": 32,
                  "attention_head_dim": 4},
    "sd15/vae": {"block_out_channels": [32, 32, 32, 32]},
    "sd15/text_encoder": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
                          "num_attention_heads": 4, "projection_dim": 32},
    "sdxl/unet": {"block_out_channels": [32, 32, 64], "cross_attention_dim": 80,
                  "attention_head_dim": [2, 4, 8], "transformer_layers_per_block": [1, 1, 2],
                  "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 96},
    "sdxl/vae": {"block_out_channels": [32, 32, 32, 32]},
    "sdxl/text_encoder": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
                          "num_attention_heads": 4, "projection_dim": 32},
    "sdxl/text_encoder_2": {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
                            "num_attention_heads": 4, "projection_dim": 48},
}  # fmt: skip


def shrink(folder: Path) -> None:
    """Write the published architectures with few channels into an empty folder."""
    shutil.copytree(architectures.FOLDER, folder, dirs_exist_ok=True)
    for part, fewer in FEWER.items():
        change(folder / part / "config.json", lambda config, fewer=fewer: config.update(fewer))
    change(folder / "clip" / "open_clip_config.json", _shrink_clip)
    fewer = {"depth": 1, "embed_dim": 64, "num_heads": 2}
    change(folder / "dino" / "config.json", lambda config: config["model_args"].update(fewer))


def _shrink_clip(config: dict[str, Any]) -> None:
    config["model_cfg"]["vision_cfg"] |= {"layers": 1, "width": 64}
    config["model_cfg"]["text_cfg"] |= {"layers": 1, "width": 64, "heads": 1}


def change(path: Path, how: Callable[[dict[str, Any]], None]) -> None:
    config = json.loads(path.read_text())
    how(config)
    path.write_text(json.dumps(config))


def forget() -> None:
    """What was remembered of the architectures before they were exchanged."""
    architectures.shapes_of.cache_clear()
    architectures.recipe_digest.cache_clear()
