"""The metadata of a kohya file, in sd-scripts' and ModelSpec's words.

`ss_*` as sd-scripts writes them when it trains a LoRA (its `train_network.py`), as far as they
apply: programs show them and tell the base and the trigger word by them. `modelspec.*` is Stability
AI's model metadata standard 1.0.1. All values are text, "None" where sd-scripts writes that.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import charsweep
from charsweep.actions.export.chosen import BaseModel, Chosen
from charsweep.core.methods import method_of
from charsweep.core.specs import Plugin, TrajectorySpec
from charsweep.models.kohya import Naming
from charsweep.models.prediction import EPSILON, VELOCITY_ZERO_SNR
from charsweep.models.weights import BaseWeights

ALGORITHMS = {"loha": "loha", "lokr": "lokr"}  # LyCORIS' names; a LoRA is sd-scripts' own


def kohya_metadata(
    chosen: Chosen, naming: Naming, title: str, licence: str | None, ended: str | None
) -> dict[str, str]:
    """All of it; `ended` is when the training ended, ISO 8601, if that is known."""
    assert chosen.base_model is not None
    taught = chosen.trajectory
    own = {
        **network(taught, chosen.base_model),
        **training(taught, chosen.base_model, chosen.images.snapshot.step),
        **dataset(taught),
        "ss_base_model_version": naming.version,
        "ss_v2": naming.version.startswith("sd_v2"),
        "ss_sd_model_name": chosen.base_model.title,
        "ss_output_name": title,
        "ss_training_comment": f"charsweep {charsweep.__version__}: sweep {chosen.sweep}, cell "
        f"{chosen.cell.cell}",
        **modelspec(chosen, naming, title, licence, ended),
    }
    return {name: str(value) for name, value in own.items()}


def network(taught: TrajectorySpec, base_model: BaseModel) -> dict[str, Any]:
    """Kind, rank and alpha; convolutions larger than 1 × 1 have theirs as arguments."""
    low, denoiser = method_of(taught.method).low_rank, base_model.weights.family.denoiser
    assert low is not None
    layers = low.layers(denoiser, base_model.weights.shapes)
    kernels = [weight[-1] for _, weight in layers if len(weight) == 4]
    arguments = {"algo": ALGORITHMS[low.kind]} if low.kind in ALGORITHMS else {}
    if any(kernel > 1 for kernel in kernels):
        arguments |= {"conv_dim": str(low.rank), "conv_alpha": f"{low.alpha:g}"}
    return {
        "ss_network_module": "lycoris.kohya" if low.kind in ALGORITHMS else "networks.lora",
        "ss_network_dim": low.rank,
        "ss_network_alpha": f"{low.alpha:g}",
        **({"ss_network_args": json.dumps(arguments)} if arguments else {}),
    }


def training(taught: TrajectorySpec, base_model: BaseModel, steps: int) -> dict[str, Any]:
    method, learning_rate = method_of(taught.method), f"{taught.learning_rate:g}"
    family, loss, texts = base_model.weights.family, method.loss, method.caption_changes
    has_text = not set(family.encoders).isdisjoint(method.taught(family))
    shared = learning_rate if has_text else None
    images = sum(len(one.digests) for one in taught.characters)
    per_epoch = max(1, math.ceil(images / taught.batch_size))
    return {
        "ss_learning_rate": learning_rate,
        "ss_unet_lr": learning_rate,
        "ss_text_encoder_lr": f"{own:g}" if (own := method.text_encoder_lr) else shared,
        "ss_clip_skip": family.clip_skip if family.clip_skip > 1 else None,
        "ss_max_token_length": 75 * family.text_chunks if family.text_chunks > 1 else None,
        "ss_shuffle_caption": texts.shuffle,
        "ss_keep_tokens": texts.kept,
        "ss_caption_dropout_rate": texts.dropout_rate,
        "ss_max_train_steps": steps,
        "ss_steps": steps,
        "ss_num_batches_per_epoch": per_epoch,
        "ss_num_epochs": math.ceil(steps / per_epoch),
        "ss_batch_size_per_device": taught.batch_size,
        "ss_total_batch_size": taught.batch_size,
        "ss_gradient_accumulation_steps": 1,
        "ss_lr_scheduler": taught.schedule.name,
        "ss_lr_warmup_steps": taught.schedule.settings.get("warmup_steps", 0),
        "ss_optimizer": optimizer(taught.optimizer),
        "ss_max_grad_norm": f"{taught.max_grad_norm:g}",
        "ss_mixed_precision": {"fp32": "no"}.get(taught.precision, taught.precision),
        "ss_seed": taught.seed,
        "ss_noise_offset": loss.noise_offset or None,
        "ss_min_snr_gamma": loss.min_snr_gamma,
        "ss_prior_loss_weight": loss.prior_weight,
        "ss_zero_terminal_snr": base_model.weights.prediction == VELOCITY_ZERO_SNR,
    }


def optimizer(plugin: Plugin) -> str:
    """`torch.optim.AdamW(eps=1e-08, …)`."""
    settings = ",".join(f"{name}={value}" for name, value in sorted(plugin.settings.items()))
    return f"{plugin.identity}({settings})"


def dataset(taught: TrajectorySpec) -> dict[str, Any]:
    """The training images as a folder of sd-scripts': repeats, how many, how often each tag."""
    method, folders, frequency = method_of(taught.method), {}, {}
    for character in taught.characters:
        folder = f"1_{character.identifier}"
        tags = [tag for caption in method.captions(character) for tag in caption.split(",")]
        folders[folder] = {"n_repeats": 1, "img_count": len(character.digests)}
        frequency[folder] = dict(Counter(tag.strip() for tag in tags))
    return {
        "ss_num_train_images": sum(len(one.digests) for one in taught.characters),
        "ss_num_reg_images": method.prior_images,
        "ss_resolution": (taught.resolution, taught.resolution),
        "ss_dataset_dirs": json.dumps(folders),
        "ss_tag_frequency": json.dumps(frequency),
    }


def prediction(weights: BaseWeights) -> str:
    """What the base was made to predict: "epsilon" or "v"."""
    return "epsilon" if weights.prediction == EPSILON else "v"


def modelspec(
    chosen: Chosen, naming: Naming, title: str, licence: str | None, ended: str | None
) -> dict[str, str]:  # fmt: skip
    assert chosen.base_model is not None
    base_model, characters = chosen.base_model, chosen.trajectory.characters
    nouns = dict.fromkeys(one.class_noun for one in characters)
    whom = " and ".join(
        f"{one.identifier}, {one.one_of_class}, taught with {len(one.digests)} drawings"
        for one in characters
    )
    size = chosen.trajectory.resolution
    fields = {
        "sai_model_spec": "1.0.1",
        "architecture": f"{naming.architecture}/lora",
        "implementation": naming.implementation,
        "title": title,
        "resolution": f"{size}x{size}",
        "description": f"{whom} on {base_model.title}",
        "date": ended,
        "license": licence,
        "usage_hint": f"prompt: {', or '.join(one.instance_prompt for one in characters)}"
        + (f"; strength {chosen.strength:g}" if chosen.strength != 1 else ""),
        "tags": ", ".join([*nouns, "character"]),
        "trigger_phrase": characters[0].identifier,
        "prediction_type": prediction(base_model.weights),
    }
    return {f"modelspec.{name}": value for name, value in fields.items() if value is not None}
