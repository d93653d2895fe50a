"""The memory that a plan takes: as measured here before, else known from shapes and guessed.

Weights, gradients and the optimizer's state follow from the shapes of the tensors; that is the
least that work takes. What a pass holds beside them is a guess, called one, until work of the same
kind has been done once: its peak is remembered in `speeds.json`, by everything that it depends on,
and is the figure from then on. On a card, what tensors take is counted, and the context and the
kernels' workspaces come on top; on a CPU, the whole process. No torch: planning asks this.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from charsweep.bases import DECODED_AT_ONCE
from charsweep.cost import Speeds
from charsweep.errors import ConfigError
from charsweep.hardware import Card, usable_precision
from charsweep.keys import canonical_json
from charsweep.methods import Execution, Held
from charsweep.plan import Plan
from charsweep.settings import Runtime
from charsweep.specs import BaseSpec, ImageSetSpec, TrajectorySpec, TruthSpec
from charsweep.weights import BaseWeights
from charsweep.widths import company_of

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
COPY = "copy that restores the weights"
LIBRARIES = 1_100_000_000  # what Python holds on Linux with torch and diffusers imported
# The share of the memory to stay below where there is a choice: contexts, workspaces and the gaps
# between blocks take the rest. A machine's own memory can swap, so refusing begins later there.
ROOM, TOO_MUCH = 0.9, {"cuda": 1.0, "mps": 1.25, "cpu": 1.25}
# What takes less memory, as it is typed: what changes no result first, then what changes it least.
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
    execution: Execution = Execution()
    factor: float = 1.0  # of what a pass holds to what is guessed, where that is known

    @property
    def source(self) -> Any:
        return self.spec if isinstance(self.spec, TrajectorySpec) else self.spec.snapshot.source

    @property
    def trained(self) -> TrajectorySpec | None:
        """The trajectory that is trained, or drawn from; None: the base draws as it is."""
        return self.source if isinstance(self.source, TrajectorySpec) else None

    @property
    def base(self) -> BaseSpec | None:
        return self.source if isinstance(self.source, BaseSpec) else self.source.base

    @property
    def precision(self) -> str:
        """In which the base lies in memory."""
        if self.base and isinstance(self.spec, TrajectorySpec):
            return str(self.spec.method.make().base_precision(self.spec.precision))
        return self.spec.precision

    @property
    def doing(self) -> str:
        if isinstance(self.spec, TrajectorySpec):
            names = (self.spec.method.name, self.spec.base_name)
            return f"training {'-'.join(filter(None, names))}"
        return f"drawing with {self.base.name if self.base else self.source.method.name}"

    @property
    def pack(self) -> int:
        return self.spec.pack if isinstance(self.spec, TrajectorySpec) else 1

    @property
    def samples(self) -> int:
        """Of one pass."""
        if isinstance(self.spec, ImageSetSpec):
            return self.spec.batch_width * (2 if self.spec.guidance_scale > 1 else 1)
        batch = self.spec.batch_size
        return self.spec.pack * min(self.execution.micro_batch or batch, batch)


@dataclass(frozen=True)
class Need:
    """The peak of a kind of work in bytes, by what takes them."""

    work: Work
    parts: Mapping[str, int]  # by shapes
    passing: int  # what a pass holds beside them: measured with them, or guessed
    measured: bool

    @property
    def bytes(self) -> int:
        return sum(self.parts.values()) + self.passing

    @property
    def certain(self) -> int:
        """What it takes at the least."""
        return self.bytes if self.measured else sum(self.parts.values())


# -- what is needed --------------------------------------------------------------------------------


def works_of(plan: Plan, place: Place, runtime: Runtime) -> list[Work]:
    """One of each kind of training and drawing that a plan lacks."""
    now = Execution(runtime.checkpointing is True, runtime.micro_batch, runtime.compile)
    works = []
    for training in plan.trainings:
        if training.steps:
            spec = training.trajectory
            on = needs_checkpointing(spec, now, place) if runtime.checkpointing == "auto" else False
            works.append(Work(spec, replace(now, checkpointing=on or now.checkpointing)))
    drawn = (Work(scoring.images) for scoring in plan.scorings if scoring.draw)
    works += [work for work in drawn if not isinstance(work.source, TruthSpec)]
    return list({name_of(work, place.device): work for work in works}.values())


def needs_checkpointing(spec: TrajectorySpec, execution: Execution, place: Place) -> bool:
    """What `runtime.checkpointing=auto` comes to: on where it would not fit without."""
    if spec.base is None or place.card is None:
        return False
    (need,) = needs_of([Work(spec, replace(execution, checkpointing=False))], place)
    return need.bytes > (1 if need.measured else ROOM) * place.card.memory_bytes


def needs_of(works: Sequence[Work], place: Place) -> list[Need]:
    """The peak of each, with the other bases that stay loaded beside it."""
    loaded = {_loaded(work): _denoiser(work, place) * VALUE[work.precision] for work in works}
    found = []
    for work in works:
        parts = _parts(work, place)
        passing, peak = round(_guess(work, place) * work.factor), None
        if peak := place.speeds.peak(name_of(work, place.device)):
            passing = peak - sum(parts.values())
        if peak is None or place.device == "cuda":  # a CPU's is of all that is in the process
            parts["other bases"] = sum(loaded.values()) - loaded[_loaded(work)]
        found.append(Need(work, {n: b for n, b in parts.items() if b}, passing, peak is not None))
    return found


def name_of(work: Work, device: str) -> str:
    """What a measured peak is remembered by: all that it depends on but the machine."""
    spec, trained, base = work.spec, work.trained, work.base
    names = [work.doing, base.digest if base else "", device, f"{spec.resolution}px"]
    names.append(spec.precision)
    if trained:
        names.append(str(company_of(trained) or canonical_json(trained.method.settings)))
    if isinstance(spec, TrajectorySpec):
        how = work.execution
        names += [f"{work.samples} samples in {spec.pack} of {spec.batch_size}",
                  spec.optimizer.identity, "checkpointing" * how.checkpointing,
                  "compiled" * how.compile]  # fmt: skip
    else:
        names.append(f"{work.samples} samples in {spec.batch_width}")
    return "memory of " + " ".join(filter(None, names))


def _loaded(work: Work) -> tuple[str, int]:
    """Bases are loaded once for each size of their numbers."""
    return (work.base.name if work.base else "", VALUE[work.precision])


def _held(spec: TrajectorySpec, place: Place) -> Held:
    """What the method says; of one that says nothing, what it writes, or nothing beside a base."""
    method, base = spec.method.make(), spec.base
    if hasattr(method, "held"):
        held: Held = method.held(spec.resolution, place.bases[base.name] if base else None)
        return held
    return Held(0 if base else method.snapshot_bytes(spec.resolution) // FULL)


def _parts(work: Work, place: Place) -> dict[str, int]:
    """Bytes that are held in every pass, by the shapes of the tensors."""
    spec, base = work.spec, place.bases[work.base.name] if work.base else None
    held = _held(work.trained, place) if work.trained else Held(0)
    parts = {"Python and its libraries": LIBRARIES if place.device == "cpu" else 0, "weights": 0}
    if base:
        teaches = isinstance(spec, TrajectorySpec) and place.device == "cuda"
        away = {"vae", *base.family.encoders} - set(held.parts) if teaches else set()
        half = {base.family.denoiser, *base.family.encoders} - away
        parts["weights"] = VALUE[work.precision] * base.numbers(half)
        parts["weights"] += FULL * base.numbers({"vae"} - away)
    if isinstance(spec, ImageSetSpec):
        if work.trained and not base:
            parts["weights"] = work.trained.method.make().snapshot_bytes(spec.resolution)
        elif place.device != "cuda":
            parts[COPY] = VALUE[spec.precision] * held.aside
        return parts
    trained = spec.pack * held.trained
    parts["weights"] += 0 if held.of_base else FULL * trained
    if held.of_base and VALUE[spec.precision] == HALF:
        parts["weights in half precision"] = HALF * trained
    parts["mean of the weights"] = FULL * spec.pack * held.mean
    parts[COPY] = 0 if place.device == "cuda" else FULL * held.aside
    parts["gradients"] = FULL * trained
    parts["optimizer"] = trained * optimizer_state(spec)
    return parts


def optimizer_state(spec: TrajectorySpec) -> int:
    """Bytes per trained number, by the optimizer's name; 0 of one that is not known."""
    name = spec.optimizer.identity.lower()
    if name.endswith(".sgd"):
        return FULL if spec.optimizer.settings.get("momentum") else 0
    return next((size for part, size in STATES.items() if part in name), 0)


