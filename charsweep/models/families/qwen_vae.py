"""Qwen-Image's autoencoder (Wu et al. 2025, arXiv 2508.02324), which Krea 2 and Anima have too: one
for videos, that is shown pictures as a single frame."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from charsweep.models.families.shapes import Named, convolution

if TYPE_CHECKING:
    from torch import Tensor

AUTOENCODER = "AutoencoderKLQwenImage"


def posterior(vae: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the latents of images NCHW, each channel of mean 0 and deviation 1."""
    found = vae.encode(pixels.unsqueeze(2)).latent_dist
    mean, std = _statistics(vae, pixels)
    return ((found.mean - mean) / std).squeeze(2), (found.std / std).squeeze(2)


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Images NCHW in [-1, 1] of such latents, (N, C, h, w)."""
    mean, std = _statistics(vae, latents)
    images: Tensor = vae.decode(latents.unsqueeze(2) * std + mean, return_dict=False)[0]
    return images.squeeze(2)


def packed(latents: Tensor) -> Tensor:
    """Latents (N, C, h, w) as a transformer's tokens, two by two: (N, h / 2 · w / 2, 4 · C)."""
    count, channels, height, width = latents.shape
    patches = latents.reshape(count, channels, height // 2, 2, width // 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(count, -1, 4 * channels)


def unpacked(tokens: Tensor, height: int, width: int) -> Tensor:
    """The latents (N, C, height, width) of such tokens."""
    count, _, numbers = tokens.shape
    patches = tokens.reshape(count, height // 2, width // 2, numbers // 4, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(count, numbers // 4, height, width)


def _statistics(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    found = (like.new_tensor(vae.config[name]) for name in ("latents_mean", "latents_std"))
    mean, std = (numbers.view(1, -1, 1, 1, 1) for numbers in found)
    return mean, std


# -- its tensors, by its config --------------------------------------------------------------------


def shapes(config: Mapping[str, Any]) -> Named:
    """Of an `AutoencoderKLQwenImage`."""
    base, latents = config["base_dim"], config["z_dim"]
    widths = [base * factor for factor in config["dim_mult"]]
    longer = list(config["temperal_downsample"])
    pictures = config.get("input_channels", 3)
    yield from _encoder("encoder", [base, *widths], longer, pictures, 2 * latents, config)
    yield from _decoder("decoder", widths, longer[::-1], latents, pictures, config)
    yield from convolution("quant_conv", 2 * latents, 2 * latents, 1, 1, 1)
    yield from convolution("post_quant_conv", latents, latents, 1, 1, 1)


def _encoder(
    name: str, widths: list[int], longer: list[bool], inputs: int, outputs: int,
    config: Mapping[str, Any],
) -> Named:  # fmt: skip
    yield from convolution(f"{name}.conv_in", inputs, widths[0], 3, 3, 3)
    block, last = 0, len(widths) - 2
    for level, (before, own) in enumerate(itertools.pairwise(widths)):
        for _ in range(config["num_res_blocks"]):
            yield from _resnet(f"{name}.down_blocks.{block}", before, own)
            before, block = own, block + 1
        if level < last:
            yield from convolution(f"{name}.down_blocks.{block}.resample.1", own, own, 3, 3)
            if longer[level]:
                yield from convolution(f"{name}.down_blocks.{block}.time_conv", own, own, 3, 1, 1)
            block += 1
    yield from _middle(f"{name}.mid_block", widths[-1])
    yield f"{name}.norm_out.gamma", [widths[-1], 1, 1, 1]
    yield from convolution(f"{name}.conv_out", widths[-1], outputs, 3, 3, 3)


def _decoder(
    name: str, widths: list[int], longer: list[bool], inputs: int, outputs: int,
    config: Mapping[str, Any],
) -> Named:  # fmt: skip
    """Widest first; what makes a level larger makes it half as wide."""
    falling = [widths[-1], *widths[::-1]]
    yield from convolution(f"{name}.conv_in", inputs, falling[0], 3, 3, 3)
    yield from _middle(f"{name}.mid_block", falling[0])
    last = len(widths) - 1
    for level, (before, own) in enumerate(itertools.pairwise(falling)):
        into = before // 2 if level else before
        for layer in range(config["num_res_blocks"] + 1):
            yield from _resnet(f"{name}.up_blocks.{level}.resnets.{layer}", into, own)
            into = own
        if level < last:
            larger = f"{name}.up_blocks.{level}.upsamplers.0"
            yield from convolution(f"{larger}.resample.1", own, own // 2, 3, 3)
            if longer[level]:
                yield from convolution(f"{larger}.time_conv", own, 2 * own, 3, 1, 1)
    yield f"{name}.norm_out.gamma", [widths[0], 1, 1, 1]
    yield from convolution(f"{name}.conv_out", widths[0], outputs, 3, 3, 3)


def _middle(name: str, width: int) -> Named:
    for layer in range(2):
        yield from _resnet(f"{name}.resnets.{layer}", width, width)
    yield f"{name}.attentions.0.norm.gamma", [width, 1, 1]
    yield from convolution(f"{name}.attentions.0.to_qkv", width, 3 * width, 1, 1)
    yield from convolution(f"{name}.attentions.0.proj", width, width, 1, 1)


def _resnet(name: str, inputs: int, outputs: int) -> Named:
    yield f"{name}.norm1.gamma", [inputs, 1, 1, 1]
    yield from convolution(f"{name}.conv1", inputs, outputs, 3, 3, 3)
    yield f"{name}.norm2.gamma", [outputs, 1, 1, 1]
    yield from convolution(f"{name}.conv2", outputs, outputs, 3, 3, 3)
    if inputs != outputs:
        yield from convolution(f"{name}.conv_shortcut", inputs, outputs, 1, 1, 1)
