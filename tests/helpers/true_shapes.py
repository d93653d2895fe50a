"""The published architectures as real modules without memory: what charsweep ships is held to them.

`python tests/true_shapes.py` writes charsweep/architectures/*/shapes.json anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from charsweep.models import architectures
from charsweep.models.architectures import Shapes


def modules(name: str) -> dict[str, torch.nn.Module]:
    """Every part with weights, on the meta device; the one part of an encoder is called ""."""
    folder = architectures.folder_of(name)
    with torch.device("meta"):
        if name == "clip":
            import open_clip

            config = json.loads((folder / "open_clip_config.json").read_text())
            return {"": open_clip.CLIP(**config["model_cfg"])}
        if name == "dino":
            import timm

            config = json.loads((folder / "config.json").read_text())
            return {"": timm.create_model(config["architecture"], **config["model_args"])}
    return modules_in(folder)


def modules_in(folder: Path) -> dict[str, torch.nn.Module]:
    """Every part of a pipeline's folder of configs, on the meta device."""
    index = json.loads((folder / "model_index.json").read_text())
    with torch.device("meta"):
        return {part: made for part in index if (made := _module(folder / part)) is not None}


def _module(folder: Path) -> torch.nn.Module | None:
    import diffusers
    import transformers

    if not (folder / "config.json").exists():
        return None
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    if "_class_name" in config:
        made: torch.nn.Module = getattr(diffusers, config["_class_name"]).from_config(config)
        return made
    kind = getattr(transformers, config["architectures"][0])
    encoder: torch.nn.Module = kind(transformers.CLIPTextConfig(**config))
    return encoder


def shapes(parts: Mapping[str, torch.nn.Module]) -> Shapes:
    return {
        part: {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
        for part, module in sorted(parts.items())
    }


def write_shapes() -> None:
    for name in architectures.NAMES:
        text = ",\n".join(
            f"{json.dumps(part)}: {json.dumps(tensors, separators=(',', ':'))}"
            for part, tensors in shapes(modules(name)).items()
        )
        path = architectures.folder_of(name) / "shapes.json"
        path.write_text(f"{{{text}}}\n", encoding="utf-8")


if __name__ == "__main__":
    write_shapes()
