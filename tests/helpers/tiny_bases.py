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
from transformers import (
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    Qwen3VLModel,
)

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
    # images NHWC in [0, 1] of (pipeline, prompts, generators, steps, guidance, width), 64 pixels
    # high
    draw: Callable[..., NDArray[np.float32]]
    times: Callable[[torch.Generator], Tensor]  # one to be taught, of shape (1,), in [0, 1]
    latents: Callable[[Any, Tensor, Tensor], Tensor]  # of (pipeline, pixels, noise), scaled
    velocity: Callable[[Any, Tensor, Tensor, str], Tensor]  # of (pipeline, noisy, time, prompt)
    mark: str  # a tensor of its single files
    published: dict[str, tuple[Any, dict[str, Any], int]]  # parts: class, config, numbers
    shape: tuple[int, ...] = (1, 4, 8, 8)  # of the latents of 64 pixels a side
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    kept: tuple[str, ...] = ()  # out of what is taught, though their names end so


def qwen_tokenizer() -> Qwen2Tokenizer:
    """One token for each byte, and Qwen's special ones."""
    vocabulary = {token: number for number, token in enumerate(["<|endoftext|>", *_letters()])}
    made = Qwen2Tokenizer(vocab=vocabulary, merges=[], chat_template=TEMPLATE)
    made.add_special_tokens({"additional_special_tokens": SPECIAL})
    return made


def qwen3(
    tokenizer: Qwen2Tokenizer, layers: int = 2, width: int = 16, kind: Any = Qwen3Model
) -> Any:
    return kind(
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
    pipeline: Any, prompts: Sequence[str], generators: Any, steps: int, guidance: float,
    width: int = 64,
) -> Any:  # fmt: skip
    return pipeline(
        list(prompts), negative_prompt=[""] * len(prompts), num_inference_steps=steps,
        guidance_scale=guidance - 1, height=64, width=width, output_type="np", generator=generators,
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
    pipeline: Any, prompts: Sequence[str], generators: Any, steps: int, guidance: float,
    width: int = 64,
) -> Any:  # fmt: skip
    pipeline.update_components(guider=pipeline.guider.new(guidance_scale=guidance))
    return pipeline(
        prompt=list(prompts), negative_prompt=[""] * len(prompts), num_inference_steps=steps,
        height=64, width=width, generator=generators, output_type="np", output="images",
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


# -- FLUX.2-klein ----------------------------------------------------------------------------------

FLUX2: dict[str, Any] = {
    "in_channels": 8, "num_layers": 1, "num_single_layers": 2, "attention_head_dim": 16,
    "num_attention_heads": 2, "joint_attention_dim": 48, "axes_dims_rope": (4, 4, 4, 4),
    "guidance_embeds": False,
}  # fmt: skip
FLUX2_KL = {name: KL[name] for name in ("block_out_channels", "norm_num_groups")} | {
    "layers_per_block": 1, "latent_channels": 2, "sample_size": 64,
}  # fmt: skip


def write_klein(folder: Path) -> None:
    from diffusers import (
        AutoencoderKLFlux2,
        FlowMatchEulerDiscreteScheduler,
        Flux2KleinPipeline,
        Flux2Transformer2DModel,
    )

    tokenizer, vae = qwen_tokenizer(), AutoencoderKLFlux2(**FLUX2_KL)
    vae.bn.running_mean.copy_(torch.randn(8))
    vae.bn.running_var.copy_(0.5 + torch.rand(8))
    Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), vae=vae,
        text_encoder=qwen3(tokenizer, layers=28, kind=Qwen3ForCausalLM), tokenizer=tokenizer,
        transformer=Flux2Transformer2DModel(**FLUX2),
    ).save_pretrained(folder)  # fmt: skip


def load_klein(folder: Path) -> Any:
    from diffusers import Flux2KleinPipeline

    return Flux2KleinPipeline.from_pretrained(folder, local_files_only=True)


def draw_klein(
    pipeline: Any, prompts: Sequence[str], generators: Any, steps: int, guidance: float,
    width: int = 64,
) -> Any:  # fmt: skip
    return pipeline(
        prompt=list(prompts), num_inference_steps=steps, guidance_scale=guidance, height=64,
        width=width, output_type="np", generator=generators,
    ).images  # fmt: skip


def klein_latents(pipeline: Any, pixels: Tensor, noise: Tensor) -> Tensor:
    """As diffusers' script makes them: of the mode, four to one."""
    vae = pipeline.vae
    found = vae.encode(pixels).latent_dist.mode()
    patches = found.unflatten(3, (4, 2)).unflatten(2, (4, 2)).permute(0, 1, 3, 5, 2, 4)
    whole = patches.reshape(1, 8, 4, 4)
    mean, std = vae.bn.running_mean, (vae.bn.running_var + 1e-4).sqrt()
    return (whole - mean.view(1, 8, 1, 1)) / std.view(1, 8, 1, 1)


