"""Adapter files of any program: which layer of a base each of their tensors changes; no torch.

Names are those of diffusers (of all ages), peft, sd-scripts, LyCORIS, OneTrainer and ComfyUI; kinds
are LoRA and DoRA, with Tucker's cores for convolutions, LoHa, LoKr, and whole differences. A file
is read whole or not at all: what is left over is named. `charsweep.models.adapter_changes` says
what the tensors make of a weight.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from charsweep.core.errors import ModelsError, shown
from charsweep.models.adapter_file import ADAPTER_FILE, FACTORED_CONFIG, FACTORED_FILE, METADATA
from charsweep.models.architectures import Shapes
from charsweep.models.kohya import original_name
from charsweep.models.safetensors_file import metadata_of, tensor_shapes
from charsweep.models.transformer_names import Share, original_names

# What an adapter's folder holds, by diffusers, by charsweep and by peft, and peft's settings.
FILES, CONFIG = (ADAPTER_FILE, FACTORED_FILE, "adapter_model.safetensors"), FACTORED_CONFIG
PLAIN = {"down", "up", "alpha"}  # the parts of a LoRA that has no others
# How a tensor's name ends, and what it is of a layer.
ENDS = {
    **dict.fromkeys(("lora_A.weight", "lora_A.default.weight", "lora_down.weight",
                     "lora.down.weight", "lora_linear_layer.down.weight"), "down"),
    **dict.fromkeys(("lora_B.weight", "lora_B.default.weight", "lora_up.weight",
                     "lora.up.weight", "lora_linear_layer.up.weight"), "up"),
    **dict.fromkeys(("lora_magnitude_vector", "lora_magnitude_vector.weight",
                     "lora_magnitude_vector.default.weight"), "magnitude"),
    "lora_mid.weight": "mid",
    **{name: name for name in (
        "alpha", "scalar", "dora_scale",
        "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
        "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
        "diff", "diff_b",
    )},
    "w_norm": "diff", "b_norm": "diff_b",
}  # fmt: skip
BESIDE = {"alpha", "scalar", "dora_scale", "magnitude"}  # to what makes a layer's change
HADA = {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}
KINDS: tuple[tuple[str, frozenset[str]], ...] = tuple(
    (kind, frozenset(parts))
    for kind, parts in (
        ("lora", {"down", "up"}), ("lora", {"down", "up", "mid"}),
        ("loha", HADA), ("loha", {*HADA, "hada_t1", "hada_t2"}),
        *(("lokr", {*first, *second})
          for first in ({"lokr_w1"}, {"lokr_w1_a", "lokr_w1_b"})
          for second in ({"lokr_w2"}, {"lokr_w2_a", "lokr_w2_b"},
                         {"lokr_w2_a", "lokr_w2_b", "lokr_t2"})),
        ("diff", {"diff"}), ("diff", {"diff_b"}), ("diff", {"diff", "diff_b"}),
    )
)  # fmt: skip
# How names of a module's layers begin; of the denoiser, then of the first and second encoder.
DENOISER: tuple[str, ...] = (
    "lora_unet_", "unet_", "lora_transformer_", "transformer_", "base_model_model_", "lycoris_",
    "lycoris_unet_", "diffusion_model_", "model_diffusion_model_", "",
)  # fmt: skip
ENCODERS: tuple[tuple[str, ...], ...] = (
    ("lora_te_", "lora_te1_", "text_encoder_", "clip_l_transformer_", "lycoris_te_",
     "lycoris_te1_", "text_encoders_clip_l_transformer_", "cond_stage_model_transformer_",
     "conditioner_embedders_0_transformer_"),
    ("lora_te2_", "text_encoder_2_", "clip_g_transformer_", "lycoris_te2_",
     "text_encoders_clip_g_transformer_"),
)  # fmt: skip
# What is no adapter of these kinds, by part of a tensor's name.
MOST_NAMED = 3  # tensors that are left over
MOST_EMBEDDINGS = 4  # tensors of a textual inversion
WORDS = "a textual inversion, which teaches words and no layers: tell the story with the cell"
OTHERS = {
    "model.diffusion_model.input_blocks": "a whole checkpoint: give it as models.bases.NAME.path",
    "control_model.": "a ControlNet",
    "controlnet_": "a ControlNet",
    "image_proj": "an IP-Adapter",
    "ip_adapter": "an IP-Adapter",
    "oft_": "an OFT adapter",
    "boft_": "a BOFT adapter",
    "on_input": "an (IA)³ adapter",
    "ia3_": "an (IA)³ adapter",
    "double_blocks": "made for Flux",
}


@dataclass(frozen=True)
class AdapterLayer:
    """One layer's change: its kind, the names of its tensors by part, and how much it counts."""

    module: str
    layer: str  # as the module calls it, without the level `text_model`
    kind: str
    tensors: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)  # peft's, where there are any
    # Which rows of what the tensors make are the layer's, one range after the other; (): all.
    rows: tuple[tuple[int, int], ...] = ()


