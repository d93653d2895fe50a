"""Identity: how much of the way from the untaught base to the character an image has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from charsweep.core.encoders import reads_images
from charsweep.core.specs import PLACE
from charsweep.evaluate.metrics import Exam, Features, ImageFeatures, Score, mean_score


@dataclass(frozen=True)
class Identity:
    """Mean likeness to drawings of the character on a scale of its own, cut to [0, 1].

    0: no more her than the untaught base's images of the same exam, drawn with the class noun;
    1: as much her as the least typical drawing is to the others, leave one out. The drawings are
    those held out of training, else the training images. True pictures of the exam are not taken:
    a scale of theirs ends early, and tells well taught cells apart less (benchmarks/VALIDITY.md).
    The scale ends at 1, the same image, where one drawing is all there is or where the base's
    images are as like the drawings as these are to each other. None without a base, whose images
    it needs, and without any drawing.

    Of a place it is how much the edges of an image are like those of the nearest of its drawings,
    which are from near and from afar, by day and by night: see `place_scale`.
    """

    encoder: str = reads_images("dino")

    version: ClassVar[int] = 2

    def __call__(self, exam: Exam) -> Score:
        if exam.untaught is None or not exam.has_drawings:
            return Score(None)
        if exam.kind == PLACE:
            scale, images = place_scale(exam, self.encoder), edges(exam.windows)
        else:
            scale, images = scale_of(exam, exam.untaught, self.encoder), exam.images
        details = {
            "encoder": self.encoder, "drawings": scale.kind, "base": scale.base, "least": scale.end
        }  # fmt: skip
        return mean_score(np.clip(scale.place(exam, images), 0.0, 1.0), details)


@dataclass(frozen=True)
class Scale:
    """From the likeness of the untaught base's images to drawings, to that among the drawings."""

    kind: str
    encoder: str
    drawings: Features  # (M, D)
    base: float
    end: float
    among: float  # the mean likeness of the drawings to each other
    nearest: bool = False  # whether it is of the nearest drawing, not of the mean over all

    def place(self, exam: Exam, images: ImageFeatures) -> NDArray[np.float64]:
        """Where images lie on it (N,): 0 like the base's, 1 like the least typical drawing."""
        likeness = exam.likeness(self.encoder, images.by_encoder[self.encoder], self.drawings)
        return self.at(likeness.max(axis=1) if self.nearest else likeness.mean(axis=1))

    def at(self, likeness: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same of likenesses to the drawings."""
        return np.asarray((likeness - self.base) / max(self.end - self.base, 1e-9))


def scale_of(exam: Exam, untaught: ImageFeatures, encoder: str) -> Scale:
    """The scale of identity; see `Identity`."""
    if exam.held_out is not None:
        kind, drawings = "held out", exam.held_out[encoder]
        between = exam.likeness_among(encoder, drawings)
    else:
        kind, drawings, between = "training images", exam.references[encoder], exam.among(encoder)
    base = float(exam.likeness(encoder, untaught.by_encoder[encoder], drawings).mean())
    least = float(between.mean(axis=1).min()) if len(drawings) > 1 else 1.0
    mean = float(between.mean()) if len(drawings) > 1 else 1.0
    return Scale(kind, encoder, drawings, base, least if least > base else 1.0, mean)


def place_scale(exam: Exam, encoder: str) -> Scale:
    """The scale of a place: 0, no more like its drawings than the untaught base's images; 1, as
    like the nearest of them as a drawing usually is to the nearest of the others.

    The nearest, as drawings of a place from near, from afar and by night are little like each
    other: of planted pictures .95 were told right by it, .88 by the mean over the drawings
    (benchmarks/TOGETHER.md).
    """
    drawings = exam.other[encoder]
    between = exam.likeness_among(encoder, drawings)
    untaught = edges(exam.untaught_windows).by_encoder[encoder]
    base = float(exam.likeness(encoder, untaught, drawings).max(axis=1).mean())
    usual = float(np.median(between.max(axis=1))) if len(drawings) > 1 else 1.0
    mean = float(between.mean()) if len(drawings) > 1 else 1.0
    end = usual if usual > base else 1.0
    return Scale("edges of drawings", encoder, drawings, base, end, mean, nearest=True)


def edges(windows: ImageFeatures | None) -> ImageFeatures:
    """Windows of a place, of which an image has one, as images (N, D)."""
    assert windows is not None
    rows = {name: own[:, 0] for name, own in windows.by_encoder.items()}
    return ImageFeatures(rows, windows.prompt_of)
