"""Pretraining of the VAE: an AutoencoderKL (64 px <-> 32 x 8 x 8 latents of unit variance).

Eight times down with 32 channels, not four times with 4: the U-Net then works on 64 places instead
of 256, which halves its time per step (measured on two AVX2 cores: 2.3 instead of 4.6 to 8.5 ms per
image and call).

The encoder is not trained. It is *set*, inside AutoencoderKL's own layers, to the projection of
each 8 x 8 px patch on its first 32 principal components, and only the decoder learns. An encoder
trained together with the decoder was tried first: after 5,600 steps of 8 pictures (45 minutes) it
was still soft (24.6 dB), its colours bled, and its latents were no linear function of the picture
(a linear map back gave 15.7 dB), which makes the diffusion's work harder. Principal components
alone give 25.4 dB, are known in seconds, and the bases can train while the decoder does.

The decoder's loss is an L1 distance at three scales, weighted up near edges because a cartoon is
mostly flat and its eyes are few pixels, plus an L1 distance of the picture's gradients.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from pretraining import checkpoint, data
from pretraining.progress import steps

STEPS = 7_000
BATCH = 8
PEAK_RATE = 1.5e-3
CHANNELS = (24, 40, 56, 48)
LATENTS, GROUPS = 32, 8
EDGE_WEIGHT = 3.0
POSTERIOR_LOG_VARIANCE = -6.0  # a standard deviation of 0.05
ANCHOR, LINEAR, SLOPE = 30.0, 12.0, 10.0  # see `set_encoder`


def new_vae() -> AutoencoderKL:
    """0.7 M parameters, no attention."""
    levels = len(CHANNELS)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=LATENTS,
        norm_num_groups=GROUPS,
        sample_size=data.SIDE,
        scaling_factor=1.0,
        mid_block_add_attention=False,
        force_upcast=False,
    )


# ----------------------------------------------------------------------------- the encoder, set


def principal_components(rows: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` strongest directions of N x D rows: basis (count x D), standard deviations."""
    centred = rows - rows.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(rows))
    return vectors[:, -count:].T.flip(0), values[-count:].clamp(min=1e-12).sqrt().flip(0)


def gather(maps: torch.Tensor) -> torch.Tensor:
    """N x C x H x W -> N x 4C x H/2 x W/2: each 2 x 2 block side by side, as a conv reads it."""
    corners = [maps[:, :, a::2, b::2] for a in (0, 1) for b in (0, 1)]
    return torch.cat(corners, dim=1)


def as_rows(maps: torch.Tensor) -> torch.Tensor:
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


@torch.no_grad()
def set_encoder(vae: Any, pictures: torch.Tensor) -> None:
    """Write the principal components of NCHW pictures into the encoder's convolutions.

    The three strided convolutions gather 2 x 2 blocks: 3 -> 12 -> 40 (of 48) -> 32 channels; the
    residual blocks between them are switched off. The last GroupNorm and SiLU are made linear: in
    every group two channels hold +-ANCHOR, so that the group's deviation hardly depends on the
    picture, their mean tells how far the group was shifted, and LINEAR lifts all values to
    where SiLU(x) = x. Each component is scaled half way (in logarithms) to unit variance, so that
    fine detail is neither lost in the diffusion's noise nor as important as the large colours.
    """
    encoder = vae.encoder
    for block in (*(b.resnets[0] for b in encoder.down_blocks), *encoder.mid_block.resnets):
        block.conv2.weight.zero_()
        block.conv2.bias.zero_()
    _only_diagonal(encoder.conv_in, 3, centre=1)
    first = gather(pictures)
    _strided(encoder.down_blocks[0].downsamplers[0].conv, torch.eye(12))
    _only_diagonal(encoder.down_blocks[1].resnets[0].conv_shortcut, 12)
    second_basis, _ = principal_components(as_rows(gather(first)), CHANNELS[1])
    _strided(encoder.down_blocks[1].downsamplers[0].conv, second_basis)
    second = torch.einsum("kd,ndhw->nkhw", second_basis, gather(first))
    _only_diagonal(encoder.down_blocks[2].resnets[0].conv_shortcut, CHANNELS[1])
    third_rows = as_rows(gather(second))
    basis, deviation = principal_components(third_rows, LATENTS)
    scale = deviation.sqrt() / deviation.mean().sqrt() / deviation
    third = encoder.down_blocks[2].downsamplers[0].conv
    _strided(third, basis * scale[:, None])
    third.bias[:LATENTS] = -(basis * scale[:, None]) @ third_rows.mean(0)
    _linear_output(vae, encoder.down_blocks[3].resnets[0].conv_shortcut)


def _only_diagonal(conv: nn.Conv2d, count: int, centre: int = 0) -> None:
    """Pass the first `count` channels on, unchanged."""
    conv.weight.zero_()
    if conv.bias is not None:
        conv.bias.zero_()
    for channel in range(count):
        conv.weight[channel, channel, centre, centre] = 1.0


