"""The settings, checked and frozen (pydantic): what every choice may be.

`Settings` is the whole, with a field for each setting and group of conf/config.yaml; what a single
value may be is in `field_types`, what a group may be in the other files. pydantic collects all
mistakes, so that they are shown together; `mistakes` words them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field

from charsweep.config.settings.actions import (
    CaptionSettings,
    ChooseSettings,
    ExportSettings,
    PlanSettings,
    ReportSettings,
    StoreSettings,
    StorySettings,
)
from charsweep.config.settings.field_types import (
    STRICT,
    FolderName,
    InferenceSteps,
    LearningRate,
    Name,
    Pack,
    Pixels,
    Precision,
    Seed,
    Steps,
    Strength,
    Text,
)
from charsweep.config.settings.groups import (
    EXAM_PARTS,
    OF_TWO,
    ONE_ADAPTER,
    AdapterSettings,
    Attributes,
    CharacterSettings,
    CompanySettings,
    ExamSettings,
    FurtherEncoder,
    ModelsSettings,
    SamplerSettings,
    with_path,
)
from charsweep.config.settings.plugins import OptimizerSettings, PluginSettings
from charsweep.config.settings.runtime import Runtime, on_server
from charsweep.config.settings.search import Bounds, FindSettings, SearchSettings, directed
from charsweep.core.encoders import encoders_of
from charsweep.core.methods import method_of
from charsweep.core.plugins import resolve
from charsweep.core.specs import KINDS, PLACE, Plugin


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
    def draws_columns(self) -> bool:
        """Whether columns of a picture are drawn by themselves on the base that draws."""
        name = self.sampler.base or method_of(self.method.plugin()).base
        base = self.models.bases.get(name or "")
        return base is None or bool(base.plugin(name or "").made.draws_columns)

    @property
    def by_halves(self) -> bool:
        """Whether each half of a picture of two is drawn by itself: as is said, else where there
        are such pictures, and the base can."""
        if self.sampler.regional is not None:
            return self.sampler.regional
        has_halves = bool(self.characters) and self.characters[1].kind != PLACE
        return has_halves and "together" in (self.exam.parts or {}) and self.draws_columns

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
        of_part = (p for p in plugins if getattr(resolve(p.identity), "part", None) == part)
        return tuple(p for p in of_part if self.has_sense(p))

    def has_sense(self, metric: Plugin) -> bool:
        """Whether a metric says anything of such a second one as the exam asks for."""
        return self.exam.kind in getattr(metric.made, "kinds", KINDS)

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
        asked = [name for name in self.metric if unasked.get(name) not in OF_TWO]
        return tuple(name for name in asked if self.has_sense(self.metric_plugin(name)))
