"""The best width of packs, measured on this device by a few training steps.

Widths are doubled as long as a trial's share of a step falls by a tenth and the memory holds.
"""

from __future__ import annotations

import contextlib
import itertools
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
from charsweep.train.company import BOTH, company_materials, shown_at
from charsweep.train.methods import ClassImage, Materials

WIDTHS = (1, 2, 4, 8, 16, 32, 64)
STEPS = 3
LEAST_GAIN = 0.9  # a trial's share of a step must fall to this or below for a pack to widen
RARE = 0.001  # a share of the steps that is not looked for
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
    """Median share of a step for one trial of a full pack; None if the memory does not hold it.

    Where some steps show wider pictures, the mean of both medians, each by its share of the steps.
    """
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
    timed = timed_steps(spec, steps + 1)
    seconds = 0.0
    try:
        with contextlib.closing(method.trainable(spec, materials)) as trainable:
            optimizers = []
            for slot in range(spec.pack):
                trainable.enter(slot, replace(spec, seed=slot))
                optimizers.append(make_optimizer(spec, trainable.named(slot)))
            for part, own in timed:
                taken = []
                for step in own:
                    started = time.perf_counter()
                    trainable.zero_grad()
                    for share in trainable.losses([step] * spec.pack):
                        share.sum().backward()
                    for optimizer in optimizers:
                        optimizer.step()
                    if device.type == "cuda":
                        torch.cuda.synchronize(device)
                    taken.append(time.perf_counter() - started)
                seconds += part * median(taken[1:])
    except torch.OutOfMemoryError:
        return None
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        if torch.cuda.max_memory_allocated(device) > MEMORY_SHARE * total:
            return None
    return seconds / spec.pack


def timed_steps(spec: TrajectorySpec, count: int) -> list[tuple[float, list[int]]]:
    """So many steps of each kind of picture that steps show, and the share of all steps that these
    are; of two characters, those that show both in wide pictures apart."""
    company = spec.company
    if company is None or not company.composes:
        return [(1.0, list(range(count)))]
    share = company.joint_share
    both = (step for step in itertools.count() if shown_at(step, share)[0] == BOTH)
    one = (step for step in itertools.count() if shown_at(step, share)[0] != BOTH)
    kinds = [(1 - share, one), (share, both)]
    seen = (kind for kind in kinds if kind[0] >= RARE)
    return [(part, list(itertools.islice(steps, count))) for part, steps in seen]
