"""Adapters in the names of transformers' original codes: fused, turned and renamed layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders import lora_conversion_utils as theirs
from safetensors.torch import save_file
from torch import Tensor

from charsweep.core.errors import ModelsError
from charsweep.models.adapter_changes import changed
from charsweep.models.foreign_adapter import adapter_layers

Named = dict[str, Tensor]
Shape = dict[str, list[int]]
D, RANK, ALPHA = 6, 2, 3.0
TURNED = "transformer_blocks.1.norm1_context.linear"  # scale before shift, in diffusers alone
ROWS = {TURNED: 2 * D, "transformer_blocks.0.norm1_context.linear": 6 * D,
        "single_transformer_blocks.0.attn.to_qkv_mlp_proj": 5 * D}  # fmt: skip


def qkv(start: str, *names: str) -> list[str]:
    return [f"{start}.{name}" for name in names or ("to_q", "to_k", "to_v")]


ADDED = ("add_q_proj", "add_k_proj", "add_v_proj")
BLOCK, KREA = "transformer_blocks.0", "text_fusion.refiner_blocks.0"
# By model, original names and the layers of diffusers that they are of, in order.
MODELS: dict[str, dict[str, list[str]]] = {
    "Z-Image": {
        "layers.0.attention.qkv": qkv("layers.0.attention"),
        "layers.0.attention.out": ["layers.0.attention.to_out.0"],
        "noise_refiner.0.attention.qkv": qkv("noise_refiner.0.attention"),
        "layers.0.feed_forward.w1": ["layers.0.feed_forward.w1"],
        "layers.0.adaLN_modulation.0": ["layers.0.adaLN_modulation.0"],
    },
    "FLUX.2": {
        "double_blocks.0.img_attn.qkv": qkv(f"{BLOCK}.attn"),
        "double_blocks.0.txt_attn.qkv": qkv(f"{BLOCK}.attn", *ADDED),
        "double_blocks.0.img_attn.proj": [f"{BLOCK}.attn.to_out.0"],
        "double_blocks.0.txt_attn.proj": [f"{BLOCK}.attn.to_add_out"],
        "double_blocks.0.img_mlp.0": [f"{BLOCK}.ff.linear_in"],
        "double_blocks.0.txt_mlp.2": [f"{BLOCK}.ff_context.linear_out"],
        "single_blocks.0.linear1": ["single_transformer_blocks.0.attn.to_qkv_mlp_proj"],
        "single_blocks.0.linear2": ["single_transformer_blocks.0.attn.to_out"],
        "img_in": ["x_embedder"],
        "double_stream_modulation_img.lin": ["double_stream_modulation_img.linear"],
    },
    "Krea 2": {
        **{f"blocks.0.attn.w{one}": [f"{BLOCK}.attn.to_{one}"] for one in "qkv"},
        "blocks.0.attn.wo": [f"{BLOCK}.attn.to_out.0"],
        "blocks.0.attn.gate": [f"{BLOCK}.attn.to_gate"],
        "blocks.0.mlp.gate": [f"{BLOCK}.ff.gate"],
        "txtfusion.refiner_blocks.0.attn.wq": [f"{KREA}.attn.to_q"],
        "txtfusion.refiner_blocks.0.mlp.up": [f"{KREA}.ff.up"],
        "txtfusion.projector": ["text_fusion.projector"],
        "first": ["img_in"], "last.linear": ["final_layer.linear"],
        "tmlp.0": ["time_embed.linear_1"], "tproj.1": ["time_mod_proj"],
        "txtmlp.3": ["txt_in.linear_2"],
    },
    "Anima": {
        **{f"blocks.0.self_attn.{one}_proj": [f"{BLOCK}.attn1.to_{one}"] for one in "qkv"},
        "blocks.0.self_attn.output_proj": [f"{BLOCK}.attn1.to_out.0"],
        "blocks.0.cross_attn.v_proj": [f"{BLOCK}.attn2.to_v"],
        "blocks.0.cross_attn.output_proj": [f"{BLOCK}.attn2.to_out.0"],
        "blocks.0.mlp.layer1": [f"{BLOCK}.ff.net.0.proj"],
        "blocks.0.adaln_modulation_self_attn.1": [f"{BLOCK}.norm1.linear_1"],
        "final_layer.linear": ["proj_out"],
        "t_embedder.1.linear_1": ["time_embed.t_embedder.linear_1"],
    },
    "SD 3": {
        "joint_blocks.0.x_block.attn.qkv": qkv(f"{BLOCK}.attn"),
        "joint_blocks.0.x_block.attn2.qkv": qkv(f"{BLOCK}.attn2"),
        "joint_blocks.0.context_block.attn.qkv": qkv(f"{BLOCK}.attn", *ADDED),
        "joint_blocks.0.x_block.attn.proj": [f"{BLOCK}.attn.to_out.0"],
        "joint_blocks.0.x_block.attn2.proj": [f"{BLOCK}.attn2.to_out.0"],
        "joint_blocks.0.context_block.attn.proj": [f"{BLOCK}.attn.to_add_out"],
        "joint_blocks.0.x_block.mlp.fc2": [f"{BLOCK}.ff.net.2"],
        "joint_blocks.0.context_block.mlp.fc1": [f"{BLOCK}.ff_context.net.0.proj"],
        "joint_blocks.0.context_block.adaLN_modulation.1": [f"{BLOCK}.norm1_context.linear"],
        "joint_blocks.1.context_block.adaLN_modulation.1": [TURNED],
    },
}  # fmt: skip


def shapes_of(model: str) -> Shape:
    layers = [layer for own in MODELS[model].values() for layer in own]
    return {f"{layer}.weight": [ROWS.get(layer, D), D] for layer in layers}


def a_lora(model: str, start: str, dot: str, ends: tuple[str, str, str]) -> Named:
    """Random factors for every layer by its original name."""
    torch.manual_seed(0)
    down, up, alpha = ends
    made: Named = {}
    for name, layers in MODELS[model].items():
        rows = sum(ROWS.get(layer, D) for layer in layers)
        key = start + name.replace(".", dot)
        made[f"{key}.{down}"] = torch.randn(RANK, D)
        made[f"{key}.{up}"] = torch.randn(rows, RANK)
        if alpha:
            made[f"{key}.{alpha}"] = torch.tensor(ALPHA)
    return made


def deltas(file: Path, shapes: Shape) -> Named:
    """What a file adds to each layer of zeros."""
    from safetensors.torch import load_file

    tensors, found = load_file(file), {}
    for layer in adapter_layers(file, {"transformer": shapes}, ["transformer"]):
        own = {part: tensors[name] for part, name in layer.tensors.items()}
        zero = torch.zeros(shapes[f"{layer.layer}.weight"])
        found[layer.layer] = changed(layer, own, zero)
    return found


KOHYA = ("lora_down.weight", "lora_up.weight", "alpha")
PEFT = ("lora_A.weight", "lora_B.weight", "")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("start", "dot", "ends"),
    [("lora_unet_", "_", KOHYA), ("diffusion_model.", ".", PEFT), ("base_model.model.", ".", PEFT)],
)
def test_every_layer_gets_its_own_rows(
    model: str, start: str, dot: str, ends: tuple[str, str, str], tmp_path: Path
) -> None:
    shapes = shapes_of(model)
    made = a_lora(model, start, dot, ends)
    save_file(made, tmp_path / "a.safetensors")
    got = deltas(tmp_path / "a.safetensors", shapes)
    assert got.keys() == {name.removesuffix(".weight") for name in shapes}
    scale = ALPHA / RANK if ends[2] else 1.0
    for name, layers in MODELS[model].items():
        key = start + name.replace(".", dot)
        whole, first = scale * made[f"{key}.{ends[1]}"] @ made[f"{key}.{ends[0]}"], 0
        for layer in layers:
            rows = ROWS.get(layer, D)
            own = whole[first : first + rows]
            wanted = torch.cat([own[D:], own[:D]]) if layer == TURNED else own
            torch.testing.assert_close(got[layer], wanted)
            first += rows
        assert first == len(whole)


# What diffusers makes of the same file, where it makes anything of it.
CONVERTED: dict[str, tuple[Callable[[Any], Any], str, str, tuple[str, str, str]]] = {
    model: (getattr(theirs, f"_convert_non_diffusers_{name}_lora_to_diffusers"), *way)
    for model, name, way in (
        ("Z-Image", "z_image", ("lora_unet_", "_", KOHYA)),
        ("FLUX.2", "flux2", ("diffusion_model.", ".", PEFT)),
        ("Krea 2", "krea2", ("diffusion_model.", ".", PEFT)),
        ("Anima", "anima", ("diffusion_model.", ".", PEFT)),
    )
}


@pytest.mark.parametrize("model", CONVERTED)
def test_it_is_what_diffusers_makes_of_the_same_file(model: str, tmp_path: Path) -> None:
    convert, start, dot, ends = CONVERTED[model]
    made = a_lora(model, start, dot, ends)
    save_file(made, tmp_path / "a.safetensors")
    got = deltas(tmp_path / "a.safetensors", shapes_of(model))
    converted = convert({name: tensor.clone() for name, tensor in made.items()})
    layers = {key.partition(".lora_")[0].removeprefix("transformer.") for key in converted}
    assert layers == got.keys()
    for layer in layers:
        a, b = (converted[f"transformer.{layer}.lora_{way}.weight"] for way in "AB")
        torch.testing.assert_close(got[layer], b @ a)


def shapes_for(*layers: str) -> Shape:
    return {f"{layer}.weight": [D, D] for layer in layers}


def test_a_kronecker_product_over_three_layers_is_taken_apart(tmp_path: Path) -> None:
    """Which diffusers can only put on layers that it fuses first."""
    layers = qkv("transformer_blocks.0.attn")
    first, second = torch.randn(3, 2), torch.randn(D, 3)
    start = "diffusion_model.double_blocks.0.img_attn.qkv"
    save_file({f"{start}.lokr_w1": first, f"{start}.lokr_w2": second}, tmp_path / "a.safetensors")
    got = deltas(tmp_path / "a.safetensors", shapes_for(*layers))
    whole = torch.kron(first, second)
    for at, layer in enumerate(layers):
        torch.testing.assert_close(got[layer], whole[at * D : (at + 1) * D])


def ones(layer: str, rows: int) -> Named:
    """A LoRA of rank 1 on a layer of Z-Image's attention."""
    start = f"diffusion_model.layers.0.attention.{layer}"
    return {
        f"{start}.lora_A.weight": torch.ones(1, D),
        f"{start}.lora_B.weight": torch.ones(rows, 1),
    }


def test_a_layer_that_has_two_changes_is_refused(tmp_path: Path) -> None:
    save_file({**ones("qkv", 3 * D), **ones("to_k", D)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelsError, match=r"2 of its 4 tensors belong to no layer there"):
        deltas(tmp_path / "a.safetensors", shapes_for(*qkv("layers.0.attention")))


def test_a_name_of_three_is_none_where_one_of_them_lacks(tmp_path: Path) -> None:
    save_file(ones("qkv", 2 * D), tmp_path / "a.safetensors")
    with pytest.raises(ModelsError, match="belong to no layer there"):
        deltas(tmp_path / "a.safetensors", shapes_for(*qkv("layers.0.attention")[:2]))
