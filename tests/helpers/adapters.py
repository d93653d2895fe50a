"""Adapters of random numbers on the embedded bases, as snapshots hold them."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import torch
from helpers.small import weights_at
from peft import get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer

from charsweep.core.seeding import generator
from charsweep.core.specs import Plugin
from charsweep.models.embedded import FOLDER
from charsweep.models.kohya import Naming
from charsweep.models.load import load_base
from charsweep.models.pipeline import LoadedPipeline, quiet
from charsweep.train.methods.finetune import FineTune
from charsweep.train.trainable import SingleTrial, save_adapter, save_factored

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
EVERYWHERE = (
    *ATTENTION, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2", "conv",
    "conv_shortcut", "time_emb_proj", "conv_in", "conv_out", "linear_1", "linear_2",
)  # fmt: skip


@cache
def base_of(name: str) -> LoadedPipeline:
    weights = weights_at(FOLDER / "weights" / name)
    return load_base(weights.spec, weights, torch.device("cpu"))


def naming(name: str) -> Naming:
    weights = weights_at(FOLDER / "weights" / name)
    return weights.family.naming(weights.configs, "epsilon")


def write_adapter(
    base: LoadedPipeline, folder: Path, kind: str = "lora", rank: int = 3, alpha: float = 7.0,
    targets: tuple[str, ...] = EVERYWHERE, text_encoder: bool = True,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """A snapshot with an adapter of random numbers; returns what it adds to each weight."""
    method = FineTune(
        base="", trains="adapters", prompts="instance", adapter=kind, rank=rank, alpha=alpha,
        target_modules=targets, text_encoder=text_encoder,
    )  # fmt: skip
    low, taught = method.low_rank, base.parts(method.taught(base.family))
    made = SingleTrial(base, taught)
    plugin = Plugin("lora", "FineTune", FineTune.version, asdict(method))
    made.enter(0, SimpleNamespace(method=plugin, seed=0))
    with torch.no_grad():
        for name, tensor in made.named(0).items():
            tensor.copy_(0.2 * torch.randn(tensor.shape, generator=generator(0, name)))
    deltas = {
        f"{name}.{path}": layer.get_delta_weight("default").detach()
        for name, module in taught.items()
        for path, layer in module.named_modules()
        if isinstance(layer, BaseTunerLayer)
    }
    weights = {
        f"{name}.{key}": tensor.detach().clone()
        for name, module in taught.items()
        for key, tensor in get_peft_model_state_dict(module).items()
    }
    settings = {name: low.settings(name) for name in taught}
    folder.mkdir()
    if kind in ("loha", "lokr"):
        save_factored(weights, settings, folder)
    else:
        save_adapter(weights, settings, folder)
    made.leave(0)
    return deltas


def picture(base: LoadedPipeline, file: Path | None) -> bytes:
    """Drawn by diffusers alone with the adapter of a file."""
    pipeline = base.pipeline
    try:
        if file is not None:
            with quiet():
                pipeline.load_lora_weights(file.parent, weight_name=file.name)
        return pipeline(
            "a picture of UnicornGirl jumping", num_inference_steps=2, output_type="np",
            generator=generator(0, "image"),
        ).images.tobytes()  # fmt: skip
    finally:
        pipeline.unload_lora_weights()
