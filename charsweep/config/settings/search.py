"""How cells are chosen: ranges of axes, searches, and the scores that they go by."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, Field

from charsweep.config.settings.field_types import (
    STRICT,
    InferenceSteps,
    LearningRate,
    Name,
    Steps,
    Strength,
    Text,
    without_repeats,
)
from charsweep.config.settings.plugins import Targeted
from charsweep.core.durations import seconds_of

Bound = Annotated[int | float, Field(ge=-1e15, le=1e15)]  # whole numbers that floats still hold
MOST_VALUES = 10_000  # of a range with a step: each is a possible category


class Range(pydantic.BaseModel):
    """An axis that an adaptive search samples: every whole number, every step, or any number."""

    model_config = STRICT
    low: Bound
    high: Bound
    log: bool = False
    step: Annotated[int | float, Field(gt=0)] | None = None

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low={self.low} should be below high={self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log=true needs low above 0 and takes no step")
        if self.step is not None and not 1 <= (self.high - self.low) / self.step < MOST_VALUES:
            raise ValueError(
                f"step={self.step} should part it into 1 to {MOST_VALUES:,} steps; choose another, "
                "or leave it out"
            )
        return self

    @property
    def whole(self) -> bool:
        """Whether it holds whole numbers only."""
        return all(isinstance(number, int) for number in (self.low, self.high, self.step or 1))

    @property
    def values(self) -> tuple[int | float, ...]:
        """Its values where a step sets them apart, else its ends."""
        if self.step is None:
            return (self.low, self.high)
        count = int((self.high - self.low) / self.step + 1e-9)
        return tuple(self.low + self.step * index for index in range(count + 1))


class SearchSettings(pydantic.BaseModel):
    """How the next cells are chosen; `sampler` and `pruner` name classes of Optuna's, or alike.

    Of a race, `errors` are the standard errors below the leader at which a cell leaves.
    """

    model_config = STRICT
    name: Text
    sampler: Targeted | None
    pruner: Targeted | None
    trials: Annotated[int, Field(ge=1, le=100_000)] | None
    at_once: Annotated[int, Field(ge=1, le=1024)] | None
    rungs: list[Steps]
    errors: Annotated[float, Field(ge=1, le=10)] | None = None

    @property
    def is_race(self) -> bool:
        """Whether cells of a grid may leave before their exam is drawn whole."""
        return self.errors is not None

    @pydantic.model_validator(mode="after")
    def _whole(self) -> SearchSettings:
        if self.sampler is not None and (self.trials is None or self.at_once is None):
            raise ValueError("an adaptive search needs trials and at_once")
        if self.is_race and self.sampler is not None:
            raise ValueError(
                f"errors={self.errors:g} is for the race of a grid; with a sampler, take it out"
            )
        if (self.pruner is None) == bool(self.rungs):
            raise ValueError("a pruner and rungs, the steps at which it looks, need each other")
        return self


Over = Literal["lr", "steps", "inference_steps", "strength", "rank", "prior", "captions", "method"]
MONEY = re.compile(r"(\d+(?:\.\d+)?) ?((?!min)[a-z]{3}|[€$£])", re.IGNORECASE)


def budgeted(budget: str) -> str:
    """A budget as it is; ValueError for what is no time and no money."""
    found = MONEY.fullmatch(budget)
    try:
        if found is None and not budget.isdecimal():
            seconds_of(budget)
        elif found is None or float(found[1]) == 0:
            raise ValueError(budget)
    except ValueError as error:
        raise ValueError("should be a time or money, as in 90s, 20min, 2h, 1d or 5eur") from error
    return budget


class FindSettings(pydantic.BaseModel):
    """What a search in stages looks over, and what it may cost."""

    model_config = STRICT
    over: Annotated[list[Over], Field(min_length=1), AfterValidator(without_repeats)]
    rates: Annotated[list[LearningRate], Field(min_length=2), AfterValidator(without_repeats)]
    steps: Annotated[list[Steps], Field(min_length=1), AfterValidator(without_repeats)]
    most_rates: Annotated[int, Field(ge=1, le=64)]
    inference_steps: Annotated[list[InferenceSteps], AfterValidator(without_repeats)]
    strengths: Annotated[list[Strength], AfterValidator(without_repeats)]
    ranks: Annotated[list[Annotated[int, Field(ge=1)]], AfterValidator(without_repeats)]
    methods: Annotated[list[Name], AfterValidator(without_repeats)]
    budget: Annotated[Text, AfterValidator(budgeted)] | None
    price: Annotated[float, Field(gt=0)] | None
    export: bool

    @property
    def is_money(self) -> bool:
        """Whether the budget is one of money, which takes a price."""
        return MONEY.fullmatch(self.budget or "") is not None

    @property
    def seconds(self) -> float | None:
        """What the budget comes to; None: as long as it takes."""
        if self.budget is None:
            return None
        if money := MONEY.fullmatch(self.budget):
            return float(money[1]) / (self.price or 1.0) * seconds_of("1h")
        return seconds_of(self.budget)


def directed(objectives: Any) -> Any:
    """[dino, -copy] -> {dino: maximize, copy: minimize}: a list, so that it can be replaced."""
    if not isinstance(objectives, list) or not all(isinstance(name, str) for name in objectives):
        raise ValueError("should list metrics, as in [dino,-copy]; - minimises")
    ways = {True: "minimize", False: "maximize"}
    return {name.removeprefix("-"): ways[name.startswith("-")] for name in objectives}


class Bounds(pydantic.BaseModel):
    """What a score must keep to."""

    model_config = STRICT
    least: float | None = None
    most: float | None = None

    @pydantic.model_validator(mode="after")
    def _some(self) -> Bounds:
        if self.least is None and self.most is None:
            raise ValueError("says neither least nor most; give one, as in {most: 0.3}")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"least={self.least} should not be above most={self.most}")
        return self

    def excess(self, score: float) -> float:
        """By how much a score lies outside; at most 0 within."""
        outside = [-math.inf]
        outside += [self.least - score] if self.least is not None else []
        outside += [score - self.most] if self.most is not None else []
        return max(outside)
