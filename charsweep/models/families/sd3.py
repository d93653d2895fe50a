"""Stable Diffusion 3 and 3.5: a transformer taught by rectified flow (Esser et al. 2024, arXiv
2403.03206).

Its single files are not read: most leave the text encoders out, and T5's vocabulary does not ship
with charsweep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from charsweep.core.errors import ModelsError
from charsweep.core.store.files import read_json
from charsweep.models.conditioning import Conditioning
from charsweep.models.families import (
    Drawing,
    Size,
    call,
    plain_code,
    posterior,
    twice_if_guided,
)
from charsweep.models.families.flow import Flow, LogitNormal
from charsweep.models.families.shapes import linear
from charsweep.models.identify import class_of, holds
from charsweep.models.safetensors_file import tensor_shapes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Generator, Tensor

    from charsweep.core.specs import ImageSetSpec
    from charsweep.models.architectures import Shapes
    from charsweep.models.kohya import Naming

ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")


@dataclass(frozen=True, config={"extra": "forbid", "allow_inf_nan": False})
class StableDiffusion3:
    """Stable Diffusion 3 and its relatives: two CLIP encoders, and T5 where it is there."""

    version: ClassVar[int] = 1
    title: ClassVar[str] = "an SD 3-type pipeline"
    pipeline: ClassVar[str] = "StableDiffusion3Pipeline"
    denoiser: ClassVar[str] = "transformer"
    autoencoder: ClassVar[str] = "AutoencoderKL"
    loads_parts: ClassVar[bool] = False
    published: ClassVar[None] = None
    is_flow: ClassVar[bool] = True
    samplers: ClassVar[tuple[str, ...]] = (
        "FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler",
        "FlowMatchLCMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler",
    )  # fmt: skip
    class_pictures: ClassVar[Drawing] = Drawing(50, 5.0)
    unit: ClassVar[int] = 16
    laid_together: ClassVar[int] = 1
    targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")
    mixing: ClassVar[tuple[str, ...]] = ()
    draws_columns: ClassVar[bool] = False
    text_chunks: ClassVar[int] = 1
    most_text_chunks: ClassVar[int] = 1
    clip_skip: ClassVar[int] = 1
    tags: ClassVar[tuple[str, ...]] = ("stable-diffusion-3", "sd3", "sd3-diffusers")

    t5: bool = True  # False: it is left out where it is there
    logit_mean: float = 0.0  # of the timesteps' logits: 0 and 1 did best in the paper's section 5.1
    logit_std: Annotated[float, Field(gt=0)] = 1.0

    @property
    def encoders(self) -> tuple[str, ...]:
        return ENCODERS if self.t5 else ENCODERS[:2]

    @property
    def tokenizers(self) -> tuple[str, ...]:
        return TOKENIZERS[: len(self.encoders)]

    def calls(self, guidance_scale: float) -> int:
        return twice_if_guided(guidance_scale)

    def recognises(self, path: Path) -> bool:
        if path.is_dir():
            return class_of(path) == self.pipeline and _is_plain(path)
        if not holds(tensor_shapes(path), "joint_blocks.", within=True):
            return False
        raise ModelsError(
            f"{path} is a single file of SD 3 type; such bases are read from diffusers folders "
            "only: give the folder, or the hub repository, that holds model_index.json"
        )

    def left_out(self, configs: Path) -> tuple[str, ...]:
        images = ("image_encoder", "feature_extractor")
        has_t5 = self.t5 and (configs / "text_encoder_3").is_dir()
        return images if has_t5 else (*images, "text_encoder_3", "tokenizer_3")

    def check(self, name: str, configs: Path) -> None:
        """Nothing of it depends on a config."""

    def room(self, encoder: str, length: int) -> int:
        """T5 reads a prompt in one piece, and diffusers lets it have 256 tokens, the end among
        them; CLIP has a beginning too."""
        return min(length, 256) - 1 if encoder == "text_encoder_3" else length - 2

    def shapes(self, configs: Path) -> Shapes:
        """Of the transformer, by its config; the encoders' are not known before they are here."""
        config = configs / "transformer" / "config.json"
        return {"transformer": dict(transformer_shapes(read_json(config)))}

    def taught(self, text_encoder: bool) -> tuple[str, ...]:
        """T5 is never taught: adapter files have no place for it."""
        return (self.denoiser, *(ENCODERS[:2] if text_encoder else ()))

    def code(self, prompt: str, drawing: Drawing, size: Size) -> Sequence[str]:
        return plain_code(prompt, drawing, size)

    def naming(self, configs: Path, prediction: str) -> Naming:
        raise ModelsError(
            "SD 3-type bases have no kohya file: sd-scripts' names for them are of layers that "
            "hold three of diffusers'; ComfyUI and diffusers read the diffusers file"
        )

    def latents(self, pipeline: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return posterior(pipeline.vae, pixels)

    def embed(self, pipeline: Any, prompts: Sequence[str]) -> Conditioning:
        """As the pipeline has them when it draws; T5's are zeros where it is absent."""
        hidden, _, pooled, _ = pipeline.encode_prompt(
            list(prompts), None, None, device=pipeline.text_encoder.device,
            do_classifier_free_guidance=False,
        )  # fmt: skip
        return Conditioning(hidden, pooled)

    def noising(self, pipeline: Any) -> Flow:
        config = pipeline.scheduler.config
        density = LogitNormal(self.logit_mean, self.logit_std)
        return Flow(density, lambda size: config.shift, config.num_train_timesteps)

    def predict(
        self, pipeline: Any, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning,
        sizes: Tensor,
    ) -> Tensor:  # fmt: skip
        """It is not told the sizes."""
        output = pipeline.transformer(
            noisy, encoder_hidden_states=conditioning.hidden,
            pooled_projections=conditioning.pooled, timestep=timesteps, return_dict=False,
        )  # fmt: skip
        predicted: Tensor = output[0]
        return predicted

    def draw(
        self, pipeline: Any, spec: ImageSetSpec, prompts: Sequence[str],
        generators: Sequence[Generator],
    ) -> NDArray[np.float32]:  # fmt: skip
        negative = [spec.negative_prompt] * len(prompts)
        return call(pipeline, spec, generators, prompt=list(prompts), negative_prompt=negative)


def _is_plain(folder: Path) -> bool:
    """True; ModelsError for a base whose timesteps depend on the size of the picture."""
    config = folder / "scheduler" / "scheduler_config.json"
    if config.exists() and read_json(config).get("use_dynamic_shifting"):
        raise ModelsError(
            f"{config} shifts timesteps by the size of each picture (use_dynamic_shifting), which "
            "charsweep does not teach; give a base without"
        )
    return True


# -- the transformer's tensors, by its config ------------------------------------------------------


def transformer_shapes(config: dict[str, Any]) -> Iterator[tuple[str, list[int]]]:
    """Names and shapes of all tensors of an `SD3Transformer2DModel`."""
    width = config["num_attention_heads"] * config["attention_head_dim"]
    patch, pooled = config["patch_size"], config["pooled_projection_dim"]
    places = config["pos_embed_max_size"] ** 2
    yield "pos_embed.pos_embed", [1, places, width]
    yield "pos_embed.proj.weight", [width, config["in_channels"], patch, patch]
    yield "pos_embed.proj.bias", [width]
    for name, inputs in (("timestep_embedder", 256), ("text_embedder", pooled)):
        yield from linear(f"time_text_embed.{name}.linear_1", inputs, width)
        yield from linear(f"time_text_embed.{name}.linear_2", width, width)
    caption = config["caption_projection_dim"]
    yield from linear("context_embedder", config["joint_attention_dim"], caption)
    last = config["num_layers"] - 1
    for index in range(last + 1):
        yield from block_shapes(config, index, width, is_last=index == last)
    yield from linear("norm_out.linear", width, 2 * width)
    yield from linear("proj_out", width, patch * patch * (config["out_channels"] or 0))


def block_shapes(
    config: dict[str, Any], index: int, width: int, *, is_last: bool
) -> Iterator[tuple[str, list[int]]]:
    """One block: pictures and prompts side by side; the last has no more use for the prompts."""
    start, is_dual = f"transformer_blocks.{index}", index in config["dual_attention_layers"]
    yield from linear(f"{start}.norm1.linear", width, (9 if is_dual else 6) * width)
    yield from linear(f"{start}.norm1_context.linear", width, (2 if is_last else 6) * width)
    ends = ["attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"]
    ends += ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"]
    ends += [] if is_last else ["attn.to_add_out"]
    norms = ["attn.norm_q", "attn.norm_k", "attn.norm_added_q", "attn.norm_added_k"]
    if is_dual:
        ends += ["attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"]
        norms += ["attn2.norm_q", "attn2.norm_k"]
    for end in ends:
        yield from linear(f"{start}.{end}", width, width)
    for norm in norms if config["qk_norm"] else ():
        yield f"{start}.{norm}.weight", [config["attention_head_dim"]]
    for feed in ("ff",) if is_last else ("ff", "ff_context"):
        yield from linear(f"{start}.{feed}.net.0.proj", width, 4 * width)
        yield from linear(f"{start}.{feed}.net.2", 4 * width, width)
