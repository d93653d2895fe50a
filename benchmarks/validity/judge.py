"""The judge: a small convolutional network that reads from an image what it shows of a figure.

One softmax head for each attribute of a Figure, and one that says whether there is a figure at all.
It learns from drawings of the world, half of them gone through the autoencoder that every generated
image comes out of, all a little disturbed; from noise, debris and half-destroyed drawings it learns
what is no figure. It has never seen CLIP or DINO, nor what a taught model draws.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.validity.characters import CHARACTERS, TRAITS, with_traits
from charsweep.models.embedded import WEIGHTS
from pretraining import checkpoint
from pretraining.data import SIDE, pictures, to_tensor
from pretraining.figure import (
    ARMS,
    CLOTHES,
    COLOURS,
    EMBLEMS,
    EYES,
    HAIR_STYLES,
    HEADGEAR,
    LEGS,
    MOUTHS,
    PATTERNS,
    PLACES,
    SPECIES,
    Figure,
    random_figure,
    random_scene,
)
from pretraining.progress import steps

NONE = "none"
Heads = Mapping[str, tuple[str, ...]]  # attribute -> its values
HEADS: Heads = {
    "species": SPECIES,
    "hair": ("", *dict.fromkeys(style for styles in HAIR_STYLES.values() for style in styles)),
    "pattern": (*PATTERNS, "rainbow"),
    "first colour": (*COLOURS, "rainbow"),
    "second colour": (NONE, *COLOURS),
    "clothes": CLOTHES,
    "clothes_colour": tuple(COLOURS),
    "emblem": (*EMBLEMS, "star"),
    "emblem_colour": (NONE, *COLOURS),
    "headgear": (*HEADGEAR, "horn"),
    "headgear_colour": (NONE, *COLOURS),
    "glasses": ("no", "yes"),
    "legs": LEGS,
    "arms": ARMS,
    "eyes": EYES,
    "mouth": MOUTHS,
    "place": PLACES,
}
FIGURE = "figure"  # the head for what is no figure
DRAWN, CODED, REJECTED = 40_000, 8_000, 4_000  # pictures
STEPS, BATCH, PEAK_RATE = 1_000, 128, 2e-3
SHARE_REJECTED = 0.2  # of a batch

Reading = dict[str, str]  # attribute -> value, and FIGURE -> "yes" or "no"


def reading_of(figure: Figure, heads: Heads = HEADS) -> Reading:
    """What a faultless judge reads from a drawing of the figure."""
    own = {head: getattr(figure, head) for head in heads if hasattr(figure, head)}
    emblem_colour = NONE if figure.emblem == "none" else figure.emblem_colour
    headgear_colour = {"none": NONE, "horn": "yellow"}.get(figure.headgear, figure.headgear_colour)
    return own | {
        "first colour": figure.colours[0],
        "second colour": figure.colours[1] if len(figure.colours) > 1 else NONE,
        "emblem_colour": emblem_colour,
        "headgear_colour": headgear_colour,
        "glasses": "yes" if figure.glasses else "no",
        FIGURE: "yes",
    }


# -- what it learns from


def any_figure(rng: Random) -> Figure:
    """A random figure, UnicornGirl's rainbow, horn and star among what it may have."""
    figure = random_figure(rng)
    if rng.random() < 0.12 and figure.hair:
        figure = replace(figure, pattern="rainbow", colours=("rainbow",))
    if rng.random() < 0.12:
        figure = replace(figure, headgear="horn")
    if rng.random() < 0.12:
        figure = replace(figure, emblem="star")
    return figure


def near_figure(who: Figure, rng: Random) -> Figure:
    """The character in a random scene, with up to three traits of somebody else's."""
    traits = rng.sample(list(TRAITS), rng.randint(0, 3))
    near = with_traits(who, any_figure(rng), traits)
    if near.species == "dog" and near.pattern == "rainbow":  # the world cannot draw its ears
        near = replace(near, species="bear")
    return random_scene(near, rng)


def figure_at(seed: str, index: int) -> Figure:
    """The index-th figure of a seed: two in three are any, the third is near a character."""
    rng = Random(f"judge-{seed}-{index}")
    if index % 3:
        return any_figure(rng)
    return near_figure(rng.choice(CHARACTERS).figure, rng)


class Autoencoder:
    """The embedded bases' autoencoder; images NHWC uint8, latents N x 32 x 8 x 8."""

    def __init__(self) -> None:
        loaded: Any = AutoencoderKL.from_pretrained(WEIGHTS / "sd15" / "vae")
        self.vae = loaded.float().eval().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def encode(self, drawn: NDArray[np.uint8]) -> Tensor:
        mean: Tensor = self.vae.encode(to_tensor(drawn)).latent_dist.mean
        return mean

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> NDArray[np.uint8]:
        pixels = self.vae.decode(latents).sample.clamp(-1, 1).permute(0, 2, 3, 1)
        return np.asarray(((pixels + 1) * 127.5).round().byte())


