"""The drawing that an image is nearest to, by its pixels: a hint where no true picture is known.

The store keeps how near an image comes to the nearest drawing by DINO (`copy`), not which one it
is, and nothing here loads an encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from charsweep.report.figures.contact_sheets import read_image

SIDE = 16  # pixels: what is where, in which colour, and no more


def nearest(path: Path, drawings: Sequence[tuple[int, Path]]) -> int | None:
    """The number of the drawing with the least mean difference of colours; None of none."""
    own = small(path)
    if own is None:
        return None
    found = [(number, other) for number, file in drawings if (other := small(file)) is not None]
    if not found:
        return None
    return min(found, key=lambda pair: float(np.abs(pair[1] - own).mean()))[0]


def small(path: Path) -> NDArray[np.float64] | None:
    """The image squeezed to SIDE × SIDE × RGB; None if it cannot be read."""
    image = read_image(path, 256)
    return None if image is None else np.asarray(image.resize((SIDE, SIDE)), dtype=np.float64)