def _strided(conv: nn.Conv2d, basis: torch.Tensor) -> None:
    """A stride-2 convolution that projects 2 x 2 blocks (laid out as `gather` does) on a basis."""
    kept, width = len(basis), basis.shape[1] // 4
    conv.weight.zero_()
    assert conv.bias is not None
    conv.bias.zero_()
    for corner in range(4):
        part = basis[:, corner * width : (corner + 1) * width]
        conv.weight[:kept, :width, corner // 2, corner % 2] = part


def _linear_output(vae: Any, shortcut: Any) -> None:
    """Carry the components through GroupNorm and SiLU without bending them."""
    group = CHANNELS[-1] // GROUPS  # channels per group: components, then +ANCHOR and -ANCHOR
    inside = group - 2
    deviation = ((2 * ANCHOR**2 + inside) / group) ** 0.5
    encoder, norm, out = vae.encoder, vae.encoder.conv_norm_out, vae.encoder.conv_out
    for conv in (shortcut, out):
        conv.weight.zero_()
        conv.bias.zero_()
    norm.weight.fill_(1.0)
    norm.bias.fill_(LINEAR)
    for component in range(LATENTS):
        first = component // inside * group
        place = first + component % inside
        shortcut.weight[place, component] = 1.0
        norm.weight[place] = SLOPE
        out.weight[component, place, 1, 1] = deviation / SLOPE
        out.weight[component, [first + inside, first + inside + 1], 1, 1] = -deviation / 2
    for number in range(GROUPS):
        shortcut.bias[number * group + inside] = ANCHOR
        shortcut.bias[number * group + inside + 1] = -ANCHOR
    out.bias[LATENTS:] = POSTERIOR_LOG_VARIANCE
    for conv in (vae.quant_conv, vae.post_quant_conv):
        _only_diagonal(conv, len(conv.weight))
    encoder.half().float()  # what will be shipped is what is trained with


@torch.no_grad()
def centre_latents(vae: Any, drawn: NDArray[np.uint8]) -> None:
    """Mean 0 per channel and variance 1 over all, by the 1 x 1 convolution after the encoder."""
    latents = torch.cat([encode(vae, drawn[i : i + 100]) for i in range(0, len(drawn), 100)])
    scale = 1 / latents.std()
    mean = latents.mean((0, 2, 3))
    vae.quant_conv.weight[:LATENTS] *= scale
    vae.quant_conv.bias[:LATENTS] = -mean * scale
    vae.quant_conv.half().float()


# ------------------------------------------------------------------------- the decoder, trained


def start_vae(work: Path, seed: int) -> Any:
    """The autoencoder with its encoder set and its decoder untrained."""
    torch.manual_seed(checkpoint.hash_of(f"{seed}-vae"))
    vae: Any = new_vae()
    drawn = data.stored_pictures(work, seed)[:2_000]
    set_encoder(vae, data.to_tensor(drawn))
    centre_latents(vae, drawn)
    return vae


def train_decoder(work: Path, seed: int, total: int = STEPS, export: Any = None) -> Any:
    """The training loop; returns the autoencoder with the decoder's moving average."""
    target = checkpoint.device()
    drawn = data.stored_pictures(work, seed)
    vae = start_vae(work, seed)
    latents = stored_latents(work, vae, seed)
    vae = vae.to(target, memory_format=torch.channels_last)
    average = checkpoint.average_of(vae)
    trained = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=PEAK_RATE, weight_decay=1e-4)
    path = work / "decoder.safetensors"
    modules: dict[str, nn.Module] = {"vae": vae, "average": average}
    first = checkpoint.load_state(path, modules, optimizer)
    saved, recent = time.monotonic(), 0.0
    for step in steps("decoder", first, total):
        random = checkpoint.generator(seed, "decoder", step)
        chosen = torch.randint(len(drawn), (BATCH,), generator=random).sort().values
        pictures = data.to_tensor(drawn[chosen.numpy()])
        pictures = pictures.to(target, memory_format=torch.channels_last)
        given = latents[chosen].float()
        blur = 0.15 * torch.rand(BATCH, 1, 1, 1, generator=random)  # diffusion is not exact either
        given = given + blur * torch.randn(given.shape, generator=random)
        restored = vae.decode(given.to(target, memory_format=torch.channels_last)).sample
        loss = restoration_loss(restored, pictures)

        checkpoint.set_rate(optimizer, checkpoint.rate_at(step, total, PEAK_RATE))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        checkpoint.update_average(average, vae, checkpoint.decay_at(step))

        recent += (loss.item() - recent) / min(step - first + 1, 100)
        if step % 200 == 0:
            print(f"decoder: step {step}, loss {recent:.4f}", flush=True)
        if time.monotonic() - saved > checkpoint.SECONDS_BETWEEN_CHECKPOINTS or step + 1 == total:
            checkpoint.save_state(path, step + 1, modules, optimizer)
            if export is not None:
                export(average)
            saved = time.monotonic()
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


@torch.no_grad()
def encode(vae: Any, drawn: NDArray[np.uint8]) -> torch.Tensor:
    """NHWC uint8 pictures -> the means of their latents, N x 32 x 8 x 8 float32 on the CPU."""
    pictures = data.to_tensor(drawn).to(vae.device)
    latents: torch.Tensor = vae.encode(pictures).latent_dist.mean.cpu()
    return latents


def stored_latents(work: Path, vae: Any, seed: int) -> torch.Tensor:
    """The latents of all training pictures, encoded once and kept as fp16."""
    path = work / "latents.safetensors"
    if not path.exists():
        drawn = data.stored_pictures(work, seed)
        parts = [
            encode(vae, drawn[100 * i : 100 * i + 100]).half()
            for i in steps("encoding", 0, len(drawn) // 100)
        ]
        unfinished = path.with_suffix(".tmp")
        save_file({"latents": torch.cat(parts).contiguous()}, unfinished)
        unfinished.replace(path)
    return load_file(path)["latents"]
