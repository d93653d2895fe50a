"""Tiny pipelines with random weights of the families that a transformer draws for, as diffusers
writes them: 64 pixels are 8 × 8 latents. A family's entry in `TINY` is all that its tests need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model

from charsweep.core.seeding import generator
from charsweep.models.pipeline import quiet
from charsweep.models.vocabulary import _letters

TEMPLATE = (
    "{% for one in messages %}<|im_start|>{{ one.role }}\n{{ one.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
SPECIAL = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]


@dataclass(frozen=True)
class Tiny:
    """A family, without charsweep: its pipeline made, loaded, taught and drawn with plainly."""

    name: str  # among models and bases
    pipeline: str  # the class in diffusers
    write: Callable[[Path], None]
    load: Callable[[Path], Any]
    # images NHWC in [0, 1] of (pipeline, prompts, generators, steps, guidance), 64 pixels a side
    draw: Callable[..., NDArray[np.float32]]
    times: Callable[[torch.Generator], Tensor]  # one to be taught, of shape (1,), in [0, 1]
    latents: Callable[[Any, Tensor, Tensor], Tensor]  # of (pipeline, pixels, noise), scaled
    velocity: Callable[[Any, Tensor, Tensor, str], Tensor]  # of (pipeline, noisy, time, prompt)
    mark: str  # a tensor of its single files
    published: dict[str, tuple[Any, dict[str, Any], int]]  # parts: class, config, numbers
    shape: tuple[int, ...] = (1, 4, 8, 8)  # of the latents of 64 pixels a side
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")


def qwen_tokenizer() -> Qwen2Tokenizer:
    """One token for each byte, and Qwen's special ones."""
    vocabulary = {token: number for number, token in enumerate(["<|endoftext|>", *_letters()])}
    made = Qwen2Tokenizer(vocab=vocabulary, merges=[], chat_template=TEMPLATE)
    made.add_special_tokens({"additional_special_tokens": SPECIAL})
    return made


def qwen3(tokenizer: Qwen2Tokenizer, layers: int = 2, width: int = 16) -> Qwen3Model:
    return Qwen3Model(
        Qwen3Config(
            vocab_size=len(tokenizer) + 3, hidden_size=width, intermediate_size=32,
            num_hidden_layers=layers, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
            max_position_embeddings=1024,
        )
    ).eval()  # fmt: skip


QWEN3_4B: dict[str, Any] = {
    "vocab_size": 151_936, "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
}  # fmt: skip
QWEN3_06B = QWEN3_4B | {
    "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
    "num_attention_heads": 16,
}  # fmt: skip


# -- Z-Image ---------------------------------------------------------------------------------------

Z_IMAGE: dict[str, Any] = {
    "all_patch_size": (2,), "all_f_patch_size": (1,), "in_channels": 4, "dim": 32, "n_layers": 2,
    "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": 16,
    "axes_dims": (8, 4, 4), "axes_lens": (576, 32, 32),
}  # fmt: skip
KL: dict[str, Any] = {
    "block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "latent_channels": 4,
    "norm_num_groups": 4, "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4, "scaling_factor": 0.3611,
    "shift_factor": 0.1159, "use_quant_conv": False, "use_post_quant_conv": False,
}  # fmt: skip


def write_zimage(folder: Path) -> None:
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        ZImagePipeline,
        ZImageTransformer2DModel,
    )

    tokenizer = qwen_tokenizer()
    transformer = ZImageTransformer2DModel(**Z_IMAGE)
    for pad in (transformer.x_pad_token, transformer.cap_pad_token):  # zeros would hide them
        torch.nn.init.normal_(pad)
    ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=AutoencoderKL(**KL),
        text_encoder=qwen3(tokenizer), tokenizer=tokenizer, transformer=transformer,
    ).save_pretrained(folder)  # fmt: skip


def load_zimage(folder: Path) -> Any:
    from diffusers import ZImagePipeline

    return ZImagePipeline.from_pretrained(folder, local_files_only=True)


