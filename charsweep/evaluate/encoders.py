"""Weights of CLIP or DINO in, an encoder out: made or fetched first if they are not there.

Both come as a folder (open_clip's or timm's, with its config) or as a single .safetensors file,
which is read with the config beside it, or as the published ViT-B/32 or ViT-S/16. Mean and standard
deviation of the pixels come from that config, which is part of the digest.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from charsweep.core.errors import ModelsError
from charsweep.core.specs import EncoderSpec
from charsweep.evaluate.score import Encoder
from charsweep.models.load import unreadable
from charsweep.models.pipeline import quiet
from charsweep.models.ready import ready
from charsweep.models.safetensors_file import tensor_shapes
from charsweep.models.weights import CONFIGS, Weights, config_beside

FILES = {"clip": "open_clip_model.safetensors", "dino": "model.safetensors"}
FIRST_LAYERS = {"clip": ("visual.conv1.", "visual.trunk."), "dino": ("patch_embed.",)}
WORDS = {"clip": "CLIP in open_clip's naming", "dino": "vision transformer in timm's naming"}


def load_clip(spec: EncoderSpec, weights: Weights) -> Encoder:
    """An open_clip model with its tokenizer."""
    import open_clip

    with _folder(weights) as folder:
        try:
            with quiet():
                network = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True)
                tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        except Exception as error:
            raise unreadable(weights.path, error) from error
    config = open_clip.get_model_preprocess_cfg(network)
    return Encoder(spec, network.float().eval(), config["mean"], config["std"], tokenizer)


def load_dino(spec: EncoderSpec, weights: Weights) -> Encoder:
    """A timm vision transformer without a head."""
    import timm

    with _folder(weights) as folder:
        try:
            with quiet():
                network: Any = timm.create_model(
                    f"local-dir:{folder}", pretrained=True, num_classes=0
                )
        except Exception as error:
            raise unreadable(weights.path, error) from error
    config: dict[str, Any] = network.pretrained_cfg
    return Encoder(spec, network.float().eval(), config["mean"], config["std"], None)


LOADERS = {"clip": load_clip, "dino": load_dino}


@contextlib.contextmanager
def _folder(weights: Weights) -> Iterator[Path]:
    """The weights as a folder of the library's own layout: a file is linked into one."""
    path = ready(weights)
    if path.is_dir():
        yield path
        return
    what = weights.what
    if not any(name.startswith(FIRST_LAYERS[what]) for name in tensor_shapes(path)):
        raise ModelsError(
            f"{path} holds no {WORDS[what]}; give one, or its folder with {CONFIGS[what]}"
        )
    config = config_beside(path, what)
    beside = config.parent.glob("*.json") if config.parent == path.parent else [config]
    with tempfile.TemporaryDirectory() as made:
        for one in beside:  # the config, and what a tokenizer of its own needs
            (Path(made) / one.name).symlink_to(one.resolve())
        (Path(made) / FILES[what]).symlink_to(path.resolve())
        yield Path(made)
