"""The cells of a sweep, made of checked settings, with everything that their keys hash."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pydantic

from charsweep.character import (
    Character,
    ClassImages,
    Companion,
    check_framed,
)
from charsweep.character.attributes import named_in
from charsweep.config.axes import ALWAYS, PLAIN_AXES
from charsweep.config.mistyped import untaken
from charsweep.config.pack_width import with_width
from charsweep.config.precision import precision_of
from charsweep.config.settings import OF_TWO, Settings, mistakes
from charsweep.core.columns import RegionalPrompt
from charsweep.core.errors import ConfigError, ModelsError
from charsweep.core.keys import digest_of_content
from charsweep.core.methods import Method, method_of, takes_strength
from charsweep.core.plugins import identity_of, resolve
from charsweep.core.sides import NAMES, left_of
from charsweep.core.specs import (
    AttributeSpec,
    BaseSpec,
    Cell,
    CharacterSpec,
    Company,
    EncoderSpec,
    ExamPart,
    ExamSpec,
    Framing,
    ImageSetSpec,
    Plugin,
    SnapshotSpec,
    Source,
    TrajectorySpec,
    TruthSpec,
    is_of_base,
)
from charsweep.core.store import Store
from charsweep.core.words import holds
from charsweep.models.families import Family
from charsweep.models.foreign_adapter import adapter_layers, plain_shapes
from charsweep.models.samplers import check_fits, check_guidance
from charsweep.models.weights import BaseWeights, Weights, find_base, find_encoder, find_weights
from charsweep.results.cells import TOGETHER

OTHERS = "others"  # the part of the exam whose prompts are not of the character
OTHER_ONE = NAMES[1]  # the second of two characters, as prompts call it
FRAMING = ("framing", "flip", "mask_background")  # what only methods on a base heed


class Other(NamedTuple):
    """The second of two characters, and what prompts call it by."""

    character: Character
    identifier: str


def cells_of(
    axes: Mapping[str, Any],
    chosen: Mapping[str, Any],
    settings: Settings,
    character: Character,
    companion: Companion | None = None,
    other: Other | None = None,
) -> Iterator[Cell]:
    """The cells of one combination: every product of the plain axes.

    The companion is the second of two characters, taught together; `other` is who exams of two ask
    for beside the first.
    """
    spans = [plain_values(name, axes, settings) for name in PLAIN_AXES]
    trajectory, class_images, other_class_images = taught_by(settings, character, chosen, companion)
    needs_horizon = resolve(settings.schedule.target).needs_horizon
    method = method_of(trajectory.method)
    template = cell_of(
        settings, character, SnapshotSpec(trajectory, settings.train_steps),
        trajectory.resolution, trajectory.precision, method, other=other,
    )  # fmt: skip
    chosen = {
        axis: value
        for axis, value in chosen.items()
        if axis not in ALWAYS and _applies(axis, method) and _is_asked(axis, settings)
    }
    if not method.iterative:
        spans[list(PLAIN_AXES).index("inference_steps")] = (1,)
    _check_strengths(spans[list(PLAIN_AXES).index("strength")], settings.method.name, method)
    trajectories: dict[tuple[float, int, int], TrajectorySpec] = {}
    spans[list(PLAIN_AXES).index("other_strength")] = (1.0,)  # see `config.company_cells`
    for lr, steps, inference, strength, _, seed in itertools.product(*spans):
        horizon = steps if needs_horizon else None
        taught = trajectories.setdefault(
            (lr, seed, horizon or 0),
            replace(trajectory, learning_rate=lr, seed=seed, horizon=horizon),
        )
        drawn = {"inference_steps": inference} if method.iterative else {}
        drawn |= {"strength": strength} if strength != 1 or "strength" in axes else {}
        typed = {"method": settings.method.name, "lr": lr, "train_steps": steps, **drawn}
        images = replace(
            template.images, snapshot=SnapshotSpec(taught, steps), inference_steps=inference,
            strength=strength,
        )  # fmt: skip
        yield replace(
            template,
            class_images=class_images,
            other_class_images=other_class_images,
            values={**typed, "seed": seed, **chosen},
            images=images,
            parts=tuple(replace(part, images=as_drawn(part, images)) for part in template.parts),
        )


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


def _check_strengths(strengths: Sequence[float], name: str, method: Method) -> None:
    """ConfigError for a strength that a method's snapshots cannot be drawn at."""
    others = [strength for strength in strengths if strength != 1]
    if others and not takes_strength(method):
        raise ConfigError(
            f"strength={others[0]:g}: method={name} changes no weights of a base that could be put "
            "on in part; set strength=1 and take axes.strength out, or choose a method that does, "
            "as method=dreambooth_lora"
        )


def as_drawn(part: ExamPart, images: ImageSetSpec) -> ImageSetSpec:
    """What a part of the exam asks for, drawn as a cell's images are."""
    asked = part.images
    return replace(images, prompts=asked.prompts, seeds=asked.seeds, size=asked.size)


