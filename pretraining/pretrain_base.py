"""Pretraining of the bases: an SDXL-type and an SD 1.5-type pipeline.

Both learn epsilon under the published scaled-linear schedule, with text encoders trained jointly
and a tenth of the captions dropped for classifier-free guidance (Ho & Salimans 2022). The loss is
weighted by min(SNR, 5) / SNR (Hang et al. 2023).

The SD 1.5-type base is made from the SDXL-type one, which saves most of its training. An SDXL-type
U-Net has one input more, the pooled text, and in training that input is absent half of the time;
without it the U-Net is an SD 1.5-type one whose time embedding carries a constant. A text encoder
of double width learns to answer as the two did together, and both go on training.
(Trained alone for 2,600 steps, such a base hardly listened to its captions: cross-attention is
slow to learn from nothing, the pooled text is not.)
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from safetensors.torch import load_file
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from pretraining import checkpoint, data
from pretraining.captions import caption
from pretraining.pretrain_vae import LATENTS
from pretraining.progress import steps
from pretraining.tokenizer import LENGTH, VOCABULARY

Kind = Literal["sd15", "sdxl"]

STEPS: dict[Kind, int] = {"sdxl": 12_000, "sd15": 3_000}
PEAK_RATE: dict[Kind, float] = {"sdxl": 1.2e-3, "sd15": 5e-4}
BATCH = 32
IMITATION_STEPS = 1_500  # of the SD 1.5-type text encoder, before both train together
DROPPED = 0.1
POOLED_DROPPED = 0.5
SNR_LIMIT = 5.0
NOISE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
WIDTH = {"sd15": 144, "sdxl": 72}  # of each text encoder; the SDXL-type base has two


@dataclass(frozen=True)
class Bucket:
    """Training pictures of one size: their latents, N x 32 x h x w, and what names the i-th."""

    latents: torch.Tensor
    caption: Callable[[int, Random], str]


def figures_bucket(latents: torch.Tensor, seed: int) -> Bucket:
    """The figures of a seed, each in a square picture of its own."""
    return Bucket(latents, lambda index, rng: caption(data.figure(seed, index), rng))


def time_ids(latents: torch.Tensor) -> list[int]:
    """SDXL's six numbers of a picture that is shown whole (Podell et al. 2023, section 2.2)."""
    height, width = (8 * side for side in latents.shape[-2:])
    return [height, width, 0, 0, height, width]


