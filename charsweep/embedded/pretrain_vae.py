"""World pictures in; an AutoencoderKL (64 px -> 24 x 8 x 8 latents of unit variance) out.

Eight times down with 24 channels, not four times with 4: the
U-Net then works on 64 places instead of 256, which halves its time per step (measured on two AVX2
cores: 2.3 instead of 4.6-8.5 ms per image and call).

The loss is an L1 distance at three scales, weighted up near edges because a cartoon is mostly
flat and its eyes are few pixels, plus an L1 distance of the picture's gradients, plus a small KL
term (Kingma & Welling 2014; Rombach et al. 2022).
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from charsweep.embedded import checkpoint, data
from charsweep.embedded.progress import steps

STEPS = 5_600
BATCH = 8
PEAK_RATE = 1.5e-3
KL_WEIGHT = 1e-4  # of the mean over latent elements
EDGE_WEIGHT = 3.0


def new_vae() -> AutoencoderKL:
    """0.8 M parameters, no attention."""
    levels = 4
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(24, 40, 56, 48),
        layers_per_block=1,
        latent_channels=24,
        norm_num_groups=8,
        sample_size=data.SIDE,
        scaling_factor=1.0,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def train_vae(work: Path, seed: int, total: int = STEPS) -> AutoencoderKL:
    """The training loop; returns the moving average, not yet normalised."""
    target = checkpoint.device()
    drawn = data.stored_pictures(work, seed)
    torch.manual_seed(checkpoint.hash_of(f"{seed}-vae"))
    vae = new_vae().to(target, memory_format=torch.channels_last)
    average = checkpoint.average_of(vae)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=PEAK_RATE, weight_decay=1e-4)
    path = work / "vae.safetensors"
    modules = {"vae": vae, "average": average}
    first = checkpoint.load_state(path, modules, optimizer)
    saved = time.monotonic()
    for step in steps("vae", first, total):
        noise = checkpoint.generator(seed, "vae", step)
        chosen = torch.randint(len(drawn), (BATCH,), generator=noise).sort().values.numpy()
        pictures = data.to_tensor(drawn[chosen]).to(target, memory_format=torch.channels_last)
        posterior = vae.encode(pictures).latent_dist
        drawn_noise = torch.randn(posterior.mean.shape, generator=noise).to(target)
        restored = vae.decode(posterior.mean + posterior.std * drawn_noise).sample
        loss = restoration_loss(restored, pictures) + KL_WEIGHT * _kl(posterior)

        checkpoint.set_rate(optimizer, checkpoint.rate_at(step, total, PEAK_RATE))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        checkpoint.update_average(average, vae, checkpoint.decay_at(step))

        if step % 200 == 0:
            print(f"vae: step {step}, loss {loss.item():.4f}", flush=True)
        if time.monotonic() - saved > checkpoint.SECONDS_BETWEEN_CHECKPOINTS or step + 1 == total:
            checkpoint.save_state(path, step + 1, modules, optimizer)
            saved = time.monotonic()
    assert isinstance(average, AutoencoderKL)
    return average


def restoration_loss(restored: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """NCHW pictures in [-1, 1] -> one number."""
    weight = 1 + EDGE_WEIGHT * _near_edges(pictures)
    loss = (weight * (restored - pictures).abs()).mean()
    for scale in (2, 4):
        loss = loss + 0.5 * F.l1_loss(F.avg_pool2d(restored, scale), F.avg_pool2d(pictures, scale))
    for axis in (2, 3):
        loss = loss + 0.5 * F.l1_loss(restored.diff(dim=axis), pictures.diff(dim=axis))
    return loss


def _near_edges(pictures: torch.Tensor) -> torch.Tensor:
    """N1HW of 0 and 1: within one pixel of a visible change of colour."""
    across = F.pad(pictures.diff(dim=3).abs().amax(1, keepdim=True), (0, 1))
    down = F.pad(pictures.diff(dim=2).abs().amax(1, keepdim=True), (0, 0, 0, 1))
    edges = (torch.maximum(across, down) > 0.2).float()
    return F.max_pool2d(edges, 3, stride=1, padding=1)


def _kl(posterior) -> torch.Tensor:  # type: ignore[no-untyped-def]  # diffusers' distribution
    """Mean over latent elements of KL(q || N(0, 1))."""
    return 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()


@torch.no_grad()
def normalise(vae: AutoencoderKL, work: Path, seed: int, count: int = 2_000) -> AutoencoderKL:
    """Give every latent channel mean 0 and variance 1 by folding both into the 1x1 convolutions.

    Real latent diffusion divides all channels by one number, the scaling factor; the 1x1
    convolutions before and after the latents can do it per channel, exactly, so the factor is 1.
    """
    drawn = data.stored_pictures(work, seed)[:count]
    means = torch.cat([encode(vae, drawn[i : i + 100]) for i in range(0, count, 100)])
    mean = means.mean((0, 2, 3))
    std = means.std((0, 2, 3))
    before, after = vae.quant_conv, vae.post_quant_conv
    assert before is not None and after is not None and before.bias is not None
    half = len(mean)
    before.weight[:half] /= std[:, None, None, None]
    before.bias[:half] = (before.bias[:half] - mean) / std
    before.bias[half:] -= 2 * std.log()
    assert after.bias is not None
    after.bias += torch.einsum("oi,i->o", after.weight[:, :, 0, 0], mean)
    after.weight *= std[None, :, None, None]
    return vae


@torch.no_grad()
def encode(vae: AutoencoderKL, drawn: np.ndarray) -> torch.Tensor:  # type: ignore[type-arg]
    """NHWC uint8 pictures -> the means of their latents, N x 24 x 8 x 8 float32 on the CPU."""
    pictures = data.to_tensor(drawn).to(vae.device, memory_format=torch.channels_last)
    latents: torch.Tensor = vae.encode(pictures).latent_dist.mean.cpu()
    return latents


def stored_latents(work: Path, vae: AutoencoderKL, seed: int) -> torch.Tensor:
    """The latents of all training pictures, encoded once and kept as fp16."""
    path = work / "latents.safetensors"
    if not path.exists():
        drawn = data.stored_pictures(work, seed)
        parts = [
            encode(vae, drawn[100 * i : 100 * i + 100]).half()
            for i in steps("encoding", 0, len(drawn) // 100)
        ]
        unfinished = path.with_suffix(".tmp")
        save_file({"latents": torch.cat(parts)}, unfinished)
        unfinished.replace(path)
    return load_file(path)["latents"]
