"""A sampler as the YAML names it and a noise schedule in, a diffusers scheduler out; no torch."""

from __future__ import annotations

from typing import Any

from charsweep.errors import ConfigError
from charsweep.plugins import resolve
from charsweep.specs import Plugin


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
