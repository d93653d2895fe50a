"""The protocol of captioners: settings that open a function from an image to a caption."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from charsweep.config import Settings
from charsweep.core.specs import CharacterSpec


@dataclass(frozen=True)
class Proposal:
    """A caption, None where nothing was recognised; and what it rests on, for a person to read."""

    caption: str | None
    because: str


Reader = Callable[[Image.Image], Proposal]  # of an RGB picture


class Captioner(Protocol):
    """The class that `_target_` names in conf/caption/: a pydantic model of its own settings."""

    def open(self, settings: Settings, character: CharacterSpec) -> Reader:
        """Load what is needed; raises `CharsweepError`."""
        ...