def klein_velocity(pipeline: Any, noisy: Tensor, time: Tensor, prompt: str) -> Tensor:
    with torch.no_grad():
        told, words = pipeline.encode_prompt([prompt])
    grid = pipeline._prepare_latent_ids(noisy)
    (output,) = pipeline.transformer(
        noisy.reshape(1, 8, 16).permute(0, 2, 1), told, time, grid, words, return_dict=False
    )
    return output.permute(0, 2, 1).reshape(1, 8, 4, 4)


# -- Krea 2 ----------------------------------------------------------------------------------------

# Of what Krea 2 and Qwen-Image put before a prompt: one token each, as in Qwen's tokenizer.
WORDS = [
    "system", "Describe", " the", " image", " by", " detailing", " color", " shape", " size",
    " texture", " quantity", " text", " spatial", " relationships", " of", " objects", " and",
    " background", "user", "assistant",
]  # fmt: skip
KREA2: dict[str, Any] = {
    "in_channels": 16, "num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 32, "timestep_embed_dim": 16,
    "text_hidden_dim": 16, "num_text_layers": 3, "text_num_attention_heads": 2,
    "text_num_key_value_heads": 1, "text_intermediate_size": 32, "num_layerwise_text_blocks": 1,
    "num_refiner_text_blocks": 1, "axes_dims_rope": (4, 2, 2),
}  # fmt: skip
QWEN3_VL_4B: dict[str, Any] = {"text_config": QWEN3_4B, "vision_config": {
    "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16,
    "out_hidden_size": 2560, "deepstack_visual_indexes": [5, 11, 17],
}}  # fmt: skip


def wordy_tokenizer() -> Qwen2Tokenizer:
    made = qwen_tokenizer()
    made.add_tokens(WORDS)
    return made


def seeing(kind: Any, tokenizer: Qwen2Tokenizer, **vision: Any) -> Any:
    """A Qwen that also sees, of which only the half that reads is used."""
    config = kind.config_class(
        text_config={
            "vocab_size": len(tokenizer) + 3, "hidden_size": 16, "intermediate_size": 32,
            "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1,
            "max_position_embeddings": 2048, "head_dim": 8, "bos_token_id": 0, "eos_token_id": 0,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1],
            },
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2,
            "out_hidden_size": 16, **vision,
        },
    )  # fmt: skip
    return kind(config).eval()


def write_krea2(folder: Path) -> None:
    from diffusers import (
        AutoencoderKLQwenImage,
        FlowMatchEulerDiscreteScheduler,
        Krea2Pipeline,
        Krea2Transformer2DModel,
    )

    tokenizer, transformer = wordy_tokenizer(), Krea2Transformer2DModel(**KREA2)
    for tensor in transformer.parameters():  # zeros would hide norms and tables
        if not tensor.any():
            torch.nn.init.normal_(tensor, std=0.3)
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256,
        max_image_seq_len=6400,
    )  # fmt: skip
    Krea2Pipeline(
        scheduler=scheduler, vae=AutoencoderKLQwenImage(**QWEN_VAE), tokenizer=tokenizer,
        text_encoder=seeing(
            Qwen3VLModel, tokenizer, num_position_embeddings=16, deepstack_visual_indexes=[0]
        ),
        transformer=transformer, text_encoder_select_layers=(1, 2, 3),
    ).save_pretrained(folder)  # fmt: skip


def load_krea2(folder: Path) -> Any:
    from diffusers import Krea2Pipeline

    return Krea2Pipeline.from_pretrained(folder, local_files_only=True)


def krea2_velocity(pipeline: Any, noisy: Tensor, time: Tensor, prompt: str) -> Tensor:
    with torch.no_grad():
        told, mask = pipeline.encode_prompt([prompt])
    (output,) = pipeline.transformer(
        pipeline._pack_latents(noisy, 1, 4, 8, 8), told, time,
        pipeline.prepare_position_ids(512, 4, 4, noisy.device), mask, return_dict=False,
    )  # fmt: skip
    return pipeline._unpack_latents(output, 64, 64)[:, :, 0]


# -- Qwen-Image ------------------------------------------------------------------------------------

QWEN_IMAGE: dict[str, Any] = {
    "in_channels": 16, "out_channels": 4, "num_layers": 2, "attention_head_dim": 16,
    "num_attention_heads": 2, "joint_attention_dim": 16, "axes_dims_rope": (8, 4, 4),
}  # fmt: skip
QWEN25_VL_7B: dict[str, Any] = {
    "text_config": {
        "vocab_size": 152_064, "hidden_size": 3584, "intermediate_size": 18_944,
        "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
    },
    "vision_config": {
        "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
        "out_hidden_size": 3584,
    },
}  # fmt: skip


