"""A plan and the card in, the most memory that it will take, and what to do where that is too much.

Refused is what cannot fit; what has no estimate never is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from charsweep.config.settings import Runtime
from charsweep.core.errors import ConfigError
from charsweep.core.specs import BaseSpec, ImageSetSpec, TrajectorySpec
from charsweep.core.system.hardware import Card, usable_precision
from charsweep.models.weights import BaseWeights
from charsweep.plan.memory.estimate import Peak, base_bytes, drawing, is_estimable, training
from charsweep.plan.memory.figures import VALUE, Known
from charsweep.plan.work import Plan

Bases = Mapping[str, BaseWeights]
# The share of the memory to stay below where there is a choice: contexts, workspaces and the gaps
# between blocks take the rest.
ROOM = 0.9
# The multiple of it from which on a plan is refused. Estimates are of tensors and were seen to be
# at most a tenth too high (tests/test_memory.py); a machine's memory can swap besides.
TOO_MUCH = {"cuda": 1.1, "mps": 1.25, "cpu": 1.25}
EIGHT_BIT = "bitsandbytes.optim.AdamW8bit"  # of conf/optimizer/adamw8bit.yaml


class Carried(NamedTuple):
    """How training is carried out, as `charsweep.train.methods.Execution` says."""

    checkpointing: bool = False
    micro_batch: int | None = None
    on_card: bool = False  # which encoders leave while the denoiser alone trains


@dataclass(frozen=True)
class Expected:
    """The highest peak of a plan: where it comes, and how training is carried out there."""

    peak: Peak
    doing: str
    work: TrajectorySpec | ImageSetSpec
    carried: Carried


def peak_of(spec: TrajectorySpec, base: BaseWeights, known: Known, carried: Carried) -> Peak | None:
    return training(
        spec, base, known, checkpointing=carried.checkpointing,
        micro_batch=carried.micro_batch, on_card=carried.on_card,
    )  # fmt: skip


def needs_checkpointing(
    spec: TrajectorySpec,
    base: BaseWeights,
    known: Known,
    card: Card | None,
    micro_batch: int | None = None,
) -> bool:
    """What `runtime.checkpointing=auto` comes to: on where it does not fit without.

    Off where nothing is known of the card or the architecture.
    """
    peak = peak_of(spec, base, known, Carried(False, micro_batch, leave(card)))
    return bool(card and peak and peak.bytes > ROOM * card.memory_bytes)


def leave(card: Card | None) -> bool:
    """Whether VAE and text encoders make room there (`charsweep.models.pipeline.Base.put_away`)."""
    return card is not None and card.device == "cuda"


def expected(
    plan: Plan, bases: Bases, runtime: Runtime, card: Card | None, known: Known
) -> Expected | None:
    """The highest peak of what a plan lacks; None where nothing of it can be estimated."""
    found = [*_trainings(plan, bases, runtime, card, known), *_drawings(plan, bases, card, known)]
    return max(found, key=lambda one: one.peak.bytes, default=None)


def _trainings(
    plan: Plan, bases: Bases, runtime: Runtime, card: Card | None, known: Known
) -> Iterator[Expected]:
    for pack in plan.packs:
        for spec in {_like(t.trajectory): t.trajectory for t in pack.trainings}.values():
            if spec.base is None:
                continue
            base, micro = bases[spec.base.name], runtime.micro_batch
            on = runtime.checkpointing is True
            if runtime.checkpointing == "auto":
                on = needs_checkpointing(spec, base, known, card, micro)
            carried = Carried(on, micro, leave(card))
            if peak := peak_of(spec, base, known, carried):
                peak = _beside(peak, plan, bases, spec.base, spec.precision)
                yield Expected(peak, f"training {spec.method.name}-{spec.base_name}", spec, carried)


def _drawings(plan: Plan, bases: Bases, card: Card | None, known: Known) -> Iterator[Expected]:
    carried = Carried(on_card=leave(card))
    drawn = [scoring.images for scoring in plan.scorings if scoring.draw]
    for images in {_way(images): images for images in drawn}.values():
        spec = _base_of(images)
        if spec and (peak := drawing(images, bases[spec.name], known, carried.on_card)):
            peak = _beside(peak, plan, bases, spec, images.precision)
            yield Expected(peak, f"drawing with {spec.name}", images, carried)


def unmeasured(
    specs: Iterable[TrajectorySpec], bases: Bases, known: Known
) -> tuple[TrajectorySpec, ...]:
    """One trajectory of each kind that trains a base and has no estimate, though it could have."""
    kinds = {
        _like(spec): spec
        for spec in specs
        if spec.base and is_estimable(spec, bases[spec.base.name])
    }
    return tuple(
        spec for spec in kinds.values()
        if peak_of(spec, bases[spec.base_name], known, Carried()) is None
    )  # fmt: skip


def _like(spec: TrajectorySpec) -> tuple[Any, ...]:
    """What the memory of training depends on."""
    return (spec.base_name, spec.method.identity, str(spec.method.settings),
            spec.optimizer.identity, spec.batch_size, spec.resolution, spec.precision,
            spec.pack)  # fmt: skip


def _way(images: ImageSetSpec) -> tuple[Any, ...]:
    source = images.snapshot.source
    trained = isinstance(source, TrajectorySpec) and source.method.settings.get("adapter") is None
    base = _base_of(images)
    return (base and base.name, trained, images.resolution, images.batch_width, images.precision,
            images.guidance_scale > 1)  # fmt: skip


def _base_of(images: ImageSetSpec) -> BaseSpec | None:
    source = images.snapshot.source
    if isinstance(source, BaseSpec):
        return source
    return getattr(source, "base", None)


def _beside(peak: Peak, plan: Plan, bases: Bases, own: BaseSpec, precision: str) -> Peak:
    """With the plan's other bases, which stay loaded."""
    names = {t.trajectory.base_name for t in plan.trainings if t.steps} - {"", own.name}
    others = sum(base_bytes(bases[name], precision) for name in names)
    return Peak({**peak.parts, "other bases": others}) if others else peak


