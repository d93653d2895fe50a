"""Captions and prompts: the identifier in them, in any case, as CLIP reads it; their tags."""

from __future__ import annotations

import re


def found(identifier: str, text: str) -> re.Match[str] | None:
    """Where an identifier first stands in a text: as a word or, as in languages without gaps
    between words, at all."""
    name = re.escape(identifier)
    ways = (rf"(?<!\w){name}(?!\w)", name)
    return next((match for way in ways if (match := re.search(way, text, re.IGNORECASE))), None)


def replaced(identifier: str, new: str, text: str) -> str:
    """A text with `new` in the place of the identifier."""
    return re.sub(re.escape(identifier), lambda _: new, text, flags=re.IGNORECASE)


def tags_of(caption: str) -> list[str]:
    """The parts of a caption between commas."""
    return [tag.strip() for tag in caption.split(",")]
