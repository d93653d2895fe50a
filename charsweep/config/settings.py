"""The settings, checked and frozen (pydantic): what every choice may be.

pydantic collects all mistakes, so that they are shown together; `mistakes` words them.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

import pydantic
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StringConstraints

from charsweep.core.durations import seconds_of
from charsweep.core.encoders import encoders_of
from charsweep.core.errors import ConfigError, shown
from charsweep.core.keys import keyed
from charsweep.core.plugins import identity_of, refused, resolve
from charsweep.core.sides import NAMES
from charsweep.core.specs import Plugin
from charsweep.core.system.energy import checked_country
from charsweep.core.system.redact import redacted
from charsweep.models.prediction import Prediction

STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
LearningRate = Annotated[float, Field(gt=0, le=100)]
Steps = Annotated[int, Field(ge=1, le=10_000_000)]
InferenceSteps = Annotated[int, Field(ge=1, le=1000)]
Strength = Annotated[float, Field(ge=-4, le=4)]  # below 0, away from what was taught
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Pixels = Annotated[int, Field(ge=16, le=4096, multiple_of=8)]
FOLDER_NAME, NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", r"^[^\x00-\x1f/\\.][^\x00-\x1f/\\]{0,99}$"
KEY, COUNTRY, REPOSITORY = r"^[0-9a-f]{1,12}$", r"^[A-Z]{3}$", r"^[\w.-]+/[\w.-]+$"
MOST_BYTES = 150  # of a name: it shares a file system's 255 with what else a folder is called by


def short_enough(name: str) -> str:
    """The name; ValueError for more than a file system takes."""
    if (size := len(name.encode())) > MOST_BYTES:
        fits = name.encode()[:MOST_BYTES].decode(errors="ignore")
        raise ValueError(
            f"has {size} bytes as folders are named, of which {MOST_BYTES} fit: {fits} is as long "
            "as it may be"
        )
    return name


FolderName = Annotated[str, StringConstraints(pattern=FOLDER_NAME)]
# Part of a folder's name in the store: in any language, but it leads nowhere else.
Name = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=NAME), AfterValidator(short_enough)
]
CellKey = Annotated[str, StringConstraints(strip_whitespace=True, pattern=KEY)]
Duration = Annotated[float, BeforeValidator(seconds_of)]
Country = Annotated[str, StringConstraints(pattern=COUNTRY), AfterValidator(checked_country)]


# Powers of two: at other widths a trial's bits were seen to depend on its slot.
Pack = Literal["auto", 1, 2, 4, 8, 16, 32, 64]


BatchWidth = Annotated[int, Field(ge=1, le=256)]
Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]


def with_subject(prompt: str) -> str:
    """A prompt as it is; ValueError if it has no place for a character."""
    if not any(f"{{{name}}}" in prompt for name in NAMES):
        raise ValueError("lacks {subject}, the character's place, or {other}, the second one's")
    return prompt


def without_repeats(values: list[Any]) -> list[Any]:
    """The values as they are; ValueError if one stands there twice."""
    if len(set(values)) < len(values):
        raise ValueError("a value stands there twice; take one out")
    return values


def as_target(target: str) -> str:
    """A dotted name as it is; ValueError where plug-ins are not taken from."""
    if problem := refused(target):
        raise ValueError(problem)
    return target


def with_target(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as they are; ValueError if their `_target_` may not be."""
    as_target(str(settings.get("_target_")))
    return settings


Target = Annotated[Text, AfterValidator(as_target)]
Targeted = Annotated[dict[str, Any], AfterValidator(with_target)]


