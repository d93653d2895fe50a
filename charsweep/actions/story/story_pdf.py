"""story.pdf: a picture book of six scenes to a page, set by Typst from story.typ."""

from __future__ import annotations

from pathlib import Path

from charsweep.actions.story.page import Story
from charsweep.report.pages.typesetting import typeset

TEMPLATE = Path(__file__).with_name("story.typ")
PIXELS = 560  # of a picture: 200 dots an inch at 7 cm


def write_pdf(story: Story, path: Path) -> str:
    """Write the PDF; the same story gives the same bytes. Returns the letters that no font has.

    Raises StoreError.
    """
    scenes = [
        {"number": scene.number, "caption": scene.caption, "image": scene.picture}
        for scene in story.scenes
    ]
    foot = f"{story.identifier}, drawn by {story.drawn_by}"
    words = {"title": story.title, "foot": foot, "scenes": scenes}
    return typeset(TEMPLATE, words, path, PIXELS)
