"""Output on the console: lines of the answer, durations in words."""

from __future__ import annotations

import sys


def span(seconds: float) -> str:
    """A duration in words: "42 s", "3 min 05 s", "2 h 10 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def out(text: str = "") -> None:
    """A line of the answer itself, on standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
