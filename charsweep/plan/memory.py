"""The memory that a plan takes: as measured here before, else known from shapes, the rest guessed.

Weights, gradients and the optimizer's state follow from the shapes of the tensors, and are the
least that work takes. What a pass holds beside them is a guess, called one, until work of the same
kind has been done: its peak is remembered in `speeds.json`, by all that it depends on, and is the
figure from then on. On a card that is of tensors, and the context and the kernels' workspaces come
on top; on a CPU it is of the whole process.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from charsweep.character import WIDE
from charsweep.config.settings.runtime import Runtime
from charsweep.core.errors import ConfigError
from charsweep.core.keys import canonical_json
from charsweep.core.methods import Held, base_precision, method_of
from charsweep.core.specs import (
    BaseSpec,
    ComposedSpec,
    ImageSetSpec,
    TrajectorySpec,
    TruthSpec,
    trained_in,
)
from charsweep.core.system.hardware import Card, usable_precision
from charsweep.models.families import DECODED_AT_ONCE
from charsweep.models.weights import BaseWeights
from charsweep.plan.cost import MEMORY, Speeds, calls_per_step, seen_size, size_text, text_chunks
from charsweep.plan.work import Plan
from charsweep.results.labels import bytes_text

FULL, HALF = 4, 2
VALUE = {"fp32": FULL, "tf32": FULL, "bf16": HALF, "fp16": HALF}  # bytes
# Bytes of state per trained number, by a part of the optimizer's dotted name. Adam's relatives keep
# two moments; 8-bit kinds one byte of each (Dettmers et al. 2021, arXiv 2110.02861); Prodigy also
# the first weights and a sum; Adafactor rows and columns (Shazeer and Stern 2018), next to nothing.
STATES = {"8bit": 2, "adafactor": 0, "prodigy": 16, "adam": 8, "lion": 4, "rmsprop": 4,
          "adagrad": 4}  # fmt: skip
# Activations of float32 training, in bytes per pixel and sample, are guessed as 2 × the denoiser's
# parameters ** 0.4: 7.5 KB for SD 1.5 and 11.6 KB for SDXL, where 6.3 to 8.5 and 10.8 to 15.7 KB
# were counted on torch's meta device, over all kinds of adapters. Made again, not kept, a tenth
# (SDXL) to 0.28 (SD 1.5) of that is left; without gradients, 0.03 to 0.08. Decoding takes 3.1 KB.
GUESS, EXPONENT, REMADE, DRAWN, DECODED = 2.0, 0.4, 0.3, 0.05, 3100
# Those of a transformer as KEPT numbers for each that its linear layers put out for a token: in
# float32 0.5 (SD 3.5 medium), 0.8 (Anima) and 1.3 (Z-Image) were counted, without the matrices of
# attention, which no kernel of a card keeps. Of blocks that are made again, a tenth is left.
KEPT, REMADE_BLOCKS = 1.3, 0.1
TRANSFORMER = "transformer"
LIBRARIES = 1_100_000_000  # what a process holds on Linux that has imported torch and diffusers
# The share of the memory to stay below where there is a choice: contexts, workspaces and the gaps
# between blocks take the rest. A machine's own memory can swap, so refusing begins later there.
ROOM, TOO_MUCH = 0.9, {"cuda": 1.0, "mps": 1.25, "cpu": 1.25}
# What takes less memory, as it is typed: what changes no result first, resolution last.
SETTINGS = ("runtime.checkpointing", "runtime.micro_batch", "pack", "sampler.batch_width",
            "precision", "batch_size", "optimizer", "method.rank", "resolution")  # fmt: skip
SMALL_OPTIMIZERS = {
    "adamw8bit": "bitsandbytes.optim.AdamW8bit", "adafactor": "torch.optim.Adafactor",
}  # fmt: skip


class Place(NamedTuple):
    """Where a plan is carried out, and what is known there."""

    bases: Mapping[str, BaseWeights]
    speeds: Speeds
    card: Card | None

    @property
    def device(self) -> str:
        return self.card.device if self.card else "cuda"


class Work(NamedTuple):
    """A kind of training or drawing, and how it is carried out."""

    spec: TrajectorySpec | ImageSetSpec
    checkpointing: bool = False
    micro_batch: int | None = None
    compile: bool = False
    factor: float = 1.0  # how far what a pass holds was seen to be from the guess

    @property
    def source(self) -> Any:
        """What trains or draws: a trajectory, a base, an adapter."""
        return self.spec if isinstance(self.spec, TrajectorySpec) else self.spec.snapshot.source

    @property
    def trajectory(self) -> TrajectorySpec | None:
        """What trains, or whose snapshot draws; None where an untaught base or an adapter does."""
        return self.source if isinstance(self.source, TrajectorySpec) else None

    @property
    def base(self) -> BaseSpec | None:
        """The base in memory; None for a method that starts from nothing."""
        spec = self.spec
        return spec.base if isinstance(spec, TrajectorySpec) else spec.drawing_base

    @property
    def precision(self) -> str:
        """In which the base lies in memory."""
        if self.base and isinstance(self.spec, TrajectorySpec):
            return base_precision(self.spec)
        return self.spec.precision

    @property
    def doing(self) -> str:
        """The work in words: "training lora-sdxl", "drawing with sdxl"."""
        if isinstance(self.spec, TrajectorySpec):
            names = (self.spec.method.name, self.spec.base_name)
            return f"training {'-'.join(filter(None, names))}"
        return f"drawing with {self.base.name if self.base else self.source.method.name}"

    @property
    def is_wide(self) -> bool:
        """Whether some passes of it are of wide pictures, which take the most."""
        spec = self.spec
        company = spec.company if isinstance(spec, TrajectorySpec) else None
        return company is not None and company.is_wide

    @property
    def samples(self) -> int:
        """Of one pass; with and without the prompt, where guidance is asked for."""
        if isinstance(self.spec, ImageSetSpec):
            return self.spec.batch_width * calls_per_step(self.spec)
        return self.spec.pack * min(self.micro_batch or self.spec.batch_size, self.spec.batch_size)


@dataclass(frozen=True)
class Need:
    """The peak of a kind of work in bytes, by what takes them."""

    work: Work
    parts: Mapping[str, int]  # bytes by name, from shapes
    passing: int  # what a pass holds beside them: of the measured peak, or guessed
    measured: bool

    @property
    def bytes(self) -> int:
        return sum(self.parts.values()) + self.passing

    @property
    def least(self) -> int:
        """The bytes that are certain: the measured peak, or what shapes tell."""
        return self.bytes if self.measured else sum(self.parts.values())


# -- what is needed --------------------------------------------------------------------------------


def works_of(plan: Plan, place: Place, runtime: Runtime) -> list[Work]:
    """One of each kind of training and drawing that a plan lacks."""
    works = []
    for spec in (training.trajectory for training in plan.trainings if training.steps):
        plain = Work(spec, runtime.checkpointing is True, runtime.micro_batch, runtime.compile)
        works.append(settled(plain, place, runtime))
    for images in (scoring.images for scoring in plan.scorings if scoring.draw):
        if not isinstance(images.snapshot.source, TruthSpec):  # images that are there
            works.append(Work(images.as_drawn))
    return list({name_of(work, place.device): work for work in works}.values())


def settled(work: Work, place: Place, runtime: Runtime) -> Work:
    """With activations made again as set, or, for `auto`, where they do not fit."""
    auto = runtime.checkpointing == "auto" and needs_checkpointing(work, place)
    return work._replace(checkpointing=work.checkpointing or auto)


def needs_checkpointing(work: Work, place: Place) -> bool:
    """What `runtime.checkpointing=auto` comes to: on where it would not fit without."""
    if work.base is None or place.card is None:
        return False
    (need,) = needs_of([work._replace(checkpointing=False)], place)
    return need.bytes > (1 if need.measured else ROOM) * place.card.memory_bytes


def needs_of(works: Sequence[Work], place: Place) -> list[Need]:
    """The peak of each, with the other bases that stay loaded beside it."""
    loaded = {_loaded(work): _denoiser(work, place) * VALUE[work.precision] for work in works}
    found = []
    for work in works:
        parts = _parts(work, place)
        peak = place.speeds.peak(name_of(work, place.device))
        passing = peak - sum(parts.values()) if peak else round(_guess(work, place) * work.factor)
        if place.device == "cuda" or not peak:  # that of a CPU is of all that is in the process
            parts["other bases"] = sum(loaded.values()) - loaded[_loaded(work)]
        parts = {name: size for name, size in parts.items() if size}
        found.append(Need(work, parts, passing, peak is not None))
    return found


def name_of(work: Work, device: str) -> str:
    """What a measured peak is remembered by: all that it depends on but the machine."""
    spec, trajectory, base = work.spec, work.trajectory, work.base
    chunks = text_chunks(work.base or work.source)
    names = [work.doing, base.digest if base else "", f"{size_text(spec)}px", spec.precision,
             f"{chunks} chunks" if chunks > 1 else ""]  # fmt: skip
    if trajectory:
        pack_key = method_of(trajectory.method).pack_key
        names.append(str(pack_key or canonical_json(trajectory.method.settings)))
    if isinstance(spec, ImageSetSpec):
        names.append(f"{work.samples} samples in {spec.batch_width}")
        names.append("apart" * bool(_apart(spec)))
    else:
        names += [f"{work.samples} samples in {spec.pack}x{spec.batch_size}",
                  spec.optimizer.identity, "checkpointing" * work.checkpointing,
                  "compiled" * work.compile, "wide" * work.is_wide]  # fmt: skip
    return MEMORY + " ".join(filter(None, [*names, device]))


def _loaded(work: Work) -> tuple[str, int]:
    """A base is loaded once for each size of its numbers."""
    return (work.base.key if work.base else "", VALUE[work.precision])


def _held(spec: TrajectorySpec, place: Place) -> Held:
    return method_of(spec.method).held(spec.resolution, place.bases.get(spec.base_key))


def _parts(work: Work, place: Place) -> dict[str, int]:
    """Bytes that are held in every pass, by the shapes of the tensors."""
    spec, on_card = work.spec, place.device == "cuda"
    base = place.bases[work.base.key] if work.base else None
    held = _held(work.trajectory, place) if work.trajectory else Held(0)
    parts = {"Python and its libraries": LIBRARIES if place.device == "cpu" else 0, "weights": 0}
    if base:
        away = set[str]()  # what training lets leave a card
        if on_card and isinstance(spec, TrajectorySpec):
            away = {"vae", *base.family.encoders} - set(held.parts)
        network = {base.family.denoiser, *base.family.encoders} - away
        parts["weights"] = VALUE[work.precision] * base.numbers(network)
        parts["weights"] += FULL * base.numbers({"vae"} - away)
    copy = "copy that restores the weights"
    if isinstance(spec, ImageSetSpec):
        if not base:
            parts["weights"] = method_of(work.source.method).snapshot_bytes(work.source, None)
        changed = sum(_changed(one, base) for one in _apart(spec)) if base else 0
        return {
            **parts,
            copy: 0 if on_card else VALUE[spec.precision] * held.aside,
            "weights of adapters that draw apart": VALUE[spec.precision] * changed,
        }
    trained = spec.pack * held.trained
    parts["weights"] += 0 if held.of_base else FULL * trained
    halved = held.of_base and VALUE[spec.precision] == HALF
    return {
        **parts,
        "weights in half precision": HALF * trained if halved else 0,
        "mean of the weights": FULL * spec.pack * held.mean,
        copy: 0 if on_card else FULL * held.aside,
        "gradients": FULL * trained,
        "optimizer": trained * optimizer_state(spec),
    }


def _apart(images: ImageSetSpec) -> list[TrajectorySpec]:
    """What taught the adapters that draw apart, as far as they were taught here."""
    source = images.snapshot.source
    if not (isinstance(source, ComposedSpec) and source.called):
        return []
    return list(trained_in(source))


def _changed(spec: TrajectorySpec, base: BaseWeights) -> int:
    """Numbers of the base's weights that an adapter is added to."""
    method = method_of(spec.method)
    shapes = {name: base.shapes.get(name, {}) for name in method.taught(base.family)}
    assert method.low_rank is not None
    low = method.low_rank.on(base.family, shapes)
    return sum(math.prod(shape) for name in shapes for _, shape in low.layers(name, shapes))


