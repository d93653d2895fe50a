"""Flow matching (Lipman et al. 2022, arXiv 2210.02747; Esser et al. 2024, arXiv 2403.03206), and
what bases taught by it have in common: a transformer follows straight paths from picture to noise.

Of these bases the transformer alone is taught, and folders alone are read: single files of them
hold the transformer, seldom the large text encoder.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from charsweep.core.errors import ModelsError
from charsweep.core.store.files import read_json
from charsweep.models.conditioning import Conditioning, join
from charsweep.models.families import Size, posterior, twice_if_guided
from charsweep.models.folder import check_template
from charsweep.models.identify import INDEX, class_of, holds
from charsweep.models.safetensors_file import tensor_shapes

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from charsweep.core.specs import ImageSetSpec

STEPS = 1000  # what these bases' schedulers count times by
PIXELS = 8  # of a latent of the usual autoencoders, a side
Density = Callable[[int, "Generator"], "Tensor"]  # so many times in [0, 1], 1 is noise alone
# Of diffusers' schedulers, those that every transformer's pipeline draws with.
EULER_AND_LCM = ("FlowMatchEulerDiscreteScheduler", "FlowMatchLCMScheduler")


def uniform(count: int, source: Generator) -> Tensor:
    import torch

    return torch.rand(count, generator=source)


@plain_dataclass(frozen=True)
class LogitNormal:
    """Times whose logits are normal: the middle of paths comes most often (Esser et al. 2024,
    equation 19)."""

    mean: float = 0.0
    std: float = 1.0

    def __call__(self, count: int, source: Generator) -> Tensor:
        import torch

        return torch.sigmoid(self.mean + self.std * torch.randn(count, generator=source))


DENSITIES: dict[str, Density] = {"uniform": uniform, "logit_normal": LogitNormal()}


@plain_dataclass(frozen=True)
class Flow:
    """Straight paths from picture to noise, along which times are drawn and then shifted."""

    density: Density
    shift: Callable[[Sequence[int]], float]  # by the size of the latents; 1: none
    steps: int  # times are counted in [0, steps]

    def timesteps(self, count: int, size: Sequence[int], source: Generator) -> Tensor:
        times, shift = self.density(count, source), self.shift(size)
        return self.steps * shift * times / (1 + (shift - 1) * times)

    def weights(self, timesteps: Tensor, min_snr_gamma: float | None) -> Tensor:
        import torch

        assert min_snr_gamma is None
        return torch.ones(len(timesteps))

    def noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        times = (timesteps / self.steps).to(latents).view(-1, 1, 1, 1)
        return (1 - times) * latents + times * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The velocity, which is the same all along a path."""
        return noise - latents


def drawn_shift(config: Mapping[str, Any], tokens: int) -> float:
    """By how much a scheduler with this config shifts times when it draws so many tokens.

    A fixed number, or one that grows with the picture (Esser et al. 2024, section 5.3.2): e to a
    power that is linear in its tokens.
    """
    if not config.get("use_dynamic_shifting"):
        return float(config.get("shift", 1.0))
    fewest, most = config["base_image_seq_len"], config["max_image_seq_len"]
    slope = (config["max_shift"] - config["base_shift"]) / (most - fewest)
    return math.exp(config["base_shift"] + slope * (tokens - fewest))


