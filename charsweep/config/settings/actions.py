"""What single actions are told: story, export, caption, plan, report, choose, and the store's."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import AfterValidator, Field, StringConstraints

from charsweep.config.settings.field_types import (
    REPOSITORY,
    STRICT,
    CellKey,
    FolderName,
    Multiples,
    Name,
    Seed,
    Text,
    with_subject,
    without_repeats,
)
from charsweep.config.settings.plugins import PluginSettings


class SceneSettings(pydantic.BaseModel):
    """A scene of a story: what is drawn, and the text beside it."""

    model_config = STRICT
    prompt: Annotated[Text, AfterValidator(with_subject)]
    caption: Text


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


class CaptionSettings(PluginSettings):
    """A captioner, whose own settings its class checks, and whether captions are written."""

    write: bool


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
