"""Adapters in kohya's format: a snapshot's tensors under sd-scripts' names; no torch.

ComfyUI, A1111 and their relatives read them: `lora_unet_*`, then `lora_te_*` for Stable Diffusion,
`lora_te1_*` and `lora_te2_*` for XL, each layer with its alpha. As sd-scripts itself does, U-Net
layers of Stable Diffusion go by diffusers' names, those of XL by the original code's.

Transformers go by the dotted names of ComfyUI's own layers, or of those of diffusers that it knows,
below `diffusion_model.`, as ai-toolkit writes them. Some readers of such files know no alpha, so a
LoRA's scale is multiplied into its second factor. Where three layers of diffusers' are one of
theirs, factors are laid together: the first ones below each other, the second along a diagonal.

The bytes of all other tensors stay. LoHa and LoKr go by LyCORIS' names, which are peft's. Refused
is what readers would not draw alike: DoRA, whose `dora_scale` diffusers drops and the others divide
by norms of different axes, and a LoKr whose factors are whole, for which they read no alpha.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import deserialize, safe_open

from charsweep.core.errors import ModelsError
from charsweep.core.store.files import read_json
from charsweep.models.adapter_file import (
    ADAPTER_FILE,
    FACTORED_CONFIG,
    FACTORED_FILE,
    MAGNITUDE,
    METADATA,
)
from charsweep.models.safetensors_file import (
    WIDTHS,
    TensorEntry,
    header_of,
    in_order,
    tensor_shapes,
)
from charsweep.models.transformer_names import Share

Tensors = dict[str, tuple[TensorEntry, bytes]]  # by name; their bytes, of whatever kind they are

FIRST, SECOND = "lora_A.weight", "lora_B.weight"
PARTS = {FIRST: "lora_down.weight", SECOND: "lora_up.weight"}
SINGLE = {
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip
RESNET = {
    "conv1": "in_layers.2", "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection", "norm1": "in_layers.0", "norm2": "out_layers.0",
}  # fmt: skip
IN_BLOCK = re.compile(r"(down_blocks|mid_block|up_blocks)\.(?:(\d+)\.)?([a-z]+)\.(\d+)\.(.+)")


@dataclass(frozen=True)
class Naming:
    """What other programs call a family of bases and its layers: sd-scripts, or dotted names."""

    modules: Mapping[str, str]  # part of the pipeline -> how names of its layers begin
    share: Callable[[str], Share]  # the denoiser's layer in diffusers -> which of theirs it is
    version: str  # of the base, in sd-scripts' words
    architecture: str  # the same in ModelSpec's
    implementation: str  # whose names the denoiser's layers have, in ModelSpec's words
    is_dotted: bool = False

    @property
    def suffix(self) -> str:
        """What a file is called by that has these names."""
        return "comfyui" if self.is_dotted else "kohya"

    def __call__(self, module: str, layer: str) -> Share:
        """A layer of a part of the pipeline, by its whole name."""
        if module.startswith("text_encoder"):
            own = Share(f"text_model.{layer.removeprefix('text_model.')}")
        else:
            own = self.share(layer)
        start = self.modules[module]
        if self.is_dotted:
            return own._replace(name=f"{start}.{own.name}")
        return own._replace(name=f"{start}_{own.name.replace('.', '_')}")


def dotted(share: Callable[[str], Share], architecture: str, implementation: str) -> Naming:
    """Of a transformer, whose layers ComfyUI knows by those names."""
    modules = {"transformer": "diffusion_model"}
    return Naming(modules, share, architecture, architecture, implementation, is_dotted=True)


def write_kohya(snapshot: Path, naming: Naming, path: Path, metadata: Mapping[str, str]) -> None:
    """Write the adapter in `snapshot` under the names of its family of bases.

    Raises `ModelsError` where the format cannot hold it, or there is no adapter.
    """
    tensors = kohya_tensors(snapshot, naming)
    entries = {name: entry for name, (entry, _) in tensors.items()}
    data = b"".join(tensors[name][1] for name in in_order(entries))
    digest = hashlib.sha256(data).hexdigest()  # it stays when only the metadata change
    hashes = {"sshs_model_hash": digest, "modelspec.hash_sha256": f"0x{digest}"}
    path.write_bytes(header_of(entries, {**metadata, **hashes}) + data)


def kohya_tensors(snapshot: Path, naming: Naming) -> Tensors:
    """The tensors by their new names, an alpha for every layer among them, or multiplied by it."""
    tensors, settings = adapter_in(snapshot)
    refuse_unreadable(tensors, settings)
    renamed: Tensors = {}
    thirds: dict[str, dict[int, Tensors]] = {}
    for name, tensor in tensors.items():
        module, layer, part = split(name)
        new, third, of, _ = naming(module, layer)
        if of == 3 and part not in PARTS:
            raise ModelsError(
                f"{layer} is a third of the layer {new} of other programs, for which only a LoRA "
                "can be written; use adapter.safetensors with peft, or method.adapter=lora"
            )
        if naming.is_dotted and part in PARTS:
            scale = alpha_of(settings[module]) / settings[module]["r"] if part == SECOND else 1.0
            own = times(tensor, scale)
            if of == 1:
                renamed[f"{new}.{part}"] = own
            else:
                thirds.setdefault(new, {}).setdefault(third, {})[part] = own
            continue
        renamed[f"{new}.{PARTS.get(part, part)}"] = tensor
        renamed[f"{new}.alpha"] = number(alpha_of(settings[module]))
    for new, parts in thirds.items():
        for part, tensor in zip(PARTS, laid_together(parts), strict=True):
            renamed[f"{new}.{part}"] = tensor
    return renamed


def adapter_in(snapshot: Path) -> tuple[Tensors, dict[str, dict[str, Any]]]:
    """The tensors of a snapshot's adapter, and peft's settings of each module."""
    if (snapshot / FACTORED_FILE).exists():
        return tensors_in(snapshot / FACTORED_FILE), read_json(snapshot / FACTORED_CONFIG)
    file = snapshot / ADAPTER_FILE
    if not file.exists():
        raise ModelsError(
            f"{snapshot} holds no low-rank adapter, and kohya's format holds nothing else; load "
            "it as the program that it was written for does"
        )
    tensors = tensors_in(file)
    with safe_open(file, "np") as opened:
        metadata = opened.metadata()
    settings: dict[str, dict[str, Any]] = {}
    for name, value in json.loads(metadata[METADATA]).items():
        module, _, key = name.partition(".")
        settings.setdefault(module, {})[key] = value
    return tensors, settings


def tensors_in(path: Path) -> Tensors:
    """All of a file's; ModelsError as `tensor_shapes`."""
    tensor_shapes(path)
    found = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]  # safetensors' own
    return {
        name: (TensorEntry(known["dtype"], tuple(known["shape"])), bytes(known["data"]))
        for name, known in found
    }