def _denoiser(work: Work, place: Place) -> int:
    """Numbers of a base's denoiser; 0 where there is no base."""
    base = place.bases[work.base.name] if work.base else None
    return base.numbers([base.family.denoiser]) if base else 0


def _guess(work: Work, place: Place) -> float:
    """What a pass holds beside what shapes tell: activations, and of drawing the decoder's."""
    spec, size = work.spec, _denoiser(work, place)
    if size == 0 and work.trained:
        size = _held(work.trained, place).trained
    pixels, value = spec.resolution**2, VALUE[spec.precision] / FULL
    kept: float = work.samples * pixels * GUESS * size**EXPONENT * value
    if isinstance(spec, TrajectorySpec):
        return kept * (REMADE if work.execution.checkpointing else 1)
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
        "checkpointing": most.work.execution.checkpointing,
        "card": card and {"name": card.name, "bytes": card.memory_bytes},
        "text": words(most, card),
    }


def words(need: Need, card: Card | None) -> str:
    """ "8.1 GB of 24.0 GB (NVIDIA L4), training lora-sdxl; weights 5.1 GB, …; activations 2.9 GB
    are a guess until they are measured"."""
    of = f" of {gigabytes(card.memory_bytes)} ({card.name})" if card else ""
    how = " with gradient checkpointing" if need.work.execution.checkpointing else ""
    text = f"{gigabytes(need.bytes)}{of}, {need.work.doing}{how}"
    if need.measured:
        return f"{text}; as measured here"
    parts = sorted(need.parts.items(), key=lambda part: -part[1])
    known = ", ".join(f"{name} {gigabytes(size)}" for name, size in parts[:2])
    guess = f"activations {gigabytes(need.passing)} (a guess; not measured here yet)"
    return f"{text}; {known}, {guess}"


def gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 0.95e8 else f"{size / 1e6:.0f} MB"


# -- refusal ---------------------------------------------------------------------------------------


def refuse(works: Sequence[Work], place: Place, axes: Container[str] = ()) -> None:
    """ConfigError if some work cannot fit: by its shapes alone, or by its peak as measured.

    `axes` are the settings that the sweep varies, which one word would not change.
    """
    large = [need for need in needs_of(works, place) if _is_too_much(need, place)]
    if not large or place.card is None:
        return
    most, has = max(large, key=lambda need: need.certain), place.card
    least = "took" if most.measured else "would take at least"
    part = max(most.parts, key=lambda name: most.parts[name])
    raise ConfigError(
        f"{most.work.doing} at {most.work.spec.resolution} px {least} {gigabytes(most.certain)} of "
        f"memory, {part} {gigabytes(most.parts[part])} of it; this machine has "
        f"{gigabytes(has.memory_bytes)} ({has.name}); {_advice(works, place, axes)}"
    )


def _is_too_much(need: Need, place: Place) -> bool:
    card = place.card
    return card is not None and need.certain > TOO_MUCH[card.device] * card.memory_bytes


def _advice(works: Sequence[Work], place: Place, axes: Container[str]) -> str:
    """The settings each of which is enough by itself; else several that are enough together."""
    if alone := remedies(works, place, axes):
        return f"any one of these would fit: {', '.join(alone)}"
    large = [_is_too_much(need, place) for need in needs_of(works, place)]
    done: list[str] = []
    for setting in SETTINGS:
        best, before = "", _highest(works, place, large)
        for value in () if setting in axes else _values(setting, works, place):
            changed = _changed(works, setting, value, place)
            if (after := _highest(changed, place, large)) < before:
                best, before, works = f"{setting}={value}", after, changed
            if _fit(changed, place, large):
                return f"together these would fit: {' '.join([*done, best])} ({gigabytes(after)})"
        done += [best] if best else []
    whole = any(work.trained and _held(work.trained, place).of_base for work in works)
    return "it needs more memory" + (", or a method that trains adapters" if whole else "")


def remedies(works: Sequence[Work], place: Place, axes: Container[str] = ()) -> list[str]:
    """The least change of each setting that is enough by itself, with the peak that is left."""
    large = [_is_too_much(need, place) for need in needs_of(works, place)]
    enough = []
    for setting in SETTINGS:
        for value in () if setting in axes else _values(setting, works, place):
            changed = _changed(works, setting, value, place)
            if _fit(changed, place, large):
                size = gigabytes(_highest(changed, place, large))
                enough.append(f"{setting}={value} ({size})")
                break
    return enough


