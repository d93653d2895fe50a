"""What a plan costs in seconds, bytes and energy, by past measurements or guesses; no torch.

Step and drawing times are remembered per method and base in the store's `speeds.json`, and so are
peaks of memory (`charsweep.plan.memory`); until there is a measurement, a guess stands in and is
called one, with the machine that it is for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from charsweep.character import WIDE
from charsweep.core.errors import StoreError
from charsweep.core.methods import method_of
from charsweep.core.specs import (
    AdapterSpec,
    BaseSpec,
    ComposedSpec,
    ImageSetSpec,
    Source,
    TrajectorySpec,
)
from charsweep.core.store import Store
from charsweep.core.store.files import read_json, write_json
from charsweep.models.families import Family
from charsweep.models.weights import BaseWeights
from charsweep.plan.work import Plan, is_stored


@dataclass(frozen=True)
class Guess:
    """Seconds per training step and per image and U-Net call, at batch 1, before a measurement;
    and what each chunk of a prompt after the first adds to them, as a share."""

    step: float
    call: float
    chunk: float
    machine: str


# By resolution: of the embedded models as measured, of the published sizes from published figures.
# Chunks by the multiply-adds that torch counts in the U-Nets of these sizes.
GUESSES = {
    64: Guess(0.035, 0.003, 0.126, "two CPU cores"),
    512: Guess(0.18, 0.03, 0.008, "one data-centre GPU"),
    1024: Guess(0.6, 0.12, 0.0125, "one data-centre GPU"),
}
MEMORY = "memory of "  # what the names of peaks begin with
WATTS = "watts of this machine at work"
REPORT = "report, times the guess"
MISSING = ("steps_needed", "images", "scores")  # of a summary: zero where all is done


def summary(
    plan: Plan, store: Store, bases: Mapping[str, BaseWeights], workers: int = 1
) -> dict[str, Any]:
    """The plan in numbers, for plan.json, the console and the report."""
    speeds = Speeds(store)
    work, longest = seconds_of(plan, speeds)
    drawn = [scoring for scoring in plan.scorings if scoring.to_draw]
    kept = [training for training in plan.trainings if training.snapshots]
    snapshots = sum(len(t.snapshots) * snapshot_bytes(t.trajectory, bases) for t in kept)
    pixels = sum(scoring.to_draw * math.prod(scoring.images.pixels) for scoring in drawn)
    return {
        "cells": len(plan.cells),
        "trajectories": len(plan.trainings),
        "adapters": sum(isinstance(t.source, AdapterSpec) for t in plan.trainings),
        "composed": sum(isinstance(t.source, ComposedSpec) for t in plan.trainings),
        "steps_asked": plan.steps_asked,
        "steps_needed": plan.steps_needed,
        "packs": [
            {"width": pack.width, "trajectories": len(pack.trainings), "passes": pack.passes}
            for pack in plan.packs
        ],
        "idle": round(plan.idle, 4),
        "images": sum(scoring.to_draw for scoring in drawn),
        "scores": sum(len(scoring.scores) for scoring in plan.scorings),
        "stored": {
            "cells": plan.cells_stored,
            "trajectories": sum(not training.steps for training in plan.trainings),
            "image_sets": sum(not scoring.draw for scoring in plan.scorings),
        },
        "workers": workers,
        "seconds": round(max(work / workers, longest), 1),
        "kwh": speeds.kwh(work),
        "kwh_alone": speeds.kwh(seconds_alone(plan, speeds)),
        "guessed_for": speeds.guessed_for,
        "bytes": snapshots + pixels,  # PNGs of drawn images take about a byte per pixel
    }


def seconds_of(plan: Plan, speeds: Speeds) -> tuple[float, float]:
    """Of training and drawing by one worker, and of the longest trajectory, which has only one."""
    steps = [(pack, speeds.step(pack.trainings[0].trajectory)) for pack in plan.packs]
    drawn = sum(
        scoring.to_draw * calls_each(scoring.images) * speeds.call(scoring.images)
        for scoring in plan.scorings
        if scoring.to_draw
    )
    work = drawn + sum(pack.passes * step for pack, step in steps)
    longest = max((t.steps * step for pack, step in steps for t in pack.trainings), default=0.0)
    return work, longest


def seconds_alone(plan: Plan, speeds: Speeds) -> float:
    """What the cells that the store lacks would take one by one, each training for itself."""
    return sum(
        sum(cell.step * speeds.step_alone(one) for one in cell.trainings)
        + calls(cell.images) * speeds.call(cell.images)
        for training in plan.trainings
        for cell in training.cells
        if not is_stored(training, cell)
    )


def total(plans: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The plans of a search's batches as one; of a grid, there is one."""
    first, *others = plans
    whole = dict(first)
    for plan in others:
        for name in ("cells", "trajectories", "steps_asked", "steps_needed", "images", "scores",
                     "seconds", "bytes"):  # fmt: skip
            whole[name] += plan[name]
        whole["packs"] = [*whole["packs"], *plan["packs"]]
        whole["stored"] = {n: k + plan["stored"][n] for n, k in whole["stored"].items()}
        memories = [known for known in (whole.get("memory"), plan.get("memory")) if known]
        whole["memory"] = max(memories, key=lambda memory: memory["bytes"], default=None)
        for name in ("kwh", "kwh_alone"):
            known = (whole[name], plan[name])
            whole[name] = None if None in known else sum(known)
    slots = sum(pack["width"] * pack["passes"] for pack in whole["packs"])
    return {**whole, "idle": round(1 - whole["steps_needed"] / slots, 4) if slots else 0.0}


