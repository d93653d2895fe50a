"""Krea 2 (Krea 2026): prompt and picture in one sequence. It is told twelve hidden states of Qwen 3
VL for each of the prompt's tokens, which a part of it, the text fusion, makes one of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from charsweep.models.conditioning import Conditioning
from charsweep.models.families import Drawing, Size, asked, decoded
from charsweep.models.families.flow import (
    PIXELS,
    STEPS,
    FlowTransformer,
    check_distilled,
    code_by_names,
)
from charsweep.models.families.qwen_vae import AUTOENCODER, decode, packed, posterior, unpacked
from charsweep.models.families.qwen_vae import shapes as vae_shapes
from charsweep.models.families.shapes import Named, by_configs, linear, norm, qwen3_vl
from charsweep.models.kohya import Naming, dotted
from charsweep.models.transformer_names import KREA2, called

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Generator, Tensor

    from charsweep.core.specs import ImageSetSpec
    from charsweep.models.architectures import Shapes
    from charsweep.models.families import Family

ENDING = 5  # tokens of the turn behind a prompt, which are read too
DISTILLED_SHIFT = 1.15  # the logarithm of that by which the distilled one draws, as in its pipeline


@dataclass(frozen=True, config={"extra": "forbid", "allow_inf_nan": False})
class Krea2(FlowTransformer):
    """Krea 2 Raw, and Turbo, distilled to eight steps without guidance."""

    title: ClassVar[str] = "a Krea 2 pipeline"
    pipeline: ClassVar[str] = "Krea2Pipeline"
    marks: ClassVar[tuple[str, ...]] = ("txtfusion.", "text_fusion.")
    tags: ClassVar[tuple[str, ...]] = ("krea-2",)
    autoencoder: ClassVar[str] = AUTOENCODER
    targets: ClassVar[tuple[str, ...]] = (
        *FlowTransformer.targets, "to_gate", "ff.up", "ff.down",
    )  # fmt: skip
    # each token of a prompt is a sample there, of as many tokens as there are hidden states
    mixing: ClassVar[tuple[str, ...]] = ("text_fusion.layerwise_blocks",)

    shift: Annotated[float, Field(gt=0)] | None = 1.0  # none, as diffusers' script teaches it
    distilled: bool = False

    @property
    def class_pictures(self) -> Drawing:
        return Drawing(8, 1.0) if self.distilled else Drawing(28, 5.5)

    def check(self, name: str, configs: Path) -> None:
        check_distilled(name, configs, self.distilled)

    def room(self, encoder: str, length: int) -> int:
        return min(length, self.most_tokens) - ENDING

    def shapes(self, configs: Path) -> Shapes:
        return by_configs(
            configs,
            transformer=transformer,
            text_encoder=qwen3_vl,
            vae=vae_shapes,
        )

    def code(self, prompt: str, drawing: Drawing, size: Size) -> Sequence[str]:
        steps, guidance = drawing
        own = f"num_inference_steps={steps}, guidance_scale={max(guidance - 1, 0):g}"
        return code_by_names(prompt, size, own)

    def naming(self, configs: Path, prediction: str) -> Naming:
        return dotted(partial(called, KREA2), "krea-2", "krea-2")

    def latents(self, pipeline: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return posterior(pipeline.vae, pixels)

    def drawn_shift(self, config: Mapping[str, Any], tokens: int) -> float:
        if self.distilled and config.get("use_dynamic_shifting"):
            return math.exp(DISTILLED_SHIFT)
        return super().drawn_shift(config, tokens)

    def embedded(self, pipeline: Any, prompt: str) -> Conditioning:
        """Of 512 tokens of each, (N, 512, states, width); a mask tells which are its own."""
        hidden, mask = pipeline.encode_prompt([prompt], device=pipeline.text_encoder.device)
        return Conditioning(hidden, mask=mask)

    def predict(
        self, pipeline: Any, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning,
        sizes: Tensor,
    ) -> Tensor:  # fmt: skip
        """It is not told the sizes."""
        hidden, (height, width) = conditioning.hidden, noisy.shape[-2:]
        places = pipeline.prepare_position_ids(
            hidden.shape[1], height // 2, width // 2, noisy.device
        )
        output = pipeline.transformer(
            hidden_states=packed(noisy), encoder_hidden_states=hidden,
            timestep=timesteps / STEPS, position_ids=places,
            encoder_attention_mask=conditioning.mask, return_dict=False,
        )  # fmt: skip
        return unpacked(output[0], height, width)

    def draw(
        self, pipeline: Any, spec: ImageSetSpec, prompts: Sequence[str],
        generators: Sequence[Generator],
    ) -> NDArray[np.float32]:  # fmt: skip
        """By the embeddings that training sees. The pipeline adds its scale of c - u to c."""
        words = self.told(pipeline, spec, prompts)
        width, height = (side // PIXELS for side in spec.pixels)
        scale = max(spec.guidance_scale - 1, 0.0)
        tokens = asked(pipeline, spec, generators, guidance_scale=scale, **words)
        return decoded(pipeline, unpacked(tokens, height, width), spec.pixels, decode)


# -- the transformer's tensors, by its config ------------------------------------------------------


def transformer(config: Mapping[str, Any]) -> Named:
    """Of a `Krea2Transformer2DModel`."""
    heads, head = config["num_attention_heads"], config["attention_head_dim"]
    width, told = heads * head, config["text_hidden_dim"]
    yield from linear("img_in", config["in_channels"], width)
    yield from linear("time_embed.linear_1", config["timestep_embed_dim"], width)
    yield from linear("time_embed.linear_2", width, width)
    yield from linear("time_mod_proj", width, 6 * width)
    reading = (told, config["text_num_attention_heads"], config["text_num_key_value_heads"],
               config["text_intermediate_size"])  # fmt: skip
    for index in range(config["num_layerwise_text_blocks"]):
        yield from _block(f"text_fusion.layerwise_blocks.{index}", *reading)
    yield from linear("text_fusion.projector", config["num_text_layers"], 1, bias=False)
    for index in range(config["num_refiner_text_blocks"]):
        yield from _block(f"text_fusion.refiner_blocks.{index}", *reading)
    yield from norm("txt_in.norm", told, bias=False)
    yield from linear("txt_in.linear_1", told, width)
    yield from linear("txt_in.linear_2", width, width)
    for index in range(config["num_layers"]):
        yield f"transformer_blocks.{index}.scale_shift_table", [6, width]
        yield from _block(
            f"transformer_blocks.{index}", width, heads, config["num_key_value_heads"],
            config["intermediate_size"],
        )  # fmt: skip
    yield "final_layer.scale_shift_table", [2, width]
    yield from norm("final_layer.norm", width, bias=False)
    yield from linear("final_layer.linear", width, config["in_channels"])


def _block(name: str, width: int, heads: int, keys: int, wide: int) -> Named:
    for part in ("norm1", "norm2"):
        yield from norm(f"{name}.{part}", width, bias=False)
    head = width // heads
    for part, outputs in (("to_q", width), ("to_k", keys * head), ("to_v", keys * head),
                          ("to_gate", width), ("to_out.0", width)):  # fmt: skip
        yield from linear(f"{name}.attn.{part}", width, outputs, bias=False)
    for part in ("norm_q", "norm_k"):
        yield from norm(f"{name}.attn.{part}", head, bias=False)
    for part, inputs, outputs in (("gate", width, wide), ("up", width, wide),
                                  ("down", wide, width)):  # fmt: skip
        yield from linear(f"{name}.ff.{part}", inputs, outputs, bias=False)


if TYPE_CHECKING:
    _: type[Family] = Krea2
