"""Regional prompts: what stands in a column of a picture has words of its own.

Written in the prompt as Regional Prompter (for A1111) has it: `the whole ADDCOMM the left column
ADDCOL the right one`, with as many columns as there are, all of one width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

COMMON, COLUMN = "ADDCOMM", "ADDCOL"


class RegionalPrompt(NamedTuple):
    """The words of a whole picture, and those of its columns from left to right; () without any."""

    whole: str
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.columns:
            return self.whole
        return f"{self.whole} {COMMON} {f' {COLUMN} '.join(self.columns)}"

    @property
    def texts(self) -> tuple[str, ...]:
        """All that is read by itself."""
        return (self.whole, *self.columns)


def regional(prompt: str) -> RegionalPrompt:
    """A prompt in its parts."""
    whole, common, rest = prompt.partition(COMMON)
    if not common:
        return RegionalPrompt(prompt)
    return RegionalPrompt(whole.strip(), tuple(part.strip() for part in rest.split(COLUMN)))


def columns_in(prompts: Sequence[str]) -> tuple[int, ...]:
    """How many columns prompts have; images of one batch have equally many."""
    return tuple(sorted({len(regional(prompt).columns) for prompt in prompts}))
