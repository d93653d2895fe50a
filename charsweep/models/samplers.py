"""Samplers: the diffusers schedulers that the YAML names, and which fit a family; no torch."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

from charsweep.core.errors import ConfigError
from charsweep.core.specs import Plugin
from charsweep.core.store.files import read_json
from charsweep.models.prediction import TO_ZERO_SNR, VELOCITY_ZERO_SNR

if TYPE_CHECKING:
    from charsweep.models.weights import BaseWeights


def make_scheduler(sampler: Plugin, config: Any, own: Any, *, of_latents: bool) -> Any:
    """The sampler's class with the given noise schedule; `own`, a class, when none is named.

    Of latents nothing is clipped as if they were pixels, unless the base's own config says so.
    """
    made = sampler.find() if sampler.identity else own
    if of_latents and "clip_sample" in signature(made).parameters:
        config = {"clip_sample": False, **config}
    try:
        return made.from_config(config, **sampler.settings)
    except (AttributeError, TypeError, ValueError, NotImplementedError) as error:
        raise ConfigError(
            f"sampler._target_={sampler.identity} with {dict(sampler.settings)}: {error}; name a "
            "scheduler of diffusers and settings that it knows"
        ) from error


def check_fits(sampler: Plugin, base: BaseWeights) -> None:
    """Raise ConfigError for a scheduler that cannot draw with that base.

    What was trained by flow matching (straight paths) and what by noise levels speak of different
    times and predict different things; a scheduler takes either, and draws noise from the other. So
    does one that knows no zero terminal SNR from a base that was made for it.
    """
    if not sampler.identity:
        return
    name = sampler.identity.rpartition(".")[2]
    is_flow = "FlowMatch" in name or sampler.settings.get("prediction_type") == "flow_prediction"
    family = base.family
    if is_flow != family.is_flow:
        by, which = ("flow matching", "a") if family.is_flow else ("noise levels", "no")
        raise ConfigError(
            f"sampler={sampler.name}: {name} cannot draw with {family.title}, which "
            f"was trained by {by}; use sampler=base, or {which} flow-matching scheduler, as "
            "diffusers.FlowMatchEulerDiscreteScheduler"
        )
    if family.samplers is not None and name not in family.samplers:
        raise ConfigError(
            f"sampler={sampler.name}: the pipeline of {family.title} does not take {name}; use "
            f"sampler=base, or a scheduler that it takes: {', '.join(family.samplers)}"
        )
    if is_flow and "FlowMatch" not in name:
        _check_shift(sampler, base)
    if base.prediction == VELOCITY_ZERO_SNR and name not in TO_ZERO_SNR:
        raise ConfigError(
            f"sampler={sampler.name}: {name} draws as if some signal were left "
            f"where {base.plugin.name} has none (zero terminal SNR); "
            "use sampler=base, ddim, dpm or euler"
        )


def check_guidance(scale: float, base: BaseWeights) -> None:
    """Raise ConfigError for guidance of a base whose pipeline leaves it out."""
    if scale > 1 and base.family.calls(scale) == 1:
        raise ConfigError(
            f"sampler.guidance_scale={scale:g}: {base.plugin.name} was distilled to draw without "
            "guidance, and its pipeline leaves it out; set sampler.guidance_scale=1"
        )


def _check_shift(sampler: Plugin, base: BaseWeights) -> None:
    """Raise ConfigError where a scheduler would draw without the shift of times that the base's own
    has: it does not know that setting by the name that the base's config gives it."""
    wanted = read_json(base.configs / "scheduler" / "scheduler_config.json").get("shift", 1.0)
    if wanted != 1 and "flow_shift" not in sampler.settings:
        raise ConfigError(
            f"sampler={sampler.name}: {sampler.identity.rpartition('.')[2]} would draw without the "
            f"shift {wanted:g} of times that {base.plugin.name} was made for; set "
            f"+sampler.settings.flow_shift={wanted:g}"
        )
