"""Images of the cartoon world and the figures they show, drawn once and kept.

Figure number i is a function of (seed, i) alone, so pictures are stored and figures are made again.
Wide pictures, half as wide again as high, show two figures, and a few of them one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pretraining.captions import caption
from pretraining.drawing import WIDE, draw_pair
from pretraining.pair import Pair, random_pair
from pretraining.pair_captions import pair_caption
from pretraining.progress import steps
from pretraining.world import Figure, draw, random_character, random_figure, random_scene

SIDE = 64  # px of all embedded models
WIDTH = round(SIDE * WIDE)  # px of wide pictures
TRAINING = 40_000  # pictures drawn for pretraining
SCENES = 4  # of a character, where CLIP and DINO tell apart and recognise
HELD_OUT_SEED = 999  # figures from this seed are never trained on
ALONE = 0.15  # share of the wide pictures that show one figure

Shown = Figure | Pair


def figure(seed: int, index: int) -> Figure:
    """The index-th figure of a seed."""
    return random_figure(Random(f"figure-{seed}-{index}"))


def portrait(seed: int, character: int, scene: int) -> Figure:
    """The same character in its scene-th scene: what CLIP and DINO tell apart and recognise."""
    who = random_character(Random(f"character-{seed}-{character}"))
    return random_scene(who, Random(f"scene-{seed}-{character}-{scene}"))


def wide(seed: int, index: int) -> Shown:
    """What the index-th wide picture of a seed shows; one figure stands anywhere in it."""
    rng = Random(f"wide-{seed}-{index}")
    if rng.random() >= ALONE:
        return random_pair(rng)
    alone = random_figure(rng)
    return replace(alone, shift=(rng.uniform(-0.08, WIDE - 0.92), alone.shift[1]))


def draw_wide(shown: Shown, size: int = SIDE) -> NDArray[np.uint8]:
    """One figure or two, `size` pixels high, as HWC uint8."""
    drawn = draw_pair(shown, size) if isinstance(shown, Pair) else draw(shown, size, WIDE)
    return np.asarray(drawn)


def wide_caption(shown: Shown, rng: Random) -> str:
    return pair_caption(shown, rng) if isinstance(shown, Pair) else caption(shown, rng)


def squares(drawn: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The left and the right square of wide pictures, N x H x W x 3 -> 2 x N x H x H x 3.

    They overlap; the left one of two figures is about in the middle of the left square.
    """
    side = drawn.shape[1]
    return np.stack([drawn[:, :, :side], drawn[:, :, -side:]])


def squashed(drawn: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Wide pictures as CLIP sees them: N x 64 x 64 x 3, as open_clip's resize mode "squash"."""
    return np.stack(
        [
            np.asarray(Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
            for one in drawn
        ]
    )


def pictures(figures: Iterable[Figure], count: int) -> NDArray[np.uint8]:
    """`count` figures drawn as NHWC uint8."""
    drawn = np.empty((count, SIDE, SIDE, 3), dtype=np.uint8)
    each = iter(figures)
    for index in steps("drawing", 0, count):
        drawn[index] = np.asarray(draw(next(each), SIDE))
    return drawn


def stored_pictures(work: Path, seed: int, count: int = TRAINING) -> NDArray[np.uint8]:
    """The first figures of a seed, N x 64 x 64 x 3, for the autoencoder and the two bases."""
    figures = (figure(seed, index) for index in range(count))
    return _stored(work / f"pictures-{seed}-{count}.npy", figures, count)


def _stored(path: Path, figures: Iterable[Figure], count: int) -> NDArray[np.uint8]:
    """Drawn on the first call, then memory-mapped from the work folder."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.tmp.npy")
        np.save(unfinished, pictures(figures, count), allow_pickle=False)
        unfinished.replace(path)
    stored: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    return stored


def to_tensor(drawn: NDArray[np.uint8]) -> torch.Tensor:
    """NHWC uint8 -> NCHW float32 in [-1, 1]."""
    return torch.from_numpy(np.array(drawn)).permute(0, 3, 1, 2).float() / 127.5 - 1