def further(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The plan of a further round of cells that an earlier plan has: what it adds to that."""
    counts = dict.fromkeys(("cells", "trajectories", "steps_asked"), 0)
    return {**plan, **counts, "stored": dict.fromkeys(plan["stored"], 0),
            "kwh_alone": plan["kwh_alone"] and 0.0}  # fmt: skip


# -- in time ---------------------------------------------------------------------------------------

BLOCK_SECONDS = 2.0  # a block of training steps, twice as long as it is, and leaving the process
BYTES_PER_SECOND = 1e8  # of a slow disk
STATE = 4  # a resume state to a snapshot: weights and two moments, each perhaps of twice the width


def seconds_to_stop(
    plan: Plan, cells: int, store: Store, bases: Mapping[str, BaseWeights]
) -> float:
    """What is needed to stop in order: the step at hand, saving, a report on so many cells."""
    speeds = Speeds(store)
    saving = [
        2 * speeds.step(first)
        + pack.width * STATE * snapshot_bytes(first, bases) / BYTES_PER_SECOND
        for pack in plan.packs
        for first in (pack.trainings[0].trajectory,)
    ]
    return round(BLOCK_SECONDS + max(saving, default=0.0) + 1.25 * speeds.report(cells), 1)


def seconds_for_work(whole: float, to_stop: float) -> float:
    """What of a time limit is left to work in; half of it, where it is a very short one."""
    return max(whole - to_stop, whole / 2)


def longest_unit(plan: Plan, store: Store) -> float:
    """The longest that a piece of work takes of which nothing is kept before its end."""
    speeds = Speeds(store)
    drawn = (scoring.images for scoring in plan.scorings if scoring.draw)
    return max((calls(images) * speeds.call(images) for images in drawn), default=0.0)


def snapshot_bytes(spec: TrajectorySpec, bases: Mapping[str, BaseWeights]) -> int:
    """What the files of one snapshot take."""
    return method_of(spec.method).snapshot_bytes(spec, bases.get(spec.base_key))


def calls(images: ImageSetSpec) -> int:
    """U-Net calls, over all images."""
    return images.count * calls_each(images)


def calls_each(images: ImageSetSpec) -> int:
    """Calls of the denoiser for an image: for most bases two per inference step with guidance; of a
    picture in columns, as many for each."""
    return images.inference_steps * calls_per_step(images) * max(map(len, images.columns))


def calls_per_step(images: ImageSetSpec) -> int:
    """Those of one inference step, of a column or the whole."""
    base = images.drawing_base
    family: Family | None = base.family.made if base else None
    return family.calls(images.guidance_scale) if family else 1


class Speeds:
    """Seconds per step and per call, measured before or guessed."""

    def __init__(self, store: Store) -> None:
        self.path = store.folder / "speeds.json"
        self.known = self._stored()
        self.guessed_for: str | None = None  # the machine that a guess stands for, if one does

    def step(self, spec: TrajectorySpec) -> float:
        """Of one forward pass, whatever its width."""
        name = _step_name(spec)
        if name in self.known:
            return self.known[name]
        batch = spec.batch_size if spec.base else 1  # what begins from nothing is small
        passes = batch * (wideness(spec) + (spec.class_images is not None)) * _stretch(spec)
        return self._guess(spec.resolution, text_chunks(spec)).step * passes

    def step_alone(self, spec: TrajectorySpec) -> float:
        """Of a trial by itself: measured in a pack of one, or reckoned from its pack's."""
        alone = replace(spec, pack=1)
        if _step_name(alone) in self.known:
            return self.step(alone)
        return self.step(spec) / _stretch(spec)

    def call(self, spec: ImageSetSpec) -> float:
        """Of one image in one U-Net call, without guidance."""
        name = _call_name(spec)
        if name in self.known:
            return self.known[name]
        side = math.sqrt(math.prod(spec.pixels))
        return self._guess(side, text_chunks(_drawn_by(spec))).call

    def kwh(self, seconds: float) -> float | None:
        """Energy of a worker's seconds, at its share of the power last; None before that."""
        watts = self.known.get(WATTS)
        return None if watts is None else seconds * watts / 3.6e6

    def peak(self, name: str) -> int | None:
        """Bytes of memory that a kind of work was seen to take at most, if it was seen."""
        return int(self.known[name]) if name in self.known else None

    def report(self, cells: int) -> float:
        """Of a report on so many cells."""
        return self.known.get(REPORT, 1.0) * _report_guess(cells)

    def remember_report(self, cells: int, seconds: float) -> None:
        """Store what a report on so many cells took."""
        self.remember(REPORT, round(seconds / _report_guess(cells), 3))

    def remember_peak(self, name: str, found: int) -> None:
        """Store a peak in bytes, if it is higher than the one known."""
        if found > self.known.get(name, 0):
            self.remember(name, found)

    def _guess(self, side: float, chunks: int) -> Guess:
        """That of the nearest known resolution, for the pixels of such a square and chunks of a
        prompt."""
        nearest = min(GUESSES, key=lambda size: abs(size - side))
        guess = GUESSES[nearest]
        more = (side / nearest) ** 2 * (1 + guess.chunk * (chunks - 1))
        self.guessed_for = guess.machine
        return replace(guess, step=guess.step * more, call=guess.call * more)

    def remember_step(self, spec: TrajectorySpec, seconds: float) -> None:
        """Store the seconds of one forward pass of a pack with its updates."""
        self.remember(_step_name(spec), seconds)

    def remember_call(self, spec: ImageSetSpec, seconds: float) -> None:
        """Store the seconds of one image in one U-Net call."""
        self.remember(_call_name(spec), seconds)

    def _stored(self) -> dict[str, float]:
        stored = read_json(self.path) if self.path.exists() else {}
        try:
            return {str(name): float(number) for name, number in stored.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise StoreError(
                f"{self.path} holds no speeds; delete that file: they are measured anew"
            ) from error

    def remember(self, name: str, number: float) -> None:
        """Store what was measured under a name, as `WATTS` is."""
        self._store({name: number})

    def add(self, measured: Mapping[str, float]) -> None:
        """Store what another machine has measured; of peaks, those that are higher."""
        known = self.known
        new = {
            name: max(number, known.get(name, 0.0)) if name.startswith(MEMORY) else number
            for name, number in measured.items()
        }
        if any(known.get(name) != number for name, number in new.items()):
            self._store(new)

    def _store(self, measured: Mapping[str, float]) -> None:
        self.known = {**self._stored(), **measured}  # others may have measured meanwhile
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, dict(sorted(self.known.items())))


def wideness(spec: TrajectorySpec) -> float:
    """The pixels of a step's picture, on average, for one of a square: some may be wide."""
    company = spec.company
    return 1 + (WIDE - 1) * company.joint_share if company and company.is_wide else 1.0


def _report_guess(cells: int) -> float:
    """Seconds: 14 for 35 cells, measured on two cores."""
    return 10 + 0.1 * cells


def _stretch(spec: TrajectorySpec) -> float:
    """How much longer a pass takes than a trial's own: 2.4 times for 8, measured on two cores."""
    return 1 + 0.2 * (spec.pack - 1)


def text_chunks(source: Source) -> int:
    """In how many chunks what trains or draws reads a prompt; 1 where it reads none."""
    family = family_of(source)
    return family.text_chunks if family else 1


def family_of(source: Source) -> Family | None:
    """The family of the base that trains or draws; None where there is none."""
    base = source if isinstance(source, BaseSpec) else getattr(source, "base", None)
    family: Family | None = base.family.made if base else None
    return family


def _of_chunks(source: Source) -> str:
    chunks = text_chunks(source)
    return f" {chunks} chunks" if chunks > 1 else ""


def _step_name(spec: TrajectorySpec) -> str:
    prior = "-prior" if spec.class_images else ""
    size = f"{spec.resolution}px-batch{spec.batch_size}"
    pack = f"-pack{spec.pack}" if spec.pack > 1 else ""
    both = f" wide {wideness(spec):g}" if wideness(spec) > 1 else ""
    name = f"step {spec.method.name}{prior} {spec.base_name} {size}{pack} {spec.precision}{both}"
    return f"{name}{_of_chunks(spec)}"


def _call_name(spec: ImageSetSpec) -> str:
    """By what draws: the base, or the method that has none."""
    source = _drawn_by(spec)
    assert not isinstance(source, ComposedSpec)  # which a base draws
    name = source.method.name if isinstance(source, TrajectorySpec) else source.name
    return f"call {name} {size_text(spec)}px {spec.precision}{_of_chunks(source)}"


def seen_size(spec: TrajectorySpec | ImageSetSpec) -> tuple[int, int]:
    """Width and height in pixels of what is trained on or drawn."""
    return spec.pixels if isinstance(spec, ImageSetSpec) else (spec.resolution, spec.resolution)


def size_text(spec: TrajectorySpec | ImageSetSpec) -> str:
    """The same in words: "64" of squares, else "96x64"."""
    width, height = seen_size(spec)
    return f"{width}" if width == height else f"{width}x{height}"


def _drawn_by(images: ImageSetSpec) -> Source:
    """The base that draws, or the source, where none does."""
    return images.drawing_base or images.snapshot.source
