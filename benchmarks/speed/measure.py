"""Timing charsweep's loop and the plain one, turn and turn about.

In every round each loop trains the same number of steps, the order turning from round to round, so
that whatever else the machine does falls on all of them. A ratio is taken within a round. Memory is
measured before, each loop in a process of its own.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

from benchmarks.speed.clock import Timed, watching
from benchmarks.speed.machine import matrix_peak
from benchmarks.speed.ours import Ours
from benchmarks.speed.reference import Reference
from benchmarks.speed.results import Amount, Measured, Ratio, Result, drawing_ratio, training_ratio
from benchmarks.speed.scripts import SCRIPTS
from benchmarks.speed.task import Task
from charsweep.engine.environment import free_memory, is_out_of_memory
from charsweep.engine.measure_memory import peak_memory_mb

PLAIN, CACHED = "plain loop", "plain loop, cached"
COMPILED = {"default": ", compiled", "reduce-overhead": ", CUDA graphs"}  # modes of torch.compile
DRAWINGS = 3  # rounds of drawing
MEMORY_STEPS = 3  # the second has the optimizer's state, the third shows whether it grows
Say = Callable[[str], None]


class Loop(Protocol):
    """Something that trains step by step, and draws when it has been trained."""

    @property
    def width(self) -> int: ...
    @property
    def rest(self) -> str:
        """The part of a step that is in none of `functions`."""
        ...

    @property
    def functions(self) -> list[Timed]: ...
    def advance(self, steps: int) -> float: ...
    def draw(self, seeds: range, inference_steps: int) -> float: ...
    def close(self) -> None: ...


class Way(NamedTuple):
    """A way in which charsweep trains: trials at once; a mode of torch.compile's, if one."""

    width: int
    mode: str | None = None

    @property
    def how(self) -> str:
        return COMPILED[self.mode] if self.mode else ""

    @property
    def name(self) -> str:
        return f"charsweep, {self.width} at once{self.how}"


def measure(
    task: Task,
    amount: Amount,
    memory: bool,
    say: Say,
    modes: Sequence[str] = (),
    until: float = math.inf,
) -> Result:
    """Measure charsweep's loop at each width of the task, and the plain ones beside it.

    At its first width in some of torch.compile's modes too. `until`, of `time.monotonic`: when
    nothing more is begun.
    """
    ways = [*map(Way, task.widths), *(Way(task.widths[0], mode) for mode in modes)]
    plain_peaks = {name: peak_alone(task, name) if memory else None for name in (PLAIN, CACHED)}
    loops: dict[str, Measured] = {}
    ratios: list[Ratio] = []
    too_wide: list[int] = []
    notes: list[str] = []
    with contextlib.ExitStack() as stack:
        plain = {name: make(task, name, (), Path()) for name in (PLAIN, CACHED)}
        for loop in plain.values():
            stack.callback(loop.close)
        first = plain[PLAIN]
        assert isinstance(first, Reference)
        flops, peak = first.flops(), matrix_peak(task.device, task.precision)
        for way in ways:
            if too_wide and way.mode is None:
                continue
            if time.monotonic() > until:
                notes.append(f"There was no time for {way.name}.")
                continue
            say(way.name)
            try:
                peaks = {**plain_peaks, way.name: peak_alone(task, way) if memory else None}
                found = compare(task, amount, way, plain, peaks, say)
            except Exception as error:
                if is_out_of_memory(error) and way.mode is None:
                    too_wide.append(way.width)
                elif way.mode:  # which not every machine can compile
                    notes.append(f"{way.name}: {str(error).strip().splitlines()[0][:200]}")
                else:
                    raise
                free_memory()
                continue
            peak = max(peak, matrix_peak(task.device, task.precision))
            loops = {**found, **loops}  # the plain ones as they were beside the first
            ratios += [training_ratio(found[way.name], found[other]) for other in plain]
            if found[way.name].seconds_per_image:
                ratios.append(drawing_ratio(found[way.name], found[PLAIN]))
    names = [*(way.name for way in ways), PLAIN, CACHED]
    in_order = tuple(loops[name] for name in names if name in loops)
    return Result(task, amount, in_order, tuple(ratios), flops, peak, tuple(too_wide), tuple(notes))