def optimizer_state(spec: TrajectorySpec) -> int:
    """Bytes per trained number, by the optimizer's name; 0 of one that is not known."""
    name = spec.optimizer.identity.lower()
    if name.endswith(".sgd"):
        return FULL if spec.optimizer.settings.get("momentum") else 0
    return next((size for part, size in STATES.items() if part in name), 0)


def _denoiser(work: Work, place: Place) -> int:
    """Numbers of a base's denoiser; 0 where there is no base."""
    base = place.bases[work.base.key] if work.base else None
    return base.numbers([base.family.denoiser]) if base else 0


def _outputs(work: Work, place: Place) -> int:
    """Numbers that the linear layers of a transformer put out for a token; 0 of other denoisers."""
    base = place.bases[work.base.key] if work.base else None
    if base is None or base.family.denoiser != TRANSFORMER:
        return 0
    return sum(shape[0] for shape in base.shapes[TRANSFORMER].values() if len(shape) == 2)


def _guess(work: Work, place: Place) -> float:
    """Bytes of what a pass holds beside what shapes tell; in drawing, perhaps the decoder's."""
    spec, size = work.spec, _denoiser(work, place)
    if work.trajectory and not work.base:
        size = _held(work.trajectory, place).trained
    (width, height), value = seen_size(spec), VALUE[spec.precision]
    if work.is_wide:
        width = round(WIDE * width)
    pixels = width * height
    remade = REMADE
    kept: float = work.samples * pixels * GUESS * max(1, size) ** EXPONENT * value / FULL
    if outputs := _outputs(work, place):
        base = place.bases[work.base.key] if work.base else None
        assert base is not None
        tokens = math.prod(side // base.family.unit for side in (width, height))
        kept, remade = work.samples * tokens * KEPT * outputs * value, REMADE_BLOCKS
    if isinstance(spec, TrajectorySpec):
        return kept * (remade if work.checkpointing else 1)
    decoded = min(spec.batch_width * pixels, max(pixels, DECODED_AT_ONCE))
    return max(kept * DRAWN, DECODED * decoded if work.base else 0)


# -- words -----------------------------------------------------------------------------------------


def summary(needs: Sequence[Need], card: Card | None) -> dict[str, Any] | None:
    """The highest peak for plan.json and, as `text`, for people; None where nothing is to do."""
    if not needs:
        return None
    most = max(needs, key=lambda need: need.bytes)
    return {
        "bytes": most.bytes,
        "parts": dict(most.parts),
        "activations": most.passing,
        "measured": most.measured,
        "doing": most.work.doing,
        "checkpointing": most.work.checkpointing,
        "card": card and {"name": card.name, "bytes": card.memory_bytes},
        "text": words(most, card),
    }


def words(need: Need, card: Card | None) -> str:
    """ "8.1 GB of 24.0 GB (NVIDIA L4), training lora-sdxl; as measured here" """
    of = f" of {bytes_text(card.memory_bytes)} ({card.name})" if card else ""
    how = " with gradient checkpointing" if need.work.checkpointing else ""
    text = f"{bytes_text(need.bytes)}{of}, {need.work.doing}{how}"
    if need.measured:
        return f"{text}; as measured here"
    known = sorted(need.parts.items(), key=lambda part: -part[1])
    parts = ", ".join(f"{name} {bytes_text(size)}" for name, size in known[:2])
    guess = f"activations {bytes_text(need.passing)} (a guess; not measured here yet)"
    return f"{text}; {parts}, {guess}"


# -- refusal ---------------------------------------------------------------------------------------


def refuse(works: Sequence[Work], place: Place, axes: Container[str] = ()) -> None:
    """ConfigError if some work cannot fit: by its shapes alone, or by its peak as measured.

    `axes` are the settings that the sweep varies, which a single word would not change.
    """
    large = [need for need in needs_of(works, place) if _is_too_much(need, place)]
    if not large or place.card is None:
        return
    most, card = max(large, key=lambda need: need.least), place.card
    takes = "takes" if most.measured else "would take at least"
    part = max(most.parts, key=lambda name: most.parts[name])
    raise ConfigError(
        f"{most.work.doing} at {size_text(most.work.spec)} px {takes} {bytes_text(most.least)} "
        f"of memory, {part} {bytes_text(most.parts[part])} of it; this machine has "
        f"{bytes_text(card.memory_bytes)} ({card.name}); {_advice(works, place, axes)}"
    )


def _is_too_much(need: Need, place: Place) -> bool:
    card = place.card
    return card is not None and need.least > TOO_MUCH[card.device] * card.memory_bytes


def _advice(works: Sequence[Work], place: Place, axes: Container[str]) -> str:
    """The settings each of which is enough by itself; else several that are enough together."""
    large = [_is_too_much(need, place) for need in needs_of(works, place)]
    settings = [setting for setting in SETTINGS if setting not in axes]
    alone, together = [], list[str]()
    for setting in settings:
        for value, changed in _changes(setting, works, place, large):
            if left := _fitting(changed, place, large):
                alone.append(f"{setting}={value} ({bytes_text(left)})")
                break
    if alone:
        return f"any one of these would fit: {', '.join(alone)}"
    for setting in settings:
        word, before = [], works
        for value, works in _changes(setting, before, place, large):
            word = [f"{setting}={value}"]
            if left := _fitting(works, place, large):
                return f"together these would fit: {' '.join(together + word)} ({bytes_text(left)})"
        together += word
    return "it needs more memory, or a smaller base"


def _fitting(works: Sequence[Work], place: Place, large: Sequence[bool]) -> int | None:
    """The peak of what was too large; None unless that leaves room and nothing would be refused."""
    needs, most = needs_of(works, place), _most(works, place, large)
    refused = any(_is_too_much(need, place) for need in needs)
    fits = place.card is None or most <= ROOM * place.card.memory_bytes
    return most if fits and not refused else None


def _most(works: Sequence[Work], place: Place, large: Sequence[bool]) -> int:
    needs = zip(needs_of(works, place), large, strict=True)
    return max(need.bytes for need, was_large in needs if was_large)


def _changes(
    setting: str, works: Sequence[Work], place: Place, large: Sequence[bool]
) -> Iterator[tuple[Any, list[Work]]]:
    """What a setting could be instead, the smaller changes first, and the works with it.

    Only what helps; what a pass holds then is in proportion to what it holds now.
    """
    needs = needs_of(works, place)
    scaled = [
        need.work._replace(factor=max(0, need.passing) / _guess(need.work, place)) for need in needs
    ]
    for value in _values(setting, works, place):
        changed = [_with(work, setting, value) for work in scaled]
        if _most(changed, place, large) < _most(works, place, large):
            yield value, changed


def _values(setting: str, works: Sequence[Work], place: Place) -> Iterable[Any]:
    """Smaller values of a setting; () where it could not be set, or would change nothing."""

    def most(name: str) -> int:
        return max((getattr(w.spec, name) for w in works if hasattr(w.spec, name)), default=1)

    trainings = [work.spec for work in works if isinstance(work.spec, TrajectorySpec)]
    have_bases = all(spec.base for spec in trainings)
    ranks = [_rank(work.trajectory) for work in works if work.trajectory]
    match setting:
        case "runtime.checkpointing":
            return ["true"]
        case "runtime.micro_batch":
            batch = most("batch_size")
            return halves(min(batch, max((w.micro_batch or batch for w in works), default=1)))
        case "pack" | "sampler.batch_width":
            return halves(most(_field(setting)))
        case "precision":
            return [usable_precision("auto", place.card)]
        case "batch_size" if not have_bases:  # with a base, a micro-batch does as well
            return halves(most("batch_size"))
        case "optimizer" if have_bases:
            there = importlib.util.find_spec("bitsandbytes") and place.device == "cuda"
            return ["adamw8bit" if there else "adafactor"]
        case "method.rank" if all(ranks):
            return halves(max(ranks, default=1))
        case "resolution":
            size = most("resolution")
            return range((size - 1) // 64 * 64, max(63, size // 2 - 1), -64)
    return ()


def _field(setting: str) -> str:
    return setting.rpartition(".")[2]


def _with(work: Work, setting: str, value: Any) -> Work:
    """A work with a setting, where that concerns it; larger than before it becomes by none."""
    spec, name = work.spec, _field(setting)
    if isinstance(spec, TrajectorySpec):
        if setting.startswith("runtime."):
            settings: dict[str, Any] = {name: value == "true" or value}
            return work._replace(**settings) if spec.base else work
        if setting == "optimizer":
            value = replace(spec.optimizer, identity=SMALL_OPTIMIZERS[value])
            return work._replace(spec=replace(spec, optimizer=value))
        if setting == "method.rank" and value < _rank(spec):
            settings = {**spec.method.settings, "rank": value}
            return work._replace(spec=replace(spec, method=replace(spec.method, settings=settings)))
    elif setting == "resolution" and spec.size and value < spec.resolution:
        width, height = (side * value // spec.resolution for side in spec.size)
        spec = replace(spec, size=(width, height))
    if setting == "precision" or (hasattr(spec, name) and value < getattr(spec, name)):
        return work._replace(spec=replace(spec, **{name: value}))
    return work


def _rank(spec: TrajectorySpec) -> int:
    """Of its adapter; 0 where it has none."""
    low = method_of(spec.method).low_rank
    return low.rank if low else 0


def halves(number: int) -> Iterator[int]:
    """Half of it, a quarter, … 1."""
    while number > 1:
        number //= 2
        yield number