def write_qwen_image(folder: Path) -> None:
    from diffusers import (
        AutoencoderKLQwenImage,
        FlowMatchEulerDiscreteScheduler,
        QwenImagePipeline,
        QwenImageTransformer2DModel,
    )

    tokenizer = wordy_tokenizer()
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, base_image_seq_len=256,
        max_image_seq_len=8192, shift_terminal=0.02,
    )  # fmt: skip
    QwenImagePipeline(
        scheduler=scheduler, vae=AutoencoderKLQwenImage(**QWEN_VAE), tokenizer=tokenizer,
        text_encoder=seeing(
            Qwen2_5_VLForConditionalGeneration, tokenizer, fullatt_block_indexes=[0]
        ),
        transformer=QwenImageTransformer2DModel(**QWEN_IMAGE),
    ).save_pretrained(folder)  # fmt: skip


def load_qwen_image(folder: Path) -> Any:
    from diffusers import QwenImagePipeline

    return QwenImagePipeline.from_pretrained(folder, local_files_only=True)


def draw_qwen_image(
    pipeline: Any, prompts: Sequence[str], generators: Any, steps: int, guidance: float,
    width: int = 64,
) -> Any:  # fmt: skip
    return pipeline(
        list(prompts), negative_prompt=[""] * len(prompts), true_cfg_scale=guidance,
        num_inference_steps=steps, height=64, width=width, output_type="np", generator=generators,
    ).images  # fmt: skip


def qwen_image_velocity(pipeline: Any, noisy: Tensor, time: Tensor, prompt: str) -> Tensor:
    with torch.no_grad():
        told, mask = pipeline.encode_prompt([prompt])
    assert mask is None
    (output,) = pipeline.transformer(
        pipeline._pack_latents(noisy, 1, 4, 8, 8), told, mask, time, [[(1, 4, 4)]],
        return_dict=False,
    )  # fmt: skip
    return pipeline._unpack_latents(output, 64, 64, 8)[:, :, 0]


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
        Tiny(
            "klein", "Flux2KleinPipeline", write_klein, load_klein, draw_klein,
            lambda source: torch.rand(1, generator=source), klein_latents, klein_velocity,
            "single_stream_modulation.lin.weight", {
                "transformer": ("Flux2Transformer2DModel", {
                    "num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24,
                    "joint_attention_dim": 7680, "guidance_embeds": False,
                }, 3_875_544_576),
                "text_encoder": (
                    Qwen3ForCausalLM, QWEN3_4B | {"tie_word_embeddings": True}, 4_022_468_096,
                ),
                "vae": ("AutoencoderKLFlux2", {}, 84_046_372),
            }, (1, 8, 4, 4), ("to_q", "to_k", "to_v", "to_out.0", "to_qkv_mlp_proj", "attn.to_out"),
        ),
        Tiny(
            "krea2", "Krea2Pipeline", write_krea2, load_krea2, draw_zimage,
            lambda source: torch.rand(1, generator=source), qwen_vae_latents, krea2_velocity,
            "txtfusion.projector.weight", {
                "transformer": ("Krea2Transformer2DModel", {}, 12_820_073_036),
                "text_encoder": (Qwen3VLModel, QWEN3_VL_4B, 4_437_815_808),
                "vae": ("AutoencoderKLQwenImage", {}, 126_892_531),
            }, targets=("to_q", "to_k", "to_v", "to_out.0", "to_gate", "ff.up", "ff.down"),
            kept=("text_fusion.layerwise_blocks",),
        ),
        Tiny(
            "qwen_image", "QwenImagePipeline", write_qwen_image, load_qwen_image,
            draw_qwen_image, lambda source: shifted(torch.rand(1, generator=source)),
            qwen_vae_latents, qwen_image_velocity, "txt_norm.weight", {
                "transformer": ("QwenImageTransformer2DModel", {}, 20_430_401_088),
                "text_encoder": (Qwen2_5_VLForConditionalGeneration, QWEN25_VL_7B, 8_292_166_656),
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
    name: str, pipeline: Any, prompts: Sequence[str], seeds: Sequence[int], width: int = 64
) -> list[NDArray[np.uint8]]:
    """In two steps with a guidance of 5, as 8-bit pixels."""
    generators = [generator(seed, "image") for seed in seeds]
    with quiet(), torch.inference_mode():
        images = TINY[name].draw(pipeline, prompts, generators, 2, 5.0, width)
    return list((images * 255).round().astype("uint8"))
