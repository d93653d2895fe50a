"""Peak memory of a stretch of work: of the tensors on a card, of the process on a CPU."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
from collections.abc import Iterable
from pathlib import Path

import torch

_before: dict[str, int] = {}  # the highest memory before it was last counted anew, by device


class Peak:
    """The highest memory since it was made.

    What lay on a card then without belonging to `own` modules is not counted; on a CPU, all is.
    """

    def __init__(self, device: torch.device, own: Iterable[torch.nn.Module] = ()) -> None:
        self.device, self.others = device, 0
        if device.type == "cuda":
            mine = sum(
                tensor.nbytes
                for module in own
                for tensor in (*module.parameters(), *module.buffers())
                if tensor.device.type == "cuda"
            )
            self.others = torch.cuda.memory_allocated(device) - mine
        _before[device.type] = max(_before.get(device.type, 0), _since(device))
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:  # where it is not Linux, the peak is of all so far
            with contextlib.suppress(AttributeError, OSError):
                ctypes.CDLL(None).malloc_trim(0)  # what is free belongs to the process until then
                Path("/proc/self/clear_refs").write_text("5")

    def bytes(self) -> int | None:
        """None where it cannot be known: Apple's cards tell no peak."""
        return None if self.device.type == "mps" else _since(self.device) - self.others


def peak_memory_mb(device: torch.device) -> float:
    """Highest memory so far: allocated on the card, or resident in this process."""
    return max(_before.get(device.type, 0), _since(device)) / 1e6


def _since(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")  # proc(5): VmHWM is the highest resident size, in KiB
    if status.exists():
        for line in status.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
