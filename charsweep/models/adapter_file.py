"""A kind of low-rank adapter and the layers it goes on in; names and shapes of its file out.

No torch: planning asks for sizes, and other programs' formats are written from the file alone. The
shapes are those that peft makes with its defaults; tests hold them against the files it writes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from charsweep.models.architectures import Shapes
from charsweep.models.safetensors_file import Entry, file_size

ADAPTER_FILE = "pytorch_lora_weights.safetensors"  # as diffusers names it in a folder
FACTORED_FILE, FACTORED_CONFIG = "adapter.safetensors", "adapter_config.json"
FACTORED = ("loha", "lokr")  # kinds for which LoRA files have no names
TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
SMALLEST_PADDED_RANK = 8
METADATA = "lora_adapter_metadata"  # where diffusers keeps peft's settings in a LoRA file


def targets_in(module: str, targets: Sequence[str]) -> tuple[str, ...]:
    """The ends of layers' names in the module `module` of a pipeline."""
    return TEXT_TARGETS if module.startswith("text_encoder") else tuple(targets)


def is_target(path: str, targets: Sequence[str]) -> bool:
    """Whether a layer's name is one of those, or ends in one as a whole part."""
    return any(path == target or path.endswith(f".{target}") for target in targets)


def settings_of(kind: str, rank: int, alpha: float, targets: Sequence[str]) -> dict[str, Any]:
    """What peft needs to put such an adapter on; its defaults, which are many, stay its own.

    Written out in full, they would be unknown words to an earlier peft, and change with a later.
    """
    common = {"r": rank, "target_modules": sorted(targets)}
    if kind in FACTORED:
        return {"peft_type": kind.upper(), "alpha": alpha, **common}
    return {"peft_type": "LORA", "lora_alpha": alpha, "use_dora": kind == "dora", **common}


def adapter_bytes(
    kind: str, rank: int, alpha: float, targets: Sequence[str], taught: Shapes
) -> int:
    """Bytes of the file or files of such an adapter on the parts with these tensors."""
    entries = {
        published(f"{name}.{layer}.{part}", kind): Entry("F32", shape)
        for name, shapes in taught.items()
        for layer, weight in layers_in(shapes, targets_in(name, targets))
        for part, shape in parts_of(kind, rank, weight).items()
    }
    settings = {
        name: settings_of(kind, rank, alpha, targets_in(name, targets)) for name in taught
    }  # fmt: skip
    if kind in FACTORED:
        return file_size(entries, {}) + len(factored_config(settings).encode())
    return file_size(entries, {"format": "pt", METADATA: lora_metadata(settings)})


def layers_in(
    shapes: Mapping[str, Sequence[int]], targets: Sequence[str]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names of the linear and convolution layers to teach, and the shapes of their weights."""
    for name, shape in shapes.items():
        path = name.removesuffix(".weight")
        if path != name and len(shape) in (2, 4) and is_target(path, targets):
            yield path, tuple(shape)


def published(name: str, kind: str = "lora") -> str:
    """A tensor's name in a LoRA file: text encoder 1 keeps the level that transformers 5 dropped.

    In peft's own files (LoHa, LoKr) a tensor is called as the module calls it.
    """
    first, rest = name.split(".", 1)
    if first != "text_encoder":
        return name
    rest = rest.removeprefix("text_model.")
    return f"text_encoder.{rest}" if kind in FACTORED else f"text_encoder.text_model.{rest}"


def parts_of(kind: str, rank: int, weight: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The tensors that such an adapter adds to a layer whose weight is (out, in[, k, k])."""
    out, *into = weight
    flat, ones = math.prod(into), (1,) * (len(weight) - 2)
    if kind == "loha":
        return {
            "hada_w1_a": (out, rank), "hada_w1_b": (rank, flat),
            "hada_w2_a": (out, rank), "hada_w2_b": (rank, flat),
        }  # fmt: skip
    if kind == "lokr":
        return kronecker(rank, weight)
    parts = {"lora_A.weight": (rank, *into), "lora_B.weight": (out, rank, *ones)}
    if kind == "dora":
        parts["lora_magnitude_vector"] = (1, out, *ones) if ones else (out,)
    return parts


def kronecker(rank: int, weight: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """LoKr's two factors of a weight; the larger one is itself of low rank where that is less."""
    out, into, *kernel = weight
    (out_small, out_large), (in_small, in_large) = near_root(out), near_root(into)
    small = {"lokr_w1": (out_small, in_small)}
    if rank >= max(out_large, in_large) / 2:
        return {**small, "lokr_w2": (out_large, in_large, *kernel)}
    flat = in_large * math.prod(kernel)
    return {**small, "lokr_w2_a": (out_large, rank), "lokr_w2_b": (rank, flat)}


def near_root(dimension: int) -> tuple[int, int]:
    """The two factors of a number that lie nearest each other, the smaller one first."""
    small = next(n for n in range(math.isqrt(dimension), 0, -1) if dimension % n == 0)
    return small, dimension // small


def padded_rank(rank: int) -> int:
    """The next power of two, at least 8: trials of one padded rank may share a pack.

    Not the largest rank that happens to be in the pack: bits must not depend on company.
    """
    return max(SMALLEST_PADDED_RANK, 1 << (rank - 1).bit_length())


def lora_metadata(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """The settings of each module as diffusers writes them into a LoRA file."""
    flat = {f"{name}.{key}": value for name, own in settings.items() for key, value in own.items()}
    return json.dumps(flat, indent=2, sort_keys=True)


def factored_config(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """The settings of each module as they lie beside peft's own tensors."""
    return json.dumps(settings, indent=1, sort_keys=True) + "\n"
