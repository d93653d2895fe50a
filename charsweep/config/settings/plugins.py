"""Plug-ins: settings that name a class by `_target_`, which checks the others itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import pydantic
from pydantic import AfterValidator, ConfigDict, Field

from charsweep.config.settings.field_types import Name, Text
from charsweep.core.errors import ConfigError
from charsweep.core.keys import keyed
from charsweep.core.plugins import identity_of, refused, resolve
from charsweep.core.specs import Plugin


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


class ListedPlugin(pydantic.BaseModel):
    """A plug-in of a mapping, which has its name there rather than in a setting."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    target: Annotated[Target, Field(alias="_target_")]

    def named(self, name: str) -> dict[str, Any]:
        """What its class checks, as settings of a plug-in of that name."""
        return {"name": name, "_target_": self.target, **(self.model_extra or {})}

    def plugin(self, name: str) -> Plugin:
        """Its class and settings, under the name that it is listed by."""
        return PluginSettings.model_validate(self.named(name)).plugin()
