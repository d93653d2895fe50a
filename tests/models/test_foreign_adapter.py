"""Adapters of any program on a base: the same change whoever wrote them, and never in part."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.adapters import ATTENTION, base_of, naming, write_adapter
from helpers.variants import FAMILIES, first
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from charsweep.core.errors import ModelsError
from charsweep.models.adapter_changes import changed, tucker
from charsweep.models.adapter_file import ADAPTER_FILE, FACTORED_CONFIG, FACTORED_FILE
from charsweep.models.foreign_adapter import AdapterLayer, plain_shapes
from charsweep.models.kohya import write_kohya
from charsweep.models.pipeline import LoadedPipeline

Named = dict[str, Tensor]


def weights_of(base: LoadedPipeline) -> Named:
    """All that can be taught, as it is now."""
    return {
        f"{name}.{key}": tensor.clone()
        for name, module in base.parts(base.family.taught(text_encoder=True)).items()
        for key, tensor in module.state_dict().items()
    }


def effect(base: LoadedPipeline, file: Path) -> Named:
    """What a file adds to every weight that it changes; the base is as before afterwards."""
    before = weights_of(base)
    with base.changed(file):
        during = weights_of(base)
    after = weights_of(base)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    return {
        name: during[name] - tensor
        for name, tensor in before.items()
        if not torch.equal(during[name], tensor)
    }


def merged(base: LoadedPipeline, folder: Path) -> Named:
    """What peft adds to every weight, of a snapshot with magnitudes too: merged, and taken out."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    found = {}
    with base.with_snapshot(folder):
        for name, module in base.parts(base.family.taught(text_encoder=True)).items():
            for path, layer in module.named_modules():
                if isinstance(layer, BaseTunerLayer):
                    own = layer.get_base_layer()
                    was = own.weight.detach().clone()
                    layer.merge()
                    found[f"{name}.{path}.weight"] = own.weight.detach() - was
                    layer.unmerge()
                    with torch.no_grad():
                        own.weight.copy_(was)
    return found


def same(one: Named, other: Named) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name].view(tensor.shape), rtol=1e-4, atol=1e-5)


# -- charsweep's own kinds, and the same in kohya's format -----------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("kind", "rank", "alpha"), [
    ("lora", 3, 7.0), ("dora", 3, 7.0), ("loha", 2, 5.0), ("lokr", 2, 5.0), ("lokr", 64, 7.0),
])  # fmt: skip
def test_every_kind_of_its_own_changes_what_peft_changes(
    name: str, kind: str, rank: int, alpha: float, tmp_path: Path
) -> None:
    base, folder = base_of(name), tmp_path / "snapshot"
    write_adapter(base, folder, kind, rank, alpha)
    file = folder / (FACTORED_FILE if kind in ("loha", "lokr") else ADAPTER_FILE)
    own = effect(base, file)
    assert len(own) > 100
    same(own, merged(base, folder))
    if kind != "dora" and not (kind == "lokr" and rank == 64):  # of which there is no such file
        write_kohya(folder, naming(name), tmp_path / "k.safetensors", {})
        same(own, effect(base, tmp_path / "k.safetensors"))


def as_kohya(snapshot: Path, name: str) -> Named:
    """A DoRA snapshot by kohya's names, its magnitudes as LyCORIS has them."""
    tensors = load_file(snapshot / ADAPTER_FILE)
    renamed = {}
    for key, tensor in tensors.items():
        found = re.fullmatch(r"(\w+)\.(.+?)\.(lora_\w+)(?:\.weight)?", key)
        assert found
        module, layer, part = found.groups()
        new = naming(name)(module, layer).name
        if part == "lora_magnitude_vector":
            renamed[f"{new}.dora_scale"] = tensor.reshape(-1, 1)
        else:
            way = {"lora_A": "lora_down", "lora_B": "lora_up"}[part]
            renamed[f"{new}.{way}.weight"] = tensor
            renamed[f"{new}.alpha"] = torch.tensor(7.0)
    return renamed


