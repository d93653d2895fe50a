"""Drawing the exam's images from snapshots, in batches.

Each image has a generator of its own, and images are drawn in batches of a fixed width, the last
one padded, so that an image depends, not by a bit, on what is drawn beside it. Image sets that
differ in nothing but their low-rank adapters share batches: each image has its own.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from charsweep.core.columns import passes
from charsweep.core.seeding import generator
from charsweep.core.specs import ImageSetSpec
from charsweep.core.store import Store
from charsweep.core.store.files import link_or_copy, new_folder
from charsweep.core.store.store import DrawnImage, image_manifest
from charsweep.models.pipeline import LoadedPipeline
from charsweep.models.regions import Choose
from charsweep.models.samplers import make_scheduler

if TYPE_CHECKING:
    from charsweep.models.families import ColumnFamily

LoadSlot = Callable[[int, ImageSetSpec], None]  # puts what draws a set into a slot of the batch


class Asked(NamedTuple):
    """One image of an exam: its prompt, the prompt's place among the others, its seed."""

    prompt: str
    place: int
    seed: int


class Paint(Protocol):
    """What draws `batch_width` images, NHWC float in [0, 1], in the way that the spec says."""

    def __call__(self, spec: ImageSetSpec, asked: Sequence[Asked]) -> NDArray[np.float32]:
        """The images asked for, in their order."""


@dataclass(eq=False)
class PartialImageSet:
    """An image set while it is drawn: its images so far (None: not finite), its share of time.

    Those that other sets hold already, by place of the prompt and seed, are taken from there.
    It is broken when an image is no number: its weights are so far off that the trajectory has
    diverged. It is not stored then.
    """

    spec: ImageSetSpec
    images: list[Image.Image | None] = field(default_factory=list)
    seconds: float = 0.0
    before: Mapping[tuple[int, int], DrawnImage] = field(default_factory=dict)

    @property
    def places(self) -> list[tuple[int, int]]:
        """Of each image the place of its prompt and its seed, prompt by prompt."""
        return list(itertools.product(range(len(self.spec.prompts)), self.spec.seeds))

    @property
    def missing(self) -> list[Asked]:
        """What is to be drawn, in the order of `images`."""
        prompts = self.spec.prompts
        return [Asked(prompts[at[0]], *at) for at in self.places if at not in self.before]

    @property
    def is_whole(self) -> bool:
        """Whether all its images are there."""
        return len(self.images) + len(self.before) == self.spec.count

    @property
    def is_broken(self) -> bool:
        return None in self.images

    def store(self, store: Store) -> None:
        """Write its images and manifest; it is whole and not broken."""
        seconds = self.seconds + sum(one.seconds for one in self.before.values())
        manifest, drawn = image_manifest(self.spec, round(seconds, 3)), iter(self.images)
        with new_folder(store.images(self.spec), "images.json", manifest) as folder:
            for entry, at in zip(manifest["files"], self.places, strict=True):
                if at in self.before:
                    link_or_copy(self.before[at].path, folder / entry["file"])
                else:
                    image = next(drawn)
                    assert image is not None
                    image.save(folder / entry["file"])


@dataclass(frozen=True)
class DrawnBatch:
    """One batch: its images, its seconds, and the sets that it completed."""

    images: int
    seconds: float
    completed: tuple[PartialImageSet, ...]


def draw(
    sets: Sequence[PartialImageSet], paint: Paint, store: Store, load_slot: LoadSlot | None = None
) -> Iterator[DrawnBatch]:
    """Draw image sets that share a way of drawing, and store each when it is whole.

    Without `load_slot`, there is one set.
    """
    assert load_slot or len(sets) == 1
    way, width = sets[0].spec.as_drawn, sets[0].spec.batch_width
    jobs = [(images, asked) for images in sets for asked in images.missing]
    for first in range(0, len(jobs), width):
        started = time.perf_counter()
        batch = jobs[first : first + width]
        padded = batch + batch[-1:] * (width - len(batch))
        if load_slot:
            for slot, (images, _) in enumerate(padded):
                load_slot(slot, images.spec.as_drawn)
        painted = paint(way, [asked for _, asked in padded])
        seconds = time.perf_counter() - started
        for (images, _), array in zip(batch, painted, strict=False):  # the padding is dropped
            images.images.append(image_of(array))
            images.seconds += seconds / len(batch)
        completed = [images for images in dict.fromkeys(job[0] for job in batch) if images.is_whole]
        for images in completed:
            if not images.is_broken:
                images.store(store)
        yield DrawnBatch(len(batch), seconds, tuple(completed))


def image_of(array: NDArray[np.float32]) -> Image.Image | None:
    """An HWC float image in [0, 1] as 8-bit RGB; None where it is not finite."""
    if not np.isfinite(array).all():
        return None
    return Image.fromarray((array.clip(0.0, 1.0) * 255).round().astype("uint8"))


def paint_with(
    base: LoadedPipeline, called: Sequence[str] = (), choose: Choose | None = None
) -> Paint:
    """The base as it is now, as a `Paint`: its pipeline, which follows the prompts.

    Or with several adapters, of which each draws apart what prompts call it by, when it is chosen.
    An image depends on its prompt and seed alone, so that one seed compares prompts.
    """

    def paint(spec: ImageSetSpec, asked: Sequence[Asked]) -> NDArray[np.float32]:
        assert len(asked) == spec.batch_width
        pipeline = base.pipeline
        own = pipeline.scheduler
        base.bring()
        pipeline.scheduler = make_scheduler(spec.sampler, own.config, type(own), of_latents=True)
        prompts = [image.prompt for image in asked]
        generators = [generator(image.seed, "image") for image in asked]
        try:
            with torch.inference_mode():
                if choose is None:
                    return base.family.draw(pipeline, spec, prompts, generators)
                made = passes(prompts, called, spec.whose)
                family = cast("ColumnFamily", base.family)
                return family.draw_in_passes(pipeline, spec, made, generators, choose)
        finally:
            pipeline.scheduler = own

    return paint
