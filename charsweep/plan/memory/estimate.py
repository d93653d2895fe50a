"""A trajectory or an image set in, the peak of memory that it will take out; no torch.

What is held all the time follows from the shapes of the tensors: the base, the copy that restores
it, adapters, gradients, the optimizer's state. What a pass holds was measured on the architecture
(`figures`); without that there is no estimate. Counted is what tensors take: the CUDA
context, kernels' workspaces and what is lost between blocks come on top.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from charsweep.core.specs import ImageSetSpec, TrajectorySpec
from charsweep.models.adapter_file import layers_in, padded_rank, parts_of, targets_in
from charsweep.models.architectures import Shapes
from charsweep.models.families import Family, decoded_at_once
from charsweep.models.weights import BaseWeights
from charsweep.plan.memory.figures import (
    DECODING,
    FULL,
    PACKED,
    VALUE,
    Instant,
    Known,
    drawing_way,
    training_way,
)

UNET = "unet"  # the part that is measured; a base that has another denoiser has no estimate
TARGETS = {"to_q", "to_k", "to_v", "to_out.0"}  # that adapters were measured on
# Bytes of state per trained number, by a part of the optimizer's dotted name. AdamW keeps two
# moments; its 8-bit kind one byte of each (Dettmers et al. 2021, arXiv 2110.02861); Adafactor their
# rows and columns (Shazeer and Stern 2018); Prodigy also the first weights and a sum.
STATES = {"8bit": 2, "adafactor": 0, "prodigy": 16, "sgd": 4, "lion": 4, "rmsprop": 4, "adagrad": 4}
COPY = "copy that restores the weights"
SECOND = "the base in another precision"
ADAMW_STATE = 8  # and of an optimizer that is not known


@dataclass(frozen=True)
class Peak:
    """Bytes at the highest instant, by what takes them."""

    parts: Mapping[str, int]

    @property
    def bytes(self) -> int:
        return sum(self.parts.values())

    @property
    def largest(self) -> str:
        return max(self.parts, key=lambda name: self.parts[name])


# -- training --------------------------------------------------------------------------------------


def training(
    spec: TrajectorySpec,
    base: BaseWeights,
    known: Known,
    *,
    checkpointing: bool = False,
    micro_batch: int | None = None,
    on_card: bool = False,
) -> Peak | None:
    """The peak of training one pack; None where its architecture has not been measured.

    `micro_batch` samples of each trial share a forward pass; None: the whole batch.
    `on_card`: what does not train, and the copy that restores the weights, lie elsewhere.
    """
    if not is_estimable(spec, base):
        return None
    method, shapes = spec.method.make(), base.shapes
    whole = method.trains == "weights"
    value = FULL if whole else VALUE[spec.precision]  # what trains is never in half
    kind = base.family
    taught = _there(shapes, *kind.taught(method.text_encoder))
    resident = taught if on_card else _there(shapes, *_denoising(kind), "vae")
    batch = min(micro_batch or spec.batch_size, spec.batch_size)
    # Adapters' gradients are there all the time, those of weights from a second pass on.
    held = not whole or bool(spec.class_images) or batch < spec.batch_size
    passed = _passes(spec, method, base, known, checkpointing, batch, held)
    if passed is None:
        return None
    activations, gradients = passed
    trained = _trained(method, kind, shapes) * spec.pack
    parts = {
        "weights": sum(
            parameters(shapes[name]) * (FULL if name == "vae" else value) for name in resident
        ),
        COPY: FULL * _sizes(shapes, *kind.taught(True)) if whole and not on_card else 0,
        "adapters": 0 if whole else trained * FULL,
        "gradients": trained * FULL if held else gradients,
        "optimizer": trained * optimizer_state(spec),
        "activations": activations,
    }
    if whole and VALUE[spec.precision] < FULL:  # in which the pictures before were drawn
        parts[SECOND] = base_bytes(base, spec.precision)
    return Peak(parts)


def is_estimable(spec: TrajectorySpec, base: BaseWeights) -> bool:
    """Whether a U-Net is taught by adapters or in full, which is what can be measured."""
    return base.family.denoiser == UNET and hasattr(spec.method.find(), "low_rank")


def ways_of(spec: TrajectorySpec, batch: int, checkpointing: bool) -> tuple[str, ...]:
    """The ways of training a U-Net whose figures an estimate needs.

    Adapters on layers that were not measured keep what goes into these too: at most what is kept
    where all weights train.
    """
    low = spec.method.make().low_rank
    kinds = [low.kind if low else "weights"]
    if low and low.kind == "lora" and spec.pack > 1 and batch > 1:
        kinds = [PACKED]
    if low and not TARGETS.issuperset(low.targets):
        kinds.append("weights")
    return tuple(training_way(kind, spec.precision, checkpointing) for kind in kinds)


def _passes(
    spec: TrajectorySpec,
    method: Any,
    base: BaseWeights,
    known: Known,
    checkpointing: bool,
    batch: int,
    held: bool,
) -> tuple[int, int] | None:
    """What a pass holds at its highest instant, and the gradients of weights that it has then."""
    low, kind, shapes = method.low_rank, base.family, base.shapes
    rank = _rank(low) if low else 0
    size = (spec.pack * batch, latent_positions(shapes, spec.resolution), rank)
    ways = ways_of(spec, batch, checkpointing)
    found = [highest(known.find(shapes[UNET], way), *size, held) for way in ways]
    encoders: list[tuple[int, int] | None] = []
    if method.text_encoder:  # reckoned as if all their weights trained, which adapters keep less of
        way = training_way("weights", spec.precision, False)
        for name in _there(shapes, *kind.taught(True)[1:]):
            encoders.append(highest(known.find(shapes[name], way), size[0], 0, 0, held))
    if None in found or None in encoders:
        return None
    unet = max((one for one in found if one), key=lambda one: one[0])
    both = [unet, *(one for one in encoders if one)]
    return sum(one[0] for one in both), sum(one[1] for one in both)


def highest(
    instants: Sequence[Instant], samples: int, positions: int, rank: int, held: bool = False
) -> tuple[int, int] | None:
    """Activations and gradients at the instant at which they are most together.

    `held`: all gradients are there at every instant.
    """
    sizes = [
        (round(one.activations(samples, positions, rank)), round(one.gradients)) for one in instants
    ]
    return max(sizes, key=lambda one: one[0] if held else sum(one), default=None)


def _rank(low: Any) -> int:
    """As it is held: plain adapters are padded."""
    return padded_rank(low.rank) if low.kind == "lora" else int(low.rank)


def optimizer_state(spec: TrajectorySpec) -> int:
    """Bytes per trained number, by the optimizer's name."""
    name = spec.optimizer.identity.lower()
    if name.endswith(".sgd") and not spec.optimizer.settings.get("momentum"):
        return 0
    return next((size for part, size in STATES.items() if part in name), ADAMW_STATE)


