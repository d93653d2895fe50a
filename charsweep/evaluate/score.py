"""Scoring stored image sets by every metric.

An encoder reads each image once and its features serve every metric. Preprocessing is part of the
encoder's spec, because it alone moves DINO by .03: resize (bicubic, shorter side), centre crop,
normalise as the weights were trained; float32 always.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from charsweep.character import TrainingImage, middle_square
from charsweep.core.errors import StoreError
from charsweep.core.specs import ImageSetSpec, ScoreSpec
from charsweep.core.store import Store
from charsweep.core.system.images import open_image
from charsweep.evaluate.encoders import Encoder
from charsweep.evaluate.metrics import Exam, Features, ImageFeatures, among, colour_features


def all_features(
    encoders: Mapping[str, Encoder], pictures: Sequence[Image.Image]
) -> dict[str, Features]:
    """What every encoder, and the plain histogram, sees in each image."""
    read = {name: encoder.images(pictures) for name, encoder in encoders.items()}
    return {**read, "colour": colour_features(pictures)}


def reference_features(
    encoders: Mapping[str, Encoder], training_images: Sequence[TrainingImage]
) -> dict[str, Features]:
    """What is seen in the middle squares of training images; of masked ones, in the subject alone.

    Drawn images have no masks and are seen whole. So with subjects as references a score no longer
    rises because an image repeats a training image's background; its own background still counts
    against it, and scores compare only with others of this kind.
    """
    subjects = [image.subject for image in training_images]
    return all_features(encoders, [middle_square(one, min(one.size)) for one in subjects])


@dataclass
class Scorer:
    """The encoders of a sweep and the features that are read once per process."""

    encoders: Mapping[str, Encoder]
    store: Store
    references: Mapping[str, Features]  # training images, masked where only subjects count
    unmasked_references: Mapping[str, Features]  # training images as they are
    _texts: dict[tuple[str, ...], Features] = field(default_factory=dict)
    _images: dict[str, ImageFeatures] = field(default_factory=dict)

    def score(
        self, specs: Sequence[ScoreSpec], images: ImageSetSpec, untaught: ImageSetSpec | None
    ) -> None:
        """Score one stored image set by every metric of `specs` and store the scores."""
        if not specs:
            return
        exam = Exam(
            images=self.features(images),
            references=self.references,
            prompts=self._prompts(specs[0].prompts),
            untaught=self._kept(untaught) if untaught else None,
            unmasked_references=self.unmasked_references,
        )
        for spec in specs:
            score = spec.metric.make()(exam)
            self.store.write_score(spec, {"value": score.value, "per_image": score.per_image})

    def features(self, spec: ImageSetSpec) -> ImageFeatures:
        """Features of a stored image set by every encoder; StoreError if it cannot be read."""
        folder = self.store.images(spec)
        count = len(spec.prompts) * len(spec.seeds)
        try:
            pictures = [open_image(folder / f"{i:03d}.png") for i in range(count)]
        except Exception as error:
            raise StoreError(
                f"cannot read the images in {folder}: {error}; delete that folder and run the same "
                "command again"
            ) from error
        by_encoder = all_features(self.encoders, pictures)
        return ImageFeatures(
            by_encoder, tuple(np.repeat(range(len(spec.prompts)), len(spec.seeds)))
        )

    def _kept(self, spec: ImageSetSpec) -> ImageFeatures:
        if spec.key not in self._images:
            self._images[spec.key] = self.features(spec)
        return self._images[spec.key]

    def _prompts(self, prompts: tuple[str, ...]) -> Features | None:
        if "clip" not in self.encoders or not prompts:
            return None
        if prompts not in self._texts:
            self._texts[prompts] = self.encoders["clip"].texts(prompts)
        return self._texts[prompts]

    def among_references(self) -> dict[str, float]:
        """The training images scored against each other, leave one out; empty for one image."""
        names = {"dino": "dino", "clip": "clip_i", "colour": "colour"}
        return {
            names[name]: float(among(rows, self.unmasked_references[name]).mean())
            for name, rows in self.references.items()
            if len(rows) > 1
        }
