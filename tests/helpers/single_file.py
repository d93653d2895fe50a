"""A diffusers pipeline's tensors in, the same tensors under a single checkpoint file's names out.

The names are those of the code that the bases were published with (Rombach et al. 2022, Podell et
al. 2023, open_clip): the files in which checkpoints are passed around.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
UNET = {
    "conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2", "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2", "conv_norm_out": "out.0", "conv_out": "out.2",
    "mid_block.attentions.0": "middle_block.1",
}  # fmt: skip
VAE = {
    "conv_norm_out": "norm_out", "conv_shortcut": "nin_shortcut",
    "mid_block.resnets.0": "mid.block_1", "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1",
    "downsamplers.0": "downsample", "upsamplers.0": "upsample", "group_norm": "norm",
    "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out", "resnets": "block",
}  # fmt: skip
OPEN_CLIP = {
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.embeddings.token_embedding": "token_embedding",
    "text_model.final_layer_norm": "ln_final", "text_projection.weight": "text_projection",
    "text_model.encoder.layers": "transformer.resblocks", "layer_norm1": "ln_1",
    "layer_norm2": "ln_2", "fc1": "c_fc", "fc2": "c_proj", "self_attn": "attn",
}  # fmt: skip


def write_single_file(pipeline: Any, path: Path, *, vae: bool = True) -> Path:
    """Save a pipeline as one .safetensors file."""
    tensors = unet(pipeline.unet)
    if vae:
        tensors |= {f"first_stage_model.{n}": t for n, t in autoencoder(pipeline.vae).items()}
    if hasattr(pipeline, "text_encoder_2"):
        tensors |= clip(pipeline.text_encoder, "conditioner.embedders.0.transformer.")
        tensors |= open_clip(pipeline.text_encoder_2, "conditioner.embedders.1.model.")
    else:
        tensors |= clip(pipeline.text_encoder, "cond_stage_model.transformer.")
        tensors["alphas_cumprod"] = torch.ones(1000)  # such leftovers are in the published files
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def unet(module: Any) -> dict[str, Tensor]:
    per = module.config.layers_per_block + 1
    state = module.state_dict()
    return {f"model.diffusion_model.{_unet_name(n, per, state)}": t for n, t in state.items()}


def _unet_name(name: str, per: int, state: Mapping[str, Tensor]) -> str:
    for own, theirs in UNET.items():
        if name.startswith(f"{own}."):
            return name.replace(own, theirs, 1)
    found = re.fullmatch(r"mid_block\.resnets\.(\d)\.(.*)", name)
    if found:
        return f"middle_block.{2 * int(found[1])}.{_renamed(found[2], RESNET)}"
    found = re.fullmatch(r"(down|up)_blocks\.(\d)\.([a-z]+)\.(\d)\.(.*)", name)
    assert found, name
    way, block, kind, layer = found[1], int(found[2]), found[3], int(found[4])
    side = "input_blocks" if way == "down" else "output_blocks"
    index = block * per + layer + (way == "down")
    if kind == "resnets":
        return f"{side}.{index}.0.{_renamed(found[5], RESNET)}"
    if kind == "attentions":
        return f"{side}.{index}.1.{found[5]}"
    if kind == "downsamplers":
        return f"{side}.{(block + 1) * per}.0.{found[5].replace('conv', 'op')}"
    place = 2 if any(n.startswith(f"up_blocks.{block}.attentions") for n in state) else 1
    return f"{side}.{block * per + per - 1}.{place}.{found[5]}"


def autoencoder(module: Any) -> dict[str, Tensor]:
    last = len(module.config.up_block_types) - 1
    tensors = {}
    for own, tensor in module.state_dict().items():
        name = re.sub(r"down_blocks\.(\d)", r"down.\1", own)
        name = re.sub(r"up_blocks\.(\d)", lambda found: f"up.{last - int(found[1])}", name)
        is_attention = "attentions" in name and name.endswith("weight") and tensor.ndim == 2
        tensors[_renamed(name, VAE)] = tensor[:, :, None, None] if is_attention else tensor
    return tensors


def clip(module: Any, prefix: str) -> dict[str, Tensor]:
    state = {n.removeprefix("text_model."): t for n, t in module.state_dict().items()}
    state["embeddings.position_ids"] = torch.arange(77)[None]  # older transformers saved it
    return {f"{prefix}text_model.{name}": tensor for name, tensor in state.items()}


def open_clip(module: Any, prefix: str) -> dict[str, Tensor]:
    state, tensors = module.state_dict(), {f"{prefix}logit_scale": torch.tensor(4.6)}
    for own, tensor in state.items():
        if ".q_proj." in own:
            parts = [state[own.replace("q_proj", f"{one}_proj")] for one in "qkv"]
            name = _renamed(own, OPEN_CLIP).replace(".q_proj.", ".in_proj_")
            tensors[prefix + name] = torch.cat(parts)
        elif not re.search(r"\.[kv]_proj\.", own):
            name = _renamed(own, OPEN_CLIP)
            tensors[prefix + name] = tensor.T if name == "text_projection" else tensor
    return tensors


def _renamed(name: str, names: Mapping[str, str]) -> str:
    """Replace whole dotted parts."""
    for own, theirs in names.items():
        name = re.sub(rf"(^|(?<=\.)){re.escape(own)}(?=\.|$)", theirs, name)
    return name