@dataclass(frozen=True, config={"extra": "forbid", "allow_inf_nan": False})
class FlowTransformer(ABC):
    """What such families have in common; each says what its pipeline is, and how it is asked."""

    version: ClassVar[int] = 1
    title: ClassVar[str]
    pipeline: ClassVar[str]
    marks: ClassVar[tuple[str, ...]]  # of its single files: parts of tensors' names
    tags: ClassVar[tuple[str, ...]]
    most_tokens: ClassVar[int] = 512  # of a prompt
    denoiser: ClassVar[str] = "transformer"
    autoencoder: ClassVar[str] = "AutoencoderKL"
    encoders: ClassVar[tuple[str, ...]] = ("text_encoder",)
    tokenizers: ClassVar[tuple[str, ...]] = ("tokenizer",)
    is_told_in_turns: ClassVar[bool] = False  # by the template of a chat, which must be there
    loads_parts: ClassVar[bool] = True
    published: ClassVar[None] = None
    is_flow: ClassVar[bool] = True
    samplers: ClassVar[tuple[str, ...]] = EULER_AND_LCM
    unit: ClassVar[int] = 16  # the autoencoder's 8, and patches of 2 × 2 latents
    laid_together: ClassVar[int] = 1
    targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")
    mixing: ClassVar[tuple[str, ...]] = ()
    draws_columns: ClassVar[bool] = False
    text_chunks: ClassVar[int] = 1
    most_text_chunks: ClassVar[int] = 1
    clip_skip: ClassVar[int] = 1

    density: Literal["uniform", "logit_normal"] = "uniform"
    shift: Annotated[float, Field(gt=0)] | None = None  # None: as its scheduler draws

    def calls(self, guidance_scale: float) -> int:
        return twice_if_guided(guidance_scale)

    def recognises(self, path: Path) -> bool:
        if path.is_dir():
            return class_of(path) == self.pipeline
        shapes = tensor_shapes(path)
        if not any(holds(shapes, mark, within=True) for mark in self.marks):
            return False
        raise ModelsError(
            f"{path} is a single file of {self.title}; such bases are read from diffusers folders "
            "only: give the folder, or the hub repository, that holds all its parts"
        )

    def left_out(self, configs: Path) -> tuple[str, ...]:
        return ()

    def check(self, name: str, configs: Path) -> None:
        if self.is_told_in_turns:
            check_template(name, configs)

    def room(self, encoder: str, length: int) -> int:
        return min(length, self.most_tokens)

    def taught(self, text_encoder: bool) -> tuple[str, ...]:
        """The transformer: language models that read prompts are left as they are."""
        return (self.denoiser,)

    def latents(self, pipeline: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return posterior(pipeline.vae, pixels)

    @abstractmethod
    def embedded(self, pipeline: Any, prompt: str) -> Conditioning:
        """What is told of one prompt, read by itself: those beside it would move its last bits."""

    def embed(self, pipeline: Any, prompts: Sequence[str]) -> Conditioning:
        known = {prompt: self.embedded(pipeline, prompt) for prompt in dict.fromkeys(prompts)}
        return join([known[prompt] for prompt in prompts])

    def words(self, pipeline: Any, conditioning: Conditioning) -> dict[str, Any]:
        """What its pipeline is told of prompts, by name."""
        masks = {} if conditioning.mask is None else {"prompt_embeds_mask": conditioning.mask}
        return {"prompt_embeds": conditioning.hidden, **masks}

    def told(self, pipeline: Any, spec: ImageSetSpec, prompts: Sequence[str]) -> dict[str, Any]:
        """The same of prompts to draw and, where these are guided, of what they are guided from."""
        words = self.words(pipeline, self.embed(pipeline, prompts))
        if self.calls(spec.guidance_scale) == 1:
            return words
        negative = self.embed(pipeline, [spec.negative_prompt] * len(prompts))
        others = self.words(pipeline, negative)
        return words | {f"negative_{name}": other for name, other in others.items()}

    def noising(self, pipeline: Any) -> Flow:
        config = pipeline.scheduler.config

        def shift(size: Sequence[int]) -> float:
            if self.shift is None:
                return self.drawn_shift(config, self.tokens(size))
            return self.shift

        return Flow(DENSITIES[self.density], shift, config.num_train_timesteps)

    def drawn_shift(self, config: Mapping[str, Any], tokens: int) -> float:
        """By how much its scheduler, of that config, shifts times when it draws so many tokens."""
        return drawn_shift(config, tokens)

    def tokens(self, size: Sequence[int]) -> int:
        """How many the transformer sees of latents of that height and width."""
        return size[0] * size[1] // 4


def code_by_names(prompt: str, size: Size, own: str, image: str = ".images[0]") -> list[str]:
    """What draws with a pipeline that is told all by name, in words of its own too."""
    width, height = size
    words = f"prompt={prompt!r}, height={height}, width={width}"
    return ["image = pipeline(", f"    {words},", f"    {own},", f"){image}"]


def check_distilled(name: str, configs: Path, distilled: bool) -> None:
    """Raise ModelsError where a pipeline's index says something else than the base's setting."""
    index = configs / INDEX
    told = bool(read_json(index).get("is_distilled", False)) if index.exists() else distilled
    if told != distilled:
        setting = f"models.bases.{name}.distilled"
        raise ModelsError(
            f"{setting}={str(distilled).lower()}: its {INDEX} says that it is "
            f"{'' if told else 'not '}distilled; set {setting}={str(told).lower()}"
        )
