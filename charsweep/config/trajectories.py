"""The trajectory of a cell: what is taught, how, on which base, and with which class images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from charsweep.character import Character, ClassImages, Companion, check_framed
from charsweep.config.drawing import check_sampler
from charsweep.config.locations import base_weights, store_of, teaching_file
from charsweep.config.pack_width import with_width
from charsweep.config.precision import precision_of
from charsweep.config.settings import Settings
from charsweep.core.errors import ConfigError, ModelsError
from charsweep.core.methods import Method, method_of
from charsweep.core.specs import (
    CharacterSpec,
    Company,
    Framing,
    ImageSetSpec,
    Plugin,
    SnapshotSpec,
    TrajectorySpec,
)
from charsweep.core.words import holds
from charsweep.models.families import Family
from charsweep.models.foreign_adapter import adapter_layers, plain_shapes
from charsweep.models.weights import BaseWeights


class Taught(NamedTuple):
    """A trajectory, and the class images that the untaught base draws for it: of the character's
    class, and of the other's, where that is another."""

    trajectory: TrajectorySpec
    class_images: ImageSetSpec | None
    other_class_images: ImageSetSpec | None


def taught_by(
    settings: Settings,
    character: Character,
    chosen: Mapping[str, Any],
    together: Companion | None = None,
) -> Taught:
    """What teaches a character, or that one and another together, in one combination of axes."""
    trajectory = _trajectory(settings, character, together)
    trajectory = with_width(trajectory, settings, store_of(settings))
    if trajectory.base is None or not method_of(trajectory.method).prior_images:
        return Taught(trajectory, None, None)
    drawn, others = None, None
    if character.class_images is not None:
        trajectory = _with_own(character.class_images, trajectory, chosen)
    else:
        drawn = _class_images(settings, trajectory, character.spec.class_prompt)
        trajectory = replace(trajectory, class_images=drawn.key)
    if together and trajectory.company:
        own = together.other.class_images
        if own is None:
            others = _class_images(settings, trajectory, together.other.spec.class_prompt)
        key = own.key if own else others.key if others else None
        trajectory = replace(trajectory, company=replace(trajectory.company, class_images=key))
    return Taught(trajectory, drawn, None if others == drawn else others)


def _trajectory(
    settings: Settings, character: Character, together: Companion | None = None
) -> TrajectorySpec:
    plugin = settings.method.plugin()
    method = method_of(plugin)
    base = base_weights(settings, method.base) if method.base else None
    if base and (settled := method.settled(base.family)):
        plugin = replace(plugin, settings={**plugin.settings, **settled})
        method = method_of(plugin)
    own = settings.models.bases[method.base].resolution if method.base else None
    resolution = settings.resolution or own
    if resolution is None:
        raise ConfigError(
            f"resolution=null: {plugin.name} starts from nothing, so no base says how large its "
            "images are; set resolution=64"
        )
    if base and resolution % (unit := base.family.unit):
        raise ConfigError(
            f"resolution={resolution}: {base.family.title} draws pictures whose sides are "
            f"multiples of {unit} pixels; set resolution={max(resolution // unit, 1) * unit}"
        )
    spec = TrajectorySpec(
        base=base.spec if base else None,
        character=character.spec,
        method=plugin,
        optimizer=settings.optimizer.plugin(),
        schedule=settings.schedule.plugin(),
        learning_rate=settings.lr,
        seed=settings.seed,
        batch_size=settings.batch_size,
        resolution=resolution,
        framing=_framing(settings, character, resolution) if base else Framing(),
        precision=precision_of(settings, store_of(settings)) if base else "fp32",
        max_grad_norm=settings.max_grad_norm,
        pack=1,
        class_images=None,
        horizon=None,
        teaching_adapter=_teaching_adapter(settings, method, base) if base else None,
    )
    if together and base:
        spec = _with_company(spec, settings, together)
    method.check(spec, base.family if base else None)
    if base:
        _check_with(base, settings, method)
    for taught in (spec.character, *([spec.company.other] if spec.company else [])):
        _check_captions(taught, spec.method.name, method)
    return spec


