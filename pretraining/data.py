"""Images of the cartoon world and the figures they show, drawn once and kept.

Figure number i is a function of (seed, i) alone, so pictures are stored and figures are made again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray

from pretraining.progress import steps
from pretraining.world import Figure, draw, random_character, random_figure, random_scene

SIDE = 64  # px of all embedded models
TRAINING = 40_000  # pictures drawn for pretraining
SCENES = 4  # of a character, where CLIP and DINO tell apart and recognise
HELD_OUT_SEED = 999  # figures from this seed are never trained on


def figure(seed: int, index: int) -> Figure:
    """The index-th figure of a seed."""
    return random_figure(Random(f"figure-{seed}-{index}"))


def portrait(seed: int, character: int, scene: int) -> Figure:
    """The same character in its scene-th scene: what CLIP and DINO tell apart and recognise."""
    who = random_character(Random(f"character-{seed}-{character}"))
    return random_scene(who, Random(f"scene-{seed}-{character}-{scene}"))


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
