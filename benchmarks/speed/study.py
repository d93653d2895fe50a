"""A whole study by the clock, beside an example script that is started once for each of its cells.

Ours is the command that a person types, in an empty folder: training, drawing, scores, MLflow and
the report. Theirs is the plain loop in a process of its own (imports, weights, preparing, steps),
and then its own pipeline, which draws the same number of images one after the other; it scores
nothing and stores nothing. Training and drawing of one cell are measured, at two numbers of steps
each, and added up over the cells: the script takes as long for each step, wherever it is.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.speed.measure import PLAIN, make
from benchmarks.speed.reference import Reference
from benchmarks.speed.table import Table
from benchmarks.speed.task import Task
from charsweep.core.cells import Cell
from charsweep.core.errors import TrainingError
from charsweep.core.store import Store

TUNING = ("+sweep=study", "~parts.methods")  # learning rates, training steps, inference steps
SCRIPT_STEPS = (20, 120)  # of training, measured
SCRIPT_INFERENCE = (10, 50)  # steps of an image, measured
SCRIPT_IMAGES = 4


@dataclass(frozen=True)
class Straight:
    """What takes `start` seconds and then `each` for every step."""

    start: float
    each: float

    def seconds(self, steps: int) -> float:
        return self.start + self.each * steps


@dataclass(frozen=True)
class StudyTimes:
    """Seconds of one study: ours as measured, theirs of a cell's training and of an image."""

    cells: int
    steps: int  # of all cells, each from its first
    images: int  # of all cells
    inference_steps: int  # of all images
    trained: float  # from the command to the last trained step
    whole: float  # of the command
    script: Straight  # a process: start, and a step
    image: Straight  # of an image: once, and an inference step

    @property
    def script_training(self) -> float:
        return self.cells * self.script.start + self.steps * self.script.each

    @property
    def script_drawing(self) -> float:
        return self.images * self.image.start + self.inference_steps * self.image.each

    @property
    def training_ratio(self) -> float:
        return self.script_training / self.trained

    @property
    def whole_ratio(self) -> float:
        return (self.script_training + self.script_drawing) / self.whole


def study_times(task: Task, words: Sequence[str] = TUNING) -> StudyTimes:
    """One round of both: the script before, the command, the script again; theirs is the mean."""
    from charsweep.config import load_sweep  # Hydra's kin: the rest runs on a bare machine

    # else every start would compile torch and diffusers anew, of which theirs has many
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    cells = load_sweep([*words]).cells
    before = script_times(task)
    trained, whole = command(words)
    after = script_times(task)
    script, image = (
        Straight((a.start + b.start) / 2, (a.each + b.each) / 2)
        for a, b in zip(before, after, strict=True)
    )
    drawn = [(cell, images_of(cell)) for cell in cells]
    return StudyTimes(
        cells=len(cells),
        steps=sum(cell.images.snapshot.step for cell in cells),
        images=sum(count for _, count in drawn),
        inference_steps=sum(count * cell.images.inference_steps for cell, count in drawn),
        trained=trained,
        whole=whole,
        script=script,
        image=image,
    )


def images_of(cell: Cell) -> int:
    return len(cell.images.prompts) * len(cell.images.seeds)


def command(words: Sequence[str]) -> tuple[float, float]:
    """Seconds until the last trained step was stored, and of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        env = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        began, wall = time.perf_counter(), time.time()
        done = subprocess.run(
            [sys.executable, "-m", "charsweep", *words, f"root={root}"],
            capture_output=True, text=True, check=False, env=env,
        )  # fmt: skip
        whole = time.perf_counter() - began
        if done.returncode:
            raise TrainingError(f"charsweep {' '.join(words)} failed: {done.stderr[-2000:]}")
        written = [path.stat().st_mtime for path in Store(root).folder.glob("*/loss.csv")]
        return max(written) - wall, whole


def script_times(task: Task) -> tuple[Straight, Straight]:
    """Of one process of the script that trains, and of one image of its pipeline."""
    runs = []
    for steps in SCRIPT_STEPS:
        began = time.perf_counter()
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            pool.submit(script_run, task, steps).result()
        runs.append(time.perf_counter() - began)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        images = pool.submit(script_images, task).result()
    return line(SCRIPT_STEPS, runs), line(SCRIPT_INFERENCE, images)


def line(steps: Sequence[int], seconds: Sequence[float]) -> Straight:
    """The straight line through two measurements."""
    each = (seconds[1] - seconds[0]) / (steps[1] - steps[0])
    return Straight(seconds[0] - each * steps[0], each)


def script_run(task: Task, steps: int) -> None:
    with closing(plain_loop(task)) as loop:
        loop.advance(steps)


def script_images(task: Task) -> list[float]:
    with closing(plain_loop(task)) as loop:
        loop.advance(1)
        loop.draw(range(1), SCRIPT_INFERENCE[0])
        return [loop.draw(range(SCRIPT_IMAGES), steps) for steps in SCRIPT_INFERENCE]


def plain_loop(task: Task) -> Reference:
    if task.threads:
        torch.set_num_threads(task.threads)
    loop = make(task, PLAIN, (), Path())
    assert isinstance(loop, Reference)
    return loop


def study_table(found: Sequence[StudyTimes]) -> Table:
    """A row for each round."""
    columns = ("round", "script, training", "script, drawing", "ours, until trained", "ours, whole",
               "training, times as fast", "whole, times as fast")  # fmt: skip
    rows = tuple(
        (str(number), f"{one.script_training:,.0f} s", f"{one.script_drawing:,.0f} s",
         f"{one.trained:.0f} s", f"{one.whole:.0f} s", f"{one.training_ratio:.1f}",
         f"{one.whole_ratio:.1f}")
        for number, one in enumerate(found, 1)
    )  # fmt: skip
    return Table("A script for each cell, and charsweep", columns, rows)


def study_lines(found: StudyTimes) -> list[str]:
    """What was asked for, and the script's own figures of the first round."""
    return [
        f"{found.cells} cells, {found.steps:,} training steps one by one, {found.images:,} images",
        f"The script: {found.script.start:.1f} s to start, {1000 * found.script.each:.1f} ms a "
        f"step, {found.image.seconds(50):.2f} s an image of 50 inference steps",
    ]
