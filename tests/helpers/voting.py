"""Votes as the voting page writes them, with ids that count up."""

from __future__ import annotations

import itertools
from typing import Any

from charsweep.results.votes import Vote

NUMBERS = itertools.count()


def vote(left: str, right: str, answer: str = "left", **more: Any) -> Vote:
    """A vote of `ann` on the first prompt and seed 0, if nothing else is said."""
    plain = {"prompt": 0, "seed": 0, "seconds": 2.0, "voter": "ann"}
    plain |= {"at": "2026-11-29T20:00:00+00:00", "id": f"{next(NUMBERS):016x}"}
    return Vote(left=left, right=right, answer=answer, **{**plain, **more})