class BaseSettings(pydantic.BaseModel):
    """Where a base's weights lie, and its family, whose own settings its class checks."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    target: Annotated[Target, Field(alias="_target_")]
    path: Text
    resolution: Pixels
    vae: Text | None = None  # one that stands in for the pipeline's own
    variant: Literal["fp16"] | None = None  # None: full precision where it is there
    prediction: Prediction | None = None  # None: what its files say
    teaching_adapter: Text | None = None  # a file that is on it while it is taught

    def plugin(self, name: str) -> Plugin:
        """Its family, under the name that the base has among the models."""
        extra = self.model_extra or {}
        return PluginSettings.model_validate(
            {"name": name, "_target_": self.target, **extra}
        ).plugin()


class EncoderSettings(pydantic.BaseModel):
    """Where an encoder's weights lie, and its preprocessing in pixels."""

    model_config = STRICT
    path: Text
    resize: Annotated[int, Field(ge=16, le=1024)]
    crop: Annotated[int, Field(ge=16, le=1024)]


class ModelsSettings(pydantic.BaseModel):
    """A file of conf/models/: bases, encoders, and how wide they are used by default."""

    model_config = STRICT
    name: Text
    pack: Pack
    precision: Precision
    batch_width: BatchWidth
    bases: Annotated[dict[Name, BaseSettings], Field(min_length=1)]
    encoders: dict[Literal["clip", "dino"], EncoderSettings]


class CharacterSettings(pydantic.BaseModel):
    """A file of conf/character/: folders of training and true images, and the prompts' words."""

    model_config = STRICT
    name: Name
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
    regional: bool = False


Bound = Annotated[int | float, Field(ge=-1e15, le=1e15)]  # whole numbers that floats still hold
MOST_VALUES = 10_000  # of a range with a step: each is a possible category