class Place(NamedTuple):
    """A layer that goes by a name, or one of several that do so together."""

    module: str
    layer: str
    share: Share


def adapter_layers(file: Path, shapes: Shapes, modules: Sequence[str]) -> list[AdapterLayer]:
    """What a file changes of a base whose parts, those of `modules`, the denoiser first, have
    weights of these shapes.

    Raises `ModelsError`, which says what the file is, unless every tensor of it has its place.
    """
    known: dict[str, dict[int, Place]] = {}
    for name, place in _index(shapes, modules):
        known.setdefault(name, {}).setdefault(place.share.at, place)
    found: dict[tuple[Place, ...], dict[str, str]] = {}
    taken: dict[tuple[str, str], tuple[Place, ...]] = {}
    left: list[str] = []
    tensors = tensor_shapes(file)
    for name in tensors:
        layer, part = split(name)
        places = tuple(place for _, place in sorted(known.get(_plain(layer), {}).items()))
        is_whole = part != "" and len(places) == (places[0].share.of if places else -1)
        same = {taken.setdefault((place.module, place.layer), places) for place in places}
        if not is_whole or same != {places} or part in found.setdefault(places, {}):
            left.append(name)
        else:
            found[places][part] = name
    if left:
        raise ModelsError(_left_over(left, tensors))
    settings = peft_settings(file)
    layers = []
    for places, parts in found.items():
        module, layer, _ = places[0]
        kinds = (kind for kind, needed in KINDS if needed == parts.keys() - BESIDE)
        if (kind := next(kinds, None)) is None:
            raise ModelsError(
                f"of {module}.{layer} it has {', '.join(sorted(parts))}, which make no change: it "
                "is not whole, or of a kind that is not read here"
            )
        own = {part: tensors[name] for part, name in parts.items()}
        heights = [shapes[place.module][f"{place.layer}.weight"][0] for place in places]
        weight = [sum(heights), *shapes[module][f"{layer}.weight"][1:]]
        has_bias = all(f"{place.layer}.bias" in shapes[place.module] for place in places)
        is_taken_apart = len(places) > 1 or places[0].share.is_turned
        by_inputs = own.get("dora_scale", weight)[:1] == [1]
        fits = _fits(own, weight, weight[:1] if has_bias else None)
        if not fits or (is_taken_apart and by_inputs):
            raise ModelsError(
                f"its {module}.{layer} is made for a layer of another size "
                f"({' × '.join(map(str, weight))} here): for another kind of base"
            )
        mine = settings.get(module, settings.get("", {}))
        layers += [
            AdapterLayer(place.module, place.layer, kind, parts, mine, rows)
            for place, rows in zip(places, _rows(places, heights), strict=True)
        ]
    return layers


def _rows(places: Sequence[Place], heights: Sequence[int]) -> Iterator[tuple[tuple[int, int], ...]]:
    """Which rows are each one's, of layers that go by one name; (): all of them."""
    if len(places) == 1:
        half = heights[0] // 2
        yield ((half, heights[0]), (0, half)) if places[0].share.is_turned else ()
        return
    start = 0
    for height in heights:
        yield ((start, start + height),)
        start += height


def plain_shapes(shapes: Shapes) -> Shapes:
    """The same without the level `text_model`, which libraries have or have not."""
    return {
        module: {name.removeprefix("text_model."): shape for name, shape in own.items()}
        for module, own in shapes.items()
    }


def split(name: str) -> tuple[str, str]:
    """A layer, and what of it a tensor is: "" where that is not known."""
    name = re.sub(r"\.to_(q|k|v|out)_lora\.", r".to_\1.lora.", name.replace(".processor.", "."))
    for end, part in ENDS.items():
        if name.endswith(f".{end}"):
            return name.removesuffix(f".{end}"), part
    return name, ""


def _index(shapes: Shapes, modules: Sequence[str]) -> Iterator[tuple[str, Place]]:
    """Every name that a layer goes by, and the layer; its own first."""
    for number, module in enumerate(modules):
        layers = [name[: -len(".weight")] for name in shapes[module] if name.endswith(".weight")]
        per_block = _resnets(layers)
        for layer in layers:
            names, starts = {layer}, DENOISER
            if number:
                starts = ENCODERS[number - 1]
                old = re.sub(r"\.(q|k|v|out)_proj$", r".to_\1", layer)  # diffusers once called it
                names = {f"{level}{one}" for level in ("", "text_model.") for one in (layer, old)}
            else:
                names |= {layer.removesuffix(".0")} if layer.endswith("to_out.0") else set()
                names |= set(_original(layer, per_block))
            for start in starts:
                for name in names:
                    yield f"{start}{_plain(name)}", Place(module, layer, Share(name))
                for share in _originals(shapes[module][f"{layer}.weight"], layer, number):
                    yield f"{start}{_plain(share.name)}", Place(module, layer, share)


