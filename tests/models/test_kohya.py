"""The kohya file of an adapter: names as published, and the same picture, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import (
    _convert_non_diffusers_lora_to_diffusers,
    _maybe_map_sgm_blocks_to_diffusers,
)
from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft
from helpers.adapters import ATTENTION, EVERYWHERE, base_of, naming, picture, write_adapter
from helpers.true_shapes import modules
from helpers.variants import FAMILIES, first
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from charsweep.core.errors import ModelsError
from charsweep.models.adapter_file import ADAPTER_FILE, FACTORED_FILE
from charsweep.models.embedded import FOLDER
from charsweep.models.kohya import original_name, write_kohya
from charsweep.models.safetensors_file import tensor_shapes


@pytest.mark.parametrize("alpha", first(1, [2.7, 7.0, 3.0]))
@pytest.mark.parametrize("text_encoder", [False, True])
@pytest.mark.parametrize("targets", [ATTENTION, EVERYWHERE], ids=["attention", "everywhere"])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_kohya_file_draws_the_same_picture(
    name: str, targets: tuple[str, ...], text_encoder: bool, alpha: float, tmp_path: Path
) -> None:
    base, folder = base_of(name), tmp_path / "snapshot"
    write_adapter(base, folder, alpha=alpha, targets=targets, text_encoder=text_encoder)
    file = tmp_path / "kohya.safetensors"
    write_kohya(folder, naming(name), file, {})
    drawn = picture(base, folder / ADAPTER_FILE)
    assert picture(base, file) == drawn
    assert picture(base, None) != drawn


def test_an_adapter_on_the_text_encoders_alone_counts(tmp_path: Path) -> None:
    """Would the picture notice if the reader had dropped a text encoder?"""
    for name, parts in {"sd15": ("lora_te_",), "sdxl": ("lora_te1_", "lora_te2_")}.items():
        base, folder = base_of(name), tmp_path / name
        write_adapter(base, folder, targets=ATTENTION)
        file = tmp_path / f"{name}.safetensors"
        write_kohya(folder, naming(name), file, {})
        whole = picture(base, file)
        for part in parts:
            tensors = {k: v for k, v in load_file(file).items() if not k.startswith(part)}
            assert len(tensors) < len(load_file(file))
            less = tmp_path / f"{name}-less.safetensors"
            save_file(tensors, less)
            assert picture(base, less) != whole


def test_keys_are_the_published_ones(tmp_path: Path) -> None:
    """Names as sd-scripts writes them: diffusers' for SD's U-Net, the original ones for XL's."""
    wanted = {
        "sd15": {
            "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0",
            "lora_unet_up_blocks_0_resnets_1_time_emb_proj",
            "lora_te_text_model_encoder_layers_0_self_attn_q_proj",
        },
        "sdxl": {
            "lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_out_0",
            "lora_unet_output_blocks_1_0_emb_layers_1",
            "lora_unet_output_blocks_1_2_conv",
            "lora_te1_text_model_encoder_layers_0_self_attn_q_proj",
            "lora_te2_text_model_encoder_layers_0_self_attn_q_proj",
        },
    }
    for name, layers in wanted.items():
        write_adapter(base_of(name), tmp_path / name)
        file = tmp_path / f"{name}.safetensors"
        write_kohya(tmp_path / name, naming(name), file, {"ss_v2": "False"})
        tensors = load_file(file)
        assert {key.split(".", 1)[1] for key in tensors} == {
            "alpha", "lora_down.weight", "lora_up.weight"
        }  # fmt: skip
        assert layers <= {key.split(".")[0] for key in tensors}
        assert {tensor.item() for key, tensor in tensors.items() if key.endswith("alpha")} == {7.0}
        with safe_open(file, "np") as opened:
            metadata = opened.metadata()
        assert metadata["ss_v2"] == "False"
        assert len(metadata["sshs_model_hash"]) == 64


@pytest.mark.parametrize(("layer", "name"), [
    ("conv_in", "input_blocks.0.0"),
    ("down_blocks.0.resnets.1.conv1", "input_blocks.2.0.in_layers.2"),
    ("down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"),
    ("down_blocks.1.attentions.0.proj_in", "input_blocks.4.1.proj_in"),
    ("down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_k",
     "input_blocks.8.1.transformer_blocks.9.attn2.to_k"),
    ("mid_block.resnets.1.conv2", "middle_block.2.out_layers.3"),
    ("mid_block.attentions.0.proj_out", "middle_block.1.proj_out"),
    ("up_blocks.0.upsamplers.0.conv", "output_blocks.2.2.conv"),
    ("up_blocks.2.resnets.2.conv_shortcut", "output_blocks.8.0.skip_connection"),
])  # fmt: skip
def test_layers_of_stable_diffusion_xl(layer: str, name: str) -> None:
    assert original_name(layer, 2) == name