def draw_zimage(
    pipeline: Any, prompts: Sequence[str], generators: Any, steps: int, guidance: float
) -> Any:
    return pipeline(
        list(prompts), negative_prompt=[""] * len(prompts), num_inference_steps=steps,
        guidance_scale=guidance - 1, height=64, width=64, output_type="np", generator=generators,
    ).images  # fmt: skip


def shifted(times: Tensor) -> Tensor:
    """As the tiny schedulers shift them, by 3."""
    return 3 * times / (1 + 2 * times)


def kl_latents(pipeline: Any, pixels: Tensor, noise: Tensor) -> Tensor:
    found, config = pipeline.vae.encode(pixels).latent_dist, pipeline.vae.config
    return (found.mean + found.std * noise - config.shift_factor) * config.scaling_factor


def zimage_velocity(pipeline: Any, noisy: Tensor, time: Tensor, prompt: str) -> Tensor:
    with torch.no_grad():
        told, _ = pipeline.encode_prompt([prompt], do_classifier_free_guidance=False)
    inputs = list(noisy.unsqueeze(2).unbind(0))
    (output,) = pipeline.transformer(inputs, 1 - time, told, return_dict=False)[0]
    return -output.squeeze(1)[None]


# -- Anima -----------------------------------------------------------------------------------------

COSMOS: dict[str, Any] = {
    "in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 16,
    "num_layers": 2, "text_embed_dim": 16, "adaln_lora_dim": 4, "max_size": (4, 32, 32),
    "rope_scale": (1.0, 4.0, 4.0), "extra_pos_embed_type": None, "concat_padding_mask": True,
}  # fmt: skip
QWEN_VAE: dict[str, Any] = {
    "base_dim": 8, "z_dim": 4, "dim_mult": [1, 1, 2, 2], "num_res_blocks": 1,
    "temperal_downsample": [False, True, True], "latents_mean": [0.1, -0.2, 0.3, 0.0],
    "latents_std": [1.5, 0.8, 1.2, 2.0],
}  # fmt: skip
CONDITIONER: dict[str, Any] = {
    "source_dim": 16, "target_dim": 16, "model_dim": 16, "num_layers": 1,
    "num_attention_heads": 2, "target_vocab_size": 60,
}  # fmt: skip


def t5_tokenizer() -> Any:
    from transformers import T5Tokenizer

    letters = [(letter, -5.0) for letter in "abcdefghijklmnopqrstuvwxyz,."]
    first = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    return T5Tokenizer(vocab=first + letters, extra_ids=0)


