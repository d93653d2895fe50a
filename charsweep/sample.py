"""Snapshots in, the exam's images out.

Each image has a generator of its own, and images are drawn in batches of a fixed width, the last
one padded, so that an image depends, not by a bit, on what is drawn beside it. Image sets that
differ in nothing but their low-rank adapters share batches: each image wears its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
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


@dataclass(eq=False)
class Drawing:
    """An image set while it is drawn: its images so far (None: not finite), its share of time.

    It is broken when an image is no number: its weights are so far off that the trajectory has
    diverged. It is not stored then.
    """

    spec: ImageSetSpec
    images: list[Image.Image | None] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_whole(self) -> bool:
        return len(self.images) == len(self.spec.prompts) * len(self.spec.seeds)

    @property
    def is_broken(self) -> bool:
        return None in self.images

    def store(self, store: Store) -> None:
        manifest = image_manifest(self.spec, round(self.seconds, 3))
        with new_folder(store.images(self.spec), "images.json", manifest) as folder:
            for entry, image in zip(manifest["files"], self.images, strict=True):
                assert image is not None
                image.save(folder / entry["file"])


@dataclass(frozen=True)
class Drawn:
    """One batch: its images, its seconds, and the sets that it completed."""

    images: int
    seconds: float
    completed: tuple[Drawing, ...]


def draw(
    specs: Sequence[ImageSetSpec], base: Base, store: Store, wear: Wear | None = None
) -> Iterator[Drawn]:
    """Draw image sets of one base and one way of drawing, and store each when it is whole.

    Without `wear`, the base draws as it is now, and there is one set.
    """
    assert wear or len(specs) == 1
    way, width = specs[0], specs[0].batch_width
    jobs = [
        (drawing, prompt, seed)
        for drawing in map(Drawing, specs)
        for prompt in drawing.spec.prompts
        for seed in drawing.spec.seeds
    ]
    for first in range(0, len(jobs), width):
        started = time.perf_counter()
        batch = jobs[first : first + width]
        padded = batch + batch[-1:] * (width - len(batch))
        if wear:
            for slot, (drawing, _, _) in enumerate(padded):
                wear(slot, drawing.spec.snapshot)
        images = draw_batch(way, base, [(prompt, seed) for _, prompt, seed in padded])
        seconds = time.perf_counter() - started
        for (drawing, _, _), image in zip(batch, images, strict=False):  # the padding is dropped
            drawing.images.append(image)
            drawing.seconds += seconds / len(batch)
        completed = [one for one in dict.fromkeys(job[0] for job in batch) if one.is_whole]
        for drawing in completed:
            if not drawing.is_broken:
                drawing.store(store)
        yield Drawn(len(batch), seconds, tuple(completed))


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
