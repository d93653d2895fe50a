"""`action=story`: a character's illustrated story, as a page of HTML and a PDF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charsweep.config import Sweep


def tell_story(sweep: Sweep) -> Path:
    """Draw what is missing of a story, write `sweeps/<name>/story/` and return its index.html.

    Raises `CharsweepError`: no such sweep, no finished cell, a scene or a seed that is not there.
    """
    # Imported here: the layout needs matplotlib, the drawing torch.
    from charsweep.actions.story.tell import tell

    return tell(sweep)


__all__ = ["tell_story"]