def _trained(method: Any, kind: Family, shapes: Shapes) -> int:
    """How many numbers one trial trains; those that pad the rank of plain adapters count too."""
    names, low = _there(shapes, *kind.taught(method.text_encoder)), method.low_rank
    if low is None:
        return _sizes(shapes, *names)
    rank = _rank(low)
    return sum(
        math.prod(part)
        for name in names
        for _, weight in layers_in(shapes[name], targets_in(name, low.targets))
        for part in parts_of(low.kind, rank, weight).values()
    )


# -- drawing ---------------------------------------------------------------------------------------


def drawing(
    images: ImageSetSpec, base: BaseWeights, known: Known, on_card: bool = False
) -> Peak | None:
    """The peak of drawing a batch: of both its halves' denoising, or of its decoding."""
    if base.family.denoiser != UNET:
        return None
    shapes, value = base.shapes, VALUE[images.precision]
    positions = latent_positions(shapes, images.resolution)
    halves = 2 if images.guidance_scale > 1 else 1  # with and without the prompt
    way, width = drawing_way(images.precision), images.batch_width
    denoised = highest(known.find(shapes[UNET], way), halves * width, positions, 0)
    together = min(decoded_at_once(images.resolution), width)
    decoded = highest(known.find(shapes["vae"], DECODING), together, positions, 0)
    if denoised is None or decoded is None:
        return None
    parts = {
        "weights": base_bytes(base, images.precision),
        COPY: 0,
        "activations": max(denoised[0], decoded[0]),
    }
    source = images.snapshot.source
    if isinstance(source, TrajectorySpec) and not source.method.settings.get("adapter"):
        parts[COPY] = 0 if on_card else value * _sizes(shapes, *base.family.taught(True))
        if value < FULL:  # beside the one that is taught
            parts[SECOND] = FULL * _sizes(shapes, UNET)
    return Peak(parts)


# -- sizes -----------------------------------------------------------------------------------------


def latent_positions(shapes: Shapes, resolution: int) -> int:
    """Height times width of the latent of a square picture."""
    return (resolution // vae_factor(shapes["vae"])) ** 2


def vae_factor(names: Iterable[str]) -> int:
    """How many pixels of each side a position of the latent stands for."""
    levels = {name.split(".")[2] for name in names if name.startswith("encoder.down")}
    return int(2 ** max(0, len(levels) - 1))


def parameters(shapes: Mapping[str, Sequence[int]]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def base_bytes(base: BaseWeights, precision: str) -> int:
    """What a base takes while it does nothing."""
    network = VALUE[precision] * _sizes(base.shapes, *_denoising(base.family))
    return network + FULL * _sizes(base.shapes, "vae")


def _denoising(kind: Family) -> tuple[str, ...]:
    """The parts that are not the autoencoder."""
    return (kind.denoiser, *kind.encoders)


def _there(shapes: Shapes, *names: str) -> list[str]:
    return [name for name in names if name in shapes]


def _sizes(shapes: Shapes, *names: str) -> int:
    return sum(parameters(shapes[name]) for name in _there(shapes, *names))
