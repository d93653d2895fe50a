"""Loading a base from the weights that planning found: frozen, and checked to be whole.

A diffusers folder says itself how it is built. A single file does not, so it is read with the
published configs of its family and CLIP's own tokenizer, which ship with charsweep and open_clip:
nothing is fetched here, and nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import (
    SingleFileComponentError,
    create_diffusers_clip_model_from_ldm,
)
from safetensors import SafetensorError, safe_open

from charsweep.core.errors import ModelsError
from charsweep.core.specs import BaseSpec
from charsweep.core.store.files import read_json
from charsweep.models import hub
from charsweep.models.clip_tokenizer import clip_tokenizer
from charsweep.models.families import Family
from charsweep.models.folder import KL
from charsweep.models.identify import INDEX
from charsweep.models.pipeline import LoadedPipeline, quiet
from charsweep.models.random_weights import make
from charsweep.models.safetensors_file import tensor_shapes
from charsweep.models.single_file import PROJECTION, renamed_encoders, usual_name
from charsweep.models.weights import BaseWeights, Weights, weight_files

# Rows that an encoder's embedding may have more than its tokenizer tokens: T5 has 28, Qwen 3 267 of
# 151,936. At most these, or that share.
SPARE, SPARE_SHARE = 128, 1 / 128
MADE_ALIKE = ("z_dim", "latents_mean", "latents_std", "latent_channels")  # of autoencoders
# What the libraries raise over a folder or file that is not what it should be.
UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, IndexError,
              SafetensorError, SingleFileComponentError)  # fmt: skip


def load_base(
    spec: BaseSpec,
    weights: BaseWeights,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> LoadedPipeline:
    """Load a base, making or fetching what is not there yet; ModelsError if it is unusable.

    Its autoencoder is float32 whatever `dtype` is: half precision breaks some, and it is not what
    takes the time.
    """
    path, vae = ready(weights.pipeline), None
    family: Family = spec.family.made  # its settings may be those of one cell
    if not family.recognises(path):
        raise ModelsError(f"{path} is no longer what it was when the sweep was planned; run again")
    own = weights.pipeline
    for file in weight_files(path, own.variant, own.parts):  # one file is checked already
        tensor_shapes(file)
    parts: dict[str, Any] = dict.fromkeys(family.left_out(path))
    if weights.vae is not None:
        kind = getattr(diffusers, family.autoencoder)
        vae = parts["vae"] = load_vae(weights.vae, weights.vae_configs, kind)
    try:
        with quiet():
            pipeline = _pipeline(path, weights, parts, dtype)
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    if vae is not None:
        _check_vae(vae, weights, path)
    pipeline.set_progress_bar_config(disable=True)
    _check_whole(pipeline, path)
    base = LoadedPipeline(spec, family, pipeline, device, dtype)
    _check_tokenizers(base, path)
    for name, module in base.modules.items():
        module.requires_grad_(False)
        module.eval()
        if name != "vae" and dtype != torch.float32 and not family.loads_parts:
            with quiet():  # diffusers warns of layers to keep in float32; there are none
                module.to(dtype)
    if device.type == "cuda":  # where convolutions are faster so
        base.denoiser.to(memory_format=torch.channels_last)
    base.bring()
    return base


def _pipeline(path: Path, weights: BaseWeights, parts: dict[str, Any], dtype: torch.dtype) -> Any:
    pipeline = _as_published(path, weights, parts, dtype)
    name, changes = weights.scheduler
    if changes:
        config = pipeline.scheduler.config
        pipeline.scheduler = getattr(diffusers, name).from_config(config, **changes)
    return pipeline


def _as_published(
    path: Path, weights: BaseWeights, parts: dict[str, Any], dtype: torch.dtype
) -> Any:
    """The pipeline with the scheduler that comes with it."""
    made = getattr(diffusers, weights.family.pipeline)
    if path.is_dir():
        each = {"default": dtype, "vae": torch.float32}
        how = {
            "dtype": each if weights.family.loads_parts else torch.float32,
            "use_safetensors": True,
            "variant": weights.pipeline.variant or None,
        }
        if (path / INDEX).exists():
            return made.from_pretrained(path, local_files_only=True, **how, **parts)
        return _modular(made, path, how, parts)
    tokenizers = {name: clip_tokenizer(name) for name in weights.family.tokenizers}
    renamed = renamed_encoders(path, weights.family.encoders)
    encoders = {part: _encoder(path, own, part, weights) for part, own in renamed.items()}
    with as_safetensors(path) as file:
        return made.from_single_file(
            str(file), config=str(weights.configs), dtype=torch.float32, local_files_only=True,
            **parts, **tokenizers, **encoders,
        )  # fmt: skip


def _modular(made: Any, path: Path, how: dict[str, Any], parts: dict[str, Any]) -> Any:
    """A pipeline of diffusers' newer form, which takes its parts in a second step."""
    pipeline = made.from_pretrained(str(path), local_files_only=True)
    pipeline.update_components(**{name: part for name, part in parts.items() if part is not None})
    pipeline.load_components(local_files_only=True, **how)
    return pipeline


