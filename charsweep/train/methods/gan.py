"""A generator of images, taught by a discriminator on the training images and nothing else.

The second baseline from nothing: a DCGAN (Radford et al. 2015, arXiv 1511.06434) with the
non-saturating loss (Goodfellow et al. 2014, arXiv 1406.2661), made trainable on a handful of
images by differentiable augmentation (Zhao et al. 2020, arXiv 2006.10738). Group norm stands in
the place of batch norm, so that no image depends on what is drawn beside it. Both players take
their step at once, each by its own loss: the gradients are those of alternating steps from the
same weights. Its images follow no prompt and need no inference steps.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from charsweep.core.errors import ConfigError
from charsweep.core.methods import Held, Loading
from charsweep.core.seeding import generator
from charsweep.train.methods.from_scratch import (
    FromScratch,
    PixelBatches,
    UnpackedTrainable,
    seeded,
    shown,
)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from charsweep.core.methods import Method
    from charsweep.core.specs import ImageSetSpec, TrajectorySpec
    from charsweep.evaluate.sample import Asked, Paint
    from charsweep.models.families import Family
    from charsweep.models.pipeline import LoadedPipeline
    from charsweep.models.weights import BaseWeights
    from charsweep.train.methods import Materials

WEIGHTS, CONFIG = "generator.safetensors", "config.json"
LOADING = """\
import json
from pathlib import Path

import torch
from charsweep.train.methods.gan import make_generator
from PIL import Image
from safetensors.torch import load_file

network = make_generator(**json.loads(Path("config.json").read_text()))
network.load_state_dict(load_file("generator.safetensors"))
with torch.inference_mode():
    drawn = network(torch.randn(1, network[0].in_features))[0]