def make(task: Task, way: Way | str, snapshots: tuple[int, ...], folder: Path) -> Loop:
    """That loop, ready for its first step."""
    if isinstance(way, Way):
        return Ours(task, way.width, snapshots, folder, way.mode)
    script = SCRIPTS[task.method.name]
    return Reference(task, script.with_caches() if way == CACHED else script)


def compare(
    task: Task, amount: Amount, way: Way, plain: Mapping[str, Loop],
    peaks: Mapping[str, float | None], say: Say,
) -> dict[str, Measured]:  # fmt: skip
    """charsweep's loop in one way and the plain ones, round by round."""
    with tempfile.TemporaryDirectory() as folder:
        own = make(task, way, amount.snapshots, Path(folder))
        with contextlib.closing(own):
            loops = {way.name: own, **plain}
            for loop in loops.values():
                loop.advance(amount.warm_up)
            seconds: dict[str, list[float]] = {label: [] for label in loops}
            for number, order in enumerate(turns(list(loops), amount.rounds)):
                for label in order:
                    seconds[label].append(loops[label].advance(amount.steps))
                told = ", ".join(
                    f"{label} {1000 * taken[-1]:.1f}" for label, taken in seconds.items()
                )
                say(f"  round {number + 1} of {amount.rounds}, ms a step: {told}")
            parts = {label: parts_of(task, loop, amount.steps) for label, loop in loops.items()}
            drawn: dict[str, list[float]] = {label: [] for label in loops}
            if amount.images and own.width == task.widths[0]:
                drawn |= draw(amount, {label: loops[label] for label in (way.name, PLAIN)}, say)
    return {
        label: Measured(
            label,
            loop.width,
            tuple(seconds[label]),
            parts[label],
            peaks[label],
            tuple(drawn[label]),
            way.how if loop is own else "",
        )
        for label, loop in loops.items()
    }


def draw(amount: Amount, loops: Mapping[str, Loop], say: Say) -> dict[str, list[float]]:
    """Seconds of an image by round."""
    drawn: dict[str, list[float]] = {label: [] for label in loops}
    for number, order in enumerate(turns(list(loops), DRAWINGS)):
        seeds = range(number * amount.images, (number + 1) * amount.images)
        for label in order:
            drawn[label].append(loops[label].draw(seeds, amount.inference_steps))
        told = ", ".join(f"{label} {1000 * taken[-1]:.0f}" for label, taken in drawn.items())
        say(f"  drawing {number + 1} of {DRAWINGS}, ms an image: {told}")
    return drawn


def turns(names: list[str], rounds: int) -> Iterator[list[str]]:
    """The order of each round: everyone is first, second and last equally often."""
    for number in range(rounds):
        first = number % len(names)
        yield names[first:] + names[:first]


def parts_of(task: Task, loop: Loop, steps: int) -> dict[str, float]:
    """The share of a step that each part takes."""
    with watching(task.device, loop.functions, loop.rest) as clock:
        loop.advance(steps)
    total = sum(clock.seconds.values())
    return {part: seconds / total for part, seconds in clock.seconds.items()}


def peak_alone(task: Task, way: Way | str) -> float | None:
    """Peak memory of a loop in a process of its own, in MB; None if it is more than there is."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(train_alone, task, way).result()


def train_alone(task: Task, way: Way | str) -> float | None:
    if task.threads:
        torch.set_num_threads(task.threads)
    with tempfile.TemporaryDirectory() as folder:
        try:
            with contextlib.closing(make(task, way, (MEMORY_STEPS,), Path(folder))) as loop:
                loop.advance(MEMORY_STEPS)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return None
    return peak_memory_mb(task.device)