def coded(drawn: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pictures gone through the autoencoder."""
    autoencoder, result = Autoencoder(), np.empty_like(drawn)
    for index in steps("through the autoencoder", 0, -(-len(drawn) // 50)):
        part = slice(50 * index, 50 * index + 50)
        result[part] = autoencoder.decode(autoencoder.encode(drawn[part]))
    return result


def smooth_noise(shape: tuple[int, ...], cells: int, side: int, rng: np.random.Generator) -> Tensor:
    """Noise (*shape, side, side) whose grain is side / cells wide, of deviation about 1."""
    coarse = torch.from_numpy(rng.standard_normal((*shape, cells, cells))).float()
    return F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)


def rejects(drawn: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Made of pictures (NHWC uint8), as many images of the same shape that show no figure.

    By turns: drowned latents (three in six), noise, blurred or shuffled drawings, empty places.
    """
    autoencoder, result = Autoencoder(), np.empty_like(drawn)
    for index in steps("rejects", 0, len(drawn)):
        rng, picture, kind = np.random.default_rng(index), drawn[index], index % 6
        if kind < 3:
            latents = autoencoder.encode(picture[None])
            kept = rng.uniform(0, 0.5)
            noise = smooth_noise((1, latents.shape[1]), (2, 4, 8)[kind], 8, rng)
            mixed = kept * latents + rng.uniform(0.5, 1.5) * noise
            result[index] = autoencoder.decode(mixed)[0]
        elif kind == 3:
            noise = smooth_noise((1, 3), int(rng.choice([2, 4, 8, 16, 32, 64])), SIDE, rng)[0]
            pixels = rng.uniform(60, 200) + rng.uniform(10, 70) * noise.permute(1, 2, 0)
            result[index] = pixels.clamp(0, 255).byte().numpy()
        elif kind == 4:
            result[index] = _destroyed(picture, rng)
        else:  # a place, with the figure out of sight
            nobody = replace(figure_at("places", index), shift=(3.0, 0.0))
            result[index] = pictures([nobody], 1)[0]
    return result


def _destroyed(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blurred past recognition, or its tiles of 8 or 16 pixels in another order."""
    if rng.random() < 0.5:
        blur = ImageFilter.GaussianBlur(rng.uniform(4, 9))
        return np.asarray(Image.fromarray(picture).filter(blur))
    side = int(rng.choice([8, 16]))
    count = SIDE // side
    tiles = picture.reshape(count, side, count, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    shuffled = tiles[rng.permutation(len(tiles))].reshape(count, count, side, side, 3)
    return shuffled.swapaxes(1, 2).reshape(picture.shape)


def disturbed(images: Tensor, source: torch.Generator) -> Tensor:
    """NCHW in [-1, 1]: shifted by up to 2 px, scaled, blurred and coloured a little, with noise."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand((len(images), *shape), generator=source)

    place = torch.zeros(len(images), 2, 3)
    place[:, 0, 0] = place[:, 1, 1] = uniform(0.95, 1.05)
    place[:, :, 2] = uniform(-4 / SIDE, 4 / SIDE, 2)
    grid = F.affine_grid(place, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    blurred = F.avg_pool2d(F.pad(moved, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    mixed = moved.lerp(blurred, uniform(0, 0.7, 1, 1, 1))
    mixed = mixed * uniform(0.93, 1.07, 3, 1, 1) + uniform(-0.06, 0.06, 3, 1, 1)
    noise = torch.randn(images.shape, generator=source)
    return (mixed + 0.03 * noise).clamp(-1, 1)


@dataclass(frozen=True)
class Lessons:
    """Pictures with what is to be read from them, and rejects; NHWC uint8, targets (N, heads)."""

    drawn: NDArray[np.uint8]
    coded: NDArray[np.uint8]  # the first of `drawn`, gone through the autoencoder
    rejected: NDArray[np.uint8]
    targets: Tensor

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images NCHW, targets of those that show a figure, which come first, and whether."""
        source = checkpoint.generator(0, "judge", step)
        n_rejected = round(SHARE_REJECTED * BATCH)
        half = (BATCH - n_rejected) // 2
        plain = torch.randint(len(self.drawn), (BATCH - n_rejected - half,), generator=source)
        passed = torch.randint(len(self.coded), (half,), generator=source)
        wrong = torch.randint(len(self.rejected), (n_rejected,), generator=source)
        images = [self.drawn[plain], self.coded[passed], self.rejected[wrong]]
        shown = (torch.arange(BATCH) < BATCH - n_rejected).long()
        targets = self.targets[torch.cat([plain, passed])]
        return disturbed(to_tensor(np.concatenate(images)), source), targets, shown


def targets_of(figures: Sequence[Figure], heads: Heads = HEADS) -> Tensor:
    """Indices (N, heads) into the values of each head."""
    readings = [reading_of(figure, heads) for figure in figures]
    return torch.tensor([[heads[h].index(reading[h]) for h in heads] for reading in readings])


def lessons(folder: Path) -> Lessons:
    """Drawn on the first call, then read from the folder."""
    figures = [figure_at("taught", index) for index in range(DRAWN)]
    drawn = kept(folder / "drawn.npy", lambda: pictures(figures, DRAWN))
    passed = kept(folder / "coded.npy", lambda: coded(drawn[:CODED]))
    wrong = kept(folder / "rejected.npy", lambda: rejects(drawn[-REJECTED:]))
    return Lessons(drawn, passed, wrong, targets_of(figures))


def kept(path: Path, make: Any) -> NDArray[np.uint8]:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".tmp.npy")
        np.save(unfinished, make(), allow_pickle=False)
        unfinished.replace(path)
    stored: NDArray[np.uint8] = np.load(path, allow_pickle=False)
    return stored


# -- the network


class Judge(nn.Module):
    """NCHW 64 px in [-1, 1] to the logits of every head and, last, of "no figure", "figure"."""

    def __init__(self, values: Heads = HEADS) -> None:
        super().__init__()
        self.values = values
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        widths, strides = (12, 32, 64, 64, 96, 96), (1, 2, 1, 2, 1)
        for before, after, stride in zip(widths, widths[1:], strides, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)]
            layers += [nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(96 * 8 * 8, 256), nn.ReLU())
        self.sizes = [*map(len, values.values()), 2]
        self.heads = nn.Linear(256, sum(self.sizes))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        logits: Tensor = self.heads(self.body(images))
        return torch.split(logits, self.sizes, dim=1)

    @torch.inference_mode()
    def read(self, images: Sequence[Image.Image]) -> list[Reading]:
        """What each image shows."""
        self.eval()
        readings: list[Reading] = []
        for start in range(0, len(images), 256):
            part = [
                np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX))
                for image in images[start : start + 256]
            ]
            *heads, shown = (
                logits.argmax(1).tolist() for logits in self(to_tensor(np.stack(part)))
            )
            for row, is_figure in enumerate(shown):
                named = zip(self.values.items(), heads, strict=True)
                shows = {name: values[head[row]] for (name, values), head in named}
                readings.append(shows | {FIGURE: "yes" if is_figure else "no"})
        return readings


def train(folder: Path) -> Judge:
    """The judge of a folder, trained if it is not there; goes on where it was stopped."""
    return fit(folder, HEADS, lambda: lessons(folder).batch, STEPS)


def fit(
    folder: Path,
    heads: Heads,
    made: Callable[[], Callable[[int], tuple[Tensor, Tensor, Tensor]]],
    total: int,
    seed: int = 0,
) -> Judge:
    """The same for any heads; `made()` gives the batch of a step, as `Lessons.batch`."""
    weights, state = folder / "judge.safetensors", folder / "state.safetensors"
    torch.manual_seed(seed)
    judge = Judge(heads)
    if weights.exists():
        judge.load_state_dict(load_file(weights))
        return judge.eval()
    batch = made()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=PEAK_RATE, weight_decay=0.01)
    first = checkpoint.load_state(state, {"judge": judge}, optimizer)
    saved = time.monotonic()
    for step in steps("judge", first, total):
        checkpoint.set_rate(optimizer, checkpoint.rate_at(step, total, PEAK_RATE, warm_up=50))
        images, targets, shown = batch(step)
        *logits, figure = judge(images)
        loss = F.cross_entropy(figure, shown)
        for head, target in zip(logits, targets.T, strict=True):
            loss = loss + F.cross_entropy(head[: len(target)], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if time.monotonic() - saved > checkpoint.SECONDS_BETWEEN_CHECKPOINTS:
            print(f"step {step + 1}: loss {loss.item():.3f}", flush=True)
            checkpoint.save_state(state, step + 1, {"judge": judge}, optimizer)
            saved = time.monotonic()
    save_file({k: v.contiguous() for k, v in judge.state_dict().items()}, weights)
    return judge.eval()
