"""How many processes do a sweep's work, and with how many threads each; no torch, and no Ray.

On a CPU a pass of a small model takes as long with one thread as with two, so that two processes
with half the cores each do nearly twice the work of one with all. Threads change results in the
last bits, so they depend on the models and the machine alone: what one worker has begun, two go on
with, and the other way round. What is left to do has no say either, nor has what was measured.
Large models keep all cores busy by themselves.

On a Ray cluster there is a worker for each card, or for so many threads of a CPU.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from charsweep.config import Sweep
from charsweep.config.settings.runtime import Runtime
from charsweep.core.errors import ConfigError
from charsweep.core.system.hardware import cores, count_cards, find_card, machine_memory
from charsweep.plan.memory import LIBRARIES, TOO_MUCH, Need, Place
from charsweep.results.labels import bytes_text

SMALL = 50_000_000  # numbers of a denoiser; the embedded ones have 3 million, SD 1.5's has 860
LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN_REMEDY = (
    "run `ray get-auth-token --generate` where the head is, put its ~/.ray/auth_token (mode 600) "
    "on every machine, this one too, then `ray start --head` there and `ray start "
    "--address=HOST:PORT` on the others and here"
)
EACH = 2 * LIBRARIES  # bytes of the machine's memory for a worker on small models


def workers_of(sweep: Sweep) -> int:
    """Processes that share a sweep's work, of a cluster elsewhere as far as that is known here.

    ConfigError if several are to share a card.
    """
    runtime = sweep.settings.runtime
    if is_elsewhere(runtime):
        return runtime.workers or 1
    asked, card = runtime.workers, find_card(runtime.device)
    if card and card.device == "cpu":
        return asked or _by_default(sweep)
    if runtime.cluster and card:
        cards = count_cards(os.environ.get("CUDA_VISIBLE_DEVICES"))
        if asked and asked > cards:
            raise ConfigError(
                f"runtime.workers={asked}: this machine has {cards} of {card.name}, and each is "
                f"worked on by one process; set runtime.workers={cards}"
            )
        return asked or cards
    if asked and asked > 1:
        raise ConfigError(
            f"runtime.workers={asked}: {card.name if card else 'the card'} is worked on by one "
            "process; leave runtime.workers out, or set runtime.device=cpu"
        )
    return 1


def is_asynchronous(sweep: Sweep, workers: int) -> bool:
    """Whether an adaptive search gives so many workers trials when they are free, rather than in
    batches that were typed, or that one worker does alone."""
    adaptive = sweep.settings.search.sampler is not None
    several = workers > 1 or is_elsewhere(sweep.settings.runtime)
    return adaptive and several and not sweep.is_typed("search.at_once")


def is_elsewhere(runtime: Runtime) -> bool:
    """Whether work is done on machines of which nothing is known here."""
    return runtime.cluster not in (None, "local")


def check_cluster(runtime: Runtime) -> None:
    """ConfigError where Ray is wanted and absent, or would listen to anybody."""
    if runtime.cluster is None:
        return
    if find_spec("ray") is None:
        raise ConfigError(
            f"runtime.cluster={runtime.cluster} needs Ray: pip install 'charsweep[ray]'; several "
            "workers on one machine's CPU need none: runtime.workers=2"
        )
    host = runtime.cluster.rpartition(":")[0].strip("[]")
    if is_elsewhere(runtime) and host not in LOOPBACK and not has_token():
        raise ConfigError(
            f"runtime.cluster={runtime.cluster}: no token of a Ray cluster is known here, and Ray "
            f"without one does what anybody in the network says; {TOKEN_REMEDY}"
        )


def has_token() -> bool:
    """Whether a token of Ray's is known here, by its own ways to name one."""
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or (Path.home() / ".ray" / "auth_token").exists()


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
