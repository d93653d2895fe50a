"""Names and shapes of the tensors of models that several families share, by their configs: what
planning knows of weights that are not here. No torch; the tests hold them against the classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Named = Iterator[tuple[str, list[int]]]


def linear(name: str, inputs: int, outputs: int, *, bias: bool = True) -> Named:
    yield f"{name}.weight", [outputs, inputs]
    if bias:
        yield f"{name}.bias", [outputs]


def convolution(name: str, inputs: int, outputs: int, *kernel: int) -> Named:
    yield f"{name}.weight", [outputs, inputs, *kernel]
    yield f"{name}.bias", [outputs]


def norm(name: str, width: int, *, bias: bool = True) -> Named:
    yield f"{name}.weight", [width]
    if bias:
        yield f"{name}.bias", [width]


# -- Qwen 3 (Yang et al. 2025, arXiv 2505.09388) ---------------------------------------------------


def qwen3(config: Mapping[str, Any], start: str = "") -> Named:
    """Of a `Qwen3Model`."""
    width, head = config["hidden_size"], config["head_dim"]
    queries = config["num_attention_heads"] * head
    keys = config["num_key_value_heads"] * head
    yield f"{start}embed_tokens.weight", [config["vocab_size"], width]
    for index in range(config["num_hidden_layers"]):
        layer = f"{start}layers.{index}"
        for name, inputs, outputs in (
            ("self_attn.q_proj", width, queries), ("self_attn.k_proj", width, keys),
            ("self_attn.v_proj", width, keys), ("self_attn.o_proj", queries, width),
            ("mlp.gate_proj", width, config["intermediate_size"]),
            ("mlp.up_proj", width, config["intermediate_size"]),
            ("mlp.down_proj", config["intermediate_size"], width),
        ):  # fmt: skip
            yield from linear(f"{layer}.{name}", inputs, outputs, bias=False)
        for name in ("self_attn.q_norm", "self_attn.k_norm"):
            yield from norm(f"{layer}.{name}", head, bias=False)
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield from norm(f"{layer}.{name}", width, bias=False)
    yield from norm(f"{start}norm", width, bias=False)


# -- an AutoencoderKL without convolutions beside its latents (Esser et al. 2024) ------------------


def autoencoder_kl(config: Mapping[str, Any]) -> Named:
    channels, latents = config["block_out_channels"], config["latent_channels"]
    per_block = config["layers_per_block"]
    back = (config.get("decoder_block_out_channels") or channels)[::-1]
    yield from _half("encoder", config["in_channels"], channels, 2 * latents, per_block)
    yield from _half("decoder", latents, back, config["out_channels"], per_block + 1)
    if config.get("use_quant_conv", True):
        yield from convolution("quant_conv", 2 * latents, 2 * latents, 1, 1)
    if config.get("use_post_quant_conv", True):
        yield from convolution("post_quant_conv", latents, latents, 1, 1)


def _half(name: str, inputs: int, channels: list[int], outputs: int, per_block: int) -> Named:
    """The encoder, or the decoder, whose middle comes first."""
    is_encoder, last = name == "encoder", len(channels) - 1
    blocks, between = ("down", "downsamplers") if is_encoder else ("up", "upsamplers")
    yield from convolution(f"{name}.conv_in", inputs, channels[0], 3, 3)
    before = channels[0]
    for index, own in enumerate(channels):
        block = f"{name}.{blocks}_blocks.{index}"
        for layer in range(per_block):
            yield from _resnet(f"{block}.resnets.{layer}", before, own)
            before = own
        if index < last:
            yield from convolution(f"{block}.{between}.0.conv", own, own, 3, 3)
    widest = max(channels[0], channels[-1]) if is_encoder else channels[0]
    for layer in range(2):
        yield from _resnet(f"{name}.mid_block.resnets.{layer}", widest, widest)
    attention = f"{name}.mid_block.attentions.0"
    yield from norm(f"{attention}.group_norm", widest)
    for part in ("to_q", "to_k", "to_v", "to_out.0"):
        yield from linear(f"{attention}.{part}", widest, widest)
    yield from norm(f"{name}.conv_norm_out", channels[-1])
    yield from convolution(f"{name}.conv_out", channels[-1], outputs, 3, 3)


def _resnet(name: str, inputs: int, outputs: int) -> Named:
    yield from norm(f"{name}.norm1", inputs)
    yield from convolution(f"{name}.conv1", inputs, outputs, 3, 3)
    yield from norm(f"{name}.norm2", outputs)
    yield from convolution(f"{name}.conv2", outputs, outputs, 3, 3)
    if inputs != outputs:
        yield from convolution(f"{name}.conv_shortcut", inputs, outputs, 1, 1)
