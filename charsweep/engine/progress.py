"""The live view of a command's progress: what is being done, how far, time left."""

from __future__ import annotations

import time
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from charsweep.core.specs import ADAPTER
from charsweep.core.system.console import span
from charsweep.results import CellResult
from charsweep.results.facts import failure
from charsweep.results.labels import in_quotes

PLAIN_SECONDS = 20.0  # between two plain lines when the output is not a terminal


class View(Protocol):
    """Where an engine says what it does: on this terminal, or to the process that leads."""

    @property
    def now(self) -> str:
        """What is being done."""

    def expect(self, **totals: int) -> None:
        """Add to the totals of steps, images, cells or trajectories."""

    def doing(self, what: str) -> None:
        """Show what is being done now."""

    def say(self, text: str) -> None:
        """One line that stays."""

    def step(self, seconds: float, loss: float) -> None:
        """Count one training step."""

    def advance(self, name: str, count: int = 1, seconds: float = 0.0) -> None:
        """Count steps, images, cells or trajectories as done, and the seconds that they took."""


class ProgressView:
    """Counts of steps, images and cells against the plan's, and an estimate of the time left."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.terminal = self.console.is_terminal
        self.bars = Progress(
            TextColumn("{task.description:<13}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("{task.fields[note]}"), console=self.console,
        )  # fmt: skip
        names = ("trajectories", "steps", "images", "cells")
        self.tasks = {
            name: self.bars.add_task(name, total=0, note="", visible=False) for name in names
        }
        self.line = Text("")
        self.live = Live(Group(self.bars, self.line), console=self.console, refresh_per_second=4)
        self.cost = {"steps": 0.0, "images": 0.0}
        self.spent = {"steps": 0.0, "images": 0.0}
        self.workers = 1  # processes that work side by side
        self.loss = 0.0
        self._doing: dict[int, str] = {}
        self._said = time.monotonic()

    def __enter__(self) -> ProgressView:
        if self.terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.terminal:
            self.live.stop()

    def expect(self, **totals: int) -> None:
        """Add to the totals of steps, images, cells or trajectories."""
        for name, total in totals.items():
            total += int(self._task(name).total or 0)
            self.bars.update(self.tasks[name], total=total, visible=total > 0)

    @property
    def now(self) -> str:
        return self.line.plain

    def doing(self, what: str, by: int = 0) -> None:
        """Show what is being done now, and by which of several workers."""
        self._doing[by] = what
        self._show_doing()
        if not self.terminal:
            self.say(what)

    def rests(self, by: int = 0) -> None:
        """A worker does nothing now."""
        self._doing.pop(by, None)
        self._show_doing()

    def _show_doing(self) -> None:
        self.line.plain = "\n".join(self._doing[worker] for worker in sorted(self._doing))

    def say(self, text: str) -> None:
        """One line that stays."""
        self.console.print(text, markup=False, soft_wrap=True)
        self._said = time.monotonic()

    def step(self, seconds: float, loss: float) -> None:
        """Count one training step; the loss is shown as a moving average."""
        self.loss = 0.98 * self.loss + 0.02 * loss if self.loss == self.loss and self.loss else loss
        self.advance("steps", 1, seconds)

    def advance(self, name: str, count: int = 1, seconds: float = 0.0) -> None:
        """Count steps, images, cells or trajectories as done, and the seconds that they took."""
        self.bars.advance(self.tasks[name], count)
        if name in self.spent:
            self.spent[name] += seconds
            done = self._task(name).completed
            self.cost[name] = self.spent[name] / done if done else self.cost[name]
        steps = (
            f"{1 / self.cost['steps']:.1f}/s, loss {self.loss:.4f}" if self.spent["steps"] else ""
        )
        self.bars.update(self.tasks["steps"], note=steps)
        self.bars.update(self.tasks["cells"], note=f"about {span(self.left)} left")
        if not self.terminal and time.monotonic() - self._said > PLAIN_SECONDS:
            shown = [(name, self._task(name)) for name in self.tasks if self._task(name).visible]
            counts = [f"{name} {task.completed:.0f}/{task.total:.0f}" for name, task in shown]
            words = [", ".join(counts), steps, f"about {span(self.left)} left"]
            self.say("; ".join(word for word in words if word))

    @property
    def left(self) -> float:
        """Seconds that the missing steps and images will take at the pace so far; 0 of none."""
        work = sum(
            max(0.0, float(self._task(name).total or 0) - self._task(name).completed)
            * self.cost[name]
            for name in ("steps", "images")
        )
        return work / self.workers

    def cell(self, result: CellResult, varied: list[str]) -> None:
        """Report one finished cell."""
        self.advance("cells")
        own = [*varied, *(["train_steps"] if ADAPTER in result.values else [])]  # of a run
        values = {n: in_quotes(str(result.values[n])) for n in own if n in result.values}
        where = ", ".join(f"{name}={text}" for name, text in values.items()) or result.cell
        if result.state == "finished":
            numbers = [f"{k} {v:.3f}" for k, v in result.scores.items() if v is not None]
            self.say(f"  {where}: " + ", ".join(numbers))
        elif result.left:
            self.say(f"  {where}: {result.left}")
        elif result.state == "diverged":
            self.say(f"  {where}: diverged, {failure(result)}")
        else:
            self.say(f"  {where}: failed: {result.error}")

    def _task(self, name: str) -> Task:
        return self.bars.tasks[self.tasks[name]]
