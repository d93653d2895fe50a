"""How a cell is drawn: by which sampler, on which base, and in which size."""

from __future__ import annotations

from charsweep.config.locations import base_weights
from charsweep.config.mistyped import untaken
from charsweep.config.settings import Settings
from charsweep.core.errors import ConfigError
from charsweep.core.methods import method_of
from charsweep.core.plugins import identity_of
from charsweep.core.specs import BaseSpec, ImageSetSpec, Plugin, Source, TrajectorySpec
from charsweep.models.families import Family
from charsweep.models.samplers import check_fits, check_guidance
from charsweep.models.weights import BaseWeights

CLIPPING = ("diffusers.DDIM", "diffusers.DDPM")  # how the names begin of schedulers that clip


def sampler_of(settings: Settings) -> Plugin:
    """The chosen sampler, as specs have it.

    Of what would clip latents as if they were pixels, unless told otherwise, the numbers are not
    those of version 1, which let it: see `charsweep.models.samplers`.
    """
    sampler = settings.sampler
    identity = identity_of(sampler.target or "")
    version = 2 if identity.startswith(CLIPPING) else 1
    return Plugin(sampler.name, identity, version, sampler.settings)


def check_sampler(base: BaseWeights, settings: Settings) -> None:
    """ConfigError for a sampler that cannot draw with that base."""
    sampler = sampler_of(settings)
    check_fits(sampler, base)
    if settings.by_halves and not base.family.draws_columns:
        raise ConfigError(
            f"sampler.regional=true: halves of a picture are not drawn by themselves on "
            f"{base.family.title}; set it to null, or take a base of Stable Diffusion, as in "
            "method.base=sdxl"
        )
    check_guidance(settings.sampler.guidance_scale, base)
    if sampler.settings and not sampler.identity:
        target = f"diffusers.{base.scheduler[0]}"
        if problems := untaken("sampler.settings", target, sampler.settings):
            raise ConfigError("\n".join(problems))


def check_drawing_base(settings: Settings) -> None:
    """ConfigError where the base that is to draw is none of the models'."""
    name, bases = settings.sampler.base, settings.models.bases
    if name is not None and name not in bases:
        ways = " or ".join(f"sampler.base={other}" for other in bases)
        raise ConfigError(
            f"sampler.base={name}: models={settings.models.name} has no such base; use {ways}, or "
            "null for the one that is taught"
        )


def drawing_base_of(settings: Settings, trajectory: Source) -> BaseSpec | None:
    """The base that draws in place of the one that is taught; None where that is the same.

    ConfigError unless what is taught is an adapter that goes on the other's layers too.
    """
    assert isinstance(trajectory, TrajectorySpec)
    name = settings.sampler.base
    method = method_of(trajectory.method)
    if name is None or name == method.base:
        return None
    check_drawing_base(settings)
    if method.base is None or method.low_rank is None:
        raise ConfigError(
            f"sampler.base={name}: method={trajectory.method.name} makes no adapter that another "
            "base could draw with; set sampler.base=null, or choose one that does, as method=lora"
        )
    taught, other = base_weights(settings, method.base), base_weights(settings, name)
    if other.plugin.identity != taught.plugin.identity:
        raise ConfigError(
            f"sampler.base={name}: it is {other.family.title}, and an adapter of "
            f"{taught.family.title} ({method.base}) does not go on it; name a base of one kind"
        )
    low = method.low_rank.on(taught.family, taught.shapes)
    for part in (one for one in method.taught(taught.family) if one in taught.shapes):
        layers = dict(low.layers(part, taught.shapes))
        there = dict(low.layers(part, other.shapes))
        unlike = [layer for layer, shape in layers.items() if there.get(layer) != shape]
        if unlike:
            raise ConfigError(
                f"sampler.base={name}: its {part}.{unlike[0]} has not the size of {method.base}'s, "
                f"so an adapter of {method.base} does not go on it; name a base of the same layers"
            )
    check_sampler(other, settings)
    return None if other.spec.key == taught.spec.key else other.spec


def size_of(size: tuple[float, float] | None, images: ImageSetSpec) -> tuple[int, int] | None:
    """Width and height in pixels of pictures of so many times the resolution, as near to that as
    the base that draws can; None: as square as the exam's."""
    if size is None:
        return None
    assert images.drawing_base is not None
    family: Family = images.drawing_base.family.made
    unit, resolution = family.unit, images.resolution
    width, height = (max(round(resolution * side / unit), 1) * unit for side in size)
    return (width, height) if (width, height) != (resolution, resolution) else None