class Base(nn.Module):
    """What trains together: the U-Net and one or two text encoders."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind = kind
        self.text_encoder = CLIPTextModel(text_config(kind))
        if kind == "sdxl":
            self.text_encoder_2 = CLIPTextModelWithProjection(text_config(kind))
        self.unet = new_unet(kind)
        # transformers starts embeddings at .02, below what its attention layers add: all words then
        # look alike for a long time
        for name, parameter in self.named_parameters():
            if name.endswith("token_embedding.weight"):
                nn.init.normal_(parameter, std=0.5)
            elif name.endswith("position_embedding.weight"):
                nn.init.normal_(parameter, std=0.15)

    def words(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What the pipelines make of N x LENGTH ids: states N x LENGTH x D, and pooled N x P."""
        if self.kind == "sd15":
            return self.text_encoder(tokens).last_hidden_state, None
        first = self.text_encoder(tokens, output_hidden_states=True)
        second = self.text_encoder_2(tokens, output_hidden_states=True)
        states = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return states, second.text_embeds

    def forward(
        self,
        noisy: torch.Tensor,
        timesteps: torch.Tensor,
        tokens: torch.Tensor,
        kept: torch.Tensor,
        kept_pooled: torch.Tensor,
    ) -> torch.Tensor:
        """Predicted noise, N x 32 x h x w, as the noisy latents.

        `kept` and `kept_pooled` (N, 0 or 1) zero an SDXL-type's condition, or its pooled text.
        """
        added: dict[str, torch.Tensor] | None = None
        words, pooled = self.words(tokens)
        if pooled is not None:
            words = words * kept[:, None, None]
            added = {
                "text_embeds": pooled * (kept * kept_pooled)[:, None],
                "time_ids": torch.tensor([time_ids(noisy)] * len(noisy)).to(noisy),
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
    buckets: Sequence[Bucket],
    total: int,
    export: Any = None,
    begin: Callable[[Base], None] | None = None,
    peak_rate: float | None = None,
) -> Base:
    """The training loop; returns the moving average.

    Steps go through the buckets in turn. `begin(base)` sets the weights that a new run starts with,
    `export(average)` is called at checkpoints.
    """
    target = checkpoint.device()
    path = work / f"{kind}.safetensors"
    torch.manual_seed(checkpoint.hash_of(f"{seed}-{kind}"))
    base = Base(kind).to(target)
    if begin is not None and not path.exists():
        begin(base)
    average = checkpoint.average_of(base)
    peak = peak_rate or PEAK_RATE[kind]
    optimizer = torch.optim.AdamW(base.parameters(), lr=peak, weight_decay=1e-3, fused=True)
    noise_schedule = DDPMScheduler(**NOISE)
    modules: dict[str, nn.Module] = {"base": base, "average": average}
    first = checkpoint.load_state(path, modules, optimizer)
    saved, recent = time.monotonic(), [0.0] * len(buckets)
    for step in steps(kind, first, total):
        random = checkpoint.generator(seed, kind, step)
        turn, number = divmod(step, len(buckets))
        bucket = buckets[number]
        chosen = torch.randint(len(bucket.latents), (BATCH,), generator=random)
        kept = (torch.rand(BATCH, generator=random) >= DROPPED).float()
        tokens = _tokens(tokenizer, bucket, seed, step, chosen.tolist(), kept.tolist()).to(target)
        clean = bucket.latents[chosen].float()
        noise = torch.randn(clean.shape, generator=random)
        timesteps = torch.randint(1000, (BATCH,), generator=random)
        noisy = noise_schedule.add_noise(clean, noise, timesteps)
        if kind == "sdxl":  # half of the dropped captions become zeros, half the empty caption
            kept = torch.maximum(kept, (torch.rand(BATCH, generator=random) < 0.5).float())

        kept_pooled = (torch.rand(BATCH, generator=random) >= POOLED_DROPPED).float()

        predicted = base(
            noisy.to(target), timesteps.to(target), tokens, kept.to(target), kept_pooled.to(target)
        )
        errors = (predicted - noise.to(target)).square().mean((1, 2, 3))
        loss = (errors * _snr_weight(noise_schedule, timesteps).to(target)).mean()

        checkpoint.set_rate(optimizer, checkpoint.steady_rate_at(step, total, peak))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(base.parameters(), 1.0)
        optimizer.step()
        checkpoint.update_average(average, base, checkpoint.decay_at(step))

        seen = min(turn - first // len(buckets) + 1, 200)
        recent[number] += (loss.item() - recent[number]) / seen
        if step % 200 == len(buckets) - 1:
            losses = ", ".join(f"{one:.4f}" for one in recent)
            print(f"{kind}: step {step}, loss {losses}", flush=True)
        if time.monotonic() - saved > checkpoint.SECONDS_BETWEEN_CHECKPOINTS or step + 1 == total:
            checkpoint.save_state(path, step + 1, modules, optimizer)
            if export is not None:
                export(average)
            saved = time.monotonic()
    assert isinstance(average, Base)
    return average


def stored_average(work: Path, kind: Kind) -> Base:
    """The moving average of a base as it was last stored."""
    base, path = Base(kind), work / f"{kind}.safetensors"
    if not path.exists():
        raise SystemExit(f"{path} is not there; run the stage {kind} first")
    tensors = load_file(path)
    prefix = "average/"
    base.load_state_dict(
        {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    )
    return base.requires_grad_(False)


def start_from(sd15: Base, sdxl: Base, seed: int, tokenizer: CLIPTokenizer, bucket: Bucket) -> None:
    """Make an SD 1.5-type base that answers as an SDXL-type one does without the pooled text."""
    unet: Any = sdxl.unet
    ids = torch.tensor([time_ids(bucket.latents)], dtype=torch.float32, device=unet.device)
    sizes = unet.add_time_proj(ids.flatten()).reshape(1, -1)
    no_text = torch.zeros(1, WIDTH["sdxl"], device=unet.device)
    constant = unet.add_embedding(torch.cat([no_text, sizes], dim=-1))[0]
    own = {k: v for k, v in unet.state_dict().items() if not k.startswith("add_embedding.")}
    own["time_embedding.linear_2.bias"] = own["time_embedding.linear_2.bias"] + constant
    sd15.unet.load_state_dict(own)
    optimizer = torch.optim.AdamW(sd15.text_encoder.parameters(), lr=2e-3, weight_decay=0)
    for step in steps("sd15 text encoder", 0, IMITATION_STEPS):
        random = checkpoint.generator(seed, "imitation", step)
        chosen = torch.randint(len(bucket.latents), (BATCH,), generator=random).tolist()
        kept = (torch.rand(BATCH, generator=random) >= DROPPED).float().tolist()
        tokens = _tokens(tokenizer, bucket, seed, -1 - step, chosen, kept).to(unet.device)
        with torch.no_grad():
            wanted = sdxl.words(tokens)[0]
        error = (sd15.words(tokens)[0] - wanted).square().mean()
        checkpoint.set_rate(optimizer, checkpoint.rate_at(step, IMITATION_STEPS, 2e-3, 50))
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        if step % 200 == 0:
            share = (error / wanted.var()).item()
            print(f"sd15 text encoder: step {step}, unexplained {share:.4f}", flush=True)


def _tokens(
    tokenizer: CLIPTokenizer,
    bucket: Bucket,
    seed: int,
    step: int,
    chosen: list[int],
    kept: list[float],
) -> torch.Tensor:
    """A fresh caption for each picture of a batch, or the empty one; N x LENGTH token ids."""
    texts = []
    for place, index in enumerate(chosen):
        rng = Random(f"caption-{seed}-{step}-{place}")
        texts.append(bucket.caption(index, rng) if kept[place] else "")
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
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)  # where it was read from, on this machine
        if config.get("dtype") == "float16":
            config["dtype"] = "float32"
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
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