def _originals(weight: Sequence[int], layer: str, number: int) -> Iterator[Share]:
    """What the original code of a transformer calls a layer of the denoiser, the first module."""
    if not number and len(weight) > 1:
        yield from original_names(layer, weight[0], math.prod(weight[1:]))


def _resnets(layers: Sequence[str]) -> int:
    """How many residual blocks a U-Net has at each level on its way down."""
    found = (re.match(r"down_blocks\.0\.resnets\.(\d+)\.", layer) for layer in layers)
    return 1 + max((int(match[1]) for match in found if match), default=0)


def _original(layer: str, per_block: int) -> Iterator[str]:
    """What the original code calls a U-Net's layer, if it is one's."""
    try:
        name = original_name(layer, per_block)
    except ModelsError:
        return
    yield name
    if "upsamplers" in layer:  # behind no attention, as Stable Diffusion 1.5 has one
        yield name.replace(".2.conv", ".1.conv")


def _plain(name: str) -> str:
    return name.replace(".", "_")


def _left_over(left: Sequence[str], tensors: Mapping[str, list[int]]) -> str:
    """What a file is whose tensors have no place, or what is known of it."""
    count = len(tensors)
    is_words = count <= MOST_EMBEDDINGS and all(len(shape) <= 2 for shape in tensors.values())
    if is_words and not any(split(name)[1] for name in tensors):
        return f"it is {WORDS}"
    for part, what in OTHERS.items():
        if any(part in name for name in left):
            return f"it is {what}"
    more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
    return (
        f"{len(left)} of its {count} tensors belong to no layer there "
        f"({', '.join(shown(name) for name in left[:MOST_NAMED])}{more}), and nothing is loaded in "
        "part: it is made for another kind of base, or by names that are not known here"
    )


def _fits(own: Mapping[str, list[int]], weight: Sequence[int], bias: Sequence[int] | None) -> bool:
    """Whether tensors of these shapes make a change of such a weight."""
    try:
        return _make(own, weight, bias) and _scale(own, weight)
    except IndexError:  # some have fewer dimensions than any such adapter's
        return False


def _make(own: Mapping[str, list[int]], weight: Sequence[int], bias: Sequence[int] | None) -> bool:
    wanted = (weight[0], math.prod(weight[1:]))
    if "down" in own:
        up, down = ((shape[0], math.prod(shape[1:])) for shape in (own["up"], own["down"]))
        return _product(up[::-1] if "mid" in own else up, down, own.get("mid")) == wanted
    if "hada_w1_a" in own:
        factors = ("hada_w{}_a", "hada_w{}_b", "hada_t{}")
        pairs = [[own.get(name.format(i), []) for name in factors] for i in (1, 2)]
        return all(_product(first, second, core) == wanted for first, second, core in pairs)
    if "lokr_w1" in own or "lokr_w1_a" in own:
        factors = ("lokr_w{}_a", "lokr_w{}_b", "lokr_t{}")
        (a, b), (c, d) = (
            (whole[0], math.prod(whole[1:]))
            if (whole := own.get(f"lokr_w{i}"))
            else _product(*(own.get(name.format(i), []) for name in factors))
            for i in (1, 2)
        )
        return (a * c, b * d) == wanted
    fits = math.prod(own["diff"]) == math.prod(weight) if "diff" in own else True
    return fits and ("diff_b" not in own or (bias is not None and own["diff_b"] == list(bias)))


def _product(
    first: Sequence[int], second: Sequence[int], core: Sequence[int] | None
) -> tuple[int, int]:
    """Outputs and inputs, with the kernel, of what two factors make, or two with a core."""
    if core:
        fits = (first[0], second[0]) == (core[0], core[1])
        return (first[1], second[1] * math.prod(core[2:])) if fits else (0, 0)
    return (first[0], second[1]) if first[1] == second[0] else (0, 0)


def _scale(own: Mapping[str, list[int]], weight: Sequence[int]) -> bool:
    """Whether what scales it is one number, or DoRA's one for each output, once each input."""
    allowed = {
        "alpha": [1], "scalar": [1], "magnitude": weight[:1], "dora_scale": weight[:2]
    }  # fmt: skip
    return all(math.prod(own[name]) in sizes for name, sizes in allowed.items() if name in own)


def peft_settings(file: Path) -> dict[str, dict[str, Any]]:
    """peft's settings by module, from the file's metadata or the config beside it; "" for any."""
    try:
        told = json.loads(metadata_of(file).get(METADATA, "{}"))
        beside = file.with_name(CONFIG)
        lies = beside.exists() and file.name in FILES
        content = json.loads(beside.read_text(encoding="utf-8")) if lies else {}
        if "peft_type" in content:
            return {"": content}
        settings: dict[str, dict[str, Any]] = {name: dict(own) for name, own in content.items()}
        for name, value in told.items():
            module, _, key = name.partition(".")
            settings.setdefault(module, {})[key] = value
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ModelsError(f"its settings cannot be read ({error})") from error
    return settings
