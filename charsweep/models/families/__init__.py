"""Families of bases: what pipelines of one class have in common, as Protocols.

Reached through conf/models/. A family is a frozen dataclass that an entry of `bases:` names by its
`_target_`; what else the entry sets, beside where the weights lie, are the family's fields and part
of every key. `Family` says what one has. Adding one is one .py and one entry in a .yaml.

Planning reads families, so they import torch and diffusers only inside their functions. A family
holds no weights: the pipeline that it is handed is `charsweep.models.pipeline.LoadedPipeline`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Generator, Tensor

    from charsweep.core.columns import Pass
    from charsweep.core.specs import ImageSetSpec
    from charsweep.models.architectures import Shapes
    from charsweep.models.conditioning import Conditioning
    from charsweep.models.kohya import Naming
    from charsweep.models.regions import Choose

Size = tuple[int, int]  # width and height in pixels


class Drawing(NamedTuple):
    """How many inference steps, and how much guidance, pictures are drawn with."""

    inference_steps: int
    guidance_scale: float


class Noising(Protocol):
    """How latents are noised for training, and what is to be predicted from them then."""

    def timesteps(self, count: int, size: Sequence[int], source: Generator) -> Tensor:
        """As many as asked, drawn on the CPU: (N,), in the numbers that the scheduler counts by.

        `size` is the height and width of the latents.
        """

    def weights(self, timesteps: Tensor, min_snr_gamma: float | None) -> Tensor:
        """What each one's loss counts, (N,), on the CPU; a gamma is for families without a flow."""

    def noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Latents (N, C, h, w) with as much noise as their timesteps (N,) say."""

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the denoiser should predict from the noised latents: (N, C, h, w)."""


