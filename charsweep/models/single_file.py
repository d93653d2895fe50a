"""Single checkpoints: whether they are whole, and what else their tensors are called; no torch.

Some leave out the level `text_model` (NovelAI's, and files that are written from transformers 5),
some hold the second encoder's projection as a linear layer has it. sd-scripts, A1111 and ComfyUI
rename them on reading; diffusers does not, so `charsweep.models.load` makes such encoders.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from charsweep.core.errors import ModelsError
from charsweep.models.identify import VAE, holds
from charsweep.models.safetensors_file import tensor_shapes

# How the names of an encoder's tensors begin, by its part of the pipeline.
FIRST = ("cond_stage_model.transformer.", "conditioner.embedders.0.transformer.")
SECOND = "conditioner.embedders.1.model."
LEVELS = ("embeddings.", "encoder.", "final_layer_norm.")  # that lie below `text_model.`
PROJECTION = f"{SECOND}text_projection"  # turned round where it is called a weight


def usual_name(name: str) -> str:
    """What the published files call a tensor."""
    for first in FIRST:
        if name.startswith(first) and name.removeprefix(first).startswith(LEVELS):
            return f"{first}text_model.{name.removeprefix(first)}"
    return PROJECTION if name == f"{PROJECTION}.weight" else name


def check_whole(file: Path, setting: str, *, has_vae: bool) -> None:
    """Raise ModelsError where a checkpoint of Stable Diffusion 1.5 or XL has no end of some part.

    Another autoencoder may stand in for its own. All its tensors are counted when it is loaded.
    """
    names = {usual_name(name) for name in tensor_shapes(file)}
    if not has_vae and not holds(names, VAE):
        raise ModelsError(
            f"{setting}.path={file} holds no VAE; give one with {setting}.vae=FILE-OR-FOLDER"
        )
    ends = [f"{first}text_model.final_layer_norm.weight" for first in FIRST]
    own = [ends[1], f"{SECOND}ln_final.weight"] if holds(names, SECOND) else [ends[0]]
    if lost := [end for end in (*own, "model.diffusion_model.out.2.weight") if end not in names]:
        raise ModelsError(
            f"{setting}.path={file} is not whole: it lacks {lost[0]}; fetch it again, or give a "
            "checkpoint that holds denoiser and text encoders, or a diffusers folder"
        )


def renamed_encoders(file: Path, parts: Collection[str]) -> dict[str, list[str]]:
    """The tensors of those text encoders that diffusers would not find in a file; mostly none."""
    prefixes = {"text_encoder": FIRST, "text_encoder_2": (SECOND,)}
    names = {
        part: [name for name in tensor_shapes(file) if name.startswith(prefixes[part])]
        for part in parts
    }
    return {
        part: own for part, own in names.items() if any(usual_name(name) != name for name in own)
    }