def _with_company(spec: TrajectorySpec, settings: Settings, together: Companion) -> TrajectorySpec:
    """The trajectory that teaches the other too, with what shows both, if any step does."""
    other, share = together.other, settings.company.joint_share
    assert share is not None
    framing = _framing(settings, other, spec.resolution)
    company = Company(other.spec, share, framing.masks)
    if framing.masks:
        spec = replace(spec, framing=replace(spec.framing, background=framing.background))
    if share and together.cut:
        company = replace(company, cut=tuple(masks.digests for masks in together.cut))
    elif share and together.joint:
        joint = together.joint
        company = replace(company, joint=joint.digests, joint_captions=joint.captions)
    return replace(spec, company=company)


def _check_with(base: BaseWeights, settings: Settings, method: Method) -> None:
    """ConfigError for layers that a base lacks, and for a sampler that cannot draw with it."""
    taught = [name for name in method.taught(base.family) if name in base.shapes]
    if method.low_rank:
        shapes = {name: base.shapes[name] for name in taught}
        method.low_rank.on(base.family, shapes).check(shapes)
    check_sampler(base, settings)


def _teaching_adapter(settings: Settings, method: Method, base: BaseWeights) -> str | None:
    """The digest of what is on the base while it is taught; ConfigError where it cannot be."""
    name = base.plugin.name
    if (found := teaching_file(settings, name)) is None:
        return None
    file, digest = found
    told = f"models.bases.{name}.teaching_adapter={settings.models.bases[name].teaching_adapter}"
    if method.trains_base:
        raise ConfigError(
            f"{told}: method={settings.method.name} changes the weights that it would lie on; set "
            "it to null, or choose a method that adds to them, as method=lora"
        )
    denoiser = base.family.denoiser
    try:
        adapter_layers(file, plain_shapes({denoiser: base.shapes[denoiser]}), [denoiser])
    except ModelsError as error:
        raise ConfigError(
            f"{told}: it cannot be put on {name} alone: {error}; give one that was made for that "
            "base's images, or null"
        ) from error
    return digest


def _check_captions(character: CharacterSpec, name: str, method: Method) -> None:
    """ConfigError if no prompt of training holds the identifier, which nothing would be tied to."""
    captions, identifier = method.captions(character), character.identifier
    if captions and not any(holds(caption, identifier) for caption in captions):
        raise ConfigError(
            f"method={name}: no caption holds the identifier {identifier}, so nothing "
            "would be tied to it; write it into the captions, or set method.prompts=instance"
        )


def _framing(settings: Settings, character: Character, resolution: int) -> Framing:
    """What the steps show; where the background counts as much as the rest, masks say nothing."""
    if character.masks is None or settings.mask_background == 1:
        return Framing(settings.framing, settings.flip)
    check_framed(character, settings.framing, resolution)
    masks = character.masks.digests
    return Framing(settings.framing, settings.flip, masks, settings.mask_background)


def _with_own(
    images: ClassImages, trajectory: TrajectorySpec, chosen: Mapping[str, Any]
) -> TrajectorySpec:
    """A trajectory whose class images are a person's own, all of them."""
    if "method.class_images" in chosen:
        raise ConfigError(
            f"axes.method.class_images: character.class_images holds {len(images.paths)} images, "
            "and all are used; take the axis out, or set character.class_images=null"
        )
    method = trajectory.method
    settings = {**method.settings, "class_images": len(images.paths)}
    return replace(trajectory, method=replace(method, settings=settings), class_images=images.key)


def _class_images(settings: Settings, trajectory: TrajectorySpec, prompt: str) -> ImageSetSpec:
    """The class images of prior preservation: an image set of the untaught base.

    Drawn in one way whatever the sweep varies, so that all its trajectories share them.
    """
    assert trajectory.base is not None
    family: Family = trajectory.base.family.made
    count = method_of(trajectory.method).prior_images
    return ImageSetSpec(
        snapshot=SnapshotSpec(trajectory.base, 0),
        sampler=Plugin("base", "", 1, {}),
        inference_steps=family.class_pictures.inference_steps,
        guidance_scale=family.class_pictures.guidance_scale,
        negative_prompt="",
        prompts=(prompt,),
        seeds=tuple(range(count)),
        resolution=trajectory.resolution,
        batch_width=settings.models.batch_width,
        precision=trajectory.precision,
    )
