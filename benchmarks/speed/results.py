"""What was measured, as values: times by round, shares of a step, ratios."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from benchmarks.speed.task import Task


@dataclass(frozen=True)
class Amount:
    """How much is measured: steps of a round, rounds, steps before; images and their steps."""

    steps: int
    rounds: int
    warm_up: int
    images: int
    inference_steps: int

    @property
    def snapshots(self) -> tuple[int, ...]:
        """The steps at which charsweep keeps one: the end of each round, and of one more round that
        is trained under the clock of parts."""
        ends = range(self.rounds + 2)
        return tuple(self.warm_up + number * self.steps for number in ends)


@dataclass(frozen=True)
class Measured:
    """One loop: trials at once; seconds of a step, and of an image, by round; shares; memory."""

    name: str
    width: int
    seconds: tuple[float, ...]
    parts: Mapping[str, float]  # share of a step's time
    peak_mb: float | None  # None: not measured
    seconds_per_image: tuple[float, ...]  # (): not measured
    how: str = ""  # charsweep's base runs compiled, or by CUDA graphs

    @property
    def seconds_per_step(self) -> float:
        return median(self.seconds)


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as `theirs` charsweep does `what`, by round."""

    what: str
    theirs: str
    by_round: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.by_round)


def training_ratio(ours: Measured, theirs: Measured) -> Ratio:
    """As many runs of the plain loop one after the other as charsweep trains at once."""
    pairs = zip(ours.seconds, theirs.seconds, strict=True)
    what = f"training, {ours.width} learning rate{'s' if ours.width > 1 else ''}{ours.how}"
    return Ratio(what, theirs.name, tuple(ours.width * plain / own for own, plain in pairs))


def drawing_ratio(ours: Measured, theirs: Measured) -> Ratio:
    pairs = zip(ours.seconds_per_image, theirs.seconds_per_image, strict=True)
    return Ratio(f"drawing{ours.how}", theirs.name, tuple(plain / own for own, plain in pairs))


@dataclass(frozen=True)
class Result:
    """All that was measured of a task."""

    task: Task
    amount: Amount
    loops: tuple[Measured, ...]
    ratios: tuple[Ratio, ...]
    flops: int  # of one trial's step, in the U-Net
    peak_flops: float  # of the device per second, by matrix products
    too_wide: tuple[int, ...]  # packs that the memory does not hold
    notes: tuple[str, ...] = ()  # what could not be measured, and why

    def share_of_peak(self, loop: Measured) -> float:
        return self.flops * loop.width / loop.seconds_per_step / self.peak_flops
