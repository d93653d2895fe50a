"""Names and shapes of the tensors of models that several families share, by their configs: what
planning knows of weights that are not here. No torch; the tests hold them against the classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charsweep.core.store.files import read_json

if TYPE_CHECKING:
    from charsweep.models.architectures import Shapes

Named = Iterator[tuple[str, list[int]]]


def by_configs(configs: Path, **parts: Callable[[dict[str, Any]], Named]) -> Shapes:
    """Shapes of the tensors of those parts of a pipeline whose configs are there."""
    return {
        part: dict(named(read_json(config)))
        for part, named in parts.items()
        if (config := configs / part / "config.json").exists()
    }


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


# -- Qwen 3 (Yang et al. 2025, arXiv 2505.09388), and its kind -------------------------------------


def qwen3(config: Mapping[str, Any], start: str = "", *, is_older: bool = False) -> Named:
    """Of a `Qwen3Model`; the older Qwen 2.5 has biases where this has norms."""
    width, heads = config["hidden_size"], config["num_attention_heads"]
    head = config.get("head_dim") or width // heads
    queries = heads * head
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
            bias = is_older and name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
            yield from linear(f"{layer}.{name}", inputs, outputs, bias=bias)
        for name in () if is_older else ("self_attn.q_norm", "self_attn.k_norm"):
            yield from norm(f"{layer}.{name}", head, bias=False)
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield from norm(f"{layer}.{name}", width, bias=False)
    yield from norm(f"{start}norm", width, bias=False)


def qwen3_vl(config: Mapping[str, Any]) -> Named:
    """Of a `Qwen3VLModel` (Bai et al. 2025, arXiv 2511.21631)."""
    seen = config["vision_config"]
    width, wide = seen["hidden_size"], seen["intermediate_size"]
    joined = width * seen.get("spatial_merge_size", 2) ** 2
    yield from _frames("visual.patch_embed.proj", seen, bias=True)
    yield "visual.pos_embed.weight", [seen["num_position_embeddings"], width]
    for index in range(seen["depth"]):
        block = f"visual.blocks.{index}"
        for part in ("norm1", "norm2"):
            yield from norm(f"{block}.{part}", width)
        yield from linear(f"{block}.attn.qkv", width, 3 * width)
        yield from linear(f"{block}.attn.proj", width, width)
        yield from linear(f"{block}.mlp.linear_fc1", width, wide)
        yield from linear(f"{block}.mlp.linear_fc2", wide, width)
    deep = enumerate(seen["deepstack_visual_indexes"])
    mergers = [("merger", width)] + [(f"deepstack_merger_list.{one}", joined) for one, _ in deep]
    for name, normed in mergers:
        yield from norm(f"visual.{name}.norm", normed)
        yield from linear(f"visual.{name}.linear_fc1", joined, joined)
        yield from linear(f"visual.{name}.linear_fc2", joined, seen["out_hidden_size"])
    yield from qwen3(config["text_config"], "language_model.")


def qwen25_vl(config: Mapping[str, Any]) -> Named:
    """Of a `Qwen2_5_VLForConditionalGeneration` (Bai et al. 2025, arXiv 2502.13923)."""
    seen, told = config["vision_config"], config["text_config"]
    width, wide = seen["hidden_size"], seen["intermediate_size"]
    joined = width * seen.get("spatial_merge_size", 2) ** 2
    yield from _frames("model.visual.patch_embed.proj", seen, bias=False)
    for index in range(seen["depth"]):
        block = f"model.visual.blocks.{index}"
        for part in ("norm1", "norm2"):
            yield from norm(f"{block}.{part}", width, bias=False)
        yield from linear(f"{block}.attn.qkv", width, 3 * width)
        yield from linear(f"{block}.attn.proj", width, width)
        for part, inputs, outputs in (("gate_proj", width, wide), ("up_proj", width, wide),
                                      ("down_proj", wide, width)):  # fmt: skip
            yield from linear(f"{block}.mlp.{part}", inputs, outputs)
    yield from norm("model.visual.merger.ln_q", width, bias=False)
    yield from linear("model.visual.merger.mlp.0", joined, joined)
    yield from linear("model.visual.merger.mlp.2", joined, seen["out_hidden_size"])
    yield from qwen3(told, "model.language_model.", is_older=True)
    if not config.get("tie_word_embeddings", False):
        yield from linear("lm_head", told["hidden_size"], told["vocab_size"], bias=False)


def _frames(name: str, seen: Mapping[str, Any], *, bias: bool) -> Named:
    """What makes tokens of patches of a few frames."""
    size, width = seen["patch_size"], seen["hidden_size"]
    shape = [width, seen["in_channels"], seen["temporal_patch_size"], size, size]
    yield f"{name}.weight", shape
    if bias:
        yield f"{name}.bias", [width]


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