class Family(Protocol):
    """What pipelines of one class have in common."""

    @property
    def version(self) -> int:
        """Goes up when the numbers change that a base of this family is taught or drawn with."""

    @property
    def title(self) -> str:
        """What a person calls such a pipeline, with its article."""

    @property
    def pipeline(self) -> str:
        """Name of its class in diffusers."""

    @property
    def denoiser(self) -> str:
        """Name of the part that predicts."""

    @property
    def autoencoder(self) -> str:
        """Name of its autoencoder's class in diffusers."""

    @property
    def encoders(self) -> tuple[str, ...]:
        """Names of the parts that read prompts; some may be absent."""

    @property
    def tokenizers(self) -> tuple[str, ...]:
        """Names of the parts that make of a prompt the numbers which each of the encoders reads."""

    @property
    def loads_parts(self) -> bool:
        """Whether each part is loaded in its own precision, so that what a model keeps in float32
        stays so; else all of it is loaded in float32 and cast."""

    @property
    def published(self) -> str | None:
        """Name in `models.architectures` of what single files are read as; None: only folders
        are read."""

    @property
    def is_flow(self) -> bool:
        """Whether it was trained by flow matching: it has no alphas, and flow schedulers draw."""

    @property
    def samplers(self) -> tuple[str, ...] | None:
        """Names of the schedulers of diffusers that can draw in its pipeline; None: any of its
        kind."""

    @property
    def class_pictures(self) -> Drawing:
        """How it draws what prior preservation learns from."""

    @property
    def unit(self) -> int:
        """Pixels of which the sides of its pictures are multiples."""

    @property
    def laid_together(self) -> int:
        """Latents of one of its autoencoder's channels that are channels side by side of its own:
        1, or those of a patch."""

    @property
    def targets(self) -> tuple[str, ...]:
        """The ends of the names of the denoiser's layers that adapters go on where nobody says."""

    @property
    def mixing(self) -> tuple[str, ...]:
        """How the names begin of the denoiser's layers in which samples share a row: none is
        taught, since trials that share a pass would mix there."""

    @property
    def draws_columns(self) -> bool:
        """Whether columns of a picture can have words of their own: see `core.columns`.

        One that does is a `ColumnFamily`.
        """

    @property
    def text_chunks(self) -> int:
        """In how many chunks of its encoders' length a prompt is read; the rest is cut off."""

    @property
    def most_text_chunks(self) -> int:
        """How many there may be."""

    @property
    def clip_skip(self) -> int:
        """Which of its encoder's layers prompts are taken from, as A1111 counts: 1 is the last, 2
        the one before; 1 where that cannot be chosen."""

    @property
    def tags(self) -> tuple[str, ...]:
        """Words by which the hub finds what is made for such a base."""

    def calls(self, guidance_scale: float) -> int:
        """Calls of the denoiser for an image at each inference step; with a guidance of 1, one.

        The scale is that of Ho and Salimans 2022 in the form u + scale · (c − u), whatever the
        pipeline's own number means.
        """

    # -- of folders and files, for planning --------------------------------------------------------

    def recognises(self, path: Path) -> bool:
        """Whether a folder (perhaps of configs alone) or single file is a pipeline of this family.

        Raises `ModelsError` for one that is, in a form that cannot be taught.
        """

    def left_out(self, configs: Path) -> tuple[str, ...]:
        """Names of parts of the class that are not loaded, or that this folder lacks."""

    def check(self, name: str, configs: Path) -> None:
        """Raise `ModelsError` for a setting that the base of that name, with these configs, cannot
        follow."""

    def room(self, encoder: str, length: int) -> int:
        """How many tokens of a prompt an encoder reads whose tokenizer gives that length."""

    def shapes(self, configs: Path) -> Shapes:
        """Shapes of the tensors by part, where weights are not here to say; as far as is known."""

    def taught(self, text_encoder: bool) -> tuple[str, ...]:
        """Names of the parts that a method teaches, the denoiser first."""

    def naming(self, configs: Path, prediction: str) -> Naming:
        """What other programs call such a base, which predicts "epsilon" or "v", and its layers.

        Raises `ModelsError` where no file for them is written.
        """

    def code(self, prompt: str, drawing: Drawing, size: Size) -> Sequence[str]:
        """Python that draws the prompt at that size with `pipeline`; the last line has `image`."""

    # -- of a loaded pipeline ----------------------------------------------------------------------

    def latents(self, pipeline: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation, each (N, C, h, w), of images NCHW in [-1, 1].

        Scaled as the denoiser sees them.
        """

    def embed(self, pipeline: Any, prompts: Sequence[str]) -> Conditioning:
        """Embeddings of prompts by the text encoders as they are now, with gradients if wanted.

        Of several at once only where text encoders are taught.
        """

    def noising(self, pipeline: Any) -> Noising:
        """How latents are noised when this pipeline trains."""

    def predict(
        self,
        pipeline: Any,
        noisy: Tensor,
        timesteps: Tensor,
        conditioning: Conditioning,
        sizes: Tensor,
    ) -> Tensor:
        """The denoiser's output for latents (N, C, h, w) and timesteps (N,).

        `sizes` (N, 6), in pixels: height and width of the image before it was cropped, top and
        left of the crop, height and width of the crop.
        """

    def draw(
        self,
        pipeline: Any,
        spec: ImageSetSpec,
        prompts: Sequence[str],
        generators: Sequence[Generator],
    ) -> NDArray[np.float32]:
        """Images NHWC in [0, 1] by the pipeline's scheduler, in the way that the spec says."""


class ColumnFamily(Family, Protocol):
    """A family that draws each column of a picture by itself."""

    def draw_in_passes(
        self,
        pipeline: Any,
        spec: ImageSetSpec,
        made: Sequence[Pass],
        generators: Sequence[Generator],
        choose: Choose,
    ) -> NDArray[np.float32]:
        """As `draw`, in passes each of which another adapter may draw: it is chosen before."""


def parts_of(family: Family) -> tuple[str, ...]:
    """Names of all parts that a pipeline of this family is made of, as folders."""
    return (family.denoiser, "vae", *family.encoders, *family.tokenizers, "scheduler")


# -- what families share ---------------------------------------------------------------------------

# An autoencoder like SDXL's holds about 4 KB for each pixel that it decodes in float32.
DECODED_AT_ONCE = 1024 * 1024  # pixels
UNTILED = 1536  # pixels a side; larger images are decoded in overlapping tiles


def plain_code(prompt: str, drawing: Drawing, size: Size) -> tuple[str, ...]:
    """What draws with a pipeline that takes a prompt first, and guidance as it is told here.

    Of squares it knows its own size.
    """
    (steps, guidance), (width, height) = drawing, size
    words = f"{prompt!r}, num_inference_steps={steps}, guidance_scale={guidance:g}"
    words += f", height={height}, width={width}" if width != height else ""
    return (f"image = pipeline({words}).images[0]",)


def twice_if_guided(guidance_scale: float) -> int:
    """Calls of a denoiser that is asked with and without the prompt where guidance is above 1."""
    return 2 if guidance_scale > 1 else 1


def posterior(vae: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of an `AutoencoderKL`'s latents, scaled as denoisers are shown them."""
    found = vae.encode(pixels).latent_dist
    scale, shift = vae.config.scaling_factor, vae.config.shift_factor or 0.0
    return (found.mean - shift) * scale, found.std * scale


def call(
    pipeline: Any, spec: ImageSetSpec, generators: Sequence[Generator], **prompts: Any
) -> NDArray[np.float32]:
    """What every text-to-image pipeline of diffusers is asked with; `prompts` in its own words."""
    return decoded(pipeline, asked(pipeline, spec, generators, **prompts), spec.pixels)


def asked(
    pipeline: Any, spec: ImageSetSpec, generators: Sequence[Generator], **prompts: Any
) -> Tensor:
    """The same, of which latents are wanted, as each pipeline hands them back."""
    width, height = spec.pixels
    words: Mapping[str, Any] = {
        "generator": list(generators),
        "num_inference_steps": spec.inference_steps,
        "guidance_scale": spec.guidance_scale,
        "height": height,
        "width": width,
        "output_type": "latent",
        **prompts,
    }
    latents: Tensor = pipeline(**words).images
    return latents


def unscaled(vae: Any, latents: Tensor) -> Tensor:
    """Images NCHW in [-1, 1] of what `posterior` made, by an `AutoencoderKL`."""
    scale, shift = vae.config.scaling_factor, vae.config.shift_factor or 0.0
    images: Tensor = vae.decode(latents / scale + shift, return_dict=False)[0]
    return images


def decoded(
    pipeline: Any, latents: Tensor, size: Size,
    decode: Callable[[Any, Tensor], Tensor] = unscaled,
) -> NDArray[np.float32]:  # fmt: skip
    """Images NHWC in [0, 1], by the autoencoder in its own precision, as few at once as need be."""
    import numpy as np

    vae, processor = pipeline.vae, pipeline.image_processor
    vae.enable_tiling() if max(size) > UNTILED else vae.disable_tiling()
    parts = [
        decode(vae, part.to(vae.dtype))
        for part in latents.split(max(1, DECODED_AT_ONCE // math.prod(size)))
    ]
    return np.concatenate([processor.postprocess(part, output_type="np") for part in parts])
