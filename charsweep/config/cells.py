"""The cells of a sweep, made of checked settings, with everything that their keys hash."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydantic

from charsweep.character import (
    Character,
    ClassImages,
    check_framed,
)
from charsweep.character.attributes import named_in
from charsweep.config.mistyped import untaken
from charsweep.config.pack_width import with_width
from charsweep.config.precision import precision_of
from charsweep.config.settings import ALWAYS, PLAIN_AXES, Settings, mistakes
from charsweep.core.errors import ConfigError, ModelsError
from charsweep.core.methods import Method, method_of
from charsweep.core.plugins import identity_of, resolve
from charsweep.core.specs import (
    AttributeSpec,
    Cell,
    EncoderSpec,
    ExamPart,
    ExamSpec,
    Framing,
    ImageSetSpec,
    Plugin,
    SnapshotSpec,
    TrajectorySpec,
    TruthSpec,
    is_of_base,
)
from charsweep.core.store import Store
from charsweep.core.words import holds
from charsweep.models.families import Family
from charsweep.models.samplers import check_fits, check_guidance
from charsweep.models.weights import BaseWeights, Weights, find_base, find_weights

OTHERS = "others"  # the part of the exam whose prompts are not of the character
FRAMING = ("framing", "flip", "mask_background")  # what only methods on a base heed


def cells_of(
    axes: Mapping[str, Any],
    chosen: Mapping[str, Any],
    settings: Settings,
    character: Character,
) -> Iterator[Cell]:
    """The cells of one combination: every product of the four plain axes."""
    spans = [_plain_values(name, axes, settings) for name in PLAIN_AXES]
    trajectory = with_width(_trajectory(settings, character), settings, store_of(settings))
    class_images = None
    if method_of(trajectory.method).prior_images and trajectory.base is not None:
        if character.class_images is not None:
            trajectory = _with_own(character.class_images, trajectory, chosen)
        else:
            class_images = _class_images(settings, trajectory)
            trajectory = replace(trajectory, class_images=class_images.key)
    needs_horizon = resolve(settings.schedule.target).needs_horizon
    template = _cell(settings, character, trajectory)
    method = method_of(trajectory.method)
    chosen = {k: v for k, v in chosen.items() if k not in ALWAYS and _applies(k, method)}
    if not method.iterative:
        spans[list(PLAIN_AXES).index("inference_steps")] = (1,)
    trajectories: dict[tuple[float, int, int], TrajectorySpec] = {}
    for lr, steps, inference, seed in itertools.product(*spans):
        horizon = steps if needs_horizon else None
        taught = trajectories.setdefault(
            (lr, seed, horizon or 0),
            replace(trajectory, learning_rate=lr, seed=seed, horizon=horizon),
        )
        drawn = {"inference_steps": inference} if method.iterative else {}
        typed = {"method": settings.method.name, "lr": lr, "train_steps": steps, **drawn}
        images = replace(
            template.images, snapshot=SnapshotSpec(taught, steps), inference_steps=inference
        )
        yield replace(
            template,
            class_images=class_images,
            values={**typed, "seed": seed, **chosen},
            images=images,
            parts=tuple(replace(part, images=_drawn(part, images)) for part in template.parts),
        )


def _drawn(part: ExamPart, images: ImageSetSpec) -> ImageSetSpec:
    """What a part of the exam asks for, drawn as a cell's images are."""
    return replace(images, prompts=part.images.prompts, seeds=part.images.seeds)


def _applies(axis: str, method: Method) -> bool:
    """Whether a setting makes any difference to a method's images."""
    if axis.startswith(("sampler.guidance_scale", "sampler.negative_prompt")):
        return method.prompted
    if axis in FRAMING:
        return method.base is not None
    if axis.startswith("models.bases."):
        return is_of_base(axis, method.base or "")
    return method.iterative or axis.partition(".")[0] != "sampler"


