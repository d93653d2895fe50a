"""Progress of a training stage: a live bar, or now and then a line."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0


def steps(name: str, start: int, stop: int) -> Iterator[int]:
    """Count from start to stop; a bar on a terminal, a plain line every half minute elsewhere."""
    if sys.stderr.isatty():
        yield from tqdm(range(start, stop), desc=name, initial=start, total=stop)
        return
    began = last = time.monotonic()
    for step in range(start, stop):
        yield step
        now = time.monotonic()
        if now - last > SECONDS_BETWEEN_LINES:
            last = now
            pace = (now - began) / (step + 1 - start)
            left = pace * (stop - step - 1)
            print(f"{name}: {step + 1}/{stop}, {pace:.3f} s each, {left:.0f} s left", flush=True)
