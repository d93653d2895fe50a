"""World latents and captions in; an SD 1.5-type and an SDXL-type pipeline out.

Both learn epsilon under the published scaled-linear schedule, with text encoders trained jointly
and a tenth of the captions dropped for classifier-free guidance (Ho & Salimans 2022). The loss is
weighted by min(SNR, 5) / SNR (Hang et al. 2023).
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from random import Random
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.schedulers import EulerDiscreteScheduler
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from charsweep.embedded import checkpoint, data
from charsweep.embedded.captions import caption
from charsweep.embedded.pretrain_vae import LATENTS
from charsweep.embedded.progress import steps
from charsweep.embedded.tokenizer import LENGTH, VOCABULARY

Kind = Literal["sd15", "sdxl"]

STEPS: dict[Kind, int] = {"sd15": 2_600, "sdxl": 4_600}  # sdxl: 2,600, then continued
BATCH = 32
PEAK_RATE = 1.2e-3
DROPPED = 0.1
SNR_LIMIT = 5.0
NOISE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
WIDTH = {"sd15": 128, "sdxl": 96}  # of each text encoder; the SDXL-type base has two
TIME_IDS = (data.SIDE, data.SIDE, 0, 0, data.SIDE, data.SIDE)


class Base(nn.Module):
    """What trains together: the U-Net and one or two text encoders."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind = kind
        self.text_encoder = CLIPTextModel(text_config(kind))
        if kind == "sdxl":
            self.text_encoder_2 = CLIPTextModelWithProjection(text_config(kind))
        self.unet = new_unet(kind)

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor, kept: torch.Tensor
    ) -> torch.Tensor:
        """Predicted noise, N x 32 x 8 x 8; `kept` (N, 0 or 1) zeroes an SDXL-type's condition."""
        added: dict[str, torch.Tensor] | None = None
        if self.kind == "sd15":
            words = self.text_encoder(tokens).last_hidden_state
        else:
            first = self.text_encoder(tokens, output_hidden_states=True)
            second = self.text_encoder_2(tokens, output_hidden_states=True)
            words = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
            words = words * kept[:, None, None]
            added = {
                "text_embeds": second.text_embeds * kept[:, None],
                "time_ids": torch.tensor([TIME_IDS] * len(noisy), device=noisy.device).float(),
            }
        predicted: torch.Tensor = self.unet(noisy, timesteps, words, added_cond_kwargs=added).sample
        return predicted


def text_config(kind: Kind) -> CLIPTextConfig:
    """Three layers; the end-of-text id is the real one, so that pooling finds the end."""
    width = WIDTH[kind]
    return CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        hidden_act="quick_gelu" if kind == "sd15" else "gelu",
        bos_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1,
        pad_token_id=VOCABULARY - 1,
    )


def new_unet(kind: Kind) -> UNet2DConditionModel:
    """3.2 M parameters on 8 x 8 x 32 latents: self- and cross-attention at 8 x 8 and at 4 x 4."""
    options: dict[str, Any] = {}
    width = WIDTH[kind]
    if kind == "sdxl":
        options = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 16,
            "projection_class_embeddings_input_dim": 6 * 16 + width,
        }
    return UNet2DConditionModel(
        sample_size=data.SIDE // 8,
        in_channels=LATENTS,
        out_channels=LATENTS,
        block_out_channels=(96, 96),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        mid_block_type=None,
        cross_attention_dim=width if kind == "sd15" else 2 * width,
        attention_head_dim=4,  # by an old mistake of names, the number of heads
        norm_num_groups=16,
        **options,
    )


