"""Learning-rate schedules: the factor on the rate at a step. Reached through conf/schedule/.

A schedule is a frozen dataclass whose fields are the settings of its YAML file. It is called with
the step (from 0) and with how many there will be. One whose value depends on the last step says so
(`needs_horizon`): its short runs are no prefixes of its long ones. When its numbers change, its
`version`, part of every key, goes up.
"""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, config={"extra": "forbid"})
class Constant:
    """Linear warm-up over `warmup_steps`, then 1. A short run is a prefix of a long one."""

    version: ClassVar[int] = 1
    needs_horizon: ClassVar[bool] = False

    warmup_steps: int = Field(0, ge=0)

    def __call__(self, step: int, horizon: int | None) -> float:
        return min(1.0, (step + 1) / (self.warmup_steps + 1))


@dataclass(frozen=True, config={"extra": "forbid"})
class Cosine:
    """Linear warm-up over `warmup_steps`, then a cosine from 1 to 0 at the horizon.

    Loshchilov and Hutter 2016, without restarts.
    """

    version: ClassVar[int] = 1
    needs_horizon: ClassVar[bool] = True

    warmup_steps: int = Field(0, ge=0)

    def __call__(self, step: int, horizon: int | None) -> float:
        assert horizon is not None
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        done = (step - self.warmup_steps) / max(1, horizon - self.warmup_steps)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