@pytest.mark.parametrize("name", FAMILIES)
def test_its_own_magnitudes_on_text_encoders_count(name: str, tmp_path: Path) -> None:
    """Also in files of earlier versions, whose names for them transformers passes over."""
    base, folder = base_of(name), tmp_path / "snapshot"
    write_adapter(base, folder, "dora", targets=ATTENTION)
    file = folder / ADAPTER_FILE
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    now, tensors = merged(base, folder), load_file(file)
    old = {key.replace("vector.weight", "vector"): tensor for key, tensor in tensors.items()}
    assert old.keys() != tensors.keys()
    save_file(old, file, metadata)
    same(merged(base, folder), now)
    same(effect(base, file), now)
    bare = {key: tensor for key, tensor in tensors.items() if "magnitude" not in key}
    save_file(bare, tmp_path / "bare.safetensors")
    encoders = {key for key in now if key.startswith("text_encoder")}
    assert encoders
    plain = effect(base, tmp_path / "bare.safetensors")
    assert not any(torch.allclose(plain[key], now[key], atol=1e-3) for key in encoders)


@pytest.mark.parametrize("name", FAMILIES)
def test_kohya_s_magnitudes_count(name: str, tmp_path: Path) -> None:
    """diffusers drops them without a word."""
    base, folder = base_of(name), tmp_path / "snapshot"
    write_adapter(base, folder, "dora", targets=ATTENTION)
    file = tmp_path / "k.safetensors"
    tensors = as_kohya(folder, name)
    save_file(tensors, file)
    whole = effect(base, file)
    same(whole, merged(base, folder))
    bare = {key: tensor for key, tensor in tensors.items() if not key.endswith("dora_scale")}
    save_file(bare, tmp_path / "bare.safetensors")
    plain = effect(base, tmp_path / "bare.safetensors")
    assert not all(torch.allclose(whole[key], one) for key, one in plain.items())


def test_magnitudes_of_the_inputs() -> None:
    """As LyCORIS once trained them: one for each column."""
    weight, up, down = torch.randn(4, 6), torch.randn(4, 2), torch.randn(2, 6)
    lengths = torch.rand(1, 6) + 1
    layer = AdapterLayer("unet", "x", "lora", {})
    got = changed(layer, {"up": up, "down": down, "dora_scale": lengths}, weight)
    torch.testing.assert_close(got.norm(dim=0), lengths[0])
    whole = weight + up @ down
    torch.testing.assert_close(got, whole / whole.norm(dim=0) * lengths)


def test_cores_of_convolutions() -> None:
    core, up, down = torch.randn(2, 2, 3, 3), torch.randn(5, 2, 1, 1), torch.randn(2, 4, 1, 1)
    layer = AdapterLayer("unet", "x", "lora", {})
    weight = torch.zeros(5, 4, 3, 3)
    got = changed(layer, {"up": up, "down": down, "mid": core}, weight)
    wanted = torch.nn.functional.conv2d(
        torch.nn.functional.conv2d(
            torch.nn.functional.conv2d(torch.eye(4).view(4, 4, 1, 1), down), core, padding=2
        ), up,
    )  # fmt: skip
    torch.testing.assert_close(got, wanted.permute(1, 0, 2, 3).flip(2, 3))
    factors = [torch.randn(2, 5), torch.randn(2, 4)]
    hada = {"hada_w1_a": factors[0], "hada_w1_b": factors[1], "hada_t1": core,
            "hada_w2_a": factors[0], "hada_w2_b": factors[1], "hada_t2": core}  # fmt: skip
    got = changed(AdapterLayer("unet", "x", "loha", {}), hada, weight)
    torch.testing.assert_close(got, tucker(core, *factors) ** 2)


# -- names of other programs -----------------------------------------------------------------------


def text(how: Callable[[str, str], str]) -> Callable[[str], str]:
    """Rename the layers of text encoders alone."""

    def rename(name: str) -> str:
        module, _, rest = name.partition(".")
        return how(module, rest) if module.startswith("text_encoder") else name

    return rename