def _plain_values(name: str, axes: Mapping[str, Any], settings: Settings) -> tuple[Any, ...]:
    if name not in axes:
        return (getattr(settings, name),)
    try:
        values = PLAIN_AXES[name].validate_python(axes[name])
    except pydantic.ValidationError as error:
        raise ConfigError("\n".join(mistakes(error, f"axes.{name}"))) from error
    if len(set(values)) < len(values):
        raise ConfigError(f"axes.{name}={list(values)}: a value stands there twice; take one out")
    return tuple(values)


def _trajectory(settings: Settings, character: Character) -> TrajectorySpec:
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
    )
    method.check(spec, base.family if base else None)
    if base:
        _check_with(base, settings, method)
    _check_captions(spec, method)
    return spec


def _check_with(base: BaseWeights, settings: Settings, method: Method) -> None:
    """ConfigError for layers that a base lacks, and for a sampler that cannot draw with it."""
    taught = [name for name in method.taught(base.family) if name in base.shapes]
    if method.low_rank:
        shapes = {name: base.shapes[name] for name in taught}
        method.low_rank.on(base.family, shapes).check(shapes)
    sampler = _sampler(settings)
    check_fits(sampler, base)
    check_guidance(settings.sampler.guidance_scale, base)
    if sampler.settings and not sampler.identity:
        target = f"diffusers.{base.scheduler[0]}"
        if problems := untaken("sampler.settings", target, sampler.settings):
            raise ConfigError("\n".join(problems))


def _check_captions(spec: TrajectorySpec, method: Method) -> None:
    """ConfigError if no prompt of training holds the identifier, which nothing would be tied to."""
    captions, identifier = method.captions(spec.character), spec.character.identifier
    if captions and not any(holds(caption, identifier) for caption in captions):
        raise ConfigError(
            f"method={spec.method.name}: no caption holds the identifier {identifier}, so nothing "
            "would be tied to it; write it into the captions, or set method.prompts=instance"
        )


def _sampler(settings: Settings) -> Plugin:
    sampler = settings.sampler
    return Plugin(sampler.name, identity_of(sampler.target or ""), 1, sampler.settings)


def _framing(settings: Settings, character: Character, resolution: int) -> Framing:
    """What the steps show; where the background counts as much as the rest, masks say nothing."""
    if character.masks is None or settings.mask_background == 1:
        return Framing(settings.framing, settings.flip)
    check_framed(character, settings.framing, resolution)
    masks = character.masks.digests
    return Framing(settings.framing, settings.flip, masks, settings.mask_background)


def base_weights(settings: Settings, name: str) -> BaseWeights:
    """Where the base of that name lies, or will."""
    bases = settings.models.bases
    plugins = {other: base.plugin(other) for other, base in bases.items()}
    base, plugin = bases[name], plugins[name]
    return find_base(
        base.path, made_in(settings), plugin, base.vae, base.variant, plugins, base.prediction
    )


def store_of(settings: Settings) -> Store:
    """The store below the folder that everything is written to."""
    return Store(Path(settings.root).expanduser().resolve())


def made_in(settings: Settings) -> Path:
    """The folder in which the random weights of models=random are made."""
    return store_of(settings).made_weights


def _cell(settings: Settings, character: Character, trajectory: TrajectorySpec) -> Cell:
    sampler, exam = settings.sampler, settings.exam
    method = method_of(trajectory.method)
    prompts = [p.replace("{subject}", character.spec.identifier) for p in exam.prompts]
    images = ImageSetSpec(
        snapshot=SnapshotSpec(trajectory, settings.train_steps),
        sampler=_sampler(settings) if method.iterative else Plugin("once", "", 1, {}),
        inference_steps=settings.inference_steps,
        guidance_scale=sampler.guidance_scale if method.prompted else 1.0,
        negative_prompt=sampler.negative_prompt if method.prompted else "",
        prompts=tuple(prompts) if method.prompted else ("",) * len(prompts),
        seeds=tuple(exam.seeds),
        resolution=trajectory.resolution,
        batch_width=sampler.batch_width or settings.models.batch_width,
        precision=trajectory.precision,
    )
    judged = exam_of(settings, character, exam.prompts if method.prompted else ())
    # One untaught set serves all values of an axis of inference steps, in as many as are set
    # beside it: what identity and gains are measured from does not move along the axis.
    base = trajectory.base
    untaught = replace(images, snapshot=SnapshotSpec(base, 0)) if base else None
    return Cell(
        values={},
        images=images,
        untaught_set=untaught,
        class_noun_set=replace(untaught, prompts=judged.prompts) if untaught else None,
        class_images=None,
        metrics=settings.metrics_on(None),
        truth_set=truth_of(images, character),
        exam=judged,
        parts=tuple(_parts_of(settings, character, images, untaught)) if untaught else (),
    )


