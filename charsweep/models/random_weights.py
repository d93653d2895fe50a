"""Seeded random weights of a published architecture, in its true sizes.

For measuring speed and memory and for trying a study's machinery where no weights can be had: the
images are noise. Weights are stored in half precision, made once and kept. Every tensor is a
function of its name alone: raw bits of a counter-based generator, scaled as torch's own first
weights are, so that the same recipe gives the same bits on every machine.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from charsweep.core.store.files import clear_abandoned, new_folder, unwritable
from charsweep.core.system.locks import locked
from charsweep.models import architectures
from charsweep.models.clip_tokenizer import TOKENIZERS, clip_tokenizer
from charsweep.models.safetensors_file import TensorEntry, header_of, in_order

MANIFEST = "recipe.json"
CHUNK = 1 << 24  # numbers made at a time
LOOKED_UP = ("embedding.weight", "embedding", "pos_embed", "cls_token")
ENCODER_FILES = {"clip": "open_clip_model.safetensors", "dino": "model.safetensors"}


def make(recipe: str, folder: Path) -> None:
    """Make an architecture's random weights in `folder`, unless they are there."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent / ".lock", f"the random weights {recipe}"):
            clear_abandoned(folder.parent)
            if not (folder / MANIFEST).exists():
                _fill(recipe, folder)
    except OSError as error:
        raise unwritable(folder, error) from error


def _fill(recipe: str, folder: Path) -> None:
    source, shapes = architectures.folder_of(recipe), architectures.shapes_of(recipe)
    content = {"recipe": recipe, "digest": architectures.recipe_digest(recipe)}
    with new_folder(folder, MANIFEST, content) as new:
        shutil.copytree(
            source, new, ignore=shutil.ignore_patterns("shapes.json"), dirs_exist_ok=True
        )
        for part, tensors in shapes.items():
            of_diffusers = part in ("unet", "vae")
            own = "diffusion_pytorch_model.safetensors" if of_diffusers else "model.safetensors"
            name = ENCODER_FILES.get(recipe, own)
            write_random(new / part / name, f"{recipe} {part}", tensors)
        for part in TOKENIZERS:
            if part.replace("tokenizer", "text_encoder") in shapes:
                clip_tokenizer(part).save_pretrained(new / part)


def write_random(path: Path, purpose: str, shapes: Mapping[str, list[int]]) -> None:
    """A safetensors file of half-precision tensors, written piece by piece."""
    entries = {name: TensorEntry("F16", tuple(shape)) for name, shape in shapes.items()}
    with path.open("wb") as file:
        file.write(header_of(entries, {"format": "pt"}))
        for name in in_order(entries):
            for piece in numbers(purpose, name, shapes[name]):
                file.write(piece.astype("<f2").tobytes())


def numbers(purpose: str, name: str, shape: list[int]) -> Iterator[NDArray[np.float32]]:
    """The numbers of one tensor, a chunk at a time.

    Biases 0, scales of norms 1, CLIP's logit scale as it starts, embeddings with a deviation of
    0.02; everything else uniform in ±1/sqrt(inputs), torch's choice for linear layers and
    convolutions.
    """
    count = math.prod(shape)
    fixed = _fixed(name, shape)
    seed = hashlib.sha256(f"{architectures.SEED} {purpose} {name}".encode()).digest()
    bits = np.random.Philox(key=np.frombuffer(seed[:16], dtype="<u8"))
    bound = 1 / math.sqrt(max(1, math.prod(shape[1:])))
    if name.endswith(LOOKED_UP):
        bound = 0.02 * math.sqrt(3)
    while count:
        some = min(count, CHUNK)
        if fixed is None:
            raw = bits.random_raw(-(-some // 4)).astype("<u8").view("<i2")[:some]
            yield raw.astype(np.float32) * np.float32(bound / 32768)
        else:
            yield np.full(some, fixed, dtype=np.float32)
        count -= some


def _fixed(name: str, shape: list[int]) -> float | None:
    if name == "logit_scale":
        return math.log(1 / 0.07)
    if name.endswith("bias"):
        return 0.0
    return 1.0 if len(shape) == 1 and name.endswith("weight") else None
