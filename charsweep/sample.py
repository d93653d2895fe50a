"""Snapshots in, the exam's images out.

Each image has a generator of its own, and images are drawn in batches of a fixed width, the last
one padded, so that an image depends, not by a bit, on what is drawn beside it. Image sets that
differ in nothing but their low-rank adapters share batches: each image wears its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from charsweep.bases import Base, generator
from charsweep.errors import ConfigError
from charsweep.plugins import resolve
from charsweep.specs import ImageSetSpec, Plugin, SnapshotSpec
from charsweep.store import Store, image_manifest, new_folder

Wear = Callable[[int, SnapshotSpec], None]  # puts a snapshot's adapter into a slot of the batch


@dataclass(frozen=True)
class Drawn:
    """One batch: how many images, the seconds of each set, and the sets that it completed.

    A set is `broken` when an image of it is no number: its weights are so far off that the
    trajectory has diverged. It is not stored.
    """

    images: int
    seconds: Mapping[str, float]
    stored: tuple[ImageSetSpec, ...]
    broken: tuple[ImageSetSpec, ...]


def draw(
    specs: Sequence[ImageSetSpec], base: Base, store: Store, wear: Wear | None = None
) -> Iterator[Drawn]:
    """Draw image sets of one base and one way of drawing, and store each when it is whole.

    Without `wear`, the base draws as it is now, and there is one set.
    """
    assert wear or len(specs) == 1
    width = specs[0].batch_width
    jobs = [
        (number, prompt, seed)
        for number, spec in enumerate(specs)
        for prompt in spec.prompts
        for seed in spec.seeds
    ]
    pictures: list[list[Image.Image | None]] = [[] for _ in specs]
    seconds = dict.fromkeys((spec.key for spec in specs), 0.0)
    for first in range(0, len(jobs), width):
        started = time.perf_counter()
        batch = jobs[first : first + width]
        batch += batch[-1:] * (width - len(batch))
        if wear:
            for slot, (number, _, _) in enumerate(batch):
                wear(slot, specs[number].snapshot)
        images = draw_batch(specs[0], base, [(prompt, seed) for _, prompt, seed in batch])
        real = jobs[first : first + width]
        for (number, _, _), image in zip(real, images, strict=False):
            pictures[number].append(image)
        share = (time.perf_counter() - started) / len(real)
        spent = {specs[number].key: 0.0 for number, _, _ in real}
        for number, _, _ in real:
            spent[specs[number].key] += share
            seconds[specs[number].key] += share
        stored, broken = [], []
        for number in dict.fromkeys(number for number, _, _ in real):
            spec, drawn = specs[number], pictures[number]
            whole = [image for image in drawn if image is not None]
            if len(drawn) < len(spec.prompts) * len(spec.seeds):
                continue
            if len(whole) == len(drawn):
                store_images(spec, whole, seconds[spec.key], store)
                stored.append(spec)
            else:
                broken.append(spec)
            pictures[number] = []
        yield Drawn(len(real), spent, tuple(stored), tuple(broken))


def store_images(
    spec: ImageSetSpec, pictures: Sequence[Image.Image], seconds: float, store: Store
) -> None:
    manifest = image_manifest(spec, round(seconds, 3))
    with new_folder(store.images(spec), "images.json", manifest) as folder:
        for entry, picture in zip(manifest["files"], pictures, strict=True):
            picture.save(folder / entry["file"])


def draw_batch(
    spec: ImageSetSpec, base: Base, jobs: Sequence[tuple[str, int]]
) -> list[Image.Image | None]:
    """Images of `batch_width` (prompt, seed) pairs; None where one is not finite."""
    assert len(jobs) == spec.batch_width
    pipeline = base.pipeline
    own = pipeline.scheduler
    pipeline.scheduler = make_scheduler(spec.sampler, own.config, type(own))
    try:
        with torch.inference_mode():
            images = pipeline(
                prompt=[prompt for prompt, _ in jobs],
                negative_prompt=[spec.negative_prompt] * len(jobs),
                generator=[generator(seed, "image") for _, seed in jobs],
                num_inference_steps=spec.inference_steps,
                guidance_scale=spec.guidance_scale,
                height=spec.resolution,
                width=spec.resolution,
                output_type="np",
            ).images
    finally:
        pipeline.scheduler = own
    return [
        pipeline.numpy_to_pil(image)[0] if np.isfinite(image).all() else None for image in images
    ]


def make_scheduler(sampler: Plugin, config: Any, own: Any) -> Any:
    """The sampler's class with the base's noise schedule; the base's own when none is named."""
    made = resolve(sampler.target) if sampler.target else own
    try:
        return made.from_config(config, **sampler.settings)
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"sampler._target_={sampler.target} with {dict(sampler.settings)}: {error}; name a "
            "scheduler of diffusers and settings that it knows"
        ) from error
