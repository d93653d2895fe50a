"""The cells of a sweep, made of checked settings, with everything that their keys hash.

What is taught is a trajectory (`trajectories`); what is drawn of it, `drawing`; what it is judged
by, `exam`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from charsweep.character import Character, Companion
from charsweep.config.axes import ALWAYS, PLAIN_AXES, plain_values
from charsweep.config.drawing import drawing_base_of, sampler_of
from charsweep.config.exam import Other, exam_of, parts_as_drawn, parts_of, truth_of
from charsweep.config.settings import Settings
from charsweep.config.trajectories import taught_by
from charsweep.core.cells import Cell, is_of_base
from charsweep.core.errors import ConfigError
from charsweep.core.methods import Method, method_of, takes_strength
from charsweep.core.plugins import resolve
from charsweep.core.specs import ImageSetSpec, Plugin, SnapshotSpec, TrajectorySpec
from charsweep.results.cells import TOGETHER

FRAMING = ("framing", "flip", "mask_background")  # what only methods on a base heed


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
            parts=parts_as_drawn(template.parts, images),
        )


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
        sampler=sampler_of(settings)
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
        base=drawing_base_of(settings, snapshot.source) if method else None,
        regional=settings.by_halves and bool(other) and TOGETHER in (exam.parts or {}),
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
        parts=tuple(parts_of(settings, character, images, untaught, subject, other))
        if untaught
        else (),
    )


def _check_strengths(strengths: Sequence[float], name: str, method: Method) -> None:
    """ConfigError for a strength that a method's snapshots cannot be drawn at."""
    others = [strength for strength in strengths if strength != 1]
    if others and not takes_strength(method):
        raise ConfigError(
            f"strength={others[0]:g}: method={name} changes no weights of a base that could be put "
            "on in part; set strength=1 and take axes.strength out, or choose a method that does, "
            "as method=dreambooth_lora"
        )


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