def _parts_of(
    settings: Settings, character: Character, images: ImageSetSpec, untaught: ImageSetSpec
) -> Iterator[ExamPart]:
    """The parts of the exam that any metric is on. Of others, {subject} is one of the class."""
    for name, part in (settings.exam.parts or {}).items():
        if not (metrics := settings.metrics_on(name)):
            continue
        subject = character.spec.one_of_class if name == OTHERS else character.spec.identifier
        asked = tuple(prompt.replace("{subject}", subject) for prompt in part.prompts)
        judged, seeds = exam_of(settings, character, part.prompts), tuple(part.seeds)
        yield ExamPart(
            name=name,
            images=replace(images, prompts=asked, seeds=seeds),
            untaught=replace(untaught, prompts=judged.prompts, seeds=seeds),
            exam=judged,
            metrics=metrics,
        )


def exam_of(settings: Settings, character: Character, prompts: Sequence[str]) -> ExamSpec:
    """What images are judged by that are drawn for these prompts, {subject} still in them."""
    spec = character.spec
    filled = tuple(prompt.replace("{subject}", spec.one_of_class) for prompt in prompts)
    known = settings.attributes | settings.exam.attributes
    vocabulary = [AttributeSpec(name, tuple(one.words)) for name, one in known.items()]
    named = {name for prompt in filled for name in named_in(prompt, vocabulary)}
    return ExamSpec(
        encoders=tuple(spec for spec, _ in encoders_of(settings).values()),
        references=references_of(settings, character),
        held_out=character.held_out.digests if character.held_out else (),
        truth=character.truth.digests
        if character.truth and prompts == settings.exam.prompts
        else (),
        prompts=filled,
        class_prompt=settings.character.class_prompt,
        attributes=tuple(one for one in vocabulary if one.name in named),
    )


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


def _class_images(settings: Settings, trajectory: TrajectorySpec) -> ImageSetSpec:
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
        prompts=(settings.character.class_prompt,),
        seeds=tuple(range(count)),
        resolution=trajectory.resolution,
        batch_width=settings.models.batch_width,
        precision=trajectory.precision,
    )


def encoders_of(settings: Settings) -> dict[str, tuple[EncoderSpec, Weights]]:
    """By name; ModelsError names all that cannot be used."""
    found, problems = {}, []
    for name, encoder in settings.models.encoders.items():
        try:
            weights = find_weights(encoder.path, name, made_in(settings))
        except ModelsError as error:
            problems.append(str(error))
            continue
        spec = EncoderSpec(name, weights.digest, encoder.resize, encoder.crop)
        found[str(name)] = (spec, weights)
    if problems:
        raise ModelsError("\n".join(problems))
    return found


def references_of(settings: Settings, character: Character) -> tuple[str, ...]:
    """What images are scored against: training images, or what their masks keep of them."""
    if settings.references == "whole":
        return character.spec.digests
    assert character.masks is not None
    pairs = zip(character.spec.digests, character.masks.digests, strict=True)
    return tuple(f"{image}/{mask}" for image, mask in pairs)


def truth_of(images: ImageSetSpec, character: Character) -> ImageSetSpec | None:
    """The true pictures as an image set, so that they are scored like any other."""
    if character.truth is None:
        return None
    spec = TruthSpec(character.spec.name, character.truth.digests, images.resolution)
    drawn = Plugin("drawn", "", 1, {})
    return replace(
        images, snapshot=SnapshotSpec(spec, 0), sampler=drawn, inference_steps=1,
        guidance_scale=1.0, negative_prompt="", seeds=(0,),
    )  # fmt: skip
