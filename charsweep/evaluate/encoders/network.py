"""Networks of open_clip's and timm's, with their preprocessing.

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
from charsweep.evaluate.metrics import Features, Likeness
from charsweep.models.load import ready, unreadable
from charsweep.models.pipeline import pixels_of, quiet
from charsweep.models.random_weights import ENCODER_FILES
from charsweep.models.safetensors_file import tensor_shapes
from charsweep.models.weights import CONFIGS, Weights, What, config_beside

FIRST_LAYERS = {"clip": ("visual.conv1.", "visual.trunk."), "dino": ("patch_embed.",)}
WORDS = {"clip": "CLIP in open_clip's naming", "dino": "vision transformer in timm's naming"}


@dataclass(frozen=True)
class Preprocessing:
    """From images to pixels, as a network was trained to see them."""

    resize: int  # pixels of the shorter side, or of both
    crop: int  # of the middle square that is read
    mean: Sequence[float]
    std: Sequence[float]
    interpolation: str = "bicubic"
    squash: bool = False  # both sides are made that long, whatever the shape was

    def of(self, spec: EncoderSpec) -> Preprocessing:
        """The same with the sizes of a spec that has any, which are of the DreamBooth protocol."""
        if spec.resize is None or spec.crop is None:
            return self
        return Preprocessing(spec.resize, spec.crop, self.mean, self.std)

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """NCHW float, normalised."""
        size, crop = self.resize, self.crop
        cropped = []
        for image in images:
            scale = size / min(image.size)
            shape = [size if self.squash else max(size, round(s * scale)) for s in image.size]
            filter_ = Image.Resampling[self.interpolation.upper()]
            resized = image.resize((shape[0], shape[1]), filter_)
            left, top = (shape[0] - crop) // 2, (shape[1] - crop) // 2
            cropped.append(resized.crop((left, top, left + crop, top + crop)))
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return ((pixels_of(cropped) + 1.0) / 2.0 - mean) / std


@dataclass(frozen=True)
class Network:
    """An `Encoder` of torch's; `tokenizer` only where it reads texts too."""

    network: Any
    preprocessing: Preprocessing
    tokenizer: Any | None = None
    measure: Likeness | None = None

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """NCHW float, normalised."""
        return self.preprocessing.pixels(images)

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


@contextlib.contextmanager
def read_from(weights: Weights) -> Iterator[str]:
    """The name by which open_clip and timm read a folder of the library's own layout."""
    path = ready(weights)
    with tempfile.TemporaryDirectory() as made, quiet():
        folder = path if path.is_dir() else _linked(path, weights.what, Path(made))
        try:
            yield f"local-dir:{folder}"
        except ModelsError:
            raise
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
