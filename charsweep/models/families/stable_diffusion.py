"""Stable Diffusion 1.5 and XL: a U-Net that predicts noise or velocity (Rombach et al. 2022,
Podell et al. 2023).

CLIP reads 75 tokens and cuts the rest off. With `text_chunks` a prompt is read in as many chunks of
75, each by itself, and the U-Net sees them side by side: what A1111 and ComfyUI draw long prompts
with. As sd-scripts' `max_token_length` has it, there are always as many, so that what a prompt is
read as does not depend on those beside it; unlike there, each chunk keeps its beginning and its end
(A1111 and ComfyUI draw so), and no chunk ends at a comma for its sake. Adapters trained with more
chunks than a program draws a prompt with are used elsewhere as they are.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from charsweep.core.columns import Pass, passes
from charsweep.core.errors import ModelsError
from charsweep.core.keys import CAME_LATER
from charsweep.core.store.files import read_json
from charsweep.models import architectures
from charsweep.models.conditioning import Conditioning
from charsweep.models.families import (
    Drawing,
    Size,
    call,
    plain_code,
    posterior,
    twice_if_guided,
)
from charsweep.models.identify import class_of, holds
from charsweep.models.kohya import Naming, original_name
from charsweep.models.regions import Choose, predicting_by_columns
from charsweep.models.safetensors_file import tensor_shapes
from charsweep.models.transformer_names import Share

if TYPE_CHECKING:
    import numpy as np
    from diffusers import DDPMScheduler
    from numpy.typing import NDArray
    from torch import Generator, Tensor

    from charsweep.core.specs import ImageSetSpec
    from charsweep.models.architectures import Shapes

UNET = "model.diffusion_model."
FIRST_LAYER = f"{UNET}input_blocks.0.0.weight"
OF_IMAGES = ("feature_extractor", "image_encoder")  # parts that read pictures
ORIGINAL_CODE = "https://github.com/Stability-AI/generative-models"
MOST_CHUNKS = 10


@dataclass(frozen=True, config={"extra": "forbid"})
class StableDiffusion:
    """Stable Diffusion 1.5 and its relatives: one text encoder."""

    version: ClassVar[int] = 1
    title: ClassVar[str] = "an SD 1.5-type pipeline"
    pipeline: ClassVar[str] = "StableDiffusionPipeline"
    denoiser: ClassVar[str] = "unet"
    autoencoder: ClassVar[str] = "AutoencoderKL"
    encoders: ClassVar[tuple[str, ...]] = ("text_encoder",)
    tokenizers: ClassVar[tuple[str, ...]] = ("tokenizer",)
    loads_parts: ClassVar[bool] = False
    published: ClassVar[str] = "sd15"
    text: ClassVar[str] = "cond_stage_model.transformer."  # how its names begin in a single file
    is_flow: ClassVar[bool] = False
    samplers: ClassVar[None] = None
    class_pictures: ClassVar[Drawing] = Drawing(50, 5.0)
    unit: ClassVar[int] = 8
    laid_together: ClassVar[int] = 1
    targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")
    mixing: ClassVar[tuple[str, ...]] = ()
    draws_columns: ClassVar[bool] = True
    most_text_chunks: ClassVar[int] = MOST_CHUNKS
    tags: ClassVar[tuple[str, ...]] = ("stable-diffusion",)

    text_chunks: Annotated[int, Field(ge=1, le=MOST_CHUNKS)] = dataclasses.field(
        default=1, metadata=CAME_LATER
    )
    clip_skip: Annotated[int, Field(ge=1)] = dataclasses.field(default=1, metadata=CAME_LATER)

    def calls(self, guidance_scale: float) -> int:
        return twice_if_guided(guidance_scale)

    def recognises(self, path: Path) -> bool:
        return is_checkpoint(path, self.pipeline, self.published, self.text)

    def left_out(self, configs: Path) -> tuple[str, ...]:
        return ("safety_checker", *OF_IMAGES)

    def check(self, name: str, configs: Path) -> None:
        if self.clip_skip == 1:
            return
        layers = read_json(configs / "text_encoder" / "config.json").get("num_hidden_layers", 12)
        if self.clip_skip > layers:
            raise ModelsError(
                f"models.bases.{name}.clip_skip={self.clip_skip}: its text encoder has {layers} "
                f"layers; set models.bases.{name}.clip_skip=1, the last one, or up to {layers}"
            )

    def room(self, encoder: str, length: int) -> int:
        return self.text_chunks * (length - 2)  # of each the beginning and the end are its own

    def shapes(self, configs: Path) -> Shapes:
        return architectures.shapes_of(self.published)

    def taught(self, text_encoder: bool) -> tuple[str, ...]:
        return (self.denoiser, *(self.encoders if text_encoder else ()))

    def code(self, prompt: str, drawing: Drawing, size: Size) -> Sequence[str]:
        return plain_code(prompt, drawing, size)

    def naming(self, configs: Path, prediction: str) -> Naming:
        """U-Net layers go by diffusers' names, as sd-scripts has them."""
        config = read_json(configs / "unet" / "config.json")
        is_second = config.get("cross_attention_dim") == 1024  # Stable Diffusion 2's encoder
        version = "sd_v2" if is_second else "sd_v1"
        second = "stable-diffusion-v2-768-v" if prediction == "v" else "stable-diffusion-v2-512"
        return Naming(
            modules={"unet": "lora_unet", "text_encoder": "lora_te"},
            share=Share,
            version=f"{version}_v" if prediction == "v" else version,
            architecture=second if is_second else "stable-diffusion-v1",
            implementation="diffusers",
        )

    def latents(self, pipeline: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return posterior(pipeline.vae, pixels)

    def embed(self, pipeline: Any, prompts: Sequence[str]) -> Conditioning:
        """The last hidden state, or that of an earlier layer with the last one's normalisation."""
        encoder = pipeline.text_encoder
        ids = tokens(pipeline.tokenizer, prompts, self.text_chunks).to(encoder.device)
        if self.clip_skip == 1:
            hidden = encoder(ids)[0]
        else:
            states = encoder(ids, output_hidden_states=True).hidden_states
            normalised = getattr(encoder, "text_model", encoder).final_layer_norm
            hidden = normalised(states[-self.clip_skip])
        return Conditioning(side_by_side(hidden, len(prompts)))

    def noising(self, pipeline: Any) -> Alphas:
        """By the noise levels that the pipeline's scheduler was made with."""
        from diffusers import DDPMScheduler

        return Alphas(DDPMScheduler.from_config(pipeline.scheduler.config))

    def predict(
        self, pipeline: Any, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning,
        sizes: Tensor,
    ) -> Tensor:  # fmt: skip
        return ask(pipeline.unet, noisy, timesteps, conditioning, None)

    def draw(
        self, pipeline: Any, spec: ImageSetSpec, prompts: Sequence[str],
        generators: Sequence[Generator],
    ) -> NDArray[np.float32]:  # fmt: skip
        """By the embeddings that training sees."""
        return self.draw_in_passes(pipeline, spec, passes(prompts), generators)

    def draw_in_passes(
        self, pipeline: Any, spec: ImageSetSpec, made: Sequence[Pass],
        generators: Sequence[Generator], choose: Choose = lambda drawer: None,
    ) -> NDArray[np.float32]:  # fmt: skip
        """Each pass by the adapter that is chosen for it, with the embeddings that it makes."""
        import torch

        hidden: dict[str, list[Tensor]] = {}
        for one in made:
            choose(one.drawer)
            asked = {"": one.words}
            if spec.guidance_scale > 1:
                asked["negative_"] = (spec.negative_prompt,) * len(one.words)
            for which, words in asked.items():
                told = self.embed(pipeline, words)
                hidden.setdefault(f"{which}prompt_embeds", []).append(told.hidden)
                if told.pooled is not None:
                    hidden.setdefault(f"{which}pooled_prompt_embeds", []).append(told.pooled)
        embedded = {name: torch.cat(each, dim=1) for name, each in hidden.items()}
        with predicting_by_columns(pipeline.unet, made, choose, self.unit):
            return call(pipeline, spec, generators, **embedded)


@dataclass(frozen=True, config={"extra": "forbid"})
class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL and its relatives: two text encoders; told the pictures' sizes."""

    title: ClassVar[str] = "an SDXL-type pipeline"
    pipeline: ClassVar[str] = "StableDiffusionXLPipeline"
    encoders: ClassVar[tuple[str, ...]] = ("text_encoder", "text_encoder_2")
    tokenizers: ClassVar[tuple[str, ...]] = ("tokenizer", "tokenizer_2")
    published: ClassVar[str] = "sdxl"
    text: ClassVar[str] = "conditioner.embedders.1.model."
    # always the last layer but one (Podell et al. 2023, section 2.1), so there is nothing to set
    clip_skip: ClassVar[int] = 1  # type: ignore[misc]
    tags: ClassVar[tuple[str, ...]] = ("stable-diffusion-xl",)

    def left_out(self, configs: Path) -> tuple[str, ...]:
        return OF_IMAGES

    def naming(self, configs: Path, prediction: str) -> Naming:
        """U-Net layers go by the original code's names, as sd-scripts has them."""
        per_block = read_json(configs / "unet" / "config.json")["layers_per_block"]
        return Naming(
            modules={
                "unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"
            },
            share=lambda layer: Share(original_name(layer, per_block)),
            version="sdxl_base_v1-0",
            architecture="stable-diffusion-xl-v1-base",
            implementation=ORIGINAL_CODE,
        )  # fmt: skip

    def embed(self, pipeline: Any, prompts: Sequence[str]) -> Conditioning:
        """The last hidden states but one, side by side, and the second encoder's projected pooled
        embedding (Podell et al. 2023, section 2.1), which is that of the first chunk."""
        import torch

        first, second = pipeline.text_encoder, pipeline.text_encoder_2
        ids = tokens(pipeline.tokenizer, prompts, self.text_chunks).to(first.device)
        first_output = first(ids, output_hidden_states=True)
        ids = tokens(pipeline.tokenizer_2, prompts, self.text_chunks).to(second.device)
        second_output = second(ids, output_hidden_states=True)
        states = [output.hidden_states[-2] for output in (first_output, second_output)]
        hidden = side_by_side(torch.cat(states, dim=-1), len(prompts))
        return Conditioning(hidden, second_output[0][: len(prompts)])

    def predict(
        self, pipeline: Any, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning,
        sizes: Tensor,
    ) -> Tensor:  # fmt: skip
        """Told the sizes as well (Podell et al. 2023, section 2.2)."""
        ids = sizes.to(noisy.device).float()  # half precision would round them
        added = {"text_embeds": conditioning.pooled, "time_ids": ids}
        return ask(pipeline.unet, noisy, timesteps, conditioning, added)


# -- what both share -------------------------------------------------------------------------------


def is_checkpoint(path: Path, pipeline: str, published: str, text: str) -> bool:
    """Whether a folder is a `pipeline`, or a file holds U-Net and a text encoder named so."""
    if path.is_dir():
        return class_of(path) == pipeline
    shapes = tensor_shapes(path)
    if not holds(shapes, text) or not holds(shapes, UNET):
        return False
    if holds(shapes, "edm_"):
        raise ModelsError(
            f"{path} was trained on EDM's noise levels, which charsweep's methods do not teach; "
            "give a checkpoint that predicts noise or velocity"
        )
    config = architectures.folder_of(published) / "unet" / "config.json"
    own = int(json.loads(config.read_text(encoding="utf-8"))["in_channels"])
    channels = [*shapes.get(FIRST_LAYER, []), 0, 0][1]
    if channels != own:
        raise ModelsError(
            f"{path} takes {channels} channels, not {own}: it is made for inpainting or editing; "
            "give the plain text-to-image checkpoint"
        )
    return True


def tokens(tokenizer: Any, prompts: Sequence[str], chunks: int = 1) -> Tensor:
    """Numbers of the tokens, (chunks · N, length), each row filled up to the encoder's length.

    First that of the first chunk of every prompt, then of the second, so that sample i modulo N is
    of prompt i: see `charsweep.train.stacked_lora`.
    """
    import torch

    length = tokenizer.model_max_length
    if chunks == 1:
        numbers: Tensor = tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True,
            return_tensors="pt",
        ).input_ids  # fmt: skip
        return numbers
    found = tokenizer(list(prompts), add_special_tokens=False, verbose=False).input_ids
    rows, room = [], length - 2
    for chunk in range(chunks):
        for whole in found:
            part = whole[chunk * room : (chunk + 1) * room]
            row = [tokenizer.bos_token_id, *part, tokenizer.eos_token_id]
            rows.append(row + [tokenizer.pad_token_id] * (length - len(row)))
    return torch.tensor(rows)