def _applies(axis: str, method: Method) -> bool:
    """Whether a setting makes any difference to a method's images."""
    if axis.startswith(("sampler.guidance_scale", "sampler.negative_prompt")):
        return method.prompted
    if axis in FRAMING:
        return method.base is not None
    if axis.startswith("models.bases."):
        return is_of_base(axis, method.base or "")
    return method.iterative or axis.partition(".")[0] != "sampler"


def _is_asked(axis: str, settings: Settings) -> bool:
    """Whether a setting makes any difference to how two characters are taught."""
    if not axis.startswith("company."):
        return True
    shown = axis == "company.joint_share" or bool(settings.company.joint_share)
    return settings.is_together and shown


def plain_values(name: str, axes: Mapping[str, Any], settings: Settings) -> tuple[Any, ...]:
    if name not in axes:
        return (getattr(settings, name),)
    try:
        values = PLAIN_AXES[name].validate_python(axes[name])
    except pydantic.ValidationError as error:
        raise ConfigError("\n".join(mistakes(error, f"axes.{name}"))) from error
    if len(set(values)) < len(values):
        raise ConfigError(f"axes.{name}={list(values)}: a value stands there twice; take one out")
    return tuple(values)


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


def check_sampler(base: BaseWeights, settings: Settings) -> None:
    """ConfigError for a sampler that cannot draw with that base."""
    sampler = _sampler(settings)
    check_fits(sampler, base)
    if settings.sampler.regional and not base.family.draws_columns:
        raise ConfigError(
            f"sampler.regional=true: {base.family.title} has no cross-attention in which each half "
            "could look at words of its own; set it to false, or take a base of Stable Diffusion, "
            "as in method.base=sdxl"
        )
    check_guidance(settings.sampler.guidance_scale, base)
    if sampler.settings and not sampler.identity:
        target = f"diffusers.{base.scheduler[0]}"
        if problems := untaken("sampler.settings", target, sampler.settings):
            raise ConfigError("\n".join(problems))


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


def teaching_file(settings: Settings, name: str) -> tuple[Path, str] | None:
    """The adapter that is on the base of that name while it is taught, and its digest."""
    given = settings.models.bases[name].teaching_adapter
    if given is None:
        return None
    file = Path(given).expanduser().resolve()
    if file.suffix != ".safetensors" or not file.is_file():
        raise ConfigError(
            f"models.bases.{name}.teaching_adapter={given}: there is no such .safetensors file; "
            "give an adapter's own file, or null"
        )
    state = file.stat()
    return file, _digest(file, state.st_size, state.st_mtime_ns)


@cache
def _digest(file: Path, size: int, changed_ns: int) -> str:
    """Of a file as it is now, which many cells ask for."""
    return digest_of_content(file)