image = Image.fromarray(((drawn.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy())"""
SMALLEST = 4  # pixels of the coarsest level
WIDEST = 8  # times the channels of the finest level, at most


@dataclass(frozen=True, config={"extra": "forbid", "allow_inf_nan": False})
class Gan(FromScratch):
    """A generator and a discriminator with `channels` at the finest level, doubled per halving."""

    version: ClassVar[int] = 1
    iterative: ClassVar[bool] = False

    channels: Annotated[int, Field(ge=8, le=1024, multiple_of=8)]
    latent: Annotated[int, Field(ge=1, le=4096)] = 64
    augment: bool = True

    def check(self, spec: TrajectorySpec, family: Family | None) -> None:
        levels(self.channels, spec.resolution)

    def trainable(self, spec: TrajectorySpec, materials: Materials) -> GanTrainable:
        return GanTrainable(self, spec, materials)

    @contextlib.contextmanager
    def painter(
        self, images: ImageSetSpec, folder: Path, base: LoadedPipeline | None,
        device: torch.device,
    ) -> Iterator[Paint]:  # fmt: skip
        """An image depends on its seed and its place."""
        import torch
        from safetensors.torch import load_file

        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        network = make_generator(config["latent"], config["channels"], config["resolution"])
        network.load_state_dict(load_file(folder / WEIGHTS))
        network.to(device).eval()

        def paint(spec: ImageSetSpec, asked: Sequence[Asked]) -> NDArray[np.float32]:
            sources = [generator(one.seed, "image", one.place) for one in asked]
            codes = [torch.randn(config["latent"], generator=source) for source in sources]
            with torch.inference_mode():
                images = network(torch.stack(codes).to(device))
            return shown(images)

        yield paint

    def snapshot_bytes(self, spec: TrajectorySpec, base: BaseWeights | None) -> int:
        return 4 * self._numbers(spec.resolution)

    def held(self, resolution: int, base: BaseWeights | None) -> Held:
        """Both players': the same convolutions, and the discriminator's end in a single logit."""
        wide, coarsest = levels(self.channels, resolution)
        one_code = wide[0] * coarsest**2
        return Held(2 * self._numbers(resolution) - (self.latent - 1) * one_code)

    def _numbers(self, resolution: int) -> int:
        """The generator's weights, without biases: a dense layer, then 4 x 4 convolutions."""
        wide, coarsest = levels(self.channels, resolution)
        dense = self.latent * wide[0] * coarsest**2
        return dense + 16 * sum(a * b for a, b in zip(wide, [*wide[1:], 3], strict=True))

    def loading(self, spec: TrajectorySpec, prompt: str, place: str) -> Loading:
        return Loading((), LOADING.splitlines(), prompt)


if TYPE_CHECKING:
    _: type[Method] = Gan


class GanTrainable(UnpackedTrainable):
    """The losses of the two players of one trial."""

    part_names = ("loss_generator", "loss_discriminator")

    def __init__(self, method: Gan, spec: TrajectorySpec, materials: Materials) -> None:
        self.method, self.resolution = method, spec.resolution
        self.images = PixelBatches(spec, materials)
        with seeded(generator(spec.seed, "gan")):
            self.generator = make_generator(method.latent, method.channels, spec.resolution)
            self.discriminator = make_discriminator(method.channels, spec.resolution)
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        super().__init__({name: one.to(materials.device) for name, one in networks.items()})

    def losses(self, steps: Sequence[int | None]) -> Iterator[Tensor]:
        """-log D(G(z)) and -log D(x) - log(1 - D(G(z))), shape (2, 1)."""
        import torch
        import torch.nn.functional as F
        from torch.func import functional_call

        (step,) = steps
        assert step is not None
        real, seed = self.images.batch(step), self.images.seed
        source = generator(seed, "latent", step)
        codes = torch.randn(len(real), self.method.latent, generator=source).to(real)
        fake = self.generator(codes)
        if self.method.augment:
            real = augmented(real, generator(seed, "augment real", step))
            fake = augmented(fake, generator(seed, "augment fake", step))
        # the generator's loss must not move the discriminator, nor the other way round
        fixed = {name: tensor.detach() for name, tensor in self.discriminator.named_parameters()}
        fools = F.softplus(-functional_call(self.discriminator, fixed, (fake,))).mean()
        told = F.softplus(-self.discriminator(real)).mean()
        told = told + F.softplus(self.discriminator(fake.detach())).mean()
        yield torch.stack([fools, told])[:, None]

    def save(self, slot: int, folder: Path) -> None:
        from safetensors.torch import save_file

        state = self.generator.state_dict().items()
        save_file({k: v.detach().cpu().contiguous() for k, v in state}, folder / WEIGHTS)
        config = {
            "latent": self.method.latent,
            "channels": self.method.channels,
            "resolution": self.resolution,
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def levels(channels: int, resolution: int) -> tuple[list[int], int]:
    """Channels of each level, the coarsest first, and the pixels of the coarsest."""
    halvings, size = 0, resolution
    while size % 2 == 0 and size // 2 >= SMALLEST:
        halvings, size = halvings + 1, size // 2
    if not halvings:
        raise ConfigError(
            f"resolution={resolution}: a GAN halves its images; choose 64 or another power of 2"
        )
    return [channels * min(2**level, WIDEST) for level in reversed(range(halvings))], size


def make_generator(latent: int, channels: int, resolution: int) -> nn.Module:
    """Codes (N, latent) to images NCHW in [-1, 1]."""
    from torch import nn

    wide, coarsest = levels(channels, resolution)
    layers: list[nn.Module] = [
        nn.Linear(latent, wide[0] * coarsest**2),
        nn.Unflatten(1, (wide[0], coarsest, coarsest)),
    ]
    for above, below in zip(wide, [*wide[1:], 3], strict=True):
        layers += [nn.GroupNorm(8, above), nn.ReLU(), nn.ConvTranspose2d(above, below, 4, 2, 1)]
    return nn.Sequential(*layers, nn.Tanh())


def make_discriminator(channels: int, resolution: int) -> nn.Module:
    """Images NCHW to one logit each, (N, 1); positive: a drawing."""
    from torch import nn

    wide, coarsest = levels(channels, resolution)
    narrow = wide[::-1]
    layers: list[nn.Module] = [nn.Conv2d(3, narrow[0], 4, 2, 1), nn.LeakyReLU(0.2)]
    for above, below in itertools.pairwise(narrow):
        layers += [nn.Conv2d(above, below, 4, 2, 1), nn.GroupNorm(8, below), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(narrow[-1] * coarsest**2, 1))


def augmented(images: Tensor, source: torch.Generator) -> Tensor:
    """Colour, translation and cutout of Zhao et al. 2020, section 3.2, drawn for each image.

    Brightness by up to .5, saturation by a factor up to 2, contrast between .5 and 1.5; shifts of
    up to an eighth of the side, filled with grey; a grey square of half the side.
    """
    import torch

    count, _, height, width = images.shape
    brightness, saturation, contrast, down, right, top, left = (
        part.view(-1, 1, 1, 1) for part in torch.rand(7, count, generator=source).to(images)
    )
    images = images + brightness - 0.5
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * 2 * saturation
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    images = middle + (images - middle) * (contrast + 0.5)

    rows = torch.arange(height, device=images.device).view(1, -1, 1)
    columns = torch.arange(width, device=images.device).view(1, 1, -1)
    down = ((down.view(-1, 1, 1) * 2 - 1) * height / 8).round().long()
    right = ((right.view(-1, 1, 1) * 2 - 1) * width / 8).round().long()
    from_row, from_column = rows - down, columns - right
    inside = (from_row >= 0) & (from_row < height) & (from_column >= 0) & (from_column < width)
    each = torch.arange(count, device=images.device).view(-1, 1, 1)
    shifted = images[each, :, from_row.clamp(0, height - 1), from_column.clamp(0, width - 1)]
    images = torch.where(inside[:, None], shifted.permute(0, 3, 1, 2), 0.0)

    first_row = (top.view(-1, 1, 1) * height - height / 4).long()
    first_column = (left.view(-1, 1, 1) * width - width / 4).long()
    hole = (rows >= first_row) & (rows < first_row + height // 2)
    hole = hole & (columns >= first_column) & (columns < first_column + width // 2)
    return images.masked_fill(hole[:, None], 0.0)
