"""Scoring stored image sets by every metric.

An encoder reads each image once and its features serve every metric. Preprocessing is part of the
encoder's spec, because it alone moves DINO by .03: resize (bicubic, shorter side), centre crop,
normalise as the weights were trained; float32 always.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from charsweep.character import TrainingImage, middle_square
from charsweep.character.attributes import rivals_of
from charsweep.core.errors import StoreError
from charsweep.core.specs import ExamSpec, ImageSetSpec, ScoreSpec
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

    Nothing where there are none. Drawn images have no masks and are seen whole. So with subjects as
    references a score no longer rises because an image repeats a training image's background; its
    own background still counts against it, and scores compare only with others of this kind.
    """
    if not training_images:
        return {}
    return square_features(encoders, [image.subject for image in training_images])


def square_features(
    encoders: Mapping[str, Encoder], pictures: Sequence[Image.Image]
) -> dict[str, Features]:
    """What is seen in the middle square of each image."""
    return all_features(encoders, [middle_square(one, min(one.size)) for one in pictures])


@dataclass
class Scorer:
    """The encoders of a sweep and the features that are read once per process."""

    encoders: Mapping[str, Encoder]
    store: Store
    references: Mapping[str, Features]  # training images, masked where only subjects count
    unmasked_references: Mapping[str, Features]  # training images as they are
    held_out: Mapping[str, Features] | None = None  # drawings that are not trained on
    # The true picture of every prompt of an exam, by their digests.
    truths: dict[tuple[str, ...], Mapping[str, Features]] = field(default_factory=dict)
    _texts: dict[tuple[str, ...], Features] = field(default_factory=dict)
    _images: dict[str, ImageFeatures] = field(default_factory=dict)

    def score(
        self, specs: Sequence[ScoreSpec], images: ImageSetSpec, untaught: ImageSetSpec | None
    ) -> None:
        """Score one stored image set by every metric of `specs` and store the scores."""
        if not specs:
            return
        base = self._kept(untaught) if untaught else None
        exam = self.exam(specs[0].exam, self.features(images), base)
        for score_spec in specs:
            score = score_spec.metric.made(exam)
            self.store.write_score(
                score_spec,
                {"value": score.value, "per_image": score.per_image, "details": score.details},
            )

    def exam(self, spec: ExamSpec, images: ImageFeatures, untaught: ImageFeatures | None) -> Exam:
        """The images with all that they are judged by."""
        prompts = spec.prompts if "clip" in self.encoders else ()
        rivals = [rivals_of(prompt, spec.attributes) for prompt in prompts]
        return Exam(
            images=images,
            references=self.references,
            prompts=self._texts_of(prompts) if prompts else None,
            untaught=untaught,
            unmasked_references=self.unmasked_references,
            held_out=self.held_out,
            truth=self._truth(spec),
            rivals=[{name: self._texts_of(texts) for name, texts in own.items()} for own in rivals],
            class_prompt=self._texts_of((spec.class_prompt,)) if prompts else None,
        )

    def features(self, spec: ImageSetSpec) -> ImageFeatures:
        """Features of a stored image set by every encoder; StoreError if it cannot be read."""
        folder = self.store.images(spec)
        try:
            pictures = [open_image(folder / f"{i:03d}.png") for i in range(spec.count)]
        except Exception as error:
            raise StoreError(
                f"cannot read the images in {folder}: {error}; delete that folder and run the same "
                "command again"
            ) from error
        by_encoder = all_features(self.encoders, pictures)
        return ImageFeatures(by_encoder, tuple(i // len(spec.seeds) for i in range(spec.count)))

    def _kept(self, spec: ImageSetSpec) -> ImageFeatures:
        if spec.key not in self._images:
            self._images[spec.key] = self.features(spec)
        return self._images[spec.key]

    def _truth(self, spec: ExamSpec) -> ImageFeatures | None:
        known = self.truths.get(spec.truth)
        return ImageFeatures(known, tuple(range(len(spec.truth)))) if known else None

    def _texts_of(self, texts: tuple[str, ...]) -> Features:
        if texts not in self._texts:
            self._texts[texts] = self.encoders["clip"].texts(texts)
        return self._texts[texts]

    def among_references(self) -> dict[str, float]:
        """The training images scored against each other, leave one out; empty for one image."""
        names = {"dino": "dino", "clip": "clip_i", "colour": "colour"}
        return {
            names[name]: float(among(rows, self.unmasked_references[name]).mean())
            for name, rows in self.references.items()
            if len(rows) > 1
        }
