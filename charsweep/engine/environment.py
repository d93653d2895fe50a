"""The machine that a plan is executed on: its device, its memory, the versions of everything."""

from __future__ import annotations

import gc
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from charsweep.core.errors import ConfigError
from charsweep.core.system.hardware import processor

LIBRARIES = ("torch", "diffusers", "transformers", "peft", "accelerate", "open_clip_torch", "timm",
             "torchmetrics", "numpy", "pillow", "optuna", "mlflow", "hydra-core")  # fmt: skip


def find_device(name: str) -> torch.device:
    """`auto`: a CUDA card if there is one, else Apple's, else the CPU."""
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, found in there.items() if found)
    if not there[name]:
        raise ConfigError(f"runtime.device={name}: this machine has none; use runtime.device=auto")
    return torch.device(name)


def is_out_of_memory(error: Exception) -> bool:
    """The card's memory, or the machine's, for which torch has no error of its own."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(
        words in str(error) for words in ("DefaultCPUAllocator", "MPS backend out of memory")
    )


def free_memory() -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and machine, for the record."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "charsweep": version("charsweep"),
        "python": platform.python_version(),
        **{library: version(library) for library in LIBRARIES},
        "device": name,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "git": git_commit(),
    }


def git_commit() -> str | None:
    """The commit of the source checkout that charsweep runs from, if it is one."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"],
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
