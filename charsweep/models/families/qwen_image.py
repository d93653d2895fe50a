"""Qwen-Image (Wu et al. 2025, arXiv 2508.02324): blocks that keep prompt and picture apart; Qwen
2.5 VL reads the prompt.

How many tokens the prompts beside one have would move its last bits, so all are filled up to 512.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from charsweep.models.conditioning import Conditioning
from charsweep.models.families import Drawing, Size, asked, decoded
from charsweep.models.families.flow import PIXELS, STEPS, FlowTransformer, code_by_names
from charsweep.models.families.qwen_vae import AUTOENCODER, decode, packed, posterior, unpacked
from charsweep.models.families.qwen_vae import shapes as vae_shapes
from charsweep.models.families.shapes import Named, by_configs, linear, norm, qwen25_vl
from charsweep.models.kohya import Naming, dotted
from charsweep.models.transformer_names import Share

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Generator, Tensor

    from charsweep.core.specs import ImageSetSpec
    from charsweep.models.architectures import Shapes
    from charsweep.models.families import Family

ENDING = 5  # tokens of the turn behind a prompt, which are read too
TIME = 256  # width of what is first made of the time


@dataclass(frozen=True, config={"extra": "forbid", "allow_inf_nan": False})
class QwenImage(FlowTransformer):
    """Qwen-Image and Qwen-Image-2512."""

    title: ClassVar[str] = "a Qwen-Image pipeline"
    pipeline: ClassVar[str] = "QwenImagePipeline"
    marks: ClassVar[tuple[str, ...]] = ("txt_norm.",)
    tags: ClassVar[tuple[str, ...]] = ("qwen-image",)
    autoencoder: ClassVar[str] = AUTOENCODER
    class_pictures: ClassVar[Drawing] = Drawing(50, 4.0)

    shift: Annotated[float, Field(gt=0)] | None = 3.0  # as diffusers' script teaches it

    def room(self, encoder: str, length: int) -> int:
        return min(length, self.most_tokens) - ENDING

    def shapes(self, configs: Path) -> Shapes:
        return by_configs(
            configs,
            transformer=transformer,
            text_encoder=qwen25_vl,
            vae=vae_shapes,
        )

    def code(self, prompt: str, drawing: Drawing, size: Size) -> Sequence[str]:
        """Guided only beside a negative prompt, be it empty."""
        steps, guidance = drawing
        own = f'num_inference_steps={steps}, true_cfg_scale={guidance:g}, negative_prompt=""'
        return code_by_names(prompt, size, own)

    def naming(self, configs: Path, prediction: str) -> Naming:
        return dotted(Share, "qwen-image", "diffusers")

    def latents(self, pipeline: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return posterior(pipeline.vae, pixels)

    def embedded(self, pipeline: Any, prompt: str) -> Conditioning:
        """The last hidden state of each prompt's own tokens."""
        import torch

        hidden, _ = pipeline.encode_prompt(
            [prompt], device=pipeline.text_encoder.device, max_sequence_length=self.most_tokens
        )
        own = hidden.shape[1]
        filled = torch.nn.functional.pad(hidden, (0, 0, 0, self.most_tokens - own))
        mask = torch.arange(self.most_tokens, device=hidden.device)[None] < own
        return Conditioning(filled, mask=mask)

    def predict(
        self, pipeline: Any, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning,
        sizes: Tensor,
    ) -> Tensor:  # fmt: skip
        """It is not told the sizes."""
        height, width = noisy.shape[-2:]
        output = pipeline.transformer(
            hidden_states=packed(noisy), timestep=timesteps / STEPS,
            encoder_hidden_states=conditioning.hidden,
            encoder_hidden_states_mask=conditioning.mask,
            img_shapes=[[(1, height // 2, width // 2)]] * len(noisy), return_dict=False,
        )  # fmt: skip
        return unpacked(output[0], height, width)

    def draw(
        self, pipeline: Any, spec: ImageSetSpec, prompts: Sequence[str],
        generators: Sequence[Generator],
    ) -> NDArray[np.float32]:  # fmt: skip
        """By the embeddings that training sees. What the pipeline calls guidance is fed to its
        transformer, which knows none; a guided velocity is made as long as the prompt's own."""
        words = self.told(pipeline, spec, prompts)
        width, height = (side // PIXELS for side in spec.pixels)
        if (
            spec.inference_steps == 1
        ):  # its last step, which is stretched to a given end, is its first
            made = pipeline.scheduler
            pipeline.scheduler = type(made).from_config(made.config, shift_terminal=None)
        scales = {"guidance_scale": None, "true_cfg_scale": spec.guidance_scale}
        tokens = asked(pipeline, spec, generators, **scales, **words)
        return decoded(pipeline, unpacked(tokens, height, width), spec.pixels, decode)


# -- the transformer's tensors, by its config ------------------------------------------------------


def transformer(config: Mapping[str, Any]) -> Named:
    """Of a `QwenImageTransformer2DModel`."""
    head, inputs = config["attention_head_dim"], config["in_channels"]
    width, told = config["num_attention_heads"] * head, config["joint_attention_dim"]
    outputs = config["patch_size"] ** 2 * (config.get("out_channels") or inputs)
    yield from linear("time_text_embed.timestep_embedder.linear_1", TIME, width)
    yield from linear("time_text_embed.timestep_embedder.linear_2", width, width)
    if config.get("use_additional_t_cond"):
        yield "time_text_embed.addition_t_embedding.weight", [2, width]
    yield from norm("txt_norm", told, bias=False)
    yield from linear("img_in", inputs, width)
    yield from linear("txt_in", told, width)
    for index in range(config["num_layers"]):
        block = f"transformer_blocks.{index}"
        for part in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj",
                     "to_add_out"):  # fmt: skip
            yield from linear(f"{block}.attn.{part}", width, width)
        for part in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
            yield from norm(f"{block}.attn.{part}", head, bias=False)
        for side in ("img", "txt"):
            yield from linear(f"{block}.{side}_mod.1", width, 6 * width)
            yield from linear(f"{block}.{side}_mlp.net.0.proj", width, 4 * width)
            yield from linear(f"{block}.{side}_mlp.net.2", 4 * width, width)
    yield from linear("norm_out.linear", width, 2 * width)
    yield from linear("proj_out", width, outputs)


if TYPE_CHECKING:
    _: type[Family] = QwenImage