def refuse_unreadable(names: Collection[str], settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise `ModelsError` for what other programs would read as something else."""
    if any(MAGNITUDE in name for name in names):
        raise ModelsError(
            "DoRA has no kohya file: diffusers drops its magnitudes from one, and other programs "
            "disagree on what they scale; use the diffusers file, or method.adapter=lora"
        )
    for name in names:
        module, layer, part = split(name)
        own = settings[module]
        if part == "lokr_w2" and alpha_of(own) != own["r"]:
            raise ModelsError(
                f"LoKr of rank {own['r']} and alpha {alpha_of(own):g} has no kohya file: the "
                f"factors of {layer} are whole, and other programs read no alpha for such; use "
                "adapter.safetensors with peft, or train with method.alpha equal to method.rank"
            )


def split(name: str) -> tuple[str, str, str]:
    """Module, layer and part of a tensor's name."""
    module, rest = name.split(".", 1)
    for part in PARTS:
        if rest.endswith(f".{part}"):
            return module, rest.removesuffix(f".{part}"), part
    layer, _, part = rest.rpartition(".")
    return module, layer, part


def alpha_of(settings: Mapping[str, Any]) -> float:
    return float(settings.get("lora_alpha", settings.get("alpha", 0.0)))


def times(tensor: tuple[TensorEntry, bytes], scale: float) -> tuple[TensorEntry, bytes]:
    """A float32 tensor multiplied; as it is where that changes nothing."""
    entry, data = tensor
    if scale == 1:
        return tensor
    assert entry.dtype == "F32"
    return entry, (np.frombuffer(data, "<f4") * np.float32(scale)).tobytes()


def laid_together(thirds: Mapping[int, Tensors]) -> tuple[tuple[TensorEntry, bytes], ...]:
    """The two factors of a layer, some of whose thirds have factors of their own, bit for bit."""
    first = [bits(thirds[third][FIRST]) for third in sorted(thirds)]
    second = {third: bits(thirds[third][SECOND]) for third in sorted(thirds)}
    (height,) = {len(factor) for factor in second.values()}
    columns = sum(factor.shape[1] for factor in second.values())
    diagonal = np.zeros((3 * height, columns), first[0].dtype)
    column = 0
    for third, factor in second.items():
        width = factor.shape[1]
        diagonal[third * height : (third + 1) * height, column : column + width] = factor
        column += width
    dtype = next(iter(thirds.values()))[FIRST][0].dtype
    both = (np.concatenate(first), diagonal)
    return tuple((TensorEntry(dtype, one.shape), one.tobytes()) for one in both)


def bits(tensor: tuple[TensorEntry, bytes]) -> NDArray[np.unsignedinteger[Any]]:
    """A tensor's numbers as they lie, of whatever kind they are."""
    entry, data = tensor
    return np.frombuffer(data, f"<u{WIDTHS[entry.dtype]}").reshape(entry.shape)


def number(value: float) -> tuple[TensorEntry, bytes]:
    """A tensor of one number, in float32 as sd-scripts has it, or wider where that is not exact."""
    data = struct.pack("<f", value)
    if struct.unpack("<f", data)[0] == value:
        return TensorEntry("F32", ()), data
    return TensorEntry("F64", ()), struct.pack("<d", value)


# -- names of layers -------------------------------------------------------------------------------


def original_name(layer: str, per_block: int) -> str:
    """A U-Net layer of diffusers' as Stable Diffusion XL's original code calls it."""
    if layer in SINGLE:
        return SINGLE[layer]
    match = IN_BLOCK.fullmatch(layer)
    if match is None:
        raise ModelsError(f"no kohya name is known for the layer {layer}; teach others")
    side, block, what, index, rest = match[1], int(match[2] or 0), match[3], int(match[4]), match[5]
    inner = int(what == "attentions")
    if what == "resnets":
        rest = RESNET.get(rest, rest)
    if side == "mid_block":  # resnet, attention, resnet
        return f"middle_block.{inner or 2 * index}.{rest}"
    if what == "downsamplers":
        return f"input_blocks.{(block + 1) * (per_block + 1)}.0.op"
    if side == "down_blocks":
        return f"input_blocks.{1 + block * (per_block + 1) + index}.{inner}.{rest}"
    if what == "upsamplers":  # behind an attention: XL's only block without has no upsampler
        return f"output_blocks.{block * (per_block + 1) + per_block}.2.{rest}"
    return f"output_blocks.{block * (per_block + 1) + index}.{inner}.{rest}"
