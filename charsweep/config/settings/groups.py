"""The groups of conf/ that say what is taught, drawn and judged: a class for a file of each."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field

from charsweep.config.settings.field_types import (
    STRICT,
    BatchWidth,
    Multiples,
    Name,
    Pack,
    Pixels,
    Precision,
    Seed,
    Text,
    without_repeats,
)
from charsweep.config.settings.plugins import ListedPlugin, Target
from charsweep.core.specs import CHARACTER, KINDS
from charsweep.models.prediction import Prediction


class BaseSettings(ListedPlugin):
    """Where a base's weights lie, and its family, whose own settings its class checks."""

    path: Text
    resolution: Pixels
    vae: Text | None = None  # one that stands in for the pipeline's own
    variant: Literal["fp16"] | None = None  # None: full precision where it is there
    prediction: Prediction | None = None  # None: what its files say
    teaching_adapter: Text | None = None  # a file that is on it while it is taught


class EncoderSettings(pydantic.BaseModel):
    """Where an encoder's weights lie, and its preprocessing in pixels."""

    model_config = STRICT
    path: Text
    resize: Annotated[int, Field(ge=16, le=1024)]
    crop: Annotated[int, Field(ge=16, le=1024)]


class FurtherEncoder(ListedPlugin):
    """A file of conf/encoder/: where weights lie, and a class whose own settings it checks."""

    path: Text
    megabytes: Annotated[float, Field(gt=0)] | None = None  # of 10^6; None: not known


class ModelsSettings(pydantic.BaseModel):
    """A file of conf/models/: bases, encoders, and how wide they are used by default."""

    model_config = STRICT
    name: Text
    pack: Pack
    precision: Precision
    batch_width: BatchWidth
    bases: Annotated[dict[Name, BaseSettings], Field(min_length=1)]
    encoders: dict[Literal["clip", "dino"], EncoderSettings]


Kind = Literal["character", "object", "place"]
assert get_args(Kind) == KINDS


class CharacterSettings(pydantic.BaseModel):
    """A file of conf/character/: folders of training and true images, and the prompts' words."""

    model_config = STRICT
    name: Name
    kind: Kind = "character"  # of a second one, beside a character
    images: Text | None
    identifier: Text
    class_noun: Text
    instance_prompt: Text
    class_prompt: Text
    masks: Literal["file", "alpha"] | None = None
    class_images: Text | None = None
    truth: Text | None
    held_out: Annotated[int, Field(ge=1)] | Text | None


ONE_ADAPTER = "together"  # the company in which one adapter learns both


class CompanySettings(pydantic.BaseModel):
    """A file of conf/company/: an adapter for each of two characters, or one that learns both."""

    model_config = STRICT
    name: Literal["separate", "together"]
    joint_share: Annotated[float, Field(ge=0, le=1)] | None
    joint_images: Text | None

    @pydantic.model_validator(mode="after")
    def _whole(self) -> CompanySettings:
        if self.name == ONE_ADAPTER and self.joint_share is None:
            raise ValueError("joint_share: should be a number from 0 to 1, as in 0.25")
        return self

    @property
    def composes(self) -> bool:
        """Whether pictures of both are composed, of drawings of each."""
        return bool(self.joint_share) and self.joint_images is None


class AdapterSettings(pydantic.BaseModel):
    """Adapters from elsewhere: a file, a folder or a pattern, and what they are called by."""

    model_config = STRICT
    path: Text
    name: Text | None = None  # among the cells; None: the file's, or the run's
    trigger: Text | None = None  # the words that prompts have for the character; None: identifier


def with_path(adapter: Any) -> Any:
    """mine.safetensors -> {path: mine.safetensors}."""
    return {"path": adapter} if isinstance(adapter, str) else adapter


class SamplerSettings(pydantic.BaseModel):
    """A file of conf/sampler/: a scheduler of diffusers', and how it draws."""

    model_config = STRICT
    name: Name
    target: Annotated[Target | None, Field(alias="_target_")]
    settings: dict[str, Any]
    guidance_scale: Annotated[float, Field(ge=1, le=100)]
    negative_prompt: str
    batch_width: BatchWidth | None
    base: Name | None = None
    regional: bool | None = None  # None: of two characters, where the base can


Probability = Annotated[float, Field(ge=0.5, le=1)]


class Attribute(pydantic.BaseModel):
    """What can be said of an image, and the words for it, of which one is true."""

    model_config = STRICT
    words: Annotated[list[Text], Field(min_length=2)]
    unsaid: list[Text] = []  # what a caption leaves out
    of_character: bool = False  # the character's own looks
    sure: Probability | None = None  # of a captioner; None: as for the others

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Attribute:
        if len(set(self.words)) < len(self.words):
            raise ValueError("words: one stands there twice; take one out")
        if unknown := sorted(set(self.unsaid) - set(self.words)):
            raise ValueError(f"unsaid: {unknown[0]} is not among the words")
        return self


def with_words(attribute: Any) -> Any:
    """[holding a book, holding a cup] -> {words: [...]}."""
    return {"words": attribute} if isinstance(attribute, list) else attribute


Attributes = dict[Text, Annotated[Attribute, BeforeValidator(with_words)]]
ExamPartName = Literal["others", "elsewhere", "changes", "together", "other"]
EXAM_PARTS = get_args(ExamPartName)
OF_TWO = ("together", "other")  # the parts that are asked where two are taught


class ExamPartSettings(pydantic.BaseModel):
    """Prompts and seeds that answer one further question, by the metric that is on this part."""

    model_config = STRICT
    prompts: Annotated[list[Text], Field(min_length=1), AfterValidator(without_repeats)]
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(without_repeats)]
    size: Multiples | None = None  # of its pictures, to the resolution; None: square


class ExamSettings(pydantic.BaseModel):
    """A file of conf/exam/: every prompt is drawn with every seed."""

    model_config = STRICT
    name: Text
    kind: Kind = "character"  # what the second of two is, if there is one
    prompts: Annotated[list[Text], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    attributes: Attributes = {}  # besides those that captions know
    parts: dict[ExamPartName, ExamPartSettings] | None = None

    @property
    def of_second(self) -> ExamSettings:
        """What is asked of the second of two alone: its part, else what is asked of the first."""
        if (part := (self.parts or {}).get("other")) is None:
            return self
        prompts = [prompt.replace("{other}", "{subject}") for prompt in part.prompts]
        parts = self.parts if self.kind == CHARACTER else None  # others of its class
        own = {"prompts": prompts, "seeds": part.seeds, "parts": parts}
        return self.model_copy(update=own)