def old(name: str) -> str:
    """As diffusers called them up to its release 0.26."""
    name = re.sub(r"\.attn(\d)\.to_out\.0\.", r".attn\1.processor.to_out_lora.", name)
    name = re.sub(r"\.attn(\d)\.to_([qkv])\.", r".attn\1.processor.to_\2_lora.", name)
    name = re.sub(r"\.(q|k|v|out)_proj\.", r".to_\1_lora.", name)
    return name.replace("lora_A.weight", "down.weight").replace("lora_B.weight", "up.weight")


def kohya_parts(name: str) -> str:
    layer, _, part = name.rpartition(".lora_")
    way = {"A.weight": "lora_down.weight", "B.weight": "lora_up.weight"}[part]
    return f"{layer}.{way}"


RENAMED: dict[str, Callable[[str], str]] = {
    "diffusers of old": old,
    "peft's own": lambda n: n.replace("lora_A.weight", "lora_A.default.weight").replace(
        "lora_B.weight", "lora_B.default.weight"
    ),
    "text encoders as transformers 5 has them": text(
        lambda m, rest: f"{m}.{rest.removeprefix('text_model.')}"
    ),
    "OneTrainer's": lambda n: kohya_parts(
        text(lambda m, rest: {
            "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"
        }[m] + rest.removeprefix("text_model.").rpartition(".lora_")[0].replace(".", "_")
            + ".lora_" + rest.rpartition(".lora_")[2])(n)
    ).replace("unet.", "lora_unet_"),
    "ComfyUI's": lambda n: text(lambda m, rest: {
        "text_encoder": "text_encoders.clip_l.transformer.",
        "text_encoder_2": "text_encoders.clip_g.transformer.",
    }[m] + rest)(n).replace("unet.", "diffusion_model."),
}  # fmt: skip


@pytest.mark.parametrize("way", RENAMED)
@pytest.mark.parametrize("name", FAMILIES)
def test_names_of_other_programs(name: str, way: str, tmp_path: Path) -> None:
    base, folder = base_of(name), tmp_path / "snapshot"
    write_adapter(base, folder, alpha=3.0, targets=ATTENTION)
    tensors = load_file(folder / ADAPTER_FILE)
    renamed = {RENAMED[way](key): tensor for key, tensor in tensors.items()}
    assert renamed.keys() != tensors.keys()
    save_file(renamed, tmp_path / "theirs.safetensors")
    same(effect(base, tmp_path / "theirs.safetensors"), effect(base, folder / ADAPTER_FILE))


@pytest.mark.parametrize("name", FAMILIES)
def test_layers_by_the_original_code_s_names(name: str, tmp_path: Path) -> None:
    """ComfyUI's trainer and whole differences have them, for every U-Net."""
    base = base_of(name)
    key = "down_blocks.1.resnets.0"
    made = {
        f"diffusion_model.input_blocks.{1 + base.denoiser.config.layers_per_block + 1}.0."
        f"in_layers.2.{part}": 0.1 * torch.ones_like(tensor)
        for part, tensor in (
            ("diff", base.denoiser.get_submodule(f"{key}.conv1").weight),
            ("diff_b", base.denoiser.get_submodule(f"{key}.conv1").bias),
        )
    }
    made[f"lora_unet_{key.replace('.', '_')}_norm1.w_norm"] = torch.ones_like(
        base.denoiser.get_submodule(f"{key}.norm1").weight
    )
    save_file(made, tmp_path / "d.safetensors")
    got = effect(base, tmp_path / "d.safetensors")
    assert got.keys() == {f"unet.{key}.{end}" for end in (
        "conv1.weight", "conv1.bias", "norm1.weight")}  # fmt: skip
    torch.testing.assert_close(got[f"unet.{key}.conv1.bias"].mean().item(), 0.1)


