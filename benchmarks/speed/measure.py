"""Timing charsweep's loop and the plain one, turn and turn about.

In every round each loop trains the same number of steps, the order turning from round to round, so
that whatever else the machine does falls on all of them. A ratio is taken within a round. Memory is
measured before, each loop in a process of its own.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Protocol

import torch

from benchmarks.speed.clock import Timed, watching
from benchmarks.speed.machine import matrix_peak
from benchmarks.speed.ours import Ours
from benchmarks.speed.reference import Reference
from benchmarks.speed.results import Amount, Measured, Result, drawing_ratio, training_ratio
from benchmarks.speed.scripts import SCRIPTS
from benchmarks.speed.task import Task
from charsweep.engine.environment import free_memory, is_out_of_memory
from charsweep.engine.measure_memory import peak_memory_mb

PLAIN, CACHED = "plain loop", "plain loop, cached"
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


def measure(task: Task, amount: Amount, memory: bool, say: Say) -> Result:
    """Measure charsweep's loop at each width of the task, and the plain ones beside it."""
    names = [*(ours(width) for width in task.widths), PLAIN, CACHED]
    peaks = {name: peak_alone(task, name) if memory else None for name in names}
    loops: dict[str, Measured] = {}
    ratios, too_wide = [], []
    with contextlib.ExitStack() as stack:
        plain = {name: make(task, name, (), Path()) for name in (PLAIN, CACHED)}
        for loop in plain.values():
            stack.callback(loop.close)
        first = plain[PLAIN]
        assert isinstance(first, Reference)
        flops, peak = first.flops(), matrix_peak(task.device, task.precision)
        for width in task.widths:
            name = ours(width)
            say(name)
            try:
                found = compare(task, amount, name, plain, peaks, say)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                too_wide.append(width)
                free_memory()
                break
            peak = max(peak, matrix_peak(task.device, task.precision))
            loops = {**found, **loops}  # the plain ones as they were beside the first
            ratios += [training_ratio(found[name], found[other]) for other in plain]
            if found[name].seconds_per_image:
                ratios.append(drawing_ratio(found[name], found[PLAIN]))
    in_order = tuple(loops[name] for name in names if name in loops)
    return Result(task, amount, in_order, tuple(ratios), flops, peak, tuple(too_wide))


def ours(width: int) -> str:
    return f"charsweep, {width} at once"


def make(task: Task, name: str, snapshots: tuple[int, ...], folder: Path) -> Loop:
    """The loop of that name, ready for its first step."""
    if name in (PLAIN, CACHED):
        script = SCRIPTS[task.method.name]
        return Reference(task, script.with_caches() if name == CACHED else script)
    width = next(width for width in task.widths if ours(width) == name)
    return Ours(task, width, snapshots, folder)


def compare(
    task: Task, amount: Amount, name: str, plain: Mapping[str, Loop],
    peaks: Mapping[str, float | None], say: Say,
) -> dict[str, Measured]:  # fmt: skip
    """charsweep's loop at one width and the plain ones, round by round."""
    with tempfile.TemporaryDirectory() as folder:
        own = make(task, name, amount.snapshots, Path(folder))
        with contextlib.closing(own):
            loops = {name: own, **plain}
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
                drawn |= draw(amount, {label: loops[label] for label in (name, PLAIN)}, say)
    return {
        label: Measured(
            label,
            loop.width,
            tuple(seconds[label]),
            parts[label],
            peaks[label],
            tuple(drawn[label]),
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


def peak_alone(task: Task, name: str) -> float | None:
    """Peak memory of a loop in a process of its own, in MB; None if it is more than there is."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(train_alone, task, name).result()


def train_alone(task: Task, name: str) -> float | None:
    if task.threads:
        torch.set_num_threads(task.threads)
    with tempfile.TemporaryDirectory() as folder:
        try:
            with contextlib.closing(make(task, name, (MEMORY_STEPS,), Path(folder))) as loop:
                loop.advance(MEMORY_STEPS)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return None
    return peak_memory_mb(task.device)
