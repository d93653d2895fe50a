"""`action=export`: one cell's weights as other programs read them, with a model card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charsweep.config import Sweep


def export_cell(sweep: Sweep) -> Path:
    """Write `sweeps/<name>/export/<slug>/`, push it where that is asked for, return the folder.

    Raises `CharsweepError`: no such sweep, no such cell, nothing to push with.
    """
    # Imported here: the contact sheet needs matplotlib.
    from charsweep.actions.export.write import export

    return export(sweep)


__all__ = ["export_cell"]