def write_anima(folder: Path) -> None:
    from diffusers import (
        AnimaAutoBlocks,
        AnimaTextConditioner,
        AutoencoderKLQwenImage,
        CosmosTransformer3DModel,
        FlowMatchEulerDiscreteScheduler,
    )

    tokenizer = qwen_tokenizer()
    pipeline = AnimaAutoBlocks().init_pipeline()
    pipeline.update_components(
        text_encoder=qwen3(tokenizer), tokenizer=tokenizer, t5_tokenizer=t5_tokenizer(),
        text_conditioner=AnimaTextConditioner(**CONDITIONER),
        transformer=CosmosTransformer3DModel(**COSMOS), vae=AutoencoderKLQwenImage(**QWEN_VAE),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip
    pipeline.save_pretrained(str(folder))


def load_anima(folder: Path) -> Any:
    from diffusers import AnimaModularPipeline

    pipeline = AnimaModularPipeline.from_pretrained(str(folder), local_files_only=True)
    pipeline.load_components(dtype=torch.float32)
    return pipeline


def draw_anima(
    pipeline: Any, prompts: Sequence[str], generators: Any, steps: int, guidance: float
) -> Any:
    pipeline.update_components(guider=pipeline.guider.new(guidance_scale=guidance))
    return pipeline(
        prompt=list(prompts), negative_prompt=[""] * len(prompts), num_inference_steps=steps,
        height=64, width=64, generator=generators, output_type="np", output="images",
    )  # fmt: skip


def qwen_vae_latents(pipeline: Any, pixels: Tensor, noise: Tensor) -> Tensor:
    found, config = pipeline.vae.encode(pixels[:, :, None]).latent_dist, pipeline.vae.config
    mean, std = (
        torch.tensor(numbers).view(1, -1, 1, 1)
        for numbers in (config.latents_mean, config.latents_std)
    )
    return ((found.mean + found.std * noise[:, :, None])[:, :, 0] - mean) / std


def anima_velocity(pipeline: Any, noisy: Tensor, time: Tensor, prompt: str) -> Tensor:
    with torch.no_grad():
        words = pipeline.tokenizer([prompt], return_tensors="pt")
        states = pipeline.text_encoder(**words).last_hidden_state
        numbers = pipeline.t5_tokenizer([prompt], return_tensors="pt")
        told = pipeline.text_conditioner(
            states, numbers.input_ids, numbers.attention_mask, words.attention_mask
        )
    mask = torch.zeros(1, 1, 64, 64)
    return pipeline.transformer(noisy[:, :, None], time, told, padding_mask=mask)[0][:, :, 0]


TINY = {
    tiny.name: tiny
    for tiny in (
        Tiny(
            "zimage", "ZImagePipeline", write_zimage, load_zimage, draw_zimage,
            lambda source: shifted(torch.rand(1, generator=source)), kl_latents, zimage_velocity,
            "noise_refiner.0.attention.qkv.weight", {
                "transformer": ("ZImageTransformer2DModel", {}, 6_154_908_736),
                "text_encoder": (Qwen3Model, QWEN3_4B, 4_022_468_096),
                "vae": ("AutoencoderKL", KL | {
                    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2,
                    "latent_channels": 16, "norm_num_groups": 32,
                }, 83_819_683),
            },
        ),
        Tiny(
            "anima", "AnimaModularPipeline", write_anima, load_anima, draw_anima,
            lambda source: torch.sigmoid(torch.randn(1, generator=source)), qwen_vae_latents,
            anima_velocity, "llm_adapter.embed.weight", {
                "transformer": ("CosmosTransformer3DModel", COSMOS | {
                    "in_channels": 16, "out_channels": 16, "num_attention_heads": 16,
                    "attention_head_dim": 128, "num_layers": 28, "text_embed_dim": 1024,
                    "adaln_lora_dim": 256,
                }, 1_956_405_248),
                "text_conditioner": ("AnimaTextConditioner", {}, 134_663_680),
                "text_encoder": (Qwen3Model, QWEN3_06B, 596_049_920),
                "vae": ("AutoencoderKLQwenImage", {}, 126_892_531),
            },
        ),
    )
}  # fmt: skip


def write_tiny(name: str, folder: Path) -> Path:
    """The family's pipeline, seeded."""
    torch.manual_seed(0)
    with quiet():
        TINY[name].write(folder)
    return folder


def load_plainly(name: str, folder: Path, adapter: Path | None = None) -> Any:
    """The pipeline by diffusers alone, with an adapter's file or without."""
    with quiet():
        pipeline = TINY[name].load(folder)
        pipeline.set_progress_bar_config(disable=True)
        if adapter is not None:
            pipeline.load_lora_weights(str(adapter.parent), weight_name=adapter.name)
    return pipeline


def draw_plainly(
    name: str, pipeline: Any, prompts: Sequence[str], seeds: Sequence[int]
) -> list[NDArray[np.uint8]]:
    """In two steps with a guidance of 5, as 8-bit pixels."""
    generators = [generator(seed, "image") for seed in seeds]
    with quiet(), torch.inference_mode():
        images = TINY[name].draw(pipeline, prompts, generators, 2, 5.0)
    return list((images * 255).round().astype("uint8"))
