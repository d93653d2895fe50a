"""How many processes do a sweep's work on one machine, and with how many threads each; no torch.

On a CPU a pass of a small model takes as long with one thread as with two, so that two processes
with half the cores each do nearly twice the work of one with all. Threads change results in the
last bits, so they depend on the models and the machine alone: what one worker has begun, two go on
with, and the other way round. What is left to do has no say either, nor has what was measured.
Large models keep all cores busy by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable

from charsweep.config import Sweep
from charsweep.core.errors import ConfigError
from charsweep.core.system.hardware import cores, find_card, machine_memory
from charsweep.plan.memory import LIBRARIES, TOO_MUCH, Need, Place
from charsweep.results.labels import bytes_text

SMALL = 50_000_000  # numbers of a denoiser; the embedded ones have 3 million, SD 1.5's has 860
EACH = 2 * LIBRARIES  # bytes of the machine's memory for a worker on small models


def workers_of(sweep: Sweep) -> int:
    """Processes that share a sweep's work; ConfigError if several are to share a card."""
    asked, card = sweep.settings.runtime.workers, find_card(sweep.settings.runtime.device)
    if card and card.device == "cpu":
        return asked or _by_default(sweep)
    if asked and asked > 1:
        raise ConfigError(
            f"runtime.workers={asked}: {card.name if card else 'the card'} is worked on by one "
            "process; leave runtime.workers out, or set runtime.device=cpu"
        )
    return 1


def threads_of(sweep: Sweep, device: str) -> int | None:
    """Threads of each worker; None: as many as torch chooses."""
    runtime = sweep.settings.runtime
    if runtime.threads or device != "cpu":
        return runtime.threads
    workers = max(runtime.workers or 1, _by_default(sweep))
    return max(1, cores() // workers) if workers > 1 else None


def _by_default(sweep: Sweep) -> int:
    """Two on a CPU with cores and memory for both, if no pass is enough for several cores."""
    small = all(base.numbers([base.family.denoiser]) <= SMALL for base in sweep.bases.values())
    return 2 if small and cores() > 1 and machine_memory() >= 2 * EACH else 1


def refuse_workers(workers: int, needs: Iterable[Need], place: Place) -> None:
    """ConfigError if several workers cannot fit where one does."""
    least, card = max((need.least for need in needs), default=0), place.card
    if workers > 1 and card and workers * least > TOO_MUCH[card.device] * card.memory_bytes:
        raise ConfigError(
            f"runtime.workers={workers}: each would take {bytes_text(least)} of memory, and this "
            f"machine has {bytes_text(card.memory_bytes)}; leave runtime.workers out"
        )
