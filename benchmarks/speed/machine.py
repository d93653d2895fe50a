"""The machine that was measured on: its name, its versions, its fastest matrix product."""

from __future__ import annotations

import os
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import version

import torch

from benchmarks.speed.clock import synchronize
from charsweep.core.system.hardware import processor
from charsweep.models.precision import dtype_of

LIBRARIES = ("charsweep", "torch", "diffusers", "transformers", "peft", "accelerate")
SIDE = {"cuda": 8192, "mps": 4096, "cpu": 2048}  # of the matrices: large enough to be the peak
PRODUCTS = 10


def matrix_peak(device: torch.device, precision: str) -> float:
    """The most floating-point operations per second that a product of square matrices reaches."""
    side = SIDE[device.type]
    a = torch.randn(side, side, device=device).to(dtype_of(precision))
    b = a.T.contiguous()
    fastest = float("inf")
    for _ in range(PRODUCTS):
        synchronize(device)
        started = time.perf_counter()
        torch.mm(a, b)
        synchronize(device)
        fastest = min(fastest, time.perf_counter() - started)
    return float(2 * side**3 / fastest)


def machine(device: torch.device) -> str:
    """The device, and the processor that feeds it."""
    threads = torch.get_num_threads()
    host = f"{processor()}, {os.cpu_count()} cores, {threads} thread{'s' if threads > 1 else ''}"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}; {host}"
    return f"{device.type}; {host}"


def versions() -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return f"Python {platform.python_version()}, {libraries}"


def today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")
