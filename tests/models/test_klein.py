"""What FLUX.2-klein alone has: layers that other programs have as one, a distilled twin, latents of
which four lie together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from charsweep.core.errors import ConfigError, ModelsError
from charsweep.core.seeding import generator
from charsweep.models.adapter_file import METADATA, LowRank, as_peft_reads
from charsweep.models.families.klein import Klein, transformer
from charsweep.models.kohya import write_kohya
from charsweep.models.samplers import check_guidance

KLEIN = Klein()
CONFIG = {
    "in_channels": 8, "patch_size": 1, "num_layers": 1, "num_single_layers": 2,
    "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 48,
    "timestep_guidance_channels": 256, "mlp_ratio": 3.0, "guidance_embeds": False,
}  # fmt: skip
BLOCK, SINGLE = "transformer_blocks.0", "single_transformer_blocks.1"


def write_snapshot(
    folder: Path, layers: Sequence[str], alpha: float, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    """An adapter of rank 2 on these layers; what it adds to each, by the layer's name."""
    shapes = dict(transformer(CONFIG))
    tensors, added = {}, {}
    for layer in layers:
        out, into = shapes[f"{layer}.weight"]
        source = generator(0, layer)
        a = torch.randn(2, into, generator=source).to(dtype)
        b = torch.randn(out, 2, generator=source).to(dtype)
        tensors |= {
            f"transformer.{layer}.lora_A.weight": a,
            f"transformer.{layer}.lora_B.weight": b,
        }
        added[layer] = alpha / 2 * b.float() @ a.float()
    folder.mkdir()
    settings = json.dumps({"transformer.r": 2, "transformer.lora_alpha": alpha})
    save_file(tensors, folder / "pytorch_lora_weights.safetensors", {METADATA: settings})
    return added


def changes_in(file: Path) -> dict[str, torch.Tensor]:
    """What a ComfyUI file adds to each layer of its own; without an alpha, the plain product."""
    tensors = load_file(file)
    names = {key.partition(".lora_")[0] for key in tensors}
    return {
        name.removeprefix("diffusion_model."): tensors[f"{name}.lora_B.weight"].float()
        @ tensors[f"{name}.lora_A.weight"].float()
        for name in names
    }


@pytest.mark.parametrize(("alpha", "dtype"), [(2.0, torch.bfloat16), (3.0, torch.float32)])
def test_three_layers_are_laid_together(alpha: float, dtype: torch.dtype, tmp_path: Path) -> None:
    """Of the picture's side all three, of the prompt's the last alone: the others stay untaught."""
    layers = [f"{BLOCK}.attn.{name}" for name in ("to_q", "to_k", "to_v", "add_v_proj", "to_out.0")]
    layers += [f"{SINGLE}.attn.to_qkv_mlp_proj", f"{SINGLE}.attn.to_out", f"{BLOCK}.ff.linear_in"]
    added = write_snapshot(tmp_path / "a", layers, alpha, dtype)
    file = tmp_path / "comfy.safetensors"
    write_kohya(tmp_path / "a", KLEIN.naming(tmp_path, "epsilon"), file, {})
    q, k, v, prompt, out, wide, last, ff = (added[layer] for layer in layers)
    expected = {
        "double_blocks.0.img_attn.qkv": torch.cat([q, k, v]),
        "double_blocks.0.txt_attn.qkv": torch.cat([0 * prompt, 0 * prompt, prompt]),
        "double_blocks.0.img_attn.proj": out,
        "single_blocks.1.linear1": wide,
        "single_blocks.1.linear2": last,
        "double_blocks.0.img_mlp.0": ff,
    }
    found = changes_in(file)
    assert found.keys() == expected.keys()
    for name, change in expected.items():
        torch.testing.assert_close(found[name], change, rtol=1e-5, atol=1e-5)


def test_a_layer_that_lies_otherwise_there_has_no_name(tmp_path: Path) -> None:
    write_snapshot(tmp_path / "a", ["norm_out.linear"], 2.0)
    with pytest.raises(ModelsError, match=r"no ComfyUI name is known for the layer norm_out"):
        write_kohya(tmp_path / "a", KLEIN.naming(tmp_path, "epsilon"), tmp_path / "k", {})
    assert not (tmp_path / "k").exists()


@pytest.mark.parametrize("kind", ["loha", "lokr"])
def test_a_third_of_a_layer_is_written_of_a_lora_alone(kind: str, tmp_path: Path) -> None:
    low = LowRank(kind, 4, 4.0, ("to_q",))
    part = "hada_w1_a" if kind == "loha" else "lokr_w1"
    name = f"transformer.{BLOCK}.attn.to_q.{part}"
    save_file({name: torch.ones(4, 4)}, tmp_path / "adapter.safetensors")
    settings = json.dumps({"transformer": low.settings("transformer")})
    (tmp_path / "adapter_config.json").write_text(settings)
    with pytest.raises(ModelsError, match=r"third of the layer diffusion_model.*method.adapter"):
        write_kohya(tmp_path, KLEIN.naming(tmp_path, "epsilon"), tmp_path / "k.safetensors", {})


def test_targets_do_not_end_like_what_holds_layers() -> None:
    """peft would refuse `attn.to_out`: a layer in single blocks, a list of some in the others."""
    shapes: Mapping[str, Any] = dict(transformer(CONFIG))
    assert as_peft_reads("to_q", shapes) == ["to_q"]
    assert as_peft_reads("attn.to_out", shapes) == [
        "single_transformer_blocks.0.attn.to_out", "single_transformer_blocks.1.attn.to_out",
    ]  # fmt: skip
    assert as_peft_reads("attn", shapes) == ["attn"]
    low = LowRank("lora", 4, 4.0, KLEIN.targets).on(KLEIN, {"transformer": shapes})
    layers = [name for name, _ in low.layers("transformer", {"transformer": shapes})]
    assert len(layers) == 4 + 2 * 2
    low.check({"transformer": shapes})


def test_a_distilled_base_says_so(tmp_path: Path) -> None:
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "chat_template.jinja").write_text("")
    (tmp_path / "model_index.json").write_text(json.dumps({"is_distilled": True}))
    with pytest.raises(ModelsError) as raised:
        KLEIN.check("klein", tmp_path)
    assert str(raised.value).endswith("set models.bases.klein.distilled=true")
    distilled = replace(KLEIN, distilled=True)
    distilled.check("klein", tmp_path)
    assert distilled.class_pictures == (4, 1.0)
    assert [distilled.calls(scale) for scale in (1.0, 4.0)] == [1, 1]
    assert [KLEIN.calls(scale) for scale in (1.0, 4.0)] == [1, 2]
    base: Any = SimpleNamespace(family=distilled, plugin=SimpleNamespace(name="klein_distilled"))
    check_guidance(1.0, base)
    with pytest.raises(ConfigError, match=r"guidance_scale=4: klein_distilled .*guidance_scale=1$"):
        check_guidance(4.0, base)


def test_times_are_taught_as_they_are_drawn_where_that_is_asked() -> None:
    """At 1024 pixels a side in 50 steps, e to 2.023; without a wish, not moved at all."""
    scheduler = SimpleNamespace(
        config=SimpleNamespace(num_train_timesteps=1000, get={"use_dynamic_shifting": True}.get)
    )
    pipeline = SimpleNamespace(scheduler=scheduler)
    assert KLEIN.noising(pipeline).shift((64, 64)) == 1
    drawn = replace(KLEIN, shift=None).noising(pipeline).shift((64, 64))
    assert drawn == pytest.approx(7.5636, rel=1e-4)
