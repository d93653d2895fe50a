"""A tiny SD 3-type pipeline with random weights, as diffusers writes it, with and without T5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from charsweep.models import embedded

SHAPE: dict[str, Any] = {
    "sample_size": 16, "patch_size": 2, "in_channels": 4, "num_layers": 3,
    "attention_head_dim": 8, "num_attention_heads": 4, "joint_attention_dim": 64,
    "caption_projection_dim": 32, "pooled_projection_dim": 64, "out_channels": 4,
    "pos_embed_max_size": 24, "dual_attention_layers": [0], "qk_norm": "rms_norm",
}  # fmt: skip
WORDS = ["a", "picture", "of", "girl", "jumping", "on", "the", "beach", "UnicornGirl"]


def write_sd3(folder: Path, *, t5: bool) -> Path:
    """Save it, seeded: 64 pixels are 8 × 8 × 4 latents."""
    torch.manual_seed(0)
    tokenizers = [
        CLIPTokenizer.from_pretrained(embedded.FOLDER / "weights/sdxl" / name)
        for name in ("tokenizer", "tokenizer_2")
    ]
    encoders = [CLIPTextModelWithProjection(_clip(tokenizer)) for tokenizer in tokenizers]
    letters = [(letter, -5.0) for letter in "abcdefghijklmnopqrstuvwxyz,."]
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *letters]
    third = T5Tokenizer(vocab=words + [(f"▁{word}", -3.0) for word in WORDS], extra_ids=0)
    config = T5Config(
        vocab_size=len(third) + 20, d_model=64, d_kv=8, d_ff=64, num_layers=1, num_heads=4
    )
    vae = AutoencoderKL(
        block_out_channels=(16, 16, 16, 16), layers_per_block=1, latent_channels=4,
        norm_num_groups=8, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, scaling_factor=1.5305, shift_factor=0.0609,
        use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    transformer = SD3Transformer2DModel(**SHAPE)
    StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae,
        text_encoder=encoders[0], tokenizer=tokenizers[0],
        text_encoder_2=encoders[1], tokenizer_2=tokenizers[1],
        text_encoder_3=T5EncoderModel(config) if t5 else None, tokenizer_3=third if t5 else None,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def _clip(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, projection_dim=32, max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