def _highest(works: Sequence[Work], place: Place, large: Sequence[bool]) -> int:
    needs = zip(needs_of(works, place), large, strict=True)
    return max((need.bytes for need, was_large in needs if was_large), default=0)


def _fit(works: Sequence[Work], place: Place, large: Sequence[bool]) -> bool:
    """Whether nothing would be refused, and what was too large has some room."""
    assert place.card is not None
    fine = not any(_is_too_much(need, place) for need in needs_of(works, place))
    return fine and _highest(works, place, large) <= ROOM * place.card.memory_bytes


def _values(setting: str, works: Sequence[Work], place: Place) -> Iterable[Any]:
    """What a setting could be instead, the smaller changes first; () where it changes nothing."""
    trainings = [work.spec for work in works if isinstance(work.spec, TrajectorySpec)]
    on_base = [work for work in works if isinstance(work.spec, TrajectorySpec) and work.base]
    ranks = [work.trained.method.settings.get("rank") or 0 for work in works if work.trained]
    match setting:
        case "runtime.checkpointing":
            return ["true"] if any(not w.execution.checkpointing for w in on_base) else []
        case "runtime.micro_batch":
            return halves(max((w.samples // w.pack for w in on_base), default=1))
        case "pack":
            return halves(max((spec.pack for spec in trainings), default=1))
        case "sampler.batch_width":
            drawn = [w.spec.batch_width for w in works if isinstance(w.spec, ImageSetSpec)]
            return halves(max(drawn, default=1))
        case "precision":
            half = usable_precision("auto", place.card)
            return [half] if any(VALUE[w.spec.precision] > VALUE[half] for w in works) else []
        case "batch_size" if not on_base:  # where there is a base, a micro-batch does as well
            return halves(max((spec.batch_size for spec in trainings), default=1))
        case "optimizer" if len(on_base) == len(trainings):
            there = importlib.util.find_spec("bitsandbytes") and place.device == "cuda"
            return ["adamw8bit" if there else "adafactor"]
        case "method.rank" if all(ranks):
            return halves(max(ranks, default=1))
        case "resolution":
            least, most = 64, max(work.spec.resolution for work in works)
            return range((most - 1) // least * least, most // 2 - 1, -least)
    return []


def _changed(works: Sequence[Work], setting: str, value: Any, place: Place) -> list[Work]:
    """The works with another setting; a pass holds in proportion what it holds now."""
    factors = [max(0, need.passing) / _guess(need.work, place) for need in needs_of(works, place)]
    return [
        _with(work._replace(factor=factor), setting, value)
        for work, factor in zip(works, factors, strict=True)
    ]


def _with(work: Work, setting: str, value: Any) -> Work:
    """A work with a setting, where that concerns it and makes it smaller."""
    spec, how = work.spec, work.execution
    if setting == "precision" or (setting == "resolution" and value < spec.resolution):
        return work._replace(spec=replace(spec, **{setting: value}))
    if isinstance(spec, ImageSetSpec):
        narrower = setting == "sampler.batch_width" and value < spec.batch_width
        return work._replace(spec=replace(spec, batch_width=value)) if narrower else work
    match setting:
        case "runtime.checkpointing" if spec.base:
            return work._replace(execution=replace(how, checkpointing=True))
        case "runtime.micro_batch" if spec.base:
            return work._replace(execution=replace(how, micro_batch=value))
        case "pack" if value < spec.pack:
            spec = replace(spec, pack=value)
        case "batch_size" if value < spec.batch_size:
            spec = replace(spec, batch_size=value)
        case "optimizer":
            optimizer = replace(spec.optimizer, identity=SMALL_OPTIMIZERS[value])
            spec = replace(spec, optimizer=optimizer)
        case "method.rank" if value < spec.method.settings["rank"]:
            settings = {**spec.method.settings, "rank": value}
            spec = replace(spec, method=replace(spec.method, settings=settings))
    return work._replace(spec=spec)


def halves(number: int) -> Iterator[int]:
    """Half of it, a quarter, … 1."""
    while number > 1:
        number //= 2
        yield number
