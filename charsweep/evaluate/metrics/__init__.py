"""Metrics: a number for an image set, from features. Reached through conf/metric/.

A metric is a frozen dataclass whose fields are the settings of its YAML file; one that
`charsweep.core.encoders` makes names an encoder. It is handed an `Exam`: features of the images and
of what they are judged against.

Features are float32 rows, of most encoders of length 1, so that a product of two is a cosine; an
encoder with a measure of its own is asked for it by `Exam.likeness`. numpy only, so that planning,
which asks a metric for its version, needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from charsweep.core.specs import CHARACTER

Features = NDArray[np.float32]
Likeness = Callable[[Features, Features], NDArray[np.float64]]  # (N, D), (M, D) -> (N, M)


@dataclass(frozen=True)
class ImageFeatures:
    """An image set: by encoder name (N, D), and which prompt each image was drawn for.

    Beside the encoders stands `colour`, the images' histograms.
    """

    by_encoder: Mapping[str, Features]
    prompt_of: tuple[int, ...]


@dataclass(frozen=True)
class Exam:
    """An image set, and all that it is judged by."""

    images: ImageFeatures
    references: Mapping[str, Features]  # training images by encoder name: (M, D); {} of none
    # As the metric's prompt encoder reads them, class noun for the identifier: (P, D).
    prompts: Features | None
    untaught: ImageFeatures | None  # the base's images for the prompts with the class noun
    # Training images with their backgrounds, where `references` are masked.
    unmasked_references: Mapping[str, Features] | None = None
    held_out: Mapping[str, Features] | None = None  # drawings of the character not trained on
    truth: ImageFeatures | None = None  # the true picture of every prompt
    # Per prompt, by each attribute that it names: the prompt with every other word for it (W, D).
    rivals: Sequence[Mapping[str, Features]] = ()
    class_prompt: Features | None = None  # "a picture of a girl": (1, D)
    measures: Mapping[str, Likeness] = field(default_factory=dict)  # of encoders with their own
    # Where two are asked for: windows of the images and of the base's, by encoder name (N, W, D);
    # the other's drawings, as `references`; who is to stand on the left, by prompt; and what the
    # other is, one of KINDS. A place, asked for beside somebody or alone, is always the other: its
    # drawings are seen as the only window of images is, by the edges.
    windows: ImageFeatures | None = None
    untaught_windows: ImageFeatures | None = None
    other: Mapping[str, Features] = field(default_factory=dict)
    left: Sequence[str | None] = ()
    kind: str = CHARACTER

    def likeness(self, encoder: str, images: Features, others: Features) -> NDArray[np.float64]:
        """How alike an encoder finds images and others (N, M): cosines, or by its own measure."""
        return self.measures.get(encoder, similarity)(images, others)

    def paired_likeness(
        self, encoder: str, images: Features, others: Features
    ) -> NDArray[np.float64]:
        """How alike it finds each image and its counterpart (N,)."""
        if encoder in self.measures:
            return self.likeness(encoder, images, others).diagonal()
        return np.asarray(np.einsum("nd,nd->n", *(x.astype(np.float64) for x in (images, others))))

    @property
    def has_drawings(self) -> bool:
        """Whether identity can be measured against anything."""
        return bool(self.references) or self.held_out is not None

    def among(self, encoder: str) -> NDArray[np.float64]:
        """The training images scored as if drawn, leave one out (M, M - 1)."""
        unmasked = (self.unmasked_references or self.references)[encoder]
        return self.likeness_among(encoder, self.references[encoder], unmasked)

    def mean_among(self, encoder: str) -> float | None:
        """The mean of the same; None of a single training image."""
        known = self.references.get(encoder, ())
        return float(self.among(encoder).mean()) if len(known) > 1 else None

    def likeness_among(
        self, encoder: str, references: Features, unmasked: Features | None = None
    ) -> NDArray[np.float64]:
        """How alike an encoder finds images and each other, leave one out (M, M - 1)."""
        return among(references, unmasked, self.measures.get(encoder, similarity))


class Metric(Protocol):
    """What a metric answers."""

    version: ClassVar[int]  # goes up when its numbers change; part of every key

    def __call__(self, exam: Exam) -> Score:
        """The score of the exam's images; a value of None where the metric does not apply."""


class MetricOfLikeness(Metric, Protocol):
    """A metric by which training images can be scored too, as if they were drawn."""

    def among(self, exam: Exam) -> float | None:
        """Each scored against the others, and the mean; None of a single one."""


@dataclass(frozen=True)
class Score:
    """A number for the image set, None where it does not apply; and one per image, if any."""

    value: float | None
    per_image: tuple[float, ...] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)  # plain values that explain it


def colour_features(images: Sequence[Image.Image]) -> Features:
    """Square roots (N, 512) of the images' RGB histograms, 8 bins a channel: of length 1.

    Their product is the Bhattacharyya coefficient of two histograms.
    """
    rows = []
    for image in images:
        bins = np.asarray(image.convert("RGB"), dtype=np.int64).reshape(-1, 3) // 32
        counts = np.bincount(bins @ np.array([64, 8, 1]), minlength=512)
        rows.append(np.sqrt(counts / counts.sum()))
    return np.stack(rows).astype(np.float32)


def mean_score(per_image: NDArray[np.floating], details: Mapping[str, Any] | None = None) -> Score:
    """The mean of the images' scores (N,), and these."""
    return Score(float(per_image.mean()), tuple(map(float, per_image)), details or {})


def similarity(images: Features, others: Features) -> NDArray[np.float64]:
    """Cosines (N, M) of two sets of features."""
    return images.astype(np.float64) @ others.astype(np.float64).T


def among(
    references: Features, unmasked: Features | None = None, likeness: Likeness = similarity
) -> NDArray[np.float64]:
    """Likeness (M, M - 1) of each image, or of what it is as a whole, to the others."""
    full = likeness(references if unmasked is None else unmasked, references)
    return full[~np.eye(len(full), dtype=bool)].reshape(len(full), -1)


def prompt_similarity(
    images: ImageFeatures, prompts: Features, encoder: str = "clip"
) -> NDArray[np.float64]:
    """Cosine (N,) of each image with its own prompt."""
    cosines = similarity(images.by_encoder[encoder], prompts)
    return cosines[np.arange(len(cosines)), list(images.prompt_of)]