def test_diffusers_finds_every_layer_of_stable_diffusion_xl() -> None:
    """The true U-Net has blocks without attention and a middle, which the embedded one lacks."""
    unet = modules("sdxl")["unet"]
    layers = {n for n, m in unet.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    assert len(layers) == 794
    names = {f"lora_unet_{original_name(n, 2).replace('.', '_')}" for n in layers}
    assert len(names) == len(layers)
    none = torch.zeros(1, 1)
    state = {f"{n}.lora_{way}.weight": none for n in names for way in ("down", "up")}
    state = _maybe_map_sgm_blocks_to_diffusers(state, unet.config)
    state, _ = _convert_non_diffusers_lora_to_diffusers(state)
    found = convert_unet_state_dict_to_peft(state)
    assert {k.removeprefix("unet.").split(".lora_")[0] for k in found} == layers


# -- kinds that are not LoRA -----------------------------------------------------------------------


def read_as_lycoris_does(tensors: dict[str, torch.Tensor], layer: str) -> torch.Tensor:
    """The change of a weight, flat, from its tensors' names alone.

    LyCORIS 4.1.3 itself, given these files, was found to make the same, number by number.
    """
    own = {k.removeprefix(f"{layer}."): v for k, v in tensors.items() if k.startswith(f"{layer}.")}
    alpha = own["alpha"].item()
    if "hada_w1_a" in own:
        rank = len(own["hada_w1_b"])
        both = [own[f"hada_w{i}_a"] @ own[f"hada_w{i}_b"] for i in (1, 2)]
        return both[0] * both[1] * (alpha / rank)
    one, two, scale = own["lokr_w1"], own.get("lokr_w2"), 1.0
    if two is None:
        scale = alpha / len(own["lokr_w2_b"])
        two = own["lokr_w2_a"] @ own["lokr_w2_b"]
    return torch.kron(one, two.flatten(1)) * scale


@pytest.mark.parametrize(("kind", "rank", "alpha"), [
    ("loha", 2, 5.0), ("lokr", 2, 5.0), ("lokr", 64, 64.0),
])  # fmt: skip
def test_loha_and_lokr_add_the_same_to_every_layer(
    kind: str, rank: int, alpha: float, tmp_path: Path
) -> None:
    deltas = write_adapter(base_of("sd15"), tmp_path / "a", kind, rank, alpha)
    assert len(deltas) == 112
    file = tmp_path / "kohya.safetensors"
    write_kohya(tmp_path / "a", naming("sd15"), file, {})
    tensors = load_file(file)
    assert {key.split(".")[0] for key in tensors} == {_layer(name) for name in deltas}
    for name, delta in deltas.items():
        read = read_as_lycoris_does(tensors, _layer(name))
        torch.testing.assert_close(read, delta.flatten(1), rtol=1e-6, atol=1e-6)


def _layer(name: str) -> str:
    module, path = name.split(".", 1)
    first = "lora_unet_" if module == "unet" else "lora_te_text_model_"
    return first + path.replace(".", "_")


@pytest.mark.parametrize(("kind", "rank", "reason"), [
    ("dora", 3, "DoRA has no kohya file"), ("lokr", 64, "LoKr of rank 64 and alpha 7"),
])  # fmt: skip
def test_what_readers_would_misread_is_refused(
    kind: str, rank: int, reason: str, tmp_path: Path
) -> None:
    write_adapter(base_of("sd15"), tmp_path / "a", kind, rank, targets=ATTENTION)
    with pytest.raises(ModelsError, match=reason):
        write_kohya(tmp_path / "a", naming("sd15"), tmp_path / "k.safetensors", {})
    assert not (tmp_path / "k.safetensors").exists()


@pytest.mark.parametrize("kind", ["lora", "loha"])
def test_an_adapter_in_bfloat16_keeps_its_bits(kind: str, tmp_path: Path) -> None:
    """numpy knows no such number."""
    write_adapter(base_of("sd15"), tmp_path / "a", kind, targets=ATTENTION)
    own = tmp_path / "a" / (ADAPTER_FILE if kind == "lora" else FACTORED_FILE)
    with safe_open(own, "pt") as opened:
        metadata = opened.metadata()
    half = {name: tensor.bfloat16() for name, tensor in load_file(own).items()}
    save_file(half, own, metadata)
    assert tensor_shapes(own) == {name: list(tensor.shape) for name, tensor in half.items()}
    file = tmp_path / "kohya.safetensors"
    write_kohya(tmp_path / "a", naming("sd15"), file, {})
    written = {k: v for k, v in load_file(file).items() if not k.endswith("alpha")}
    assert {tensor.dtype for tensor in written.values()} == {torch.bfloat16}
    assert sorted(map(bits, written.values())) == sorted(map(bits, half.values()))
    if kind == "lora":
        drawn = picture(base_of("sd15"), own)
        assert picture(base_of("sd15"), file) == drawn != picture(base_of("sd15"), None)


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def test_an_adapter_that_was_cut_short_is_one_message(tmp_path: Path) -> None:
    write_adapter(base_of("sd15"), tmp_path / "a", targets=ATTENTION)
    own = tmp_path / "a" / ADAPTER_FILE
    own.write_bytes(own.read_bytes()[:-100])
    with pytest.raises(ModelsError, match="is cut short"):
        write_kohya(tmp_path / "a", naming("sd15"), tmp_path / "k.safetensors", {})


def test_weights_that_are_no_adapter_are_refused() -> None:
    base = FOLDER / "weights/sd15"
    with pytest.raises(ModelsError, match="no low-rank adapter"):
        write_kohya(base, naming("sd15"), Path("never.safetensors"), {})


def test_a_file_that_is_written_twice_is_the_same(tmp_path: Path) -> None:
    write_adapter(base_of("sd15"), tmp_path / "a", targets=ATTENTION)
    for name in ("one", "two"):
        write_kohya(tmp_path / "a", naming("sd15"), tmp_path / name, {"b": "1", "a": "2"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert json.loads((tmp_path / "one").read_bytes()[8:].split(b"}}")[0] + b"}}")["__metadata__"]
