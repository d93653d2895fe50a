"""A clock of the parts of a training step, which watches functions from outside.

Functions of libraries and objects are exchanged for ones that look at the clock, and put back. On
a card every look waits for the work that was handed out, so a step measured like this is slower
than one that is left alone: the parts are shares, never the speed.
"""

from __future__ import annotations

import contextlib
import inspect
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

PARTS = ("forward", "backward", "optimizer", "data", "encoding", "logging")
Timed = tuple[Any, str, str]  # an object or class, the name of its function, the part it is of


class Clock:
    """Seconds by part; of parts within parts, each second belongs to the innermost."""

    def __init__(self, device: torch.device, rest: str) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self._parts = [rest]
        self._looked = self._now()

    def enter(self, part: str) -> None:
        self._look()
        self._parts.append(part)

    def leave(self) -> None:
        self._look()
        self._parts.pop()

    def _look(self) -> None:
        now = self._now()
        self.seconds[self._parts[-1]] += now - self._looked
        self._looked = now

    def _now(self) -> float:
        synchronize(self.device)
        return time.perf_counter()

    @contextlib.contextmanager
    def within(self, part: str) -> Iterator[None]:
        self.enter(part)
        try:
            yield
        finally:
            self.leave()

    def timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """The function, watched; a generator while it makes its next item, not between them."""

        def run(*words: Any, **named: Any) -> Any:
            with self.within(part):
                return function(*words, **named)

        def run_on(*words: Any, **named: Any) -> Iterator[Any]:
            items, end = function(*words, **named), object()
            while True:
                with self.within(part):
                    item = next(items, end)
                if item is end:
                    return
                yield item

        return run_on if inspect.isgeneratorfunction(function) else run


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextlib.contextmanager
def watching(device: torch.device, functions: Sequence[Timed], rest: str) -> Iterator[Clock]:
    """A clock that runs while the block does; what is in none of `functions` is of part `rest`.

    Of every loop, backward passes, clipping, losses and steps of optimizers are watched as well.
    """
    everywhere: list[Timed] = [
        (torch.Tensor, "backward", "backward"),
        (torch.nn.functional, "mse_loss", "forward"),
        (torch.nn.utils, "clip_grad_norm_", "optimizer"),
    ]
    with contextlib.ExitStack() as stack:
        clock = Clock(device, rest)
        for owner, name, part in [*everywhere, *functions]:
            stack.callback(_exchange(owner, name, clock.timed(getattr(owner, name), part)))
        before = register_optimizer_step_pre_hook(lambda *_: clock.enter("optimizer"))
        after = register_optimizer_step_post_hook(lambda *_: clock.leave())
        stack.callback(before.remove)
        stack.callback(after.remove)
        yield clock
        clock._look()


def _exchange(owner: Any, name: str, new: Callable[..., Any]) -> Callable[[], None]:
    """Put `new` in a function's place; returns what puts it back."""
    own = name in vars(owner)
    old = getattr(owner, name)
    setattr(owner, name, new)

    def back() -> None:
        if own:
            setattr(owner, name, old)
        else:
            delattr(owner, name)

    return back