def _check_captions(character: CharacterSpec, name: str, method: Method) -> None:
    """ConfigError if no prompt of training holds the identifier, which nothing would be tied to."""
    captions, identifier = method.captions(character), character.identifier
    if captions and not any(holds(caption, identifier) for caption in captions):
        raise ConfigError(
            f"method={name}: no caption holds the identifier {identifier}, so nothing "
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


def cell_of(
    settings: Settings,
    character: Character,
    snapshot: SnapshotSpec,
    resolution: int,
    precision: str,
    method: Method | None = None,
    identifier: str = "",
    other: Other | None = None,
) -> Cell:
    """A cell without its values: what a snapshot draws for the exam, and is judged by.

    Without a method it is an adapter's from elsewhere; an identifier takes the place of the
    character's. With an `other`, it is of two characters, who are asked for together too.
    """
    sampler, exam = settings.sampler, settings.exam
    subject = identifier or character.spec.identifier
    prompts = [p.replace("{subject}", subject) for p in exam.prompts]
    is_prompted = method is None or method.prompted
    images = ImageSetSpec(
        snapshot=snapshot,
        sampler=_sampler(settings)
        if method is None or method.iterative
        else Plugin("once", "", 1, {}),
        inference_steps=settings.inference_steps,
        guidance_scale=sampler.guidance_scale if is_prompted else 1.0,
        negative_prompt=sampler.negative_prompt if is_prompted else "",
        prompts=tuple(prompts) if is_prompted else ("",) * len(prompts),
        seeds=tuple(exam.seeds),
        resolution=resolution,
        batch_width=sampler.batch_width or settings.models.batch_width,
        precision=precision,
        base=_drawing_base(settings, snapshot.source) if method else None,
    )
    judged = exam_of(settings, character, exam.prompts if is_prompted else ())
    # One untaught set serves all values of an axis of inference steps, in as many as are set
    # beside it: what identity and gains are measured from does not move along the axis.
    untaught = images.untaught if images.drawing_base else None
    return Cell(
        values={},
        character=character.spec,
        identifier=subject,
        images=images,
        untaught_set=untaught,
        class_noun_set=replace(untaught, prompts=judged.prompts) if untaught else None,
        class_images=None,
        metrics=settings.metrics_on(None),
        truth_set=truth_of(images, character),
        exam=judged,
        parts=tuple(_parts_of(settings, character, images, untaught, subject, other))
        if untaught
        else (),
    )


def check_drawing_base(settings: Settings) -> None:
    """ConfigError where the base that is to draw is none of the models'."""
    name, bases = settings.sampler.base, settings.models.bases
    if name is not None and name not in bases:
        ways = " or ".join(f"sampler.base={other}" for other in bases)
        raise ConfigError(
            f"sampler.base={name}: models={settings.models.name} has no such base; use {ways}, or "
            "null for the one that is taught"
        )


def _drawing_base(settings: Settings, trajectory: Source) -> BaseSpec | None:
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


def _parts_of(
    settings: Settings,
    character: Character,
    images: ImageSetSpec,
    untaught: ImageSetSpec,
    identifier: str,
    other: Other | None = None,
) -> Iterator[ExamPart]:
    """The parts of the exam that any metric is on. Of others, {subject} is one of the class.

    Of two characters, a part has both only where it asks for them together.
    """
    for name, part in (settings.exam.parts or {}).items():
        company = other if name == TOGETHER else None
        if not (metrics := settings.metrics_on(name)) or (name in OF_TWO and company is None):
            continue
        subject = character.spec.one_of_class if name == OTHERS else identifier
        asked = tuple(prompt.replace("{subject}", subject) for prompt in part.prompts)
        judged = exam_of(settings, character, part.prompts, company and company.character)
        nouns = judged.prompts
        if company:
            asked = tuple(prompt.replace("{other}", company.identifier) for prompt in asked)
            if settings.sampler.regional:
                asked, nouns = _in_columns(asked, nouns, judged, character, company.character)
        size, seeds = size_of(part.size, images), tuple(part.seeds)
        yield ExamPart(
            name=name,
            images=replace(images, prompts=asked, seeds=seeds, size=size),
            untaught=replace(untaught, prompts=nouns, seeds=seeds, size=size),
            exam=judged,
            metrics=metrics,
        )


def _in_columns(
    asked: Sequence[str], nouns: Sequence[str], exam: ExamSpec, first: Character, second: Character
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Prompts of two, and the same with their class nouns, with words of its own for each half:
    the prompt of the one who stands there, the first on the left where that is not said."""
    both = [(who.spec.instance_prompt, who.spec.class_prompt) for who in (first, second)]
    made = []
    for texts, which in ((asked, 0), (nouns, 1)):
        own = [one[which] for one in both]
        sides = (own[::-1] if left == OTHER_ONE else own for left in exam.left)
        parts = zip(texts, sides, strict=True)
        made.append(tuple(str(RegionalPrompt(text, tuple(side))) for text, side in parts))
    return made[0], made[1]


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


def exam_of(
    settings: Settings, character: Character, prompts: Sequence[str], other: Character | None = None
) -> ExamSpec:
    """What images are judged by that are drawn for these prompts, {subject} still in them; {other}
    too, where they ask for two characters."""
    spec = character.spec
    filled = tuple(prompt.replace("{subject}", spec.one_of_class) for prompt in prompts)
    if other:
        filled = tuple(prompt.replace("{other}", other.spec.one_of_class) for prompt in filled)
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
        other=_drawings_of(settings, other) if other else (),
        left=tuple(map(left_of, prompts)) if other else (),
    )


def _drawings_of(settings: Settings, other: Character) -> tuple[str, ...]:
    """What the second character is known by: drawings that are not taught, where it has any."""
    return other.held_out.digests if other.held_out else references_of(settings, other)


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


def encoders_of(settings: Settings) -> dict[str, tuple[EncoderSpec, Weights]]:
    """The models' own, and those that metrics ask for, by name; ModelsError names all that cannot
    be used."""
    found: dict[str, tuple[EncoderSpec, Weights]] = {}
    problems = []
    for name in (*settings.models.encoders, *settings.encoders_asked):
        if name in found:
            continue
        try:
            found[name] = _encoder(settings, name)
        except ModelsError as error:
            problems.append(str(error))
    if problems:
        raise ModelsError("\n".join(problems))
    return found


def _encoder(settings: Settings, name: str) -> tuple[EncoderSpec, Weights]:
    made = made_in(settings)
    for layout, own in settings.models.encoders.items():
        if layout == name:
            weights = find_weights(own.path, layout, made)
            return EncoderSpec(name, weights.digest, own.resize, own.crop), weights
    further = settings.encoder[name]
    plugin = further.plugin(name)
    variant = plugin.settings.get("variant")
    weights = find_encoder(
        further.path, plugin.find().layout, made, variant, f"encoder.{name}.path",
        further.megabytes,
    )  # fmt: skip
    return EncoderSpec(name, weights.digest, None, None, plugin), weights


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
