"""Checkpoints: modules, their moving average and an optimizer in one resumable file.

A checkpoint is one flat dictionary of tensors (no pickles), written under a temporary name and
renamed, so that a killed recipe goes on from the last whole one.
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

SECONDS_BETWEEN_CHECKPOINTS = 180.0


def device() -> torch.device:
    """The GPU when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def average_of(module: nn.Module) -> nn.Module:
    """A frozen copy to keep the exponential moving average in."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * module, parameters and buffers."""
    for kept, new in zip(average.parameters(), module.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)
    for buffer, new_buffer in zip(average.buffers(), module.buffers(), strict=True):
        buffer.copy_(new_buffer)


def decay_at(step: int, longest: float = 0.999) -> float:
    """A moving average that starts short: (1 + step) / (10 + step), as in tensorflow's EMA."""
    return min(longest, (1 + step) / (10 + step))


def rate_at(step: int, total: int, peak: float, warm_up: int = 200) -> float:
    """Learning rate: linear warm-up, then a cosine to a hundredth of the peak."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    done = (step - warm_up) / max(1, total - warm_up)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def steady_rate_at(
    step: int, total: int, peak: float, warm_up: int = 300, falling: float = 0.3
) -> float:
    """Learning rate: warm-up, constant, and a fall to 0 over the last share of the steps.

    The fall is 1 - sqrt (Hägele et al. 2024, arXiv 2405.18392). Until it begins nothing depends on
    `total`, so a run can be made longer or shorter while it trains.
    """
    if step < warm_up:
        return peak * (step + 1) / warm_up
    done = (step - (1 - falling) * total) / (falling * total)
    return peak * (1 - math.sqrt(done)) if done > 0 else peak


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def save_state(
    path: Path, step: int, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer
) -> None:
    """Write everything a stage needs to go on after `step` finished steps."""
    tensors = {"step": torch.tensor(step)}
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            tensors[f"{name}/{key}"] = value.detach().cpu().contiguous().clone()
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"optimizer/{index}/{key}"] = value.detach().cpu().contiguous().clone()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    save_file(tensors, unfinished)
    unfinished.replace(path)


def load_state(path: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> int:
    """Put a checkpoint back where there is one; returns the number of finished steps."""
    if not path.exists():
        return 0
    tensors = load_file(path)
    for name, module in modules.items():
        prefix = f"{name}/"
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        module.load_state_dict(own)
    whole = optimizer.state_dict()
    whole["state"] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, field = key.split("/")
            whole["state"].setdefault(int(index), {})[field] = value
    optimizer.load_state_dict(whole)
    return int(tensors["step"])


def generator(seed: int, purpose: str, step: int) -> torch.Generator:
    """Random numbers that depend on (seed, purpose, step) and on nothing that ran before."""
    mixed = hash_of(f"{seed}-{purpose}-{step}")
    return torch.Generator().manual_seed(mixed)


def hash_of(text: str) -> int:
    """A stable 63-bit number for a text (Python's own hash changes between processes)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
