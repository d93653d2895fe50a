"""Flexibility: whether the character still changes when a prompt says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from charsweep.core.encoders import reads_prompts
from charsweep.evaluate.metrics import Exam, Score
from charsweep.evaluate.metrics.prompt import Prompt


@dataclass(frozen=True)
class Flexibility:
    """`prompt` of the exam's part `changes`, which asks for other clothes or things: in [0, 1].

    1: all that is asked is shown; near 0: she wears what she wore in the drawings, whatever is
    asked. None without prompts.
    """

    encoder: str = reads_prompts("clip")

    part: ClassVar[str] = "changes"
    version: ClassVar[int] = 1

    def __call__(self, exam: Exam) -> Score:
        return Prompt(self.encoder)(exam)
