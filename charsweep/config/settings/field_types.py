"""Types of single settings: numbers with their limits, texts, names, keys, sizes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StringConstraints

from charsweep.core.durations import seconds_of
from charsweep.core.sides import NAMES
from charsweep.core.system.energy import checked_country

STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
LearningRate = Annotated[float, Field(gt=0, le=100)]
Steps = Annotated[int, Field(ge=1, le=10_000_000)]
InferenceSteps = Annotated[int, Field(ge=1, le=1000)]
Strength = Annotated[float, Field(ge=-4, le=4)]  # below 0, away from what was taught
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Pixels = Annotated[int, Field(ge=16, le=4096, multiple_of=8)]
BatchWidth = Annotated[int, Field(ge=1, le=256)]
# Powers of two: at other widths a trial's bits were seen to depend on its slot.
Pack = Literal["auto", 1, 2, 4, 8, 16, 32, 64]
Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]

FOLDER_NAME, NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", r"^[^\x00-\x1f/\\.][^\x00-\x1f/\\]{0,99}$"
KEY, COUNTRY, REPOSITORY = r"^[0-9a-f]{1,12}$", r"^[A-Z]{3}$", r"^[\w.-]+/[\w.-]+$"
MOST_BYTES = 150  # of a name: it shares a file system's 255 with what else a folder is called by


def short_enough(name: str) -> str:
    """The name; ValueError for more than a file system takes."""
    if (size := len(name.encode())) > MOST_BYTES:
        fits = name.encode()[:MOST_BYTES].decode(errors="ignore")
        raise ValueError(
            f"has {size} bytes as folders are named, of which {MOST_BYTES} fit: {fits} is as long "
            "as it may be"
        )
    return name


FolderName = Annotated[str, StringConstraints(pattern=FOLDER_NAME)]
# Part of a folder's name in the store: in any language, but it leads nowhere else.
Name = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=NAME), AfterValidator(short_enough)
]
CellKey = Annotated[str, StringConstraints(strip_whitespace=True, pattern=KEY)]
Duration = Annotated[float, BeforeValidator(seconds_of)]
Country = Annotated[str, StringConstraints(pattern=COUNTRY), AfterValidator(checked_country)]


def as_multiples(size: Any) -> Any:
    """Width and height as they are; ValueError for what are none."""
    if not (
        isinstance(size, list | tuple)
        and len(size) == 2
        and all(isinstance(side, int | float) and not isinstance(side, bool) for side in size)
        and all(0.25 <= side <= 4 for side in size)
    ):
        raise ValueError(
            "should be width and height as multiples of the resolution, each from 0.25 to 4, as in "
            "[1.5,1]; null: a square"
        )
    return size


Multiples = Annotated[tuple[float, float], BeforeValidator(as_multiples)]


def with_subject(prompt: str) -> str:
    """A prompt as it is; ValueError if it has no place for a character."""
    if not any(f"{{{name}}}" in prompt for name in NAMES):
        raise ValueError("lacks {subject}, the character's place, or {other}, the second one's")
    return prompt


def without_repeats(values: list[Any]) -> list[Any]:
    """The values as they are; ValueError if one stands there twice."""
    if len(set(values)) < len(values):
        raise ValueError("a value stands there twice; take one out")
    return values
