"""Image and text encoders, CLIP and DINO; made or fetched first if they are not there.

Both come as a folder (open_clip's or timm's, with its config) or as a single .safetensors file,
which is read with the config beside it, or as the published ViT-B/32 or ViT-S/16. Mean and standard
deviation of the pixels come from that config, which is part of the digest.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from charsweep.core.errors import ModelsError
from charsweep.core.specs import EncoderSpec
from charsweep.evaluate.metrics import Features
from charsweep.models.load import ready, unreadable
from charsweep.models.pipeline import pixels_of, quiet
from charsweep.models.random_weights import ENCODER_FILES
from charsweep.models.safetensors_file import tensor_shapes
from charsweep.models.weights import CONFIGS, Weights, What, config_beside

FIRST_LAYERS = {"clip": ("visual.conv1.", "visual.trunk."), "dino": ("patch_embed.",)}
WORDS = {"clip": "CLIP in open_clip's naming", "dino": "vision transformer in timm's naming"}


def load_clip(spec: EncoderSpec, weights: Weights) -> Encoder:
    """An open_clip model with its tokenizer."""
    import open_clip

    with _read_from(weights) as name:
        network = open_clip.create_model(name, require_pretrained=True)
        tokenizer = open_clip.get_tokenizer(name)
    config = open_clip.get_model_preprocess_cfg(network)
    return Encoder(spec, network.float().eval(), config["mean"], config["std"], tokenizer)


def load_dino(spec: EncoderSpec, weights: Weights) -> Encoder:
    """A timm vision transformer without a head."""
    import timm

    with _read_from(weights) as name:
        network: Any = timm.create_model(name, pretrained=True, num_classes=0)
    config: dict[str, Any] = network.pretrained_cfg
    return Encoder(spec, network.float().eval(), config["mean"], config["std"], None)


@contextlib.contextmanager
def _read_from(weights: Weights) -> Iterator[str]:
    """The name by which open_clip and timm read a folder of the library's own layout."""
    path = ready(weights)
    with tempfile.TemporaryDirectory() as made, quiet():
        folder = path if path.is_dir() else _linked(path, weights.what, Path(made))
        try:
            yield f"local-dir:{folder}"
        except Exception as error:
            raise unreadable(weights.path, error) from error


def _linked(path: Path, what: What, folder: Path) -> Path:
    """The folder, with links to a single file and to what it is read with."""
    if not any(name.startswith(FIRST_LAYERS[what]) for name in tensor_shapes(path)):
        raise ModelsError(
            f"{path} holds no {WORDS[what]}; give one, or its folder with {CONFIGS[what]}"
        )
    config = config_beside(path, what)
    beside = config.parent.glob("*.json") if config.parent == path.parent else [config]
    for file in beside:  # the config, and what a tokenizer of its own needs
        (folder / file.name).symlink_to(file.resolve())
    (folder / ENCODER_FILES[what]).symlink_to(path.resolve())
    return folder


LOADERS = {"clip": load_clip, "dino": load_dino}


@dataclass(frozen=True)
class Encoder:
    """A network with its preprocessing; `tokenizer` only where it reads texts too."""

    spec: EncoderSpec
    network: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]
    tokenizer: Any | None

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """NCHW float, normalised."""
        size, crop = self.spec.resize, self.spec.crop
        cropped = []
        for image in images:
            scale = size / min(image.size)
            shape = tuple(max(size, round(side * scale)) for side in image.size)
            resized = image.resize((shape[0], shape[1]), Image.Resampling.BICUBIC)
            left, top = (shape[0] - crop) // 2, (shape[1] - crop) // 2
            cropped.append(resized.crop((left, top, left + crop, top + crop)))
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return ((pixels_of(cropped) + 1.0) / 2.0 - mean) / std

    def images(self, images: Sequence[Image.Image]) -> Features:
        """Features (N, D) of length 1."""
        encode = self.network.encode_image if self.tokenizer else self.network
        with torch.inference_mode():
            parts = [encode(self.pixels(images[i : i + 64])) for i in range(0, len(images), 64)]
        return _unit(torch.cat(parts))

    def texts(self, prompts: Sequence[str]) -> Features:
        """Features (P, D) of length 1."""
        assert self.tokenizer is not None
        with torch.inference_mode():
            return _unit(self.network.encode_text(self.tokenizer(list(prompts))))


def _unit(features: Tensor) -> Features:
    rows: Features = torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
    return rows