class Range(pydantic.BaseModel):
    """An axis that an adaptive search samples: every whole number, every step, or any number."""

    model_config = STRICT
    low: Bound
    high: Bound
    log: bool = False
    step: Annotated[int | float, Field(gt=0)] | None = None

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low={self.low} should be below high={self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log=true needs low above 0 and takes no step")
        if self.step is not None and not 1 <= (self.high - self.low) / self.step < MOST_VALUES:
            raise ValueError(
                f"step={self.step} should part it into 1 to {MOST_VALUES:,} steps; choose another, "
                "or leave it out"
            )
        return self

    @property
    def whole(self) -> bool:
        """Whether it holds whole numbers only."""
        return all(isinstance(number, int) for number in (self.low, self.high, self.step or 1))

    @property
    def values(self) -> tuple[int | float, ...]:
        """Its values where a step sets them apart, else its ends."""
        if self.step is None:
            return (self.low, self.high)
        count = int((self.high - self.low) / self.step + 1e-9)
        return tuple(self.low + self.step * index for index in range(count + 1))


class SearchSettings(pydantic.BaseModel):
    """How the next cells are chosen; `sampler` and `pruner` name classes of Optuna's, or alike.

    Of a race, `errors` are the standard errors below the leader at which a cell leaves.
    """

    model_config = STRICT
    name: Text
    sampler: Targeted | None
    pruner: Targeted | None
    trials: Annotated[int, Field(ge=1, le=100_000)] | None
    at_once: Annotated[int, Field(ge=1, le=1024)] | None
    rungs: list[Steps]
    errors: Annotated[float, Field(ge=1, le=10)] | None = None

    @property
    def is_race(self) -> bool:
        """Whether cells of a grid may leave before their exam is drawn whole."""
        return self.errors is not None

    @pydantic.model_validator(mode="after")
    def _whole(self) -> SearchSettings:
        if self.sampler is not None and (self.trials is None or self.at_once is None):
            raise ValueError("an adaptive search needs trials and at_once")
        if self.is_race and self.sampler is not None:
            raise ValueError(
                f"errors={self.errors:g} is for the race of a grid; with a sampler, take it out"
            )
        if (self.pruner is None) == bool(self.rungs):
            raise ValueError("a pruner and rungs, the steps at which it looks, need each other")
        return self


Over = Literal["lr", "steps", "inference_steps", "strength", "rank", "prior", "captions", "method"]
MONEY = re.compile(r"(\d+(?:\.\d+)?) ?((?!min)[a-z]{3}|[€$£])", re.IGNORECASE)


def budgeted(budget: str) -> str:
    """A budget as it is; ValueError for what is no time and no money."""
    found = MONEY.fullmatch(budget)
    try:
        if found is None and not budget.isdecimal():
            seconds_of(budget)
        elif found is None or float(found[1]) == 0:
            raise ValueError(budget)
    except ValueError as error:
        raise ValueError("should be a time or money, as in 90s, 20min, 2h, 1d or 5eur") from error
    return budget


class FindSettings(pydantic.BaseModel):
    """What a search in stages looks over, and what it may cost."""

    model_config = STRICT
    over: Annotated[list[Over], Field(min_length=1), AfterValidator(without_repeats)]
    rates: Annotated[list[LearningRate], Field(min_length=2), AfterValidator(without_repeats)]
    steps: Annotated[list[Steps], Field(min_length=1), AfterValidator(without_repeats)]
    most_rates: Annotated[int, Field(ge=1, le=64)]
    inference_steps: Annotated[list[InferenceSteps], AfterValidator(without_repeats)]
    strengths: Annotated[list[Strength], AfterValidator(without_repeats)]
    ranks: Annotated[list[Annotated[int, Field(ge=1)]], AfterValidator(without_repeats)]
    methods: Annotated[list[Name], AfterValidator(without_repeats)]
    budget: Annotated[Text, AfterValidator(budgeted)] | None
    price: Annotated[float, Field(gt=0)] | None
    export: bool

    @property
    def is_money(self) -> bool:
        """Whether the budget is one of money, which takes a price."""
        return MONEY.fullmatch(self.budget or "") is not None

    @property
    def seconds(self) -> float | None:
        """What the budget comes to; None: as long as it takes."""
        if self.budget is None:
            return None
        if money := MONEY.fullmatch(self.budget):
            return float(money[1]) / (self.price or 1.0) * seconds_of("1h")
        return seconds_of(self.budget)


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
OF_TWO = ("together", "other")  # the parts that are asked where two characters are taught


def as_multiples(size: Any) -> Any:
    """Width and height as they are; ValueError for what are none."""
    if not (
        isinstance(size, list | tuple)
        and len(size) == 2
        and all(isinstance(side, int | float) and not isinstance(side, bool) for side in size)
        and all(0.25 <= side <= 4 for side in size)
    ):
        raise ValueError(
            "should be width and height as multiples of the resolution, each from 0.25 to 4, as in "
            "[1.5,1]; null: a square"
        )
    return size


Multiples = Annotated[tuple[float, float], BeforeValidator(as_multiples)]


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
    prompts: Annotated[list[Text], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    attributes: Attributes = {}  # besides those that captions know
    parts: dict[ExamPartName, ExamPartSettings] | None = None


class SceneSettings(pydantic.BaseModel):
    """A scene of a story: what is drawn, and the text beside it."""

    model_config = STRICT
    prompt: Annotated[Text, AfterValidator(with_subject)]
    caption: Text


class AdapterSettings(pydantic.BaseModel):
    """Adapters from elsewhere: a file, a folder or a pattern, and what they are called by."""

    model_config = STRICT
    path: Text
    name: Text | None = None  # among the cells; None: the file's, or the run's
    trigger: Text | None = None  # the words that prompts have for the character; None: identifier


def with_path(adapter: Any) -> Any:
    """mine.safetensors -> {path: mine.safetensors}."""
    return {"path": adapter} if isinstance(adapter, str) else adapter


class StorySettings(pydantic.BaseModel):
    """A picture story: what is drawn, with which seeds, by what, and which pictures are kept."""

    model_config = STRICT
    name: Text
    title: Text
    scenes: Annotated[list[SceneSettings], Field(min_length=1, max_length=999)]
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(without_repeats)]
    keep: dict[int, Seed] | None
    cell: CellKey | None
    adapter: Text | None
    base: Text | None
    size: Multiples | None = None  # of its pictures, to the resolution; None: square


class ExportSettings(pydantic.BaseModel):
    """Which cell is given to other programs, under which licence, and where it is pushed."""

    model_config = STRICT
    name: Text
    cell: CellKey | None
    strength: Literal["note", "bake"] = "note"
    license: Text | None
    push: Annotated[Text, StringConstraints(pattern=REPOSITORY)] | None
    private: bool


class PluginSettings(pydantic.BaseModel):
    """A plug-in's own settings are checked by its own class."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    name: Name
    target: Annotated[Target, Field(alias="_target_")]

    def plugin(self) -> Plugin:
        """Settings as the plug-in's class reads them, so that 4 and 4.0 are one key."""
        kind = resolve(self.target)
        if not hasattr(kind, "version"):  # before anything is called
            raise ConfigError(
                f"_target_={self.target} is no plug-in; name a dataclass with a version"
            )
        made = kind(**(self.model_extra or {}))
        names = keyed(made)
        settings = {name: value for name, value in asdict(made).items() if name in names}
        return Plugin(self.name, identity_of(self.target), kind.version, settings)


class OptimizerSettings(PluginSettings):
    """A class of torch's or somebody else's: not even imported while planning."""

    def plugin(self) -> Plugin:
        return Plugin(self.name, identity_of(self.target), 1, dict(self.model_extra or {}))


class FurtherEncoder(pydantic.BaseModel):
    """A file of conf/encoder/: where weights lie, and a class whose own settings it checks."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    target: Annotated[Target, Field(alias="_target_")]
    path: Text
    megabytes: Annotated[float, Field(gt=0)] | None = None  # of 10^6; None: not known

    def plugin(self, name: str) -> Plugin:
        """Its class and settings, under the name that metrics call it by."""
        extra = self.model_extra or {}
        return PluginSettings.model_validate(
            {"name": name, "_target_": self.target, **extra}
        ).plugin()


class CaptionSettings(PluginSettings):
    """A captioner, whose own settings its class checks, and whether captions are written."""

    write: bool


def clustered(cluster: str) -> str:
    """What names a Ray cluster, as it is; ValueError for anything else."""
    if cluster not in ("local", "auto") and not ADDRESS.fullmatch(cluster):
        raise ValueError(
            "should be local (Ray is started here), auto (the Ray that runs here) or HOST:PORT"
        )
    return cluster


def counted(workers: Any) -> Any:
    """auto -> None: as many as there is room for."""
    return None if workers == "auto" else workers


ADDRESS = re.compile(r"(?:[\w.-]+|\[[0-9a-fA-F:]+\]):\d{1,5}", re.ASCII)
Cluster = Annotated[str, AfterValidator(clustered)]
Workers = Annotated[Annotated[int, Field(ge=1, le=4096)] | None, BeforeValidator(counted)]


class Runtime(pydantic.BaseModel):
    """Where and how the work is done; nothing of it is in a key."""

    model_config = STRICT
    device: Literal["auto", "cpu", "cuda", "mps"]
    workers: Workers
    cluster: Cluster | None
    scratch: Text | None
    bring: Literal["all", "best", "adapters"]
    threads: Annotated[int, Field(ge=1, le=1024)] | None
    checkpointing: Literal["auto", True, False]
    micro_batch: Annotated[int, Field(ge=1, le=4096)] | None
    adapt: bool
    compile: bool
    energy: bool
    country: Country
    tracking: bool
    tracking_uri: Text | None
    port: Annotated[int, Field(ge=1, le=65535)] | None
    resume_seconds: Annotated[float, Field(gt=0)]
    stop_after: Duration | None


def directed(objectives: Any) -> Any:
    """[dino, -copy] -> {dino: maximize, copy: minimize}: a list, so that it can be replaced."""
    if not isinstance(objectives, list) or not all(isinstance(name, str) for name in objectives):
        raise ValueError("should list metrics, as in [dino,-copy]; - minimises")
    ways = {True: "minimize", False: "maximize"}
    return {name.removeprefix("-"): ways[name.startswith("-")] for name in objectives}


class Bounds(pydantic.BaseModel):
    """What a score must keep to."""

    model_config = STRICT
    least: float | None = None
    most: float | None = None

    @pydantic.model_validator(mode="after")
    def _some(self) -> Bounds:
        if self.least is None and self.most is None:
            raise ValueError("says neither least nor most; give one, as in {most: 0.3}")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"least={self.least} should not be above most={self.most}")
        return self

    def excess(self, score: float) -> float:
        """By how much a score lies outside; at most 0 within."""
        outside = [-math.inf]
        outside += [self.least - score] if self.least is not None else []
        outside += [score - self.most] if self.most is not None else []
        return max(outside)


class Address(str):
    """The address of a database; another process is sent it without its password."""

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (redacted(self),)


def on_server(address: str) -> Address:
    """The address of a PostgreSQL database; ValueError for any other."""
    try:
        parts = urlsplit(address)
        database = parts.path.strip("/")
        is_one = bool(parts.hostname and database) and "@" not in database and parts.port != 0
    except ValueError:  # a port that is no number
        is_one = False
    if not (is_one and parts.scheme in ("postgresql", "postgresql+psycopg")):
        raise ValueError(
            "should be postgresql+psycopg://USER@HOST:PORT/DATABASE, with %2F for a / and %40 for "
            "an @ in a password, or null for study.db in the sweep's folder"
        )
    return Address(address)


class PlanSettings(pydantic.BaseModel):
    """Of `action=plan`: numbers of workers to compare, and the price of an hour of one."""

    model_config = STRICT
    workers: Annotated[
        list[Annotated[int, Field(ge=1, le=100_000)]], AfterValidator(without_repeats)
    ]
    price: Annotated[float, Field(gt=0)] | None


class ReportSettings(pydantic.BaseModel):
    """Of `action=report`: which sweeps one report is on, and where they are read from."""

    model_config = STRICT
    together: list[FolderName]
    source: Literal["store", "mlflow"]


class StoreSettings(pydantic.BaseModel):
    """Of `action=check`, `gc`, `show` and `why`: which results, and whether to change anything."""

    model_config = STRICT
    keys: list[CellKey]
    repair: bool
    remove: bool


class ChooseSettings(pydantic.BaseModel):
    """Of `action=choose`: where its page is served, and who votes."""

    model_config = STRICT
    port: Annotated[int, Field(ge=1, le=65535)] | None
    open: bool
    voter: Name


class Settings(pydantic.BaseModel):
    """The whole configuration of one combination of axis values."""

    model_config = STRICT
    action: Literal[
        "run",
        "plan",
        "report",
        "validate",
        "story",
        "export",
        "caption",
        "choose",
        "ui",
        "check",
        "gc",
        "show",
        "why",
    ]
    name: FolderName
    question: str
    root: Text
    study: Annotated[Text, AfterValidator(on_server)] | None
    lr: LearningRate
    train_steps: Steps
    inference_steps: InferenceSteps
    strength: Strength
    other_strength: Strength
    seed: Seed
    seeds: Annotated[int, Field(ge=1, le=1000)] | None
    batch_size: Annotated[int, Field(ge=1, le=4096)]
    resolution: Pixels | None
    framing: Literal["center", "random", "buckets"]
    flip: bool
    mask_background: Annotated[float, Field(ge=0, le=1)]
    references: Literal["whole", "subject"]
    identity_encoder: Text
    prompt_encoder: Text
    precision: Precision | None
    max_grad_norm: Annotated[float, Field(gt=0)]
    pack: Pack | None
    adapters: list[Annotated[AdapterSettings, BeforeValidator(with_path)]]
    train: bool
    axes: dict[str, Any]
    parts: dict[FolderName, dict[str, Any]]
    search: SearchSettings
    find: FindSettings | None = None  # of a search in stages
    objectives: Annotated[
        dict[Text, Literal["maximize", "minimize"]], Field(min_length=1), BeforeValidator(directed)
    ]
    constraints: dict[Text, Bounds]
    models: ModelsSettings
    character: CharacterSettings
    characters: list[CharacterSettings]
    company: CompanySettings
    method: PluginSettings
    schedule: PluginSettings
    optimizer: OptimizerSettings
    sampler: SamplerSettings
    exam: ExamSettings
    attributes: Attributes
    metric: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    encoder: dict[Name, FurtherEncoder]
    runtime: Runtime
    story: StorySettings
    export: ExportSettings
    caption: CaptionSettings
    plan: PlanSettings
    report: ReportSettings
    choose: ChooseSettings
    merge: Text | None
    store: StoreSettings

    @property
    def is_together(self) -> bool:
        """Whether one adapter learns two characters."""
        return bool(self.characters) and self.company.name == ONE_ADAPTER

    @property
    def is_grid(self) -> bool:
        """Whether all cells are known before any is run."""
        return self.search.sampler is None and self.find is None

    @property
    def by_score(self) -> bool:
        """Whether the score alone decides, so that its images tell which cells are behind."""
        return self.objectives == {"score": "maximize"} and not self.constraints

    def metric_plugin(self, name: str) -> Plugin:
        """The metric of that name."""
        return PluginSettings.model_validate({"name": name, **self.metric[name]}).plugin()

    @property
    def encoders_asked(self) -> tuple[str, ...]:
        """The encoders that any metric asks for, by name."""
        made = [self.metric_plugin(name).made for name in self.metric]
        return tuple(dict.fromkeys(name for metric in made for name in encoders_of(metric)))

    def metrics_on(self, part: str | None) -> tuple[Plugin, ...]:
        """The metrics of a part of the exam; None: of the exam itself."""
        plugins = map(self.metric_plugin, self.metric)
        return tuple(p for p in plugins if getattr(resolve(p.identity), "part", None) == part)

    @property
    def unasked(self) -> dict[str, str]:
        """Metrics on a part that the exam lacks, or that is of two where one is taught; with it."""
        asked = [part for part in self.exam.parts or {} if self.characters or part not in OF_TWO]
        missing = [part for part in EXAM_PARTS if part not in asked]
        return {metric.name: part for part in missing for metric in self.metrics_on(part)}

    @property
    def reported(self) -> tuple[str, ...]:
        """Names of the metrics that results tell of: those on two characters where the exam asks
        for both."""
        unasked = self.unasked
        return tuple(name for name in self.metric if unasked.get(name) not in OF_TWO)


NUMBER, WHOLE = "should be a number, as in 0.0001 or 1e-4", "should be a whole number"
# pydantic's kinds of mistakes, and its patterns, in plainer words than its own.
SAID = {
    "float_parsing": NUMBER, "float_type": NUMBER,
    "int_parsing": WHOLE, "int_from_float": WHOLE, "int_type": WHOLE,
    "bool_parsing": "should be true or false", "bool_type": "should be true or false",
    "string_type": "should be a text",
    "list_type": "should be a list, as in [1,2]", "tuple_type": "should be a list, as in [1,2]",
    "dict_type": "should be settings by name, as in {NAME: VALUE}",
    "model_type": "should be settings by name, as in {NAME: VALUE}",
    "string_too_short": "is empty; give a text",
    FOLDER_NAME: "should be letters, digits, dots, - and _, at most 100, as in my_sweep",
    NAME: "should be a name without / and \\, at most 100 characters",
    KEY: "should be the beginning of a key, at most 12 of 0-9 and a-f",
    REPOSITORY: "should be OWNER/NAME on the hub",
    COUNTRY: "should be three capital letters, as in FRA",
}  # fmt: skip


def mistakes(error: pydantic.ValidationError, prefix: str = "") -> list[str]:
    """One line per mistake: where, the value, what is wanted."""
    lines = []
    for mistake in error.errors(include_url=False):
        where = ".".join(shown(part) for part in (prefix, *mistake["loc"]) if str(part))
        if mistake["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            lines.append(f"{where}: there is no such setting; take it out or mend its name")
        elif mistake["type"] in ("missing", "missing_argument"):
            lines.append(f"{where}: is missing; set it with {where}=VALUE")
        else:
            known = SAID.get(mistake.get("ctx", {}).get("pattern", mistake["type"]))
            message = mistake["msg"].replace("Input should", "should")
            message = known or shown(message.removeprefix("Value error, "), 400)
            lines.append(f"{where}={shown(mistake['input'])}: {message}")
    return lines