# -- words -----------------------------------------------------------------------------------------


def summary(found: Expected | None, card: Card | None) -> dict[str, Any] | None:
    """The expected peak for plan.json and, as `text`, for people."""
    if found is None:
        return None
    return {
        "bytes": found.peak.bytes,
        "parts": {name: size for name, size in found.peak.parts.items() if size},
        "doing": found.doing,
        "checkpointing": found.carried.checkpointing,
        "card": card and {"name": card.name, "bytes": card.memory_bytes},
        "text": words(found, card),
    }


def words(found: Expected, card: Card | None) -> str:
    """ "8.1 GB of 24.0 GB (NVIDIA L4), training lora-sdxl; most of it: activations 5.2 GB"."""
    of = f" of {gigabytes(card.memory_bytes)} ({card.name})" if card else ""
    how = " with gradient checkpointing" if found.carried.checkpointing else ""
    return f"{gigabytes(found.peak.bytes)}{of}, {found.doing}{how}; most of it: {most(found.peak)}"


def most(peak: Peak) -> str:
    return f"{peak.largest} {gigabytes(peak.parts[peak.largest])}"


def gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 0.95e8 else f"{size / 1e6:.0f} MB"


# -- refusal ---------------------------------------------------------------------------------------


def is_too_much(found: Expected | None, card: Card | None) -> bool:
    return bool(found and card and found.peak.bytes > TOO_MUCH[card.device] * card.memory_bytes)


def refusal(found: Expected, bases: Bases, card: Card, known: Known) -> ConfigError:
    """What does not fit where, by how much, and which settings would make it fit."""
    has = f"{gigabytes(card.memory_bytes)} ({card.name})"
    return ConfigError(
        f"{found.doing} at {found.work.resolution} px would take {gigabytes(found.peak.bytes)} "
        f"of memory, most of it {most(found.peak)}; this machine has {has}; "
        + _advice(found, bases, card, known)
    )


def _advice(found: Expected, bases: Bases, card: Card, known: Known) -> str:
    alone = remedies(found, bases, card, known)
    if alone:
        return "any one of these would fit: " + ", ".join(f"{r.words} ({r.size})" for r in alone)
    last = _together(found, bases, card, known)
    if last.fits:
        return f"together these would fit: {last.words} ({last.size})"
    whole = isinstance(found.work, TrajectorySpec) and not found.work.method.settings.get("adapter")
    adapters = ", or a method that trains adapters" if whole else ""
    even = f"even {last.words} would take {last.size}: " if last.words else ""
    return f"{even}it needs a card with more memory{adapters}"


