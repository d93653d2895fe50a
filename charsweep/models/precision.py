"""Numerical precision: the dtype of frozen weights, matrix products, autocast.

`fp32` is exact; `tf32` the same weights with products of fewer bits, on cards that have them; under
`bf16` and `fp16` a frozen base lies in half the memory, while what trains stays in float32, and so
do the autoencoder, losses and gradients (Micikevicius et al. 2018, arXiv 1710.03740).
"""

from __future__ import annotations

import contextlib

import torch

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def dtype_of(precision: str) -> torch.dtype:
    """Of frozen weights and activations."""
    return HALVES.get(precision, torch.float32)


def set_products(precision: str) -> None:
    """Let a card multiply float32 by its tensor cores, unless it is to be exact."""
    torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[None]:
    """For weights that train: float32 masters, products in half precision."""
    if precision not in HALVES:
        return contextlib.nullcontext()
    return torch.autocast(device.type, HALVES[precision])
