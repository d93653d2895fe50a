"""The grid that the page shows, as one labelled PNG."""

from __future__ import annotations

import io
from pathlib import Path

from charsweep.actions.choose.schemas import AskedGrid, AskedPlace
from charsweep.actions.choose.shown import Shown
from charsweep.core.errors import ConfigError
from charsweep.report.figures.contact_sheets import ContactSheet, Tile
from charsweep.report.figures.sheet_png import draw_sheet

TILES = ((120, 192), (600, 128), (1500, 96), (5000, 64))  # most images, and pixels of each


def draw_grid(asked: AskedGrid, shown: Shown) -> bytes:
    """The bytes of a PNG. ConfigError for an image set or an image that the sweep has not."""
    sheet = ContactSheet(
        name="grid",
        title=asked.title,
        columns=tuple(asked.columns),
        rows=tuple(asked.rows),
        tiles=tuple(tuple(tile_of(place, shown) for place in row) for row in asked.places),
        is_grid=True,
    )
    count = len(sheet.columns) * len(sheet.rows)
    out = io.BytesIO()
    size = next(pixels for most, pixels in TILES if count <= most)
    draw_sheet(sheet, size, title=bool(asked.title)).save(out, format="PNG")
    return out.getvalue()


def tile_of(place: AskedPlace, shown: Shown) -> Tile:
    """The file of an image, or the note that stands for it."""
    if place.images is None:
        return Tile(None, place.note or "not tried")
    return Tile(stored_image(shown, place.images, place.number))


def stored_image(shown: Shown, images: str, number: int) -> Path:
    """The file of an image by the id of its set; ConfigError for what the sweep has not."""
    files = shown.files(images)
    if not 0 <= number < len(files):
        raise ConfigError(f"{images}/{number}: this sweep has no such image")
    return files[number]
