"""Step in, 1 out, after a linear warm-up."""

from __future__ import annotations

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
        """Factor on the learning rate at `step` (from 0)."""
        return min(1.0, (step + 1) / (self.warmup_steps + 1))
