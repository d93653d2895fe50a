"""Drawing image sets into the store: by a base, taught or not, or by a method."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, cast

import torch

from charsweep.character import middle_of
from charsweep.config import Sweep
from charsweep.core.errors import ModelsError
from charsweep.core.keys import canonical, canonical_json
from charsweep.core.methods import method_of
from charsweep.core.specs import (
    Added,
    BaseSpec,
    ComposedSpec,
    ImageSetSpec,
    TrajectorySpec,
    TruthSpec,
)
from charsweep.core.store import Store
from charsweep.core.store.files import new_folder
from charsweep.core.store.store import image_manifest
from charsweep.core.system.images import open_image
from charsweep.core.system.signals import check_room
from charsweep.engine.measure_memory import Peak
from charsweep.engine.progress import View
from charsweep.evaluate.sample import LoadSlot, Paint, PartialImageSet, draw, paint_with
from charsweep.models.composition import added_files
from charsweep.models.load import load_base
from charsweep.models.pipeline import LoadedPipeline
from charsweep.models.precision import dtype_of, set_products
from charsweep.plan import Speeds, shared_pass
from charsweep.plan.cost import calls, calls_each
from charsweep.plan.memory import Work, name_of

if TYPE_CHECKING:
    from charsweep.core.methods import PackedMethod


class Bases:
    """Bases by spec and precision, each loaded once and kept while this lives."""

    def __init__(self, sweep: Sweep, device: torch.device, view: View) -> None:
        self.sweep, self.device, self.view = sweep, device, view
        self.loaded: dict[tuple[str, torch.dtype], LoadedPipeline] = {}

    def __call__(self, spec: BaseSpec, precision: str) -> LoadedPipeline:
        """The base in that precision; ModelsError if its weights are unusable."""
        dtype = dtype_of(precision)
        if (spec.key, dtype) not in self.loaded:
            self.view.doing(f"loading {spec.name}")
            weights = self.sweep.bases[spec.key]
            self.loaded[spec.key, dtype] = load_base(spec, weights, self.device, dtype)
        return self.loaded[spec.key, dtype]


class ImageSets:
    """Draws image sets into the store."""

    def __init__(
        self, sweep: Sweep, store: Store, view: View, bases: Bases, speeds: Speeds
    ) -> None:
        self.sweep, self.store, self.view = sweep, store, view
        self.bases, self.speeds = bases, speeds
        self.pace: float | None = None  # seconds of a pixel in one U-Net call, as drawn last

    def draw(self, sets: Sequence[ImageSetSpec]) -> dict[str, float]:
        """Draw image sets, those that can share batches together; seconds by the set's key.

        Of several that are drawn as one, the others later: they take the first one's images.
        """
        first: dict[str, ImageSetSpec] = {}
        for images in sets:
            first.setdefault(images.as_drawn.key, images)
        drawn = {images.key for images in first.values()}
        spent = self._draw(list(first.values()))
        return spent | self._draw([images for images in sets if images.key not in drawn])

    def _draw(self, sets: Sequence[ImageSetSpec]) -> dict[str, float]:
        groups: dict[Any, list[PartialImageSet]] = {}
        for images in sets:
            begun = PartialImageSet(images, before=self.store.drawn_before(images))
            if begun.is_whole:
                begun.store(self.store)
            else:
                groups.setdefault(drawn_together(images.as_drawn), []).append(begun)
        spent: dict[str, float] = {}
        for group in groups.values():
            way, device = group[0].spec, self.bases.device
            source = way.snapshot.source
            if isinstance(source, TruthSpec):
                self._copy_truth(way)
                continue
            many = f" and {len(group) - 1} others" if len(group) > 1 else ""
            set_products(way.precision)
            base = way.drawing_base
            with self._painter(way.as_drawn) as (paint, load_slot):
                own = self.bases(base, way.precision).modules if base else {}
                peak = Peak(device, own.values())
                self.view.doing(
                    f"drawing {source.slug}, step {way.snapshot.step}, {way.slug}{many}"
                )
                self._check_room(group, done := 0)
                for drawn in draw(group, paint, self.store, load_slot):
                    done += drawn.images
                    self.pace = drawn.seconds / drawn.images / calls_each(way) / area_of(way)
                    self.view.advance("images", drawn.images, drawn.seconds)
                    for made in drawn.completed:
                        spent[made.spec.key] = made.seconds
                        drawn_here = calls(made.spec) * len(made.images) / made.spec.count
                        self.speeds.remember_call(made.spec, made.seconds / drawn_here)
                        if made.is_broken:
                            self._mark_broken(made.spec)
                    self._check_room(group, done)
                if found := peak.bytes():
                    self.speeds.remember_peak(name_of(Work(way.as_drawn), device.type), found)
        return spent

    def _check_room(self, group: Sequence[PartialImageSet], drawn: int) -> None:
        """Stop where the time left is too short for the next set: nothing is kept of a part."""
        ends = accumulate(len(begun.missing) for begun in group)
        missing = next((end - drawn for end in ends if end > drawn), 0)
        if self.pace is not None and missing:
            way = group[0].spec
            check_room(missing * calls_each(way) * area_of(way) * self.pace)

    def _mark_broken(self, images: ImageSetSpec) -> None:
        """What was taught and draws no numbers has diverged; a base's weights are spoilt.

        At another strength or on another base than it was taught at, that says nothing of it.
        """
        snapshot = images.snapshot
        if images.strength != 1 or images.base:
            return
        if not isinstance(snapshot.source, TrajectorySpec | Added):
            raise ModelsError(
                f"{snapshot.source.slug}: its images are not finite; fetch its weights again"
            )
        self.store.mark_diverged(snapshot.source, snapshot.step)

    @contextlib.contextmanager
    def _painter(self, images: ImageSetSpec) -> Iterator[tuple[Paint, LoadSlot | None]]:
        """What draws an image set: the base as it is, with an adapter from elsewhere, or what the
        method makes of the snapshot, alone or with a slot for each image of a batch."""
        source, folder = images.snapshot.source, self.store.snapshot(images.snapshot)
        drawing = images.drawing_base
        base = self.bases(drawing, images.precision) if drawing else None
        if base and (isinstance(source, BaseSpec) or not images.strength):
            yield paint_with(base), None
            return
        if base and isinstance(source, ComposedSpec) and source.called:
            with base.apart(added_files(source, folder)) as choose:
                yield paint_with(base, source.called, choose), None
            return
        if base and isinstance(source, Added):
            with base.composed(added_files(source, folder), images.strength):
                yield paint_with(base), None
            return
        assert isinstance(source, TrajectorySpec)
        method = method_of(source.method)
        if method.pack_key is None or images.fills_batches:
            with method.painter(images, folder, base, self.bases.device) as paint:
                yield paint, None
            return
        assert base is not None
        packed, width = cast("PackedMethod", method), images.batch_width
        with packed.adapter_slots(base, width, self.store.snapshot) as slots:
            yield slots

    def _copy_truth(self, images: ImageSetSpec) -> None:
        """The true pictures become an image set, so that they are scored like any other."""
        source, manifest = images.snapshot.source, image_manifest(images, 0.0)
        assert isinstance(source, TruthSpec)
        with new_folder(self.store.images(images), "images.json", manifest) as folder:
            for digest, entry in zip(source.digests, manifest["files"], strict=True):
                picture = open_image(self.sweep.drawings.paths[digest])
                middle_of(picture, images.pixels).save(folder / entry["file"])
                self.view.advance("images")


def area_of(images: ImageSetSpec) -> int:
    """Pixels of each of its images."""
    return math.prod(images.pixels)


def drawn_together(images: ImageSetSpec) -> tuple[Any, ...]:
    """What image sets must have in common to share batches; what draws alone differs from all."""
    source = images.snapshot.source
    shared = shared_pass(source) if isinstance(source, TrajectorySpec) else None
    if shared is None or images.fills_batches or not images.strength:
        return (images.key,)
    # all else is the way of drawing
    own = {"snapshot": None, "prompts": None, "seeds": None, "strength": None}
    return (shared, canonical_json({**canonical(images), **own}))
