"""The story laid out: one page of HTML with its images inside it, and a picture book as a PDF.

Both are filled from what story.json says.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from charsweep.core.store.files import write_text
from charsweep.core.system.images import opened
from charsweep.core.system.templates import fill
from charsweep.report.pages.typesetting import typeset

PIXELS = 560  # of a picture in the PDF: 200 dots an inch at 7 cm


def write_page(
    story: Mapping[str, Any], drawn_by: str, images: Path, has_report: bool, path: Path
) -> None:
    """Fill template.html, with the candidates that lie in `images`; every string is escaped."""
    words = {"story": story, "drawn_by": drawn_by, "uri": partial(data_uri, images),
             "has_report": has_report, "shape": shape_of(story)}  # fmt: skip
    write_text(path, fill(Path(__file__).with_name("template.html"), words) + "\n")


def shape_of(story: Mapping[str, Any]) -> float:
    """The width of a place for one of its pictures, to the height: at least square."""
    width, height = story["size"]
    return max(float(width) / float(height), 1.0)


def data_uri(folder: Path, name: str, side: int) -> str:
    """An image whose longer side is `side` pixels: small ones are enlarged, large ones reduced."""
    data = io.BytesIO()
    with opened(folder / name) as image:
        scaled = ImageOps.contain(image.convert("RGB"), (side, side), Image.Resampling.LANCZOS)
    scaled.save(data, format="WEBP", quality=90, method=4)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode("ascii")


def write_pdf(story: Mapping[str, Any], drawn_by: str, folder: Path) -> str:
    """Write story.pdf beside the scenes' pictures: six scenes to a page, set by Typst.

    The same story gives the same bytes. Returns the letters that no font has. Raises StoreError.
    """
    scenes = [
        {"number": scene["number"], "caption": scene["caption"], "image": folder / scene["picture"]}
        for scene in story["scenes"]
    ]
    both = filter(None, (story["character"], story["other"]))
    names = " and ".join(character["identifier"] for character in both)
    words = {
        "title": story["title"], "foot": f"{names}, drawn by {drawn_by}", "scenes": scenes,
        "wide": shape_of(story),
    }  # fmt: skip
    return typeset(Path(__file__).with_name("story.typ"), words, folder / "story.pdf", PIXELS)