def _encoder(path: Path, names: list[str], part: str, weights: BaseWeights) -> Any:
    """A text encoder of these tensors of a single file, called what the published ones are."""
    kind = read_json(weights.configs / "model_index.json")[part][1]
    with safe_open(path, "pt") as opened:
        tensors = {usual_name(name): opened.get_tensor(name) for name in names}
    if f"{PROJECTION}.weight" in names:
        tensors[PROJECTION] = tensors[PROJECTION].T
    return create_diffusers_clip_model_from_ldm(
        getattr(transformers, kind), checkpoint=tensors, config=str(weights.configs),
        subfolder=part, torch_dtype=torch.float32, local_files_only=True,
    )  # fmt: skip


@contextlib.contextmanager
def as_safetensors(path: Path) -> Iterator[Path]:
    """The file under a name by which diffusers reads it as what it is: of others, it unpickles."""
    with tempfile.TemporaryDirectory() as made:
        link = Path(made) / "weights.safetensors"
        link.symlink_to(path.resolve())
        yield link


def load_vae(weights: Weights, configs: Path | None, kind: Any = AutoencoderKL) -> Any:
    """An autoencoder from its own folder, a pipeline's folder, or a single file, which is read as
    that of the base with these configs."""
    path = ready(weights)
    try:
        with quiet():
            if path.is_file():
                with as_safetensors(path) as file:
                    return AutoencoderKL.from_single_file(
                        str(file), config=str(configs), subfolder="vae",
                        dtype=torch.float32, local_files_only=True,
                    )  # fmt: skip
            folder = path / "vae" if (path / "vae" / "config.json").exists() else path
            return kind.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, use_safetensors=True,
                variant=weights.variant or None,
            )  # fmt: skip
    except UNREADABLE as error:
        raise unreadable(path, error) from error


# -- checks: what the libraries pass over in silence -----------------------------------------------


def _check_whole(pipeline: Any, path: Path) -> None:
    """All tensors have values: what a file lacks is left empty without a word."""
    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module):
            empty = [key for key, tensor in part.state_dict().items() if tensor.is_meta]
            if empty:
                raise ModelsError(
                    f"{path} lacks {len(empty)} tensors of its {name} ({empty[0]} for one); give a "
                    "whole checkpoint, or a diffusers folder"
                )


def _check_tokenizers(base: LoadedPipeline, path: Path) -> None:
    """transformers makes an empty tokenizer where it finds none; an encoder may have rows spare."""
    for tokenizer, encoder in zip(base.tokenizers, base.text_encoders, strict=True):
        tables = (one for one in encoder.modules() if isinstance(one, torch.nn.Embedding))
        vocabulary = max(table.num_embeddings for table in tables)
        spare = max(SPARE, int(vocabulary * SPARE_SHARE))
        if not vocabulary - spare < len(tokenizer) <= vocabulary:
            raise ModelsError(
                f"{path}: its tokenizer knows {len(tokenizer)} tokens, its text encoder "
                f"{vocabulary}; fetch the folder again, with the files in tokenizer/"
            )


def _check_vae(vae: Any, weights: BaseWeights, path: Path) -> None:
    """Another base's autoencoder would make latents that this denoiser has never seen."""
    own, name = weights.configs / "vae", weights.vae.name if weights.vae else ""
    fields: dict[str, Any] = {"latent_channels": 4, "scaling_factor": 0.18215}
    if weights.family.autoencoder != KL:
        config = read_json(own / "config.json") if (own / "config.json").exists() else {}
        fields = {field: config[field] for field in MADE_ALIKE if field in config}
    elif (own / "config.json").exists():
        fields |= {
            field: AutoencoderKL.load_config(own).get(field, fields[field]) for field in fields
        }
    else:  # the denoiser says how many channels
        denoiser = read_json(weights.configs / weights.family.denoiser / "config.json")
        fields = {"latent_channels": denoiser["in_channels"]}
    for field, wanted in fields.items():
        got = vae.config[field]
        if wanted != (list(got) if isinstance(got, tuple) else got):
            raise ModelsError(
                f"the VAE {name} has {field} {got}, the base in {path} was trained with {wanted}; "
                "give a VAE that is made for this family of bases"
            )


def unreadable(path: Path, error: Exception) -> ModelsError:
    """A library's refusal to read weights, in one line with what to do."""
    text = str(error).strip().splitlines()
    reason = text[0] if text else type(error).__name__
    return ModelsError(f"cannot read the weights in {path}: {reason}; fetch them again")


def ready(weights: Weights) -> Path:
    """Where the weights lie, all of them; ModelsError says how to get what cannot be fetched."""
    if weights.source == "random":
        make(weights.recipe, weights.path)
    elif weights.source == "hub":
        return hub.find(
            weights.name, weights.what, weights.variant, weights.parts, weights=True,
            setting=weights.setting,
        )  # fmt: skip
    return weights.path
