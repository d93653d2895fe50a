"""A character as it is loaded from a folder of drawings, and what is said of one that is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from charsweep.character import Character, load_character
from charsweep.core.errors import CharacterError


def load(folder: Path, **changed: str | int) -> Character:
    settings = {
        "name": "mia",
        "identifier": "Miavex",
        "class_noun": "girl",
        "instance_prompt": "a picture of Miavex",
        "class_prompt": "a picture of a girl",
    } | changed
    return load_character(folder=folder, **settings)  # type: ignore[arg-type]


def message_of(folder: Path, **changed: str | int) -> str:
    """The one error that the folder gets."""
    with pytest.raises(CharacterError) as caught:
        load(folder, **changed)
    return str(caught.value)
