"""How many processes do a plan's work on one machine, and with how many threads each; no torch.

On a CPU a pass of the embedded models takes as long with one thread as with two, so that two
processes with half the cores each do nearly twice the work of one with all. Threads change results
in the last bits, so their number does not depend on how many workers there are: what one worker has
begun, two go on with, and the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence

from charsweep.config.settings import Runtime
from charsweep.core.errors import ConfigError
from charsweep.core.system.hardware import Card
from charsweep.plan.memory import ROOM, TOO_MUCH, Need
from charsweep.results.labels import bytes_text

LEAST_SECONDS = 30.0  # of a plan; below that a second process saves less than its start takes


def workers_for(
    runtime: Runtime, seconds: float, needs: Sequence[Need], card: Card | None, cores: int
) -> int:
    """Processes for a plan of so many seconds; ConfigError where what is asked for cannot be."""
    most = max((need.bytes for need in needs), default=0)
    if runtime.workers is not None:
        _check(runtime.workers, needs, card)
        return runtime.workers
    on_cpu = card is not None and card.device == "cpu"
    if not on_cpu or cores < 2 or seconds < LEAST_SECONDS:
        return 1
    assert card is not None
    return 2 if 2 * most <= ROOM * card.memory_bytes else 1


def threads_for(runtime: Runtime, device: str, cores: int) -> int | None:
    """Threads of each worker; None: as many as torch chooses."""
    if runtime.threads or device != "cpu":
        return runtime.threads
    return max(1, cores // max(2, runtime.workers or 2))


def _check(workers: int, needs: Sequence[Need], card: Card | None) -> None:
    if workers == 1:
        return
    if card is None or card.device != "cpu":
        name = card.name if card else "this machine's card"
        raise ConfigError(
            f"runtime.workers={workers}: {name} is worked on by one process; leave runtime.workers "
            "out, or set runtime.device=cpu"
        )
    least = workers * max((need.least for need in needs), default=0)
    if least > TOO_MUCH[card.device] * card.memory_bytes:
        raise ConfigError(
            f"runtime.workers={workers}: each would take {bytes_text(least // workers)} of memory, "
            f"and this machine has {bytes_text(card.memory_bytes)}; leave runtime.workers out"
        )
