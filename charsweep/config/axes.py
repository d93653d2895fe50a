"""The axes of a sweep: the settings that vary, by their dotted names, and the values of each.

Plain axes are numbers, filled into the cells; any other names a file of a config group or a field
inside one, and is composed anew for each of its values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pydantic
from omegaconf import OmegaConf

from charsweep.config.mistyped import names, nearest
from charsweep.config.schema import can_vary, is_list, is_open, only_judges
from charsweep.config.settings import Settings
from charsweep.config.settings.field_types import (
    InferenceSteps,
    LearningRate,
    Seed,
    Steps,
    Strength,
)
from charsweep.config.settings.mistakes import mistakes
from charsweep.config.settings.search import Range
from charsweep.core.errors import ConfigError, shown
from charsweep.core.system.console import spell

Axes = Mapping[str, tuple[Any, ...] | Range]  # ranges only where a search samples them
_FINITE = pydantic.ConfigDict(allow_inf_nan=False)
PLAIN_AXES: dict[str, pydantic.TypeAdapter[Any]] = {
    "lr": pydantic.TypeAdapter(tuple[LearningRate, ...], config=_FINITE),
    "train_steps": pydantic.TypeAdapter(tuple[Steps, ...]),
    "inference_steps": pydantic.TypeAdapter(tuple[InferenceSteps, ...]),
    "strength": pydantic.TypeAdapter(tuple[Strength, ...], config=_FINITE),
    "other_strength": pydantic.TypeAdapter(tuple[Strength, ...], config=_FINITE),
    "seed": pydantic.TypeAdapter(tuple[Seed, ...]),
}
ALWAYS = ("method", *PLAIN_AXES)


def axes_of(settings: Settings, config: Mapping[str, Any]) -> dict[str, tuple[Any, ...] | Range]:
    """Flatten `axes` to dotted names; each value a non-empty list without repeats, or a range."""
    axes: dict[str, tuple[Any, ...] | Range] = {}
    problems = []
    for name, values in leaves(settings.axes):
        top = name.partition(".")[0]
        if isinstance(values, dict):
            try:
                axes[name] = span = Range.model_validate(values)
                if name in PLAIN_AXES:
                    PLAIN_AXES[name].validate_python((span.low, span.high))
            except pydantic.ValidationError as error:
                problems += mistakes(error, f"axes.{name}")
            if settings.is_grid:
                problems.append(
                    f"axes.{name}: a grid has no ranges; list its values, or choose search=tpe"
                )
        elif not isinstance(values, list):
            problems.append(
                f"axes.{name}={shown(values)}: should be a list, as in axes.{name}=[1,2]"
            )
        elif not values:
            problems.append(
                f"axes.{name}=[]: is empty; give values, or leave it out (~axes.{name} takes out "
                "one that a sweep has)"
            )
        elif any(isinstance(v, dict if may_be_list(name) else dict | list) for v in values):
            problems.append(f"axes.{name}={shown(values)}: should list numbers or words")
        elif len({str(value) for value in values}) < len(values):
            problems.append(
                f"axes.{name}={shown(values)}: a value stands there twice; take one out"
            )
        elif only_judges(name):
            problems.append(
                f"axes.{name}={shown(values)}: draws the same images and only judges them "
                f"otherwise; run each value as a sweep of its own, as in name=NAME {name}=VALUE: "
                "what is drawn is not drawn again"
            )
        elif top not in config or not can_vary(name):
            near = [one for one in nearest(name, list(names(config))) if can_vary(one)]
            ours = f"should it be axes.{near[0]}? There" if near else "there"
            possible = ", ".join(axis for axis in config if can_vary(axis))
            problems.append(f"axes.{name}: nothing of that name can vary; {ours} is {possible}")
        else:
            axes[name] = tuple(as_text(v) if isinstance(v, list) else v for v in values)
    if problems:
        raise ConfigError("\n".join(problems))
    return axes


def with_seeds(
    axes: dict[str, tuple[Any, ...] | Range], settings: Settings
) -> dict[str, tuple[Any, ...] | Range]:
    """`seeds=5` is the axis seed=[0,1,2,3,4], varied innermost."""
    if settings.seeds is None:
        return axes
    if not settings.is_grid:
        raise ConfigError(
            f"seeds={settings.seeds}: a trial of search={settings.search.name} has one seed; leave "
            "it out, and run the best cell again with seeds"
        )
    if "seed" in axes:
        raise ConfigError(f"seeds={settings.seeds}: axes.seed is given too; leave one out")
    return {**axes, "seed": tuple(range(settings.seeds))}


def plain_values(name: str, axes: Mapping[str, Any], settings: Settings) -> tuple[Any, ...]:
    """The values of a plain axis; the setting's own where it does not vary."""
    if name not in axes:
        return (getattr(settings, name),)
    try:
        values = PLAIN_AXES[name].validate_python(axes[name])
    except pydantic.ValidationError as error:
        raise ConfigError("\n".join(mistakes(error, f"axes.{name}"))) from error
    if len(set(values)) < len(values):
        raise ConfigError(f"axes.{name}={list(values)}: a value stands there twice; take one out")
    return tuple(values)


def leaves(raw: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of nested mappings; a range stays whole."""
    for name, value in raw.items():
        if isinstance(value, dict) and not value.keys() & {"low", "high"}:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def as_text(values: Sequence[Any]) -> str:
    """A list as one value of an axis, which studies, tables and plots can hold: [to_q,to_k]."""
    plain = (str(v) if re.fullmatch(r"[\w.+-]+", str(v)) else spell(v) for v in values)
    return f"[{','.join(plain)}]"


def as_given(name: str, value: Any) -> Any:
    """The value of a setting that a value of its axis stands for: see `as_text`."""
    if isinstance(value, str) and value.startswith("[") and may_be_list(name):
        return OmegaConf.to_container(OmegaConf.create(value))
    return value


def may_be_list(name: str) -> bool:
    """Whether a setting takes a list; what a class of torch's or diffusers' takes is not known."""
    return is_list(name) or is_open(name)
