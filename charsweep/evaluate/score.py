"""Scoring stored image sets by every metric.

An encoder reads each image once and its features serve every metric. Preprocessing is part of the
encoder's spec, because it alone moves DINO by .03: resize (bicubic, shorter side), centre crop,
normalise as the weights were trained; float32 always.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from charsweep.character import TrainingImage, middle_square
from charsweep.character.attributes import rivals_of
from charsweep.core.encoders import encoders_of, prompt_encoder_of
from charsweep.core.errors import StoreError
from charsweep.core.specs import PLACE, EncoderSpec, ExamSpec, ImageSetSpec, Plugin, ScoreSpec
from charsweep.core.store import Store
from charsweep.core.system.images import open_image
from charsweep.evaluate.encoders import Encoder, PromptEncoder
from charsweep.evaluate.metrics import Exam, Features, ImageFeatures, colour_features
from charsweep.evaluate.windows import EDGES, WINDOWS, Windows

Pictures = Sequence[Image.Image]


@dataclass
class Seen:
    """Pictures, and what encoders see in them: each reads them once, when it is first asked."""

    pictures: Callable[[], Pictures]
    prompt_of: tuple[int, ...] = ()  # which prompt each is of, if any
    _read: dict[EncoderSpec | None, Features] = field(default_factory=dict)  # None: histograms
    _windows: dict[Windows, Seen] = field(default_factory=dict)

    def by(self, encoders: Mapping[EncoderSpec, Encoder]) -> dict[str, Features]:
        """Features by the encoders' names; the plain histogram's are `colour`. {} of nothing."""
        missing = [one for one in (None, *encoders) if one not in self._read]
        pictures = self.pictures() if missing else ()
        if missing and not pictures:
            return {}
        for one in missing:
            read = colour_features if one is None else encoders[one].images
            self._read[one] = read(pictures)
        return {"colour" if one is None else one.name: self._read[one] for one in (*encoders, None)}

    def images(self, encoders: Mapping[EncoderSpec, Encoder]) -> ImageFeatures:
        """The same, of images drawn for prompts."""
        return ImageFeatures(self.by(encoders), self.prompt_of)

    def windows(self, encoders: Mapping[EncoderSpec, Encoder], windows: Windows) -> ImageFeatures:
        """The same of the windows of each: (N, W, D)."""
        if windows not in self._windows:
            self._windows[windows] = Seen(
                lambda: [one for picture in self.pictures() for one in windows.of(picture)]
            )
        seen = self._windows[windows].by(encoders).items()
        by_encoder = {name: rows.reshape(-1, windows.count, rows.shape[-1]) for name, rows in seen}
        return ImageFeatures(by_encoder, self.prompt_of)

    def edges(self, encoders: Mapping[EncoderSpec, Encoder]) -> dict[str, Features]:
        """What is seen at the edges of each, as `by`."""
        seen = self.windows(encoders, EDGES).by_encoder
        return {name: rows[:, 0] for name, rows in seen.items()}


def squares(pictures: Callable[[], Pictures], prompts: int = 0) -> Seen:
    """What is seen in the middle square of each image; of one image for each of the prompts."""

    def cut() -> Pictures:
        return [middle_square(one, min(one.size)) for one in pictures()]

    return Seen(cut, tuple(range(prompts)))


def subjects(images: Callable[[], Sequence[TrainingImage]]) -> Seen:
    """What is seen in the middle squares of training images; of masked ones, in the subject alone.

    Nothing where there are none. Drawn images have no masks and are seen whole. So with subjects as
    references a score no longer rises because an image repeats a training image's background; its
    own background still counts against it, and scores compare only with others of this kind.
    """
    return squares(lambda: [image.subject for image in images()])


@dataclass(frozen=True)
class Texts:
    """What an encoder reads in the texts of an exam: see `Exam`."""

    prompts: Features
    rivals: Sequence[Mapping[str, Features]]
    class_prompt: Features


@dataclass
class Scorer:
    """What the cells of one measure are judged by; features are read once per process."""

    load: Callable[[EncoderSpec], Encoder]
    store: Store
    references: Seen  # training images, masked where only subjects count
    unmasked_references: Seen  # training images as they are
    held_out: Seen | None = None  # drawings that are not trained on
    # The true picture of every prompt of an exam, by their digests.
    truths: dict[tuple[str, ...], Seen] = field(default_factory=dict)
    # Drawings of the second of two, by their digests.
    others: dict[tuple[str, ...], Seen] = field(default_factory=dict)
    # By metric of likeness, the training images scored against each other, leave one out.
    among_references: dict[str, float] = field(default_factory=dict)
    _texts: dict[tuple[EncoderSpec, tuple[str, ...]], Features] = field(default_factory=dict)
    _asked: dict[tuple[object, ...], Texts] = field(default_factory=dict)
    _kept: dict[str, Seen] = field(default_factory=dict)

    def score(
        self, specs: Sequence[ScoreSpec], images: ImageSetSpec, untaught: ImageSetSpec | None
    ) -> None:
        """Score one stored image set by every metric of `specs` and store the scores."""
        drawn = self.seen(images)
        base = self._kept.setdefault(untaught.key, self.seen(untaught)) if untaught else None
        for spec in specs:
            metric = spec.metric.made
            exam = self.exam(spec.exam, spec.metric, drawn, base)
            score = metric(exam)
            self.store.write_score(
                spec, {"value": score.value, "per_image": score.per_image, "details": score.details}
            )
            if hasattr(metric, "among") and (own := metric.among(exam)) is not None:
                self.among_references[spec.metric.name] = own

    def exam(self, spec: ExamSpec, metric: Plugin, images: Seen, untaught: Seen | None) -> Exam:
        """The images with all that a metric judges them by, as its encoders see it."""
        names, reader = encoders_of(metric.made), prompt_encoder_of(metric.made)
        encoders = {one: self.load(one) for one in spec.encoders if one.name in names}
        texts = None
        if spec.prompts and (reading := [one for one in encoders if one.name == reader]):
            prompts = encoders[reading[0]]
            assert isinstance(prompts, PromptEncoder)
            texts = self._texts_of(spec, reading[0], prompts)
        truth = self.truths.get(spec.truth)
        other, windows = self.others.get(spec.other), WINDOWS[spec.kind]
        others: dict[str, Features] = {}
        if other:
            others = other.edges(encoders) if spec.kind == PLACE else other.by(encoders)
        return Exam(
            images=images.images(encoders),
            references=self.references.by(encoders),
            prompts=texts.prompts if texts else None,
            untaught=untaught.images(encoders) if untaught else None,
            unmasked_references=self.unmasked_references.by(encoders),
            held_out=self.held_out.by(encoders) if self.held_out else None,
            truth=truth.images(encoders) if truth else None,
            rivals=texts.rivals if texts else (),
            class_prompt=texts.class_prompt if texts else None,
            measures={
                one.name: encoder.measure for one, encoder in encoders.items() if encoder.measure
            },
            windows=images.windows(encoders, windows) if other else None,
            untaught_windows=untaught.windows(encoders, windows) if other and untaught else None,
            other=others,
            left=spec.left,
            kind=spec.kind,
        )

    def seen(self, spec: ImageSetSpec) -> Seen:
        """What is seen in a stored image set; StoreError, once that is asked, without images."""

        def pictures() -> Pictures:
            folder = self.store.images(spec)
            try:
                return [open_image(folder / f"{i:03d}.png") for i in range(spec.count)]
            except Exception as error:
                raise StoreError(
                    f"cannot read the images in {folder}: {error}; delete that folder and run the "
                    "same command again"
                ) from error

        return Seen(pictures, tuple(i // len(spec.seeds) for i in range(spec.count)))

    def _texts_of(self, spec: ExamSpec, reader: EncoderSpec, encoder: PromptEncoder) -> Texts:
        def read(texts: tuple[str, ...]) -> Features:
            if (reader, texts) not in self._texts:
                self._texts[reader, texts] = encoder.texts(texts)
            return self._texts[reader, texts]

        asked = (reader, spec.prompts, spec.class_prompt, spec.attributes)
        if asked not in self._asked:
            rivals = [rivals_of(prompt, spec.attributes) for prompt in spec.prompts]
            self._asked[asked] = Texts(
                read(spec.prompts),
                [{name: read(texts) for name, texts in own.items()} for own in rivals],
                read((spec.class_prompt,)),
            )
        return self._asked[asked]
