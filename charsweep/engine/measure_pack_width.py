"""The best width of packs, measured on this device by a few training steps.

Widths are doubled as long as a trial's share of a step falls by a tenth and the memory holds.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch

from charsweep.config import Sweep
from charsweep.config.pack_width import remember_width, unmeasured
from charsweep.core.methods import method_of
from charsweep.core.specs import TrajectorySpec
from charsweep.core.store import Store
from charsweep.core.store.files import unwritable
from charsweep.core.system.locks import locked
from charsweep.engine.environment import find_device
from charsweep.models.load import load_base
from charsweep.models.pipeline import LoadedPipeline
from charsweep.models.precision import dtype_of
from charsweep.train.checkpoint import make_optimizer
from charsweep.train.company import company_materials
from charsweep.train.methods import ClassImage, Materials

WIDTHS = (1, 2, 4, 8, 16, 32, 64)
STEPS = 3
LEAST_GAIN = 0.9  # a trial's share of a step must fall to this or below for a pack to widen
MEMORY_SHARE = 0.8  # of the card; drawing, optimizers and fragmentation need the rest


def measure_widths(sweep: Sweep, say: Callable[[str], None]) -> None:
    """Measure and remember the width of each kind of trajectory that has none yet."""
    store = Store(sweep.root)
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        with locked(store.folder / ".widths.lock", "the width of packs"):
            for spec in unmeasured(sweep.examples, sweep.settings, store):
                measure_width(sweep, spec, store, say)
    except OSError as error:
        raise unwritable(store.folder, error) from error


def measure_width(
    sweep: Sweep, spec: TrajectorySpec, store: Store, say: Callable[[str], None]
) -> None:
    """Measure and remember how many trials like this one share a pass best."""
    say(f"measuring how many trials like {spec.slug} share a pass best; this is done once")
    device = find_device(sweep.settings.runtime.device)
    assert spec.base is not None
    dtype = dtype_of(spec.precision)  # packs are of adapters, on a base that is frozen
    base = load_base(spec.base, sweep.bases[spec.base.key], device, dtype)
    seconds: dict[int, float] = {}
    for width in WIDTHS:
        measured = seconds_per_trial(sweep, replace(spec, pack=width), base)
        if measured is None or (seconds and measured > LEAST_GAIN * min(seconds.values())):
            break
        seconds[width] = measured
    chosen = max(seconds, default=1)
    shares = ", ".join(f"{width}: {1000 * s:.0f} ms" for width, s in seconds.items())
    say(f"  {chosen} at once (ms of a step for each trial, by width: {shares})")
    entry = {"width": chosen, "device": str(device), "seconds_per_trial_step": seconds}
    remember_width(spec, entry, store)


def seconds_per_trial(
    sweep: Sweep, spec: TrajectorySpec, base: LoadedPipeline, steps: int = STEPS
) -> float | None:
    """Median share of a step for one trial of a full pack; None if the memory does not hold it."""
    device = base.device
    method = method_of(spec.method)
    drawings, digests = sweep.drawings, spec.character.digests
    training_images = drawings.training_images(digests, spec.framing.masks)
    images = [image.image for image in training_images]
    masks = [image.mask for image in training_images]
    priors = [ClassImage(drawings.paths[digests[0]], "")] if spec.class_images else []
    company = company_materials(spec, drawings, lambda _: priors)
    materials = Materials(device, base, images, lambda _: priors, masks=masks, company=company)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    taken = []
    try:
        with contextlib.closing(method.trainable(spec, materials)) as trainable:
            optimizers = []
            for slot in range(spec.pack):
                trainable.enter(slot, replace(spec, seed=slot))
                optimizers.append(make_optimizer(spec, trainable.named(slot)))
            for step in range(steps + 1):
                started = time.perf_counter()
                trainable.zero_grad()
                for share in trainable.losses([step] * spec.pack):
                    share.sum().backward()
                for optimizer in optimizers:
                    optimizer.step()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                taken.append(time.perf_counter() - started)
    except torch.OutOfMemoryError:
        return None
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        if torch.cuda.max_memory_allocated(device) > MEMORY_SHARE * total:
            return None
    return median(taken[1:]) / spec.pack