def side_by_side(hidden: Tensor, count: int) -> Tensor:
    """The chunks of each of `count` prompts, (chunks · count, length, width), one behind the other:
    (count, chunks · length, width)."""
    parts: Tensor = hidden.unflatten(0, (-1, count))
    return parts.transpose(0, 1).flatten(1, 2)


def ask(
    unet: Any, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning,
    added: Mapping[str, Any] | None,
) -> Tensor:  # fmt: skip
    """The U-Net's output (N, C, h, w); `added` is what only XL's is told."""
    output = unet(
        noisy, timesteps, encoder_hidden_states=conditioning.hidden, added_cond_kwargs=added,
        return_dict=False,
    )  # fmt: skip
    predicted: Tensor = output[0]
    return predicted


class Alphas:
    """Noise by cumulative products of alphas (Ho et al. 2020, equation 4), each step as likely."""

    def __init__(self, scheduler: DDPMScheduler) -> None:
        self.scheduler = scheduler  # whose own copy goes where the latents are
        self.alphas = scheduler.alphas_cumprod.clone()
        self.is_velocity = scheduler.config.prediction_type == "v_prediction"

    def timesteps(self, count: int, size: Sequence[int], source: Generator) -> Tensor:
        import torch

        return torch.randint(self.scheduler.config.num_train_timesteps, (count,), generator=source)

    def weights(self, timesteps: Tensor, min_snr_gamma: float | None) -> Tensor:
        """All 1, or those of Hang et al. 2023 (arXiv 2303.09556), equation 5 and its v form."""
        import torch

        if min_snr_gamma is None:
            return torch.ones(len(timesteps))
        kept = self.alphas[timesteps]
        snr = kept / (1 - kept)
        divisor = snr + 1 if self.is_velocity else snr
        weights: Tensor = snr.clamp(max=min_snr_gamma) / divisor
        return weights

    def noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        noisy: Tensor = self.scheduler.add_noise(latents, noise, timesteps)
        return noisy

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The noise, or the velocity (Salimans and Ho 2022, appendix D)."""
        if not self.is_velocity:
            return noise
        velocity: Tensor = self.scheduler.get_velocity(latents, noise, timesteps)
        return velocity