class Remedy(NamedTuple):
    """A change of settings, the peak with it, and whether that fits with room to spare."""

    words: str
    bytes: int
    fits: bool

    @property
    def size(self) -> str:
        return gigabytes(self.bytes)


def remedies(found: Expected, bases: Bases, card: Card, known: Known) -> list[Remedy]:
    """The least change of each setting that is enough by itself, what changes no result first."""
    enough: dict[str, Remedy] = {}
    for change in _changes(found.work, found.carried, card):
        peak = _with(found, change, bases, known)
        if peak.bytes <= ROOM * card.memory_bytes:
            enough.setdefault(change.setting, Remedy(change.words, peak.bytes, True))
    return list(enough.values())


def _together(found: Expected, bases: Bases, card: Card, known: Known) -> Remedy:
    """One setting after the other, each as far as it goes, until it fits."""
    done: dict[str, str] = {}
    while found.peak.bytes > ROOM * card.memory_bytes:
        changes = {one.setting: one for one in _changes(found.work, found.carried, card)}
        change = next((one for name, one in changes.items() if name not in done), None)
        if change is None:
            return Remedy(_joined(done), found.peak.bytes, False)
        peak = _with(found, change, bases, known)
        helps = peak.bytes < found.peak.bytes
        done[change.setting] = change.words if helps else ""
        if helps:
            found = Expected(peak, found.doing, change.work, change.carried)
    return Remedy(_joined(done), found.peak.bytes, True)


def _joined(words: Mapping[str, str]) -> str:
    return " ".join(one for one in words.values() if one)


class Change(NamedTuple):
    """A setting as it is typed, and the work with it."""

    words: str
    work: TrajectorySpec | ImageSetSpec
    carried: Carried

    @property
    def setting(self) -> str:
        return self.words.partition("=")[0]


def _with(found: Expected, change: Change, bases: Bases, known: Known) -> Peak:
    """The peak after a change; the old one where that cannot be estimated."""
    if isinstance(change.work, ImageSetSpec):
        spec = _base_of(change.work)
        assert spec is not None
        peak = drawing(change.work, bases[spec.name], known, change.carried.on_card)
    else:
        base = bases[change.work.base_name]
        peak = peak_of(change.work, base, known, change.carried)
    others = found.peak.parts.get("other bases", 0)
    return Peak({**peak.parts, "other bases": others}) if peak else found.peak


def _changes(work: TrajectorySpec | ImageSetSpec, carried: Carried, card: Card) -> Iterator[Change]:
    """What takes less memory; of each setting, the smaller changes first."""
    if isinstance(work, ImageSetSpec):
        for width in halves(work.batch_width):
            narrow = replace(work, batch_width=width)
            yield Change(f"models.batch_width={width}", narrow, carried)
    else:
        yield from _changes_of_training(work, carried)
    half = usable_precision("auto", card)
    if VALUE[work.precision] > VALUE[half]:
        yield Change(f"precision={half}", replace(work, precision=half), carried)
    for size in range((work.resolution - 1) // 64 * 64, work.resolution // 2 - 1, -64):
        if size:  # a step of the deepest level of SD 1.5 is 64 pixels
            yield Change(f"resolution={size}", replace(work, resolution=size), carried)


def _changes_of_training(spec: TrajectorySpec, carried: Carried) -> Iterator[Change]:
    if not carried.checkpointing:
        yield Change("runtime.checkpointing=true", spec, carried._replace(checkpointing=True))
    for batch in halves(min(carried.micro_batch or spec.batch_size, spec.batch_size)):
        yield Change(f"runtime.micro_batch={batch}", spec, carried._replace(micro_batch=batch))
    for width in halves(spec.pack):
        yield Change(f"pack={width}", replace(spec, pack=width), carried)
    method = spec.method.make()
    if method.trains == "weights" and "8bit" not in spec.optimizer.identity.lower():
        eight = replace(spec, optimizer=replace(spec.optimizer, identity=EIGHT_BIT))
        yield Change("optimizer=adamw8bit", eight, carried)


def halves(number: int) -> Iterator[int]:
    """Half of it, a quarter, … 1."""
    while number > 1:
        number //= 2
        yield number
