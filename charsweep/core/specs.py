"""Specs of trajectories, snapshots, image sets, exams and scores: the values that keys hash.

Frozen, free of torch and of paths. A field belongs to exactly one stage: everything that shapes
the weights is in `TrajectorySpec`, everything that shapes the pixels in `ImageSetSpec`, everything
that shapes a number in `ScoreSpec`. What shapes none of them (device, workers, folders, logging)
is in no spec, so it can change without doing work again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

from pydantic import TypeAdapter, ValidationError

from charsweep.core.columns import Column, columns_of
from charsweep.core.encoders import encoders_of
from charsweep.core.keys import CAME_LATER, differences, key_of, keyed, short_number
from charsweep.core.methods import method_of
from charsweep.core.plugins import resolve


@dataclass(frozen=True)
class Plugin:
    """A plug-in as a key knows it: its file in conf/, its class, version of its numbers, settings.

    `identity` is the class's bare name for charsweep's own, so that no key depends on where its
    code lies, the dotted path for anybody else's, and "" for none.
    """

    name: str
    identity: str
    version: int
    settings: Mapping[str, Any] = field(hash=False)

    @cached_property
    def made(self) -> Any:
        """The plug-in itself, with its settings."""
        return self.find()(**self.settings)

    def find(self) -> Any:
        """Its class."""
        return resolve(self.identity)


ADAPTER = "adapter"  # the axis of the names of adapters from elsewhere, and their "method"
KINDS = (CHARACTER, OBJECT, PLACE) = ("character", "object", "place")  # what may be taught
BESIDE = " + "  # between the names of two that are put together


class Keyed:
    """A spec whose key is the hash of all its fields."""

    @cached_property
    def key(self) -> str:
        return key_of(self)


@dataclass(frozen=True)
class BaseSpec(Keyed):
    """An untaught base: its name among the models, the digest of its weights, and its family."""

    name: str
    digest: str
    family: Plugin

    @property
    def slug(self) -> str:
        return f"base-{self.name}"


@dataclass(frozen=True)
class TruthSpec(Keyed):
    """True images, which show what the exam asks for: one per exam prompt, by content digest."""

    name: str
    digests: tuple[str, ...]
    resolution: int

    @property
    def slug(self) -> str:
        return f"truth-{self.name}"


@dataclass(frozen=True)
class AdapterSpec(Keyed):
    """A low-rank adapter from elsewhere, by content digest, and the base that it belongs on."""

    digest: str
    base: BaseSpec
    name: str = field(default="", metadata=CAME_LATER)  # in the keys of what stories drew

    @property
    def slug(self) -> str:
        return f"adapter-{self.base.name}"


@dataclass(frozen=True)
class CharacterSpec:
    """The training images by content digest, their captions, and the character's words.

    What is taught beside somebody may be no character but an object or a place: its `kind`.
    """

    name: str
    digests: tuple[str, ...]
    captions: tuple[str, ...]
    identifier: str
    class_noun: str
    instance_prompt: str
    class_prompt: str
    kind: str = field(default=CHARACTER, metadata=CAME_LATER)  # one of KINDS

    @property
    def one_of_class(self) -> str:
        """The class noun with its article, as prompts have it: "a girl", "an owl"."""
        article = "an" if self.class_noun[:1].lower() in "aeiou" else "a"
        return f"{article} {self.class_noun}"


@dataclass(frozen=True)
class Framing:
    """What of the training images the steps show, and how much of that counts in the loss."""

    crop: str = "center"  # center, random or buckets: see charsweep.character.framing
    flip: bool = False  # whether a step mirrors its image, with probability 1/2
    masks: tuple[str, ...] = ()  # their content digests, or "alpha"; (): all counts alike
    background: float = 1.0  # what a place outside the mask counts for one within


@dataclass(frozen=True)
class Company:
    """The other of two that a trajectory teaches, and the steps that show both.

    Pictures of both are composed of drawings of each, cut out by masks, unless there are any: side
    by side, or the first in the place that the other is.
    """

    other: CharacterSpec
    joint_share: float  # of the steps, that show both; the others show one of them, by turns
    masks: tuple[str, ...] = ()  # of the other's images, as `Framing.masks` of the first's
    cut: tuple[tuple[str, ...], ...] = ()  # masks that cut out the first, and no place; or ()
    joint: tuple[str, ...] = ()  # pictures of both, by content digest
    joint_captions: tuple[str, ...] = ()
    class_images: str | None = None  # as the trajectory's, of the other's class

    @property
    def composes(self) -> bool:
        """Whether steps show pictures that are composed."""
        return bool(self.cut)

    @property
    def is_wide(self) -> bool:
        """Whether these are wide, as those of two side by side."""
        return self.composes and self.other.kind != PLACE


@dataclass(frozen=True)
class TrajectorySpec(Keyed):
    """One training run: all that shapes its weights, except how long it runs."""

    base: BaseSpec | None  # None: it starts from nothing
    character: CharacterSpec
    method: Plugin
    optimizer: Plugin
    schedule: Plugin
    learning_rate: float
    seed: int
    batch_size: int
    resolution: int
    framing: Framing
    precision: str
    max_grad_norm: float
    pack: int  # slots of the forward pass it trains in; free ones are padded
    class_images: str | None  # key of what prior preservation uses: an image set, or own images
    horizon: int | None  # only for a schedule whose value depends on the last step
    # Digest of an adapter that is on the base while it is taught, and never when it draws.
    teaching_adapter: str | None = field(default=None, metadata=CAME_LATER)
    company: Company | None = field(default=None, metadata=CAME_LATER)  # None: one is taught

    @property
    def base_name(self) -> str:
        return self.base.name if self.base else ""

    @property
    def base_key(self) -> str:
        return self.base.key if self.base else ""

    @property
    def characters(self) -> tuple[CharacterSpec, ...]:
        """Whom it teaches: one character, or two."""
        return (self.character, *([self.company.other] if self.company else []))

    @cached_property
    def slug(self) -> str:
        parts = [self.method.name, self.base_name, method_of(self.method).label]
        parts += ["together"] if self.company else []
        parts += [f"lr{short_number(self.learning_rate)}", f"seed{self.seed}"]
        return "-".join(part for part in parts if part)


@dataclass(frozen=True)
class Component:
    """What one snapshot's adapter adds to a base, and how much of it.

    It draws wherever the others do; or, `called` by a name, apart: alone what names it so.
    """

    snapshot: SnapshotSpec
    strength: float
    called: str = field(default="", metadata=CAME_LATER)


@dataclass(frozen=True)
class ComposedSpec(Keyed):
    """Adapters that lie on one base together, each at its own strength: nothing is trained."""

    base: BaseSpec
    components: tuple[Component, ...]

    @property
    def slug(self) -> str:
        strengths = "-".join(f"{one.strength:g}" for one in self.components)
        apart = "apart-" if self.called else ""
        return f"composed-{self.base.name}-{apart}strengths{strengths}"

    @property
    def called(self) -> tuple[str, ...]:
        """What prompts call those by who draw apart; () where all draw everywhere."""
        return tuple(one.called for one in self.components if one.called)


Source = TrajectorySpec | BaseSpec | TruthSpec | AdapterSpec | ComposedSpec
Added = AdapterSpec | ComposedSpec  # what is put on a base as it is, and is not trained here


def trained_in(source: Source) -> tuple[TrajectorySpec, ...]:
    """What was trained here of what draws."""
    components = source.components if isinstance(source, ComposedSpec) else ()
    parts = [one.snapshot.source for one in components] or [source]
    return tuple(one for one in parts if isinstance(one, TrajectorySpec))


@dataclass(frozen=True)
class SnapshotSpec:
    """The weights of a source at one step; step 0 of a base or an adapter is that itself.

    Of what is composed, the step is the last that any of its components was trained to.
    """

    source: Source
    step: int

    @property
    def trajectory(self) -> TrajectorySpec:
        """The source, of what was trained here alone."""
        assert isinstance(self.source, TrajectorySpec)
        return self.source


@dataclass(frozen=True)
class ImageSetSpec:
    """The exam drawn from one snapshot: prompts × seeds, prompt by prompt."""

    snapshot: SnapshotSpec
    sampler: Plugin
    inference_steps: int
    guidance_scale: float
    negative_prompt: str
    prompts: tuple[str, ...]  # as the base reads them, subject filled in; "" where none is read
    seeds: tuple[int, ...]
    resolution: int
    batch_width: int  # images are always drawn in batches of this width, the last one padded
    precision: str
    strength: float = field(default=1.0, metadata=CAME_LATER)  # share of what was taught; 0: none
    base: BaseSpec | None = field(default=None, metadata=CAME_LATER)  # None: the source's own
    # Width and height of its images in pixels; None: `resolution` squared.
    size: tuple[int, int] | None = field(default=None, metadata=CAME_LATER)
    # Whether its cell draws pictures of two with words of its own for each half. Those are in the
    # prompts: it shapes no pixel, and tells cells apart whose pictures of one are the same.
    regional: bool = field(default=False, metadata=CAME_LATER)
    # Of adapters that draw apart, the place of the one that draws what names none of them.
    whose: int = field(default=0, metadata=CAME_LATER)

    @cached_property
    def key(self) -> str:
        own = {name: value for name, value in keyed(self).items() if name != "snapshot"}
        return key_of({"source": self.snapshot.source.key, "step": self.snapshot.step, **own})

    @property
    def slug(self) -> str:
        by = [self.base.name] if self.base else []
        by += [f"{self.sampler.name}{self.inference_steps}", f"cfg{self.guidance_scale:g}"]
        by += [f"strength{self.strength:g}"] if self.strength != 1 else []
        by += ["{}x{}px".format(*self.size)] if self.size else []
        return "-".join([*by, f"exam{len(self.prompts)}x{len(self.seeds)}"])

    @property
    def pixels(self) -> tuple[int, int]:
        """Width and height of its images."""
        return self.size or (self.resolution, self.resolution)

    @property
    def drawing_base(self) -> BaseSpec | None:
        """The base that draws; None where none does."""
        source = self.snapshot.source
        own = source if isinstance(source, BaseSpec) else getattr(source, "base", None)
        return self.base or own

    @property
    def columns(self) -> tuple[tuple[Column, ...], ...]:
        """The columns of the picture of each prompt; one, where it is drawn as a whole."""
        source = self.snapshot.source
        called = source.called if isinstance(source, ComposedSpec) else ()
        return tuple(columns_of(prompt, called, self.whose) for prompt in self.prompts)

    @property
    def as_drawn(self) -> ImageSetSpec:
        """The set of the same images, bit for bit, in whose way they are drawn.

        What several adapters draw apart is, where all of it is one's, what that one draws alone.
        """
        source, drawn = self.snapshot.source, replace(self, regional=False)
        if not (isinstance(source, ComposedSpec) and source.called):
            return drawn
        each = self.columns
        drawers = {column.drawer for columns in each for column in columns}
        if len(drawers) > 1 or any(len(columns) > 1 for columns in each):
            return drawn
        one = source.components[drawers.pop()]
        return replace(drawn, snapshot=one.snapshot, strength=one.strength, whose=0)

    @property
    def untaught(self) -> ImageSetSpec:
        """The same by the base that draws, as it is: what strength 0 comes to, bit for bit."""
        assert self.drawing_base is not None
        base = SnapshotSpec(self.drawing_base, 0)
        return replace(self, snapshot=base, strength=1.0, base=None, regional=False, whose=0)

    @property
    def count(self) -> int:
        """Images: prompts × seeds."""
        return len(self.prompts) * len(self.seeds)

    @property
    def fills_batches(self) -> bool:
        """Whether it is drawn in full batches, so that sharing them would save it nothing."""
        return self.count % self.batch_width == 0

    @property
    def beginnings(self) -> tuple[ImageSetSpec, ...]:
        """The set with its first seeds alone, fewest first, where these are drawn as in the whole.

        What fills batches is drawn alone, by other sums than what shares them: last bits differ.
        """
        begun = (replace(self, seeds=self.seeds[:n]) for n in range(1, len(self.seeds)))
        return tuple(images for images in begun if images.fills_batches == self.fills_batches)


@dataclass(frozen=True)
class EncoderSpec:
    """A network that turns images (and texts) into features, with its preprocessing."""

    name: str
    digest: str
    resize: int | None  # pixels; None: as the weights' own config says
    crop: int | None
    # Its class and settings; None: the CLIP or DINO of the models.
    kind: Plugin | None = field(default=None, metadata=CAME_LATER)


@dataclass(frozen=True)
class AttributeSpec:
    """Something that a prompt can say of an image, and the words for it, of which one is true."""

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class ExamSpec:
    """What images are judged by, whichever cell drew them."""

    encoders: tuple[EncoderSpec, ...]
    references: tuple[str, ...]  # digests of the training images; with "/" that of the mask used
    held_out: tuple[str, ...]  # digests of drawings of the character that are not trained on
    truth: tuple[str, ...]  # digests of the true pictures, one per prompt
    prompts: tuple[str, ...]  # identifier replaced by the class noun; () where none is read
    class_prompt: str
    attributes: tuple[AttributeSpec, ...]  # those that any prompt names
    # Where two are asked for: digests of drawings of the other, and for each prompt who is to stand
    # on the left, "subject" or "other"; None: it does not say.
    other: tuple[str, ...] = field(default=(), metadata=CAME_LATER)
    left: tuple[str | None, ...] = field(default=(), metadata=CAME_LATER)
    # What the other is. A place that is asked for alone is the other too: see `Exam`.
    kind: str = field(default=CHARACTER, metadata=CAME_LATER)

    @cached_property
    def own_encoders(self) -> tuple[EncoderSpec, ...]:
        """The CLIP and DINO of the models, which are part of every score."""
        return tuple(encoder for encoder in self.encoders if encoder.kind is None)

    @property
    def measure(self) -> tuple[object, ...]:
        """What is read once for all exams that have it in common."""
        return self.own_encoders, self.references, self.held_out

    def read_by(self, metric: Plugin) -> ExamSpec:
        """The exam without the encoders that are there for other metrics alone."""
        if len(self.own_encoders) == len(self.encoders):
            return self
        read = encoders_of(metric.made)
        encoders = [one for one in self.encoders if one.kind is None or one.name in read]
        return replace(self, encoders=tuple(encoders))


@dataclass(frozen=True)
class ScoreSpec:
    """One metric of one image set."""

    images: ImageSetSpec
    metric: Plugin
    exam: ExamSpec
    untaught: str | None  # key of the base's image set drawn with the class noun

    @cached_property
    def key(self) -> str:
        own = {name: value for name, value in keyed(self).items() if name != "images"}
        return key_of({"images": self.images.key, **own})


def image_set_key(spec: Mapping[str, Any]) -> str:
    """The key of an `ImageSetSpec` in plain values: its source enters by the key of that."""
    own = {name: value for name, value in spec.items() if name != "snapshot"}
    snapshot = spec["snapshot"]
    return key_of({"source": key_of(snapshot["source"]), "step": snapshot["step"], **own})


def score_key(spec: Mapping[str, Any]) -> str:
    """The key of a `ScoreSpec` in plain values: its images enter by their key."""
    own = {name: value for name, value in spec.items() if name != "images"}
    return key_of({"images": image_set_key(spec["images"]), **own})


def revived(kind: Any, value: Any) -> Any:
    """A spec from the plain values of its manifest; KeyError where they do not fit."""
    try:
        found = _adapter(kind).validate_python(value)
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, (kind.__name__, *wrong["loc"])))
        raise KeyError(f"{where}: {wrong['msg']}") from error
    if lost := "; ".join(differences(value, found)):
        raise KeyError(f"{kind.__name__}: {lost}")
    return found


_adapter = cache(TypeAdapter)  # making one takes ten times as long as its use
