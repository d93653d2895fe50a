"""Z-Image (Tongyi-MAI 2025, arXiv 2511.22699): prompt and picture in one sequence of a transformer
that Qwen 3 reads the prompt for.

The transformer counts time from noise, 0, to picture, 1, and predicts the way back; the pipeline
turns both round, and so do these functions. It is handed a list with one tensor for each sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic.dataclasses import dataclass

from charsweep.models.conditioning import Conditioning
from charsweep.models.families import Drawing, Size, call
from charsweep.models.families.flow import STEPS, FlowTransformer, code_by_names
from charsweep.models.families.shapes import Named, autoencoder_kl, by_configs, linear, norm, qwen3
from charsweep.models.kohya import Naming, dotted
from charsweep.models.transformer_names import Share

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Generator, Tensor

    from charsweep.core.specs import ImageSetSpec
    from charsweep.models.architectures import Shapes
    from charsweep.models.families import Family

TIME = 256  # width of what blocks are told of the time, at most
CHAT = 8  # tokens of the turns around a prompt


@dataclass(frozen=True, config={"extra": "forbid", "allow_inf_nan": False})
class ZImage(FlowTransformer):
    """Z-Image and Z-Image-Turbo."""

    title: ClassVar[str] = "a Z-Image pipeline"
    pipeline: ClassVar[str] = "ZImagePipeline"
    marks: ClassVar[tuple[str, ...]] = ("noise_refiner.",)
    tags: ClassVar[tuple[str, ...]] = ("z-image",)
    class_pictures: ClassVar[Drawing] = Drawing(28, 4.0)
    is_told_in_turns: ClassVar[bool] = True
    # all tokens of a batch go through these in one row
    mixing: ClassVar[tuple[str, ...]] = ("cap_embedder", "all_x_embedder")

    def room(self, encoder: str, length: int) -> int:
        return min(length, self.most_tokens) - CHAT

    def shapes(self, configs: Path) -> Shapes:
        return by_configs(
            configs,
            transformer=transformer,
            text_encoder=qwen3,
            vae=autoencoder_kl,
        )

    def code(self, prompt: str, drawing: Drawing, size: Size) -> Sequence[str]:
        steps, guidance = drawing
        own = f"num_inference_steps={steps}, guidance_scale={max(guidance - 1, 0):g}"
        return code_by_names(prompt, size, own)

    def naming(self, configs: Path, prediction: str) -> Naming:
        return dotted(Share, "z-image", "diffusers")

    def embedded(self, pipeline: Any, prompt: str) -> Conditioning:
        """The hidden state before the last of the prompt's own tokens."""
        import torch

        (own,), _ = pipeline.encode_prompt(
            [prompt], device=pipeline.text_encoder.device, do_classifier_free_guidance=False
        )
        mask = torch.ones(1, len(own), dtype=torch.bool, device=own.device)
        return Conditioning(own[None], mask=mask)

    def words(self, pipeline: Any, conditioning: Conditioning) -> dict[str, Any]:
        return {"prompt_embeds": own_tokens(conditioning)}

    def predict(
        self, pipeline: Any, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning,
        sizes: Tensor,
    ) -> Tensor:  # fmt: skip
        """It is not told the sizes."""
        import torch

        output = pipeline.transformer(
            list(noisy.unsqueeze(2)), 1 - timesteps / STEPS, own_tokens(conditioning),
            return_dict=False,
        )  # fmt: skip
        return -torch.stack(output[0]).squeeze(2)

    def draw(
        self, pipeline: Any, spec: ImageSetSpec, prompts: Sequence[str],
        generators: Sequence[Generator],
    ) -> NDArray[np.float32]:  # fmt: skip
        """By the embeddings that training sees. The pipeline adds its scale of c - u to c."""
        scale = max(spec.guidance_scale - 1, 0.0)
        words = self.told(pipeline, spec, prompts)
        return call(pipeline, spec, generators, guidance_scale=scale, **words)


def own_tokens(conditioning: Conditioning) -> list[Tensor]:
    """Of each prompt, what is told of its own tokens, (tokens, width)."""
    assert conditioning.mask is not None
    pairs = zip(conditioning.hidden, conditioning.mask, strict=True)
    return [hidden[mask] for hidden, mask in pairs]


# -- the transformer's tensors, by its config ------------------------------------------------------


def transformer(config: dict[str, Any]) -> Named:
    """Of a `ZImageTransformer2DModel`."""
    width, channels = config["dim"], config["in_channels"]
    time = min(width, TIME)
    patches = zip(config["all_patch_size"], config["all_f_patch_size"], strict=True)
    for patch, frames in patches:
        numbers = frames * patch * patch * channels
        yield from linear(f"all_x_embedder.{patch}-{frames}", numbers, width)
        yield from linear(f"all_final_layer.{patch}-{frames}.linear", width, numbers)
        yield from linear(f"all_final_layer.{patch}-{frames}.adaLN_modulation.1", time, width)
    yield from linear("t_embedder.mlp.0", TIME, 1024)
    yield from linear("t_embedder.mlp.2", 1024, time)
    yield from norm("cap_embedder.0", config["cap_feat_dim"], bias=False)
    yield from linear("cap_embedder.1", config["cap_feat_dim"], width)
    yield "x_pad_token", [1, width]
    yield "cap_pad_token", [1, width]
    for index in range(config["n_refiner_layers"]):
        yield from _block(f"noise_refiner.{index}", config)
        yield from _block(f"context_refiner.{index}", config, is_told_time=False)
    for index in range(config["n_layers"]):
        yield from _block(f"layers.{index}", config)


def _block(name: str, config: dict[str, Any], *, is_told_time: bool = True) -> Named:
    width, wide = config["dim"], int(config["dim"] / 3 * 8)
    for part in ("to_q", "to_k", "to_v", "to_out.0"):
        yield from linear(f"{name}.attention.{part}", width, width, bias=False)
    for part in ("norm_q", "norm_k") if config["qk_norm"] else ():
        yield from norm(f"{name}.attention.{part}", width // config["n_heads"], bias=False)
    for part, inputs, outputs in (("w1", width, wide), ("w2", wide, width), ("w3", width, wide)):
        yield from linear(f"{name}.feed_forward.{part}", inputs, outputs, bias=False)
    for part in ("attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2"):
        yield from norm(f"{name}.{part}", width, bias=False)
    if is_told_time:
        yield from linear(f"{name}.adaLN_modulation.0", min(width, TIME), 4 * width)


if TYPE_CHECKING:
    _: type[Family] = ZImage
