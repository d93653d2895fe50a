"""Random generators by (seed, purpose, index): no draw depends on what ran before it.

As EDM2's training loop (Karras et al. 2024) re-seeds by image index. torch is imported when a draw
is made, because planning reads the methods, which import this.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def generator(seed: int, purpose: str, index: int = 0) -> torch.Generator:
    """A CPU generator that depends on nothing but (seed, purpose, index)."""
    import torch

    name = f"{seed}/{purpose}/{index}".encode()
    number = int.from_bytes(hashlib.sha256(name).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(number)


def chosen(seed: int, purpose: str, count: int, batch_size: int, step: int) -> list[int]:
    """Indices, in 0 … `count` - 1, of the images in the batch of `step` (from 0).

    Every image is seen once per epoch, in an order of its own per epoch.
    """
    import torch

    indices = []
    for place in range(step * batch_size, (step + 1) * batch_size):
        source = generator(seed, f"{purpose} order", place // count)
        indices.append(torch.randperm(count, generator=source).tolist()[place % count])
    return indices
