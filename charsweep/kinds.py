"""Folder or single file of a pipeline in, `sd` or `sdxl` out; what is neither is refused by name.

A folder says what it is in `model_index.json`; a single file, the format in which checkpoints are
passed around, only by the names of its tensors (those of Rombach et al.'s and Podell et al.'s
code).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from charsweep import architectures
from charsweep.errors import ModelsError
from charsweep.tensorfile import tensor_shapes

PIPELINES = {"StableDiffusionPipeline": "sd", "StableDiffusionXLPipeline": "sdxl"}
WORDS = {"sd": "an SD 1.5-type pipeline", "sdxl": "an SDXL-type pipeline"}
UNET, VAE = "model.diffusion_model.", "first_stage_model."
FIRST_LAYER = f"{UNET}input_blocks.0.0.weight"
TEXT = {"sd": "cond_stage_model.transformer.", "sdxl": "conditioner.embedders.1.model."}
# What else is passed around as one file: part of a tensor's name, and what it is then.
OTHERS = {
    "conditioner.embedders.0.model.": "the SDXL refiner",
    "cond_stage_model.model.": "of SD 2 type",
    "joint_blocks.": "of SD 3 type",
    "double_blocks.": "of Flux type",
    "lora_": "an adapter, not a base (action=story draws with one: story.adapter=FILE)",
    "down_blocks.": "one part of a pipeline; give the pipeline's folder instead",
    "control_model.": "a ControlNet, not a base",
}


def pipeline_kind(path: Path) -> str:
    """`sd` or `sdxl`, whatever `path` is."""
    return _kind_of_folder(path) if path.is_dir() else _kind_of_file(path)


def _kind_of_folder(folder: Path) -> str:
    index = folder / "model_index.json"
    if not index.exists():
        files = sorted(folder.glob("*.safetensors"))
        instead = f", as in {files[0]}" if files else ""
        raise ModelsError(
            f"{folder} has no model_index.json: it is not a diffusers pipeline folder; give the "
            "folder that holds it beside unet/, vae/ and text_encoder/, or a single .safetensors "
            f"checkpoint{instead}"
        )
    try:
        name = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ModelsError(f"{index} cannot be read ({error}); fetch the folder again") from error
    if name not in PIPELINES:
        raise ModelsError(f"{folder} is a {name}; charsweep teaches {' and '.join(PIPELINES)}")
    return PIPELINES[name]


def _kind_of_file(file: Path) -> str:
    shapes = tensor_shapes(file)
    kind = next((kind for kind, prefix in TEXT.items() if _any(shapes, prefix)), None)
    if kind is None or not _any(shapes, UNET):
        found = next((what for part, what in OTHERS.items() if _any(shapes, part, True)), None)
        raise ModelsError(
            f"{file} is {found or 'no whole pipeline'}; charsweep teaches checkpoints of SD 1.5 "
            "and SDXL type that hold U-Net and text encoders"
        )
    if _any(shapes, "edm_"):
        raise ModelsError(
            f"{file} was trained on EDM's noise levels, which charsweep's methods do not teach; "
            "give a checkpoint that predicts noise or velocity"
        )
    channels, own = shapes.get(FIRST_LAYER, [0, 0])[1], input_channels(kind)
    if channels != own:
        raise ModelsError(
            f"{file} takes {channels} channels, not {own}: it is made for inpainting or editing; "
            "give the plain text-to-image checkpoint"
        )
    return kind


def marks_of(file: Path) -> set[str]:
    """What a single file may say of its training: `v_pred`, and `ztsnr` for noise at the end."""
    return {"v_pred", "ztsnr"} & tensor_shapes(file).keys()


def has_vae(path: Path) -> bool:
    """Whether a pipeline has its own autoencoder; some single files leave it out."""
    return path.is_dir() or _any(tensor_shapes(path), VAE)


def configs_of(kind: str) -> Path:
    """The configs that a single file of this kind is read with."""
    return architectures.folder_of(architectures.OF_KIND[kind])


def input_channels(kind: str) -> int:
    config = json.loads((configs_of(kind) / "unet" / "config.json").read_text(encoding="utf-8"))
    return int(config["in_channels"])


def _any(names: Mapping[str, object] | Collection[str], part: str, within: bool = False) -> bool:
    return any(part in name if within else name.startswith(part) for name in names)