def train_base(
    kind: Kind,
    work: Path,
    seed: int,
    tokenizer: CLIPTokenizer,
    latents: torch.Tensor,
    total: int,
    export: Any = None,
) -> Base:
    """The training loop; returns the moving average. `export(average)` is called at checkpoints."""
    target = checkpoint.device()
    torch.manual_seed(checkpoint.hash_of(f"{seed}-{kind}"))
    base = Base(kind).to(target)
    average = checkpoint.average_of(base)
    optimizer = torch.optim.AdamW(base.parameters(), lr=PEAK_RATE, weight_decay=1e-3)
    noise_schedule = DDPMScheduler(**NOISE)
    path = work / f"{kind}.safetensors"
    modules: dict[str, nn.Module] = {"base": base, "average": average}
    first = checkpoint.load_state(path, modules, optimizer)
    saved, recent = time.monotonic(), 0.0
    for step in steps(kind, first, total):
        random = checkpoint.generator(seed, kind, step)
        chosen = torch.randint(len(latents), (BATCH,), generator=random)
        kept = (torch.rand(BATCH, generator=random) >= DROPPED).float()
        tokens = _tokens(tokenizer, seed, step, chosen.tolist(), kept.tolist()).to(target)
        clean = latents[chosen].float()
        noise = torch.randn(clean.shape, generator=random)
        timesteps = torch.randint(1000, (BATCH,), generator=random)
        noisy = noise_schedule.add_noise(clean, noise, timesteps)
        if kind == "sdxl":  # half of the dropped captions become zeros, half the empty caption
            kept = torch.maximum(kept, (torch.rand(BATCH, generator=random) < 0.5).float())

        predicted = base(noisy.to(target), timesteps.to(target), tokens, kept.to(target))
        errors = (predicted - noise.to(target)).square().mean((1, 2, 3))
        loss = (errors * _snr_weight(noise_schedule, timesteps).to(target)).mean()

        checkpoint.set_rate(optimizer, checkpoint.rate_at(step, total, PEAK_RATE))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(base.parameters(), 1.0)
        optimizer.step()
        checkpoint.update_average(average, base, checkpoint.decay_at(step))

        recent += (loss.item() - recent) / min(step - first + 1, 200)
        if step % 200 == 0:
            print(f"{kind}: step {step}, loss {recent:.4f}", flush=True)
        if time.monotonic() - saved > checkpoint.SECONDS_BETWEEN_CHECKPOINTS or step + 1 == total:
            checkpoint.save_state(path, step + 1, modules, optimizer)
            if export is not None:
                export(average)
            saved = time.monotonic()
    assert isinstance(average, Base)
    return average


def _tokens(
    tokenizer: CLIPTokenizer, seed: int, step: int, chosen: list[int], kept: list[float]
) -> torch.Tensor:
    """A fresh caption for each picture of a batch, or the empty one; N x LENGTH token ids."""
    texts = []
    for place, index in enumerate(chosen):
        rng = Random(f"caption-{seed}-{step}-{place}")
        texts.append(caption(data.figure(seed, index), rng) if kept[place] else "")
    encoded = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
    ids: torch.Tensor = encoded.input_ids
    return ids


def _snr_weight(noise_schedule: DDPMScheduler, timesteps: torch.Tensor) -> torch.Tensor:
    """min(SNR, limit) / SNR for epsilon prediction (Hang et al. 2023, eq. 5)."""
    kept = noise_schedule.alphas_cumprod[timesteps]
    snr = kept / (1 - kept)
    weight: torch.Tensor = snr.clamp(max=SNR_LIMIT) / snr
    return weight


def save_pipeline(base: Base, vae: AutoencoderKL, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write the published layout in fp16; `from_pretrained(folder)` of plain diffusers reads it.

    diffusers loads fp16 files as fp32 unless told otherwise, transformers 5 by the config's dtype:
    it is set to float32, so that plain loading gives one precision and runs on a CPU.
    """
    base, vae = copy.deepcopy(base).cpu().half(), copy.deepcopy(vae).cpu().half()
    pipeline = _sd15(base, vae, tokenizer) if base.kind == "sd15" else _sdxl(base, vae, tokenizer)
    pipeline.save_pretrained(folder, safe_serialization=True)
    for path in folder.glob("text_encoder*/config.json"):
        path.write_text(path.read_text().replace('"float16"', '"float32"'))
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)  # safetensors writes files for the owner only


def save_vae(vae: Any, folder: Path) -> None:
    """Write the autoencoder alone, fp16."""
    copy.deepcopy(vae).cpu().half().save_pretrained(folder, safe_serialization=True)
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)


def _sd15(base: Base, vae: AutoencoderKL, tokenizer: CLIPTokenizer) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=base.text_encoder,
        tokenizer=tokenizer,
        unet=base.unet,
        scheduler=PNDMScheduler(
            **NOISE, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sdxl(base: Base, vae: AutoencoderKL, tokenizer: CLIPTokenizer) -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=base.text_encoder,
        text_encoder_2=base.text_encoder_2,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=base.unet,
        scheduler=EulerDiscreteScheduler(**NOISE, steps_offset=1, timestep_spacing="leading"),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
