"""A pretrained pipeline, resident: encodes, predicts, draws; `charsweep.loading` makes one.

A base is loaded once per process and is the same, bit for bit, between trajectories: whoever puts
adapters on it or changes its weights puts it back (`Base.digest` shows it). Latents and text
embeddings of the untouched base are computed once and kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import warnings
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.utils.logging import disable_progress_bar
from PIL import Image
from torch import Tensor
from transformers.utils import logging as transformers_logging

from charsweep.adapterfile import ADAPTER_FILE, FACTORED_CONFIG, FACTORED_FILE
from charsweep.errors import ModelsError
from charsweep.specs import BaseSpec
from charsweep.store import read_json


@dataclass(frozen=True)
class Conditioning:
    """What the U-Net is told: `hidden` (N, tokens, width); `pooled` (N, width) for SDXL types."""

    hidden: Tensor
    pooled: Tensor | None

    def __getitem__(self, index: Any) -> Conditioning:
        return Conditioning(self.hidden[index], None if self.pooled is None else self.pooled[index])


def join(parts: Sequence[Conditioning]) -> Conditioning:
    pooled = [part.pooled for part in parts if part.pooled is not None]
    return Conditioning(
        torch.cat([part.hidden for part in parts]), torch.cat(pooled) if pooled else None
    )


@dataclass
class Base:
    """A pretrained pipeline, resident in this process."""

    spec: BaseSpec
    kind: str
    pipeline: Any
    device: torch.device
    _latents: dict[Hashable, tuple[Tensor, Tensor]] = field(default_factory=dict)
    _texts: dict[str, Conditioning] = field(default_factory=dict)

    @property
    def unet(self) -> UNet2DConditionModel:
        return self.pipeline.unet

    @property
    def text_encoders(self) -> list[Any]:
        names = ("text_encoder", "text_encoder_2")
        return [getattr(self.pipeline, n) for n in names if getattr(self.pipeline, n, None)]

    @property
    def modules(self) -> dict[str, torch.nn.Module]:
        """Everything with weights, by its name in the pipeline."""
        parts = self.pipeline.components.items()
        return {name: part for name, part in parts if isinstance(part, torch.nn.Module)}

    def digest(self) -> str:
        """Digest of all weights as they are now, names and bytes."""
        total = hashlib.sha256()
        for name, module in self.modules.items():
            for key, tensor in module.state_dict().items():
                total.update(f"{name}.{key}".encode())
                total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return total.hexdigest()[:16]

    # -- images and texts ----------------------------------------------------------------------

    def latents(self, key: Hashable, picture: Image.Image) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each (C, h, w), of the latent of a picture as it is.

        Scaled as the U-Net expects them; computed once per process and `key`.
        """
        if key not in self._latents:
            vae: AutoencoderKL = self.pipeline.vae
            pixels = pixels_of([picture]).to(self.device)
            with torch.no_grad():
                posterior = vae.encode(pixels).latent_dist
            scale, shift = vae.config.scaling_factor, vae.config.shift_factor or 0.0
            self._latents[key] = (
                (posterior.mean[0] - shift) * scale,
                posterior.std[0] * scale,
            )
        return self._latents[key]

    def texts(self, prompts: Sequence[str]) -> Conditioning:
        """Embeddings of prompts by the untouched text encoders, each computed once per process."""
        for prompt in prompts:
            if prompt not in self._texts:
                with torch.no_grad():
                    self._texts[prompt] = self.encode([prompt])
        return join([self._texts[prompt] for prompt in prompts])

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Embeddings of prompts by the text encoders as they are now, with gradients if wanted.

        SD: the last hidden state. SDXL: the last but one of both encoders side by side, and the
        second's projected pooled embedding (Podell et al. 2023, section 2.1).
        """
        hidden, pooled = [], None
        for tokenizer, encoder in zip(self.tokenizers, self.text_encoders, strict=True):
            ids = tokenizer(
                list(prompts), padding="max_length", max_length=tokenizer.model_max_length,
                truncation=True, return_tensors="pt",
            ).input_ids.to(self.device)  # fmt: skip
            if self.kind == "sd":
                return Conditioning(encoder(ids)[0], None)
            output = encoder(ids, output_hidden_states=True)
            pooled = output[0]
            hidden.append(output.hidden_states[-2])
        return Conditioning(torch.cat(hidden, dim=-1), pooled)

    @property
    def tokenizers(self) -> list[Any]:
        names = ("tokenizer", "tokenizer_2")
        return [getattr(self.pipeline, n) for n in names if getattr(self.pipeline, n, None)]

    def predict(
        self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning, sizes: Tensor
    ) -> Tensor:
        """The U-Net's output for latents (N, C, h, w) and timesteps (N,).

        `sizes` (N, 6), in pixels: height and width of the picture before it was cropped, top and
        left of the crop, height and width of the crop (Podell et al. 2023, section 2.2).
        """
        added = None
        if conditioning.pooled is not None:
            added = {"text_embeds": conditioning.pooled, "time_ids": sizes.to(noisy)}
        output = self.unet(
            noisy, timesteps, encoder_hidden_states=conditioning.hidden,
            added_cond_kwargs=added, return_dict=False,
        )  # fmt: skip
        predicted: Tensor = output[0]
        return predicted

    # -- how it works ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def checkpointing(self) -> Iterator[None]:
        """Until the block ends, activations are made anew, not kept (Chen et al. 2016)."""
        self.unet.enable_gradient_checkpointing()
        try:
            yield
        finally:
            self.unet.disable_gradient_checkpointing()

    @contextlib.contextmanager
    def compiled(self) -> Iterator[None]:
        """Until the block ends, the U-Net's repeated blocks run compiled, each as it is now."""
        self.unet.compile_repeated_blocks()
        try:
            yield
        finally:
            for module in self.unet.modules():
                module._compiled_call_impl = None  # no public way back

    # -- snapshots -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def wearing(self, folder: Path | None) -> Iterator[None]:
        """The base as the snapshot in `folder` left it (None: untaught); put back afterwards."""
        if folder is None:
            yield
        elif (folder / ADAPTER_FILE).exists():
            try:
                with quiet():
                    self.pipeline.load_lora_weights(folder, weight_name=ADAPTER_FILE)
                yield
            finally:
                self.pipeline.unload_lora_weights()
        elif (folder / FACTORED_FILE).exists():
            try:
                self._put_on(folder)
                yield
            finally:
                self.pipeline.unload_lora_weights()
        else:
            with self.restored():
                for name, module in self.modules.items():
                    if name != "vae":
                        module.load_state_dict(_weights(folder / name))
                yield

    def _put_on(self, folder: Path) -> None:
        """Put peft's own kind of adapter file on the modules that it names."""
        from peft import PeftConfig, set_peft_model_state_dict
        from safetensors.torch import load_file

        tensors = load_file(folder / FACTORED_FILE)
        for name, settings in read_json(folder / FACTORED_CONFIG).items():
            module: Any = self.modules[name]
            kind: Any = PeftConfig
            module.add_adapter(kind.from_peft_type(**settings))
            prefix = f"{name}."
            own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            set_peft_model_state_dict(module, own)
            module.requires_grad_(False)

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Put U-Net and text encoders back, bit for bit, when the block ends."""
        kept = {
            name: {key: tensor.clone() for key, tensor in module.state_dict().items()}
            for name, module in self.modules.items()
            if name != "vae"
        }
        try:
            yield
        finally:
            for name, state in kept.items():
                self.modules[name].load_state_dict(state)


def pixels_of(pictures: Sequence[Image.Image]) -> Tensor:
    """Pictures as NCHW float in [-1, 1]."""
    arrays = [np.asarray(picture, dtype=np.float32) / 127.5 - 1.0 for picture in pictures]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def _weights(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelsError(f"{folder} holds no safetensors; delete the snapshot and run again")
    return {key: tensor for file in files for key, tensor in load_file(file).items()}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' notices about loading (harmless, and not ours) off the screen."""
    names = ("diffusers", "transformers", "peft", "open_clip", "timm", "root")
    loggers = [logging.getLogger(None if name == "root" else name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        disable_progress_bar()
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers' own
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