def test_peft_s_settings_beside_a_file(tmp_path: Path) -> None:
    base = base_of("sd15")
    layer = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    wide = base.denoiser.get_submodule(layer).weight.shape
    tensors = {f"base_model.model.{layer}.lora_A.weight": torch.ones(4, wide[1]),
               f"base_model.model.{layer}.lora_B.weight": torch.ones(wide[0], 4)}  # fmt: skip
    (tmp_path / "plain").mkdir()
    for folder in (tmp_path, tmp_path / "plain"):
        save_file(tensors, folder / "adapter_model.safetensors")
    (tmp_path / FACTORED_CONFIG).write_text(
        '{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": true}'
    )
    scaled = effect(base, tmp_path / "adapter_model.safetensors")[f"unet.{layer}.weight"]
    plain = effect(base, tmp_path / "plain" / "adapter_model.safetensors")
    torch.testing.assert_close(scaled, plain[f"unet.{layer}.weight"] * 8 / 4**0.5)


# -- nothing is loaded in part ---------------------------------------------------------------------


def without(tensors: Named, part: str) -> Named:
    first = next(name for name in tensors if part in name)
    return {name: tensor for name, tensor in tensors.items() if name != first}


def misnamed(tensors: Named) -> Named:
    first = next(iter(tensors))
    return {
        ("lora_unet_nowhere." if name == first else "") + name: t for name, t in tensors.items()
    }


SPOILT: dict[str, tuple[Callable[[Named], Named], str]] = {
    "a layer too many": (misnamed, r"1 of its \d+ tensors belong to no layer there"),
    "half a layer": (lambda t: without(t, "lora_up"), "alpha, down, which make no change"),
    "another size": (
        lambda t: {k: v[..., :-1].contiguous() if "lora_down" in k else v for k, v in t.items()},
        "a layer of another size .* another kind of base",
    ),
    "OFT": (lambda t: t | {"lora_unet_conv_in.oft_blocks": torch.zeros(2, 2, 2)}, "OFT"),
    "words": (lambda _: {"emb_params": torch.zeros(2, 96)}, "a textual inversion"),
    "words of two encoders": (
        lambda _: {"clip_l": torch.zeros(1, 96), "clip_g": torch.zeros(1, 96)},
        "a textual inversion",
    ),
    "charsweep's words": (lambda _: {"UnicornGirl": torch.zeros(96)}, "a textual inversion"),
    "a checkpoint": (
        lambda _: {f"model.diffusion_model.input_blocks.{i}.x": torch.zeros(2) for i in range(9)},
        "whole checkpoint",
    ),
    "a ControlNet": (
        lambda _: {f"control_model.{i}.x": torch.zeros(2) for i in range(9)}, "ControlNet",
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", first(4, SPOILT))
def test_what_is_left_over_is_refused(way: str, tmp_path: Path) -> None:
    base = base_of("sd15")
    write_adapter(base, tmp_path / "a", targets=ATTENTION)
    file = tmp_path / "k.safetensors"
    write_kohya(tmp_path / "a", naming("sd15"), file, {})
    spoil, reason = SPOILT[way]
    spoilt = spoil(load_file(file))
    save_file({name: tensor.contiguous() for name, tensor in spoilt.items()}, file)
    before = weights_of(base)
    with pytest.raises(ModelsError, match=reason), base.changed(file):
        raise AssertionError("it was put on")
    assert all(torch.equal(weights_of(base)[name], tensor) for name, tensor in before.items())


def test_every_name_means_one_layer() -> None:
    """Of all bases: what two layers were called would be put on one of them by chance."""
    from charsweep.models import architectures
    from charsweep.models.foreign_adapter import _index

    for name, modules in {
        "sd15": ["unet", "text_encoder"], "sdxl": ["unet", "text_encoder", "text_encoder_2"],
    }.items():  # fmt: skip
        seen: dict[str, Any] = {}
        for called, place in _index(plain_shapes(architectures.shapes_of(name)), modules):
            own = (place.module, place.layer)
            assert seen.setdefault(called, own) == own, called
