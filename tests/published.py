"""The published models by their architecture alone: modules without weights, for the tests."""

from __future__ import annotations

from functools import cache

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection


def clip_l() -> CLIPTextConfig:
    return CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
    )


@cache
def stable_diffusion() -> dict[str, nn.Module]:
    """Stable Diffusion 1.5 as its config.json files have it."""
    with torch.device("meta"):
        return {
            "unet": UNet2DConditionModel(
                sample_size=64, cross_attention_dim=768, attention_head_dim=8
            ),
            "text_encoder": CLIPTextModel(clip_l()),
            "vae": AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(128, 256, 512, 512), layers_per_block=2,
            ),
        }  # fmt: skip


@cache
def stable_diffusion_xl() -> dict[str, nn.Module]:
    """Stable Diffusion XL as its config.json files have it, without the VAE."""
    large = CLIPTextConfig(
        hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20,
        projection_dim=1280,
    )  # fmt: skip
    with torch.device("meta"):
        return {
            "unet": UNet2DConditionModel(
                sample_size=128, cross_attention_dim=2048, attention_head_dim=(5, 10, 20),
                block_out_channels=(320, 640, 1280), transformer_layers_per_block=(1, 2, 10),
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                use_linear_projection=True, addition_embed_type="text_time",
                addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
            ),
            "text_encoder": CLIPTextModel(clip_l()),
            "text_encoder_2": CLIPTextModelWithProjection(large),
        }  # fmt: skip
