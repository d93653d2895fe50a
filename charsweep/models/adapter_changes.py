"""What an adapter's tensors make of a weight: the sum, in float32, whichever program wrote them.

LoRA (Hu et al. 2021) with alpha over rank; for convolutions LyCORIS' Tucker cores; LoHa and LoKr
(Yeh et al. 2023, arXiv 2309.14859); DoRA (Liu et al. 2024, arXiv 2402.09353), whose magnitudes
scale the sum of weight and change to lengths of their own, one for each output or, in files of
earlier LyCORIS, for each input.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from charsweep.models.foreign_adapter import AdapterLayer


def at_strength(before: Tensor, after: Tensor, strength: float) -> Tensor:
    """Weights before and after they were taught, and what lies so far on the line through both.

    For every kind of adapter, as ComfyUI has it, and for whole weights (Wortsman et al. 2022, arXiv
    2109.01903); of a LoRA's scale alone it is the same, and of DoRA's, whose magnitudes would
    stay at 0, it is not.
    """
    return torch.lerp(before.float(), after.float(), strength)


def changed(layer: AdapterLayer, tensors: Mapping[str, Tensor], weight: Tensor) -> Tensor:
    """The weight, float32, with the change that the layer's tensors, by part, make."""
    own = {part: tensor.float() for part, tensor in tensors.items()}
    before = weight.float()
    if layer.kind == "diff":
        if "diff" not in own:
            return before
        return before + rows_of(layer, own["diff"]).reshape(weight.shape)
    change = scale_of(layer, own) * rows_of(layer, product(layer.kind, own))
    whole = before + change.reshape(weight.shape)
    lengths = own.get("magnitude", own.get("dora_scale"))
    if lengths is None:
        return whole
    if layer.rows:
        lengths = rows_of(layer, lengths)
    is_input = "dora_scale" in own and lengths.shape[0] != weight.shape[0]
    flat = whole.transpose(0, 1).flatten(1) if is_input else whole.flatten(1)
    ones = (1,) * (weight.ndim - 2)
    shape = (1, -1, *ones) if is_input else (-1, 1, *ones)
    scaled: Tensor = whole * (lengths.reshape(shape) / flat.norm(dim=1).view(shape))
    return scaled


def rows_of(layer: AdapterLayer, made: Tensor) -> Tensor:
    """Of what tensors make for several layers at once, or in another order, the layer's own."""
    if not layer.rows:
        return made
    return torch.cat([made[first:last] for first, last in layer.rows])


def product(kind: str, own: Mapping[str, Tensor]) -> Tensor:
    """What the factors multiply to, before it is scaled."""
    if kind == "lora":
        up, down = own["up"].flatten(1), own["down"].flatten(1)
        return tucker(own["mid"], up.T, down) if "mid" in own else up @ down
    if kind == "loha":
        return torch.mul(*(
            tucker(own[f"hada_t{i}"], own[f"hada_w{i}_a"], own[f"hada_w{i}_b"])
            if f"hada_t{i}" in own
            else own[f"hada_w{i}_a"] @ own[f"hada_w{i}_b"]
            for i in (1, 2)
        ))  # fmt: skip
    first = own["lokr_w1"] if "lokr_w1" in own else own["lokr_w1_a"] @ own["lokr_w1_b"]
    if "lokr_w2" in own:
        second = own["lokr_w2"]
    elif "lokr_t2" in own:
        second = tucker(own["lokr_t2"], own["lokr_w2_a"], own["lokr_w2_b"])
    else:
        second = own["lokr_w2_a"] @ own["lokr_w2_b"]
    kernel = second.shape[2:]
    return torch.kron(first.view(*first.shape, *(1 for _ in kernel)), second)


def tucker(core: Tensor, outputs: Tensor, inputs: Tensor) -> Tensor:
    """A core (r, r, k, k) between factors (r, out) and (r, in)."""
    return torch.einsum("ij...,ip,jr->pr...", core, outputs, inputs)


def scale_of(layer: AdapterLayer, own: Mapping[str, Tensor]) -> float:
    """Alpha over the rank, as the program that wrote the file takes it."""
    settings = layer.settings
    scalar = float(own["scalar"]) if "scalar" in own else 1.0
    rank = rank_of(layer.kind, own)
    if "alpha" in own:
        if layer.kind == "lokr" and {"lokr_w1", "lokr_w2"} <= own.keys():
            return scalar  # whole factors have no rank, and LyCORIS reads no alpha then
        return scalar * float(own["alpha"]) / rank
    if layer.kind in ("loha", "lokr") and "r" in settings:
        rank = int(pattern(settings.get("rank_pattern"), layer.layer, settings["r"]))
    alpha = settings.get("lora_alpha", settings.get("alpha", rank))
    alpha = float(pattern(settings.get("alpha_pattern"), layer.layer, alpha))
    return scalar * alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def rank_of(kind: str, own: Mapping[str, Tensor]) -> int:
    """The inner size of its factors; 1 where all are whole."""
    names = {"lora": ("down",), "loha": ("hada_w1_b",), "lokr": ("lokr_w1_b", "lokr_w2_b")}[kind]
    return next((own[name].shape[0] for name in names if name in own), 1)


def pattern(patterns: Mapping[str, Any] | None, layer: str, otherwise: Any) -> Any:
    """What peft's patterns, regular expressions of layers' last names, say of a layer."""
    for name, value in (patterns or {}).items():
        if re.fullmatch(rf"(.*\.)?({name})", layer):
            return value
    return otherwise
