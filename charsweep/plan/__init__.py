"""The least work that still gives every cell its result, its cost and its memory.

Cells and the store go in, a `Plan` comes out, which an engine executes.
"""

from charsweep.plan.cost import Speeds
from charsweep.plan.work import (
    Pack,
    Plan,
    Scoring,
    Training,
    TrainingSpan,
    once_done,
    plan_training,
    plan_work,
    shared_pass,
)

__all__ = [
    "Pack",
    "Plan",
    "Scoring",
    "Speeds",
    "Training",
    "TrainingSpan",
    "once_done",
    "plan_training",
    "plan_work",
    "shared_pass",
]
