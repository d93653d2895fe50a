"""A sampler as the YAML names it and a noise schedule in, a diffusers scheduler out; no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from charsweep.errors import ConfigError
from charsweep.plugins import resolve
from charsweep.specs import Plugin

if TYPE_CHECKING:
    from charsweep.bases import Kind


def make_scheduler(sampler: Plugin, config: Any, own: Any) -> Any:
    """The sampler's class with the given noise schedule; `own`, a class, when none is named."""
    made = resolve(sampler.target) if sampler.target else own
    try:
        return made.from_config(config, **sampler.settings)
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"sampler._target_={sampler.target} with {dict(sampler.settings)}: {error}; name a "
            "scheduler of diffusers and settings that it knows"
        ) from error


def check_fits(sampler: Plugin, kind: Kind) -> None:
    """Raise ConfigError for a scheduler that cannot draw with a base of that kind.

    What was trained by flow matching (straight paths) and what by noise levels speak of different
    times and predict different things; a scheduler takes either, and draws noise from the other.
    """
    if not sampler.target:
        return
    made = make_scheduler(sampler, {"num_train_timesteps": 1000}, None)
    is_flow = "FlowMatch" in type(made).__name__ or (
        made.config.get("prediction_type") == "flow_prediction"
    )
    if is_flow != kind.is_flow:
        base, which = ("flow matching", "a") if kind.is_flow else ("noise levels", "no")
        raise ConfigError(
            f"sampler={sampler.name}: {type(made).__name__} cannot draw with {kind.title}, which "
            f"was trained by {base}; use sampler=base, or {which} flow-matching scheduler, as "
            "diffusers.FlowMatchEulerDiscreteScheduler"
        )
