"""What a trajectory on two characters learns from: pictures of one, of the other, and of both.

Which of them a step shows depends on the step and on the share of those that show both, never on a
trial's seed: so trials of one share see pictures of one size at the same step, as a pass needs it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from charsweep.character import WHOLE, Drawings, TrainingImage, wide
from charsweep.core.keys import key_of
from charsweep.core.methods import method_of
from charsweep.core.specs import CHARACTER, PLACE, Framing, TrajectorySpec
from charsweep.models.pipeline import LoadedPipeline
from charsweep.train.batches import ImageBatch, TrainingImages
from charsweep.train.methods import ClassImage
from charsweep.train.seg_mix import COUNT, InPlace, Mix, SegMix

BOTH = 2  # what a step shows, beside 0, the one, and 1, the other
ROUNDING = 1e-9  # of a share times a step: 0.29 * 100 is 28.999999999999996


def joint_before(step: int, share: float) -> int:
    """How many of the steps before this one (from 0) show both: evenly spread, as many as asked."""
    return int(step * share + ROUNDING)


def shown_at(step: int, share: float) -> tuple[int, int]:
    """Whom a step shows, 0 the one, 1 the other, 2 both; and how often it has shown that before."""
    before = joint_before(step, share)
    if joint_before(step + 1, share) > before:
        return BOTH, before
    turn = step - before
    return turn % 2, turn // 2


class CompanyImages:
    """Two characters' pictures by turns, and both in a share of the steps."""

    def __init__(
        self, one: TrainingImages, other: TrainingImages,
        both: TrainingImages | None = None, share: float = 0.0,
    ) -> None:  # fmt: skip
        self.seed, self.purpose, self.laid = one.seed, one.purpose, one.laid
        self.parts = (one, other) if both is None else (one, other, both)
        self.share = share
        self.captions = [caption for part in self.parts for caption in part.captions]

    def batch(self, step: int) -> ImageBatch:
        which, visit = shown_at(step, self.share)
        return self.parts[which].batch(visit)


@dataclass(frozen=True)
class CompanyMaterials:
    """What a trial on two learns from beside the first's images."""

    other: Sequence[TrainingImage]  # with the masks that count in the loss
    cut: Sequence[Sequence[TrainingImage]]  # with masks: of both, or of who is put in a place
    joint: Sequence[TrainingImage]  # pictures of both
    class_images: Callable[[TrajectorySpec], list[ClassImage]]  # of the other's class
    # Those made of all this, whatever the seed, by what they depend on.
    made: dict[object, TrainingImages] = field(default_factory=dict)


def company_materials(
    spec: TrajectorySpec,
    drawings: Drawings,
    class_images: Callable[[TrajectorySpec], list[ClassImage]],
) -> CompanyMaterials | None:
    """Those of a trajectory; None where it teaches one character."""
    company = spec.company
    if company is None:
        return None
    digests = (spec.character.digests, company.other.digests)
    return CompanyMaterials(
        other=drawings.training_images(digests[1], company.masks),
        cut=[drawings.training_images(*pair) for pair in zip(digests, company.cut, strict=False)],
        joint=drawings.training_images(company.joint),
        class_images=class_images,
    )


def company_images(
    base: LoadedPipeline, spec: TrajectorySpec, one: TrainingImages, materials: CompanyMaterials
) -> CompanyImages:
    """What a trial learns from; `one` is what the first character gives."""
    company, changes = spec.company, method_of(spec.method).caption_changes
    assert company is not None
    captions = list(method_of(spec.method).captions(company.other))
    other = TrainingImages(
        base, spec, "other image", company.other.digests,
        [image.image for image in materials.other], captions,
        replace(spec.framing, masks=company.masks), [image.mask for image in materials.other],
        changes,
    )  # fmt: skip
    if not (company.cut or company.joint):
        return CompanyImages(one, other)
    kind = (spec.framing.flip, spec.framing.background)
    if kind not in materials.made:
        make = _composed if company.composes else _shared
        materials.made[kind] = make(base, spec, materials)
    both = copy.copy(materials.made[kind])  # another trial's, whose seed and captions are its own
    both.seed, both.changes = spec.seed, changes
    return CompanyImages(one, other, both, company.joint_share)


def _shared(
    base: LoadedPipeline, spec: TrajectorySpec, materials: CompanyMaterials
) -> TrainingImages:
    """Pictures of both, each in its bucket; not mirrored: who is left would be right."""
    company = spec.company
    assert company is not None
    images = (image.image for image in materials.joint)
    captions = list(company.joint_captions)
    return TrainingImages(base, spec, "both", company.joint, images, captions, Framing("buckets"))


def _composed(
    base: LoadedPipeline, spec: TrajectorySpec, materials: CompanyMaterials
) -> TrainingImages:
    """Pictures composed of drawings of each; masks count in the loss if they do of either."""
    company, framing = spec.company, spec.framing
    assert company is not None
    mix = _mix(base, spec, materials)
    parts: list[object] = [spec.character.digests, company.other.digests, company.cut, framing.flip]
    parts += [company.other.kind] if company.other.kind != CHARACTER else []
    own = key_of(parts)
    masked = framing.masks or company.masks
    return TrainingImages(
        base, spec, "both", [f"both/{own}/{index}" for index in range(COUNT)],
        (mix.picture(index).image for index in range(COUNT)), mix.captions(),
        Framing(WHOLE, background=framing.background),
        (mix.picture(index).mask for index in range(COUNT)) if masked else (),
    )  # fmt: skip


def _mix(base: LoadedPipeline, spec: TrajectorySpec, materials: CompanyMaterials) -> Mix:
    """What composes pictures of a character and what else is taught."""
    company, flip = spec.company, spec.framing.flip
    assert company is not None
    names, kind = (spec.character.identifier, company.other.identifier), company.other.kind
    if kind == PLACE:
        places = [drawing.image for drawing in materials.other]
        size = (spec.resolution, spec.resolution)
        return InPlace(materials.cut[0], places, company.other.captions, names, size, flip)
    size = wide(spec.resolution, base.family.unit)
    return SegMix(materials.cut[0], materials.cut[1], names, size, flip, kind)
