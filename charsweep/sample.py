"""One snapshot in, the exam's images out.

Each image has a generator of its own, and images are drawn in batches of a fixed width, the last
one padded, so that an image depends, not by a bit, on what is drawn beside it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from charsweep.bases import Base, generator
from charsweep.errors import ConfigError
from charsweep.plugins import resolve
from charsweep.specs import ImageSetSpec, Plugin
from charsweep.store import Store, image_manifest, new_folder


class NotFiniteError(Exception):
    """The weights are so far off that their images are no numbers: the trajectory has diverged."""


def draw(spec: ImageSetSpec, base: Base, store: Store) -> Iterator[int]:
    """Draw an image set from the base as it is now and store it, yielding images done."""
    started = time.perf_counter()
    manifest = image_manifest(spec, 0.0)
    with new_folder(store.images(spec), "images.json", manifest) as folder:
        jobs = [(prompt, seed) for prompt in spec.prompts for seed in spec.seeds]
        done = 0
        for first in range(0, len(jobs), spec.batch_width):
            batch = jobs[first : first + spec.batch_width]
            for image in draw_batch(spec, base, batch):
                image.save(folder / manifest["files"][done]["file"])
                done += 1
            yield len(batch)
        manifest["seconds"] = round(time.perf_counter() - started, 3)


def draw_batch(
    spec: ImageSetSpec, base: Base, jobs: Sequence[tuple[str, int]]
) -> list[Image.Image]:
    """Images of up to `batch_width` (prompt, seed) pairs; shorter batches are padded."""
    padded = [*jobs, *[jobs[-1]] * (spec.batch_width - len(jobs))]
    pipeline = base.pipeline
    own = pipeline.scheduler
    pipeline.scheduler = make_scheduler(spec.sampler, own.config, type(own))
    try:
        with torch.inference_mode():
            images = pipeline(
                prompt=[prompt for prompt, _ in padded],
                negative_prompt=[spec.negative_prompt] * len(padded),
                generator=[generator(seed, "image") for _, seed in padded],
                num_inference_steps=spec.inference_steps,
                guidance_scale=spec.guidance_scale,
                height=spec.resolution,
                width=spec.resolution,
                output_type="np",
            ).images[: len(jobs)]
    finally:
        pipeline.scheduler = own
    if not np.isfinite(images).all():
        raise NotFiniteError(f"step {spec.snapshot.step} draws nothing finite")
    return list(pipeline.numpy_to_pil(images))


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
