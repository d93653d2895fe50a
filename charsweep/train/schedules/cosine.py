"""Step and horizon in, half a cosine out (Loshchilov and Hutter 2016, without restarts)."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, config={"extra": "forbid"})
class Cosine:
    """Linear warm-up over `warmup_steps`, then a cosine from 1 to 0 at the horizon."""

    version: ClassVar[int] = 1
    needs_horizon: ClassVar[bool] = True

    warmup_steps: int = Field(0, ge=0)

    def __call__(self, step: int, horizon: int | None) -> float:
        """Factor on the learning rate at `step` (from 0) of a run of `horizon` steps."""
        assert horizon is not None
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        done = (step - self.warmup_steps) / max(1, horizon - self.warmup_steps)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
