"""The card or CPU that `runtime.device` names: its memory, and the precision it can use.

No torch: planning asks this. NVIDIA's cards are read through NVML, which needs no CUDA context and
takes milliseconds; the machine's memory through psutil. The first card that CUDA_VISIBLE_DEVICES
names is the one that torch calls `cuda`; on a machine of unlike cards NVML's order is CUDA's only
with CUDA_DEVICE_ORDER=PCI_BUS_ID. Of a card in MIG mode whose instance is not named there, the
whole card is told.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
Device = Literal["cuda", "cpu", "mps"]

# NVIDIA, "CUDA C++ Programming Guide", compute capabilities: Ampere is the first with bf16.
BF16_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Card:
    """What the work is done on: its name, its memory, and, of NVIDIA's, its compute capability.

    A CPU's and Apple's memory is the machine's.
    """

    name: str
    memory_bytes: int
    capability: tuple[int, int] | None = None
    device: Device = "cuda"


def usable_precision(wanted: str, card: Card | None) -> Precision:
    """What `auto` means on this card (on one that nothing is known of: fp32); else as wanted."""
    match wanted:
        case "fp32" | "tf32" | "bf16" | "fp16":
            return wanted
        case "auto":
            if card is None or card.capability is None:
                return "fp32"
            return "bf16" if card.capability >= BF16_CAPABILITY else "fp16"
    raise ValueError(f"precision={wanted}")


def find_card(device: str) -> Card | None:
    """The card that `runtime.device` names; None where nothing can be known of it (AMD's)."""
    built = torch_is_built_for()
    if device in ("auto", "cuda") and "cuda" in built:
        import pynvml

        if card := nvidia_card(pynvml, os.environ.get("CUDA_VISIBLE_DEVICES")):
            return card
    if device == "cuda" or (device == "auto" and "hip" in built):
        return None
    is_apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    if device == "mps" or (device == "auto" and is_apple):
        return Card("Apple GPU", machine_memory(), device="mps")
    return Card("CPU", machine_memory(), device="cpu")


def machine_memory() -> int:
    """Bytes of the machine's memory."""
    import psutil

    return int(psutil.virtual_memory().total)


def cores() -> int:
    """CPU cores to work on: those that this process may use, or as many as OMP_NUM_THREADS says."""
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if told.isdecimal() and int(told):
        return int(told)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def folder_of(package: str) -> Path:
    """Where an installed package lies, found without importing it."""
    found = find_spec(package)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed", name=package)
    return Path(found.origin).parent


def processor() -> str:
    """The CPU's model name, where the system tells it."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def torch_is_built_for() -> frozenset[str]:
    """Of cuda and hip, what the installed torch can use; read from its version file."""
    text = (folder_of("torch") / "version.py").read_text("utf-8")
    return frozenset(re.findall(r"^(cuda|hip)\b.*= '", text, re.MULTILINE))


# -- NVIDIA ----------------------------------------------------------------------------------------


def nvidia_card(nvml: Any, visible: str | None) -> Card | None:
    """The first of NVIDIA's cards that is visible; None without one, or without a driver.

    `nvml` is the module `pynvml`, `visible` what CUDA_VISIBLE_DEVICES says.
    """
    with contextlib.suppress(nvml.NVMLError), _opened(nvml):
        handle = _first_visible(nvml, visible)
        if handle is not None:
            return Card(
                name=nvml.nvmlDeviceGetName(handle),
                memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
                capability=_capability(nvml, handle),
            )
    return None


def count_cards(visible: str | None) -> int:
    """How many of NVIDIA's cards are visible, `visible` as CUDA_VISIBLE_DEVICES says."""
    import pynvml

    if visible is not None:
        return len([one for one in visible.split(",") if one.strip() not in ("", "-1")])
    with contextlib.suppress(pynvml.NVMLError), _opened(pynvml):
        return int(pynvml.nvmlDeviceGetCount())
    return 0


@contextlib.contextmanager
def _opened(nvml: Any) -> Iterator[None]:
    nvml.nvmlInit()
    try:
        yield
    finally:
        nvml.nvmlShutdown()


def _first_visible(nvml: Any, visible: str | None) -> Any:
    """NVML's handle of the first entry: an index, the beginning of a UUID, or a MIG instance."""
    first = (visible if visible is not None else "0").split(",")[0].strip()
    if first.startswith("MIG-"):
        return nvml.nvmlDeviceGetHandleByUUID(first)
    handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    if first.isdecimal():
        return handles[int(first)] if int(first) < len(handles) else None
    if first.startswith("GPU-"):
        named = (card for card in handles if nvml.nvmlDeviceGetUUID(card).startswith(first))
        return next(named, None)
    return None  # CUDA hides every card behind "", -1 and what it cannot read


def _capability(nvml: Any, handle: Any) -> tuple[int, int]:
    with contextlib.suppress(nvml.NVMLError):
        handle = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return int(major), int(minor)
