"""Samplers: the diffusers schedulers that the YAML names, and which fit a family; no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from charsweep.core.errors import ConfigError
from charsweep.core.specs import Plugin

if TYPE_CHECKING:
    from charsweep.models.families import Family


def make_scheduler(sampler: Plugin, config: Any, own: Any) -> Any:
    """The sampler's class with the given noise schedule; `own`, a class, when none is named."""
    made = sampler.find() if sampler.identity else own
    try:
        return made.from_config(config, **sampler.settings)
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"sampler._target_={sampler.identity} with {dict(sampler.settings)}: {error}; name a "
            "scheduler of diffusers and settings that it knows"
        ) from error


def check_fits(sampler: Plugin, family: Family) -> None:
    """Raise ConfigError for a scheduler that cannot draw with a base of that family.

    What was trained by flow matching (straight paths) and what by noise levels speak of different
    times and predict different things; a scheduler takes either, and draws noise from the other.
    """
    if not sampler.identity:
        return
    name = sampler.identity.rpartition(".")[2]
    is_flow = "FlowMatch" in name or sampler.settings.get("prediction_type") == "flow_prediction"
    if is_flow != family.is_flow:
        base, which = ("flow matching", "a") if family.is_flow else ("noise levels", "no")
        raise ConfigError(
            f"sampler={sampler.name}: {name} cannot draw with {family.title}, which "
            f"was trained by {base}; use sampler=base, or {which} flow-matching scheduler, as "
            "diffusers.FlowMatchEulerDiscreteScheduler"
        )
