"""FLUX.2-klein (Black Forest Labs 2026): blocks that keep prompt and picture apart, then blocks
that read both as one; Qwen 3 reads the prompt.

The autoencoder's latents are laid together, four to one, so that they are (N, 128, h, w) at a
sixteenth of the picture's size, and each of those channels has a mean of 0 and a deviation of 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from charsweep.core.errors import ModelsError
from charsweep.models.conditioning import Conditioning
from charsweep.models.families import Drawing, Size, asked, decoded
from charsweep.models.families.flow import STEPS, FlowTransformer, check_distilled, code_by_names
from charsweep.models.families.shapes import Named, autoencoder_kl, by_configs, linear, norm, qwen3
from charsweep.models.kohya import Naming, dotted
from charsweep.models.transformer_names import FLUX2, Share, called

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Generator, Tensor

    from charsweep.core.specs import ImageSetSpec
    from charsweep.models.architectures import Shapes
    from charsweep.models.families import Family

CHAT = 12  # tokens of the turns around a prompt, and of an empty thought


@dataclass(frozen=True, config={"extra": "forbid", "allow_inf_nan": False})
class Klein(FlowTransformer):
    """FLUX.2-klein, undistilled or distilled to four steps without guidance."""

    title: ClassVar[str] = "a FLUX.2-klein pipeline"
    pipeline: ClassVar[str] = "Flux2KleinPipeline"
    marks: ClassVar[tuple[str, ...]] = ("single_stream_modulation.",)
    tags: ClassVar[tuple[str, ...]] = ("flux-2-klein",)
    autoencoder: ClassVar[str] = "AutoencoderKLFlux2"
    laid_together: ClassVar[int] = 4
    is_told_in_turns: ClassVar[bool] = True
    targets: ClassVar[tuple[str, ...]] = (
        *FlowTransformer.targets, "to_qkv_mlp_proj", "attn.to_out",
    )  # fmt: skip

    shift: Annotated[float, Field(gt=0)] | None = 1.0  # none, as diffusers' script teaches it
    distilled: bool = False

    @property
    def class_pictures(self) -> Drawing:
        return Drawing(4, 1.0) if self.distilled else Drawing(50, 4.0)

    def calls(self, guidance_scale: float) -> int:
        return 1 if self.distilled else super().calls(guidance_scale)

    def check(self, name: str, configs: Path) -> None:
        super().check(name, configs)
        check_distilled(name, configs, self.distilled)

    def room(self, encoder: str, length: int) -> int:
        return min(length, self.most_tokens) - CHAT

    def shapes(self, configs: Path) -> Shapes:
        return by_configs(
            configs,
            transformer=transformer,
            text_encoder=text_encoder,
            vae=autoencoder,
        )

    def code(self, prompt: str, drawing: Drawing, size: Size) -> Sequence[str]:
        """By name: the pipeline's first word is a picture."""
        steps, guidance = drawing
        own = f"num_inference_steps={steps}, guidance_scale={guidance:g}"
        return code_by_names(prompt, size, own)

    def naming(self, configs: Path, prediction: str) -> Naming:
        return dotted(original, "flux-2-klein", "flux")

    def latents(self, pipeline: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The most likely ones, which the pipeline itself takes of a picture: no deviation."""
        vae = pipeline.vae
        latents = pipeline._patchify_latents(vae.encode(pixels).latent_dist.mode())
        mean = vae.bn.running_mean.view(1, -1, 1, 1)
        variance = vae.bn.running_var.view(1, -1, 1, 1)
        scaled = (latents - mean) / (variance + vae.config.batch_norm_eps).sqrt()
        return scaled, scaled.new_zeros(scaled.shape)

    def tokens(self, size: Sequence[int]) -> int:
        return size[0] * size[1]

    def drawn_shift(self, config: Mapping[str, Any], tokens: int) -> float:
        """That of as many inference steps as its pictures are drawn in: it falls with them."""
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        if not config.get("use_dynamic_shifting"):
            return super().drawn_shift(config, tokens)
        return math.exp(compute_empirical_mu(tokens, self.class_pictures.inference_steps))

    def embedded(self, pipeline: Any, prompt: str) -> Conditioning:
        """Three of the encoder's hidden states side by side, 512 tokens; those behind the prompt's
        own count too."""
        hidden, _ = pipeline.encode_prompt([prompt], device=pipeline.text_encoder.device)
        return Conditioning(hidden)

    def predict(
        self, pipeline: Any, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning,
        sizes: Tensor,
    ) -> Tensor:  # fmt: skip
        """It is not told the sizes."""
        hidden, (height, width) = conditioning.hidden, noisy.shape[-2:]
        output = pipeline.transformer(
            hidden_states=noisy.flatten(2).mT, timestep=timesteps / STEPS, guidance=None,
            encoder_hidden_states=hidden, return_dict=False,
            txt_ids=places(hidden, (1, 1, 1, hidden.shape[1])),
            img_ids=places(hidden, (1, height, width, 1)),
        )  # fmt: skip
        predicted: Tensor = output[0].mT.unflatten(2, (height, width))
        return predicted

    def draw(
        self, pipeline: Any, spec: ImageSetSpec, prompts: Sequence[str],
        generators: Sequence[Generator],
    ) -> NDArray[np.float32]:  # fmt: skip
        """By the embeddings that training sees; the pipeline itself has no negative prompt."""
        latents = asked(pipeline, spec, generators, **self.told(pipeline, spec, prompts))
        return decoded(pipeline, latents, spec.pixels, decode)


def places(like: Tensor, sizes: Sequence[int]) -> Tensor:
    """Where tokens of a grid of that size stand, (tokens, axes)."""
    import torch

    return torch.cartesian_prod(*(torch.arange(size, device=like.device) for size in sizes))


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Images NCHW in [-1, 1] of the autoencoder's own latents, which the pipeline hands back."""
    images: Tensor = vae.decode(latents, return_dict=False)[0]
    return images


def original(layer: str) -> Share:
    """What a layer of diffusers' transformer is in the original code.

    Raises `ModelsError` for one that the original code has otherwise.
    """
    if layer.startswith("norm_out."):
        raise ModelsError(
            f"no ComfyUI name is known for the layer {layer}, whose halves lie the other way round "
            "there; teach others"
        )
    return called(FLUX2, layer)


# -- tensors, by the parts' configs ----------------------------------------------------------------


def transformer(config: Mapping[str, Any]) -> Named:
    """Of a `Flux2Transformer2DModel`."""
    head = config["attention_head_dim"]
    width, inputs = config["num_attention_heads"] * head, config["in_channels"]
    outputs = config["patch_size"] ** 2 * (config.get("out_channels") or inputs)
    embedders = ["timestep"] + ["guidance"] * config["guidance_embeds"]
    for name in embedders:
        own = f"time_guidance_embed.{name}_embedder"
        yield from _plain(f"{own}.linear_1", config["timestep_guidance_channels"], width)
        yield from _plain(f"{own}.linear_2", width, width)
    for name, sets in (("double_stream_modulation_img", 2), ("double_stream_modulation_txt", 2),
                       ("single_stream_modulation", 1)):  # fmt: skip
        yield from _plain(f"{name}.linear", width, 3 * sets * width)
    yield from _plain("x_embedder", inputs, width)
    yield from _plain("context_embedder", config["joint_attention_dim"], width)
    wide = int(width * config["mlp_ratio"])
    for index in range(config["num_layers"]):
        yield from _block(f"transformer_blocks.{index}", width, head, wide)
    for index in range(config["num_single_layers"]):
        own = f"single_transformer_blocks.{index}.attn"
        yield from _plain(f"{own}.to_qkv_mlp_proj", width, 3 * width + 2 * wide)
        yield from _plain(f"{own}.to_out", width + wide, width)
        for part in ("norm_q", "norm_k"):
            yield from norm(f"{own}.{part}", head, bias=False)
    yield from _plain("norm_out.linear", width, 2 * width)
    yield from _plain("proj_out", width, outputs)


def _block(name: str, width: int, head: int, wide: int) -> Named:
    for part in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj",
                 "to_add_out"):  # fmt: skip
        yield from _plain(f"{name}.attn.{part}", width, width)
    for part in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
        yield from norm(f"{name}.attn.{part}", head, bias=False)
    for part in ("ff", "ff_context"):
        yield from _plain(f"{name}.{part}.linear_in", width, 2 * wide)
        yield from _plain(f"{name}.{part}.linear_out", wide, width)


def _plain(name: str, inputs: int, outputs: int) -> Named:
    return linear(name, inputs, outputs, bias=False)


def text_encoder(config: Mapping[str, Any]) -> Named:
    """Of a `Qwen3ForCausalLM`."""
    yield from qwen3(config, "model.")
    if not config.get("tie_word_embeddings", False):
        yield from _plain("lm_head", config["hidden_size"], config["vocab_size"])


def autoencoder(config: Mapping[str, Any]) -> Named:
    """Of an `AutoencoderKLFlux2`."""
    yield from autoencoder_kl(config)
    channels = math.prod(config["patch_size"]) * config["latent_channels"]
    yield "bn.running_mean", [channels]
    yield "bn.running_var", [channels]
    yield "bn.num_batches_tracked", []


if TYPE_CHECKING:
    _: type[Family] = Klein
