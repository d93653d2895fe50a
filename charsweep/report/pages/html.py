"""index.html: the report as a page, from one template in which everything is escaped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from charsweep.core.system.templates import fill
from charsweep.report.content import CellSheet, Content
from charsweep.report.figures.contact_sheets import (
    ContactSheet,
    Thumbnails,
    file_uri,
    image_files_cached,
)
from charsweep.results import CellResult, Record, cells_table, facts
from charsweep.results.labels import LEVELS, metric_label
from charsweep.results.points import SEED
from charsweep.results.recommendation import setting_text
from charsweep.results.records import Value
from charsweep.results.verdict import objectives_of

MOST_DRAWN, MOST_TRAINING_IMAGES = 4, 8  # images on the first screen
MOST_INLINE = 24  # sheets of cells inside index.html; the others are files beside it
MOST_INLINE_PIXELS = 30e6


@dataclass(frozen=True)
class ShownSheet:
    """A cell's contact sheet as the page shows it: inlined, or a file beside the page."""

    sheet: CellSheet
    source: str

    @property
    def is_inside(self) -> bool:
        """Whether the page needs no file for it."""
        return self.source.startswith("data:")


@dataclass(frozen=True)
class ShownImage:
    """An image with what stands below it."""

    uri: str | None
    name: str
    caption: str


def build_page(content: Content, final: Path, pdf_note: str = "") -> str:
    """The page's HTML; `final` is where the report will lie, `pdf_note` what its PDF lacks."""
    record = content.record
    thumbnails = Thumbnails()
    shown = shown_sheets(content)
    return render(
        {
            "content": content,
            "record": record,
            "sweep": record.sweep,
            "verdict": content.verdict,
            "best": content.verdict.recommendation,
            "rest": setting_text(held(record)),
            "drawn_images": drawn_images(record, content.verdict.recommendation.cell, thumbnails),
            "training_images": training_images(record, thumbnails),
            "most_drawings": MOST_TRAINING_IMAGES,
            "state": facts.state_line(record),
            "asked": facts.asked,
            "commands": record.sweep.command.splitlines(),
            "meanings": [metric_label(metric) for metric in record.metrics],
            "is_sorted": len(record.cells) > cells_table.IN_GRID_ORDER,
            "sorted_by": metric_label(objectives_of(record)[0].metric).short,
            "levels": LEVELS,
            "image_rows": lambda sheet: image_rows(sheet, thumbnails),
            "cell_sheets": shown,
            "linked": sum(not sheet.is_inside for sheet in shown),
            "store_link": quote(Path(os.path.relpath(record.store, final)).as_posix()),
            "failures": facts.failures(record),
            "how": facts.how_it_ran(record),
            "versions": record.sweep.environment,
            "has_pdf": (content.folder / "report.pdf").exists(),
            "pdf_note": pdf_note,
            "settings": json.dumps(record.sweep.settings, indent=2, ensure_ascii=False),
        }
    )


def render(context: Mapping[str, Any]) -> str:
    """Fill template.html; every string in the context is escaped there."""
    return fill(Path(__file__).with_name("template.html"), dict(context))


def held(record: Record) -> dict[str, Value]:
    """What of a setting is the same in all cells."""
    fixed = {axis: value for axis, value in record.sweep.fixed.items() if axis != SEED}
    return {axis: value for axis, value in fixed.items() if axis not in record.axes}


def drawn_images(
    record: Record, cell: CellResult | None, thumbnails: Thumbnails
) -> list[ShownImage]:
    """What the recommended cell drew: the exam's first prompts, of few prompts several seeds."""
    if cell is None:
        return []
    sweep = next((part.sweep for part in record.parts if cell in part.cells), record.sweep)
    files, seeds = image_files_cached(record.store, cell.images)
    each = -(-MOST_DRAWN // max(1, len(sweep.prompts)))  # seeds of a prompt
    shown = [
        (path, prompt)
        for number, prompt in enumerate(sweep.prompts)
        for path in files[number * seeds : (number + 1) * seeds][:each]
    ]
    return [
        ShownImage(thumbnails.uri(path), path.name, prompt) for path, prompt in shown[:MOST_DRAWN]
    ]


def training_images(record: Record, thumbnails: Thumbnails) -> list[ShownImage]:
    """The training images; a file that is gone keeps its caption."""
    character = record.sweep.character
    captions = [*character.captions, *[""] * len(character.images)]
    return [
        ShownImage(thumbnails.uri(path), path.name, caption)
        for path, caption in zip(character.images, captions, strict=False)
    ]


def image_rows(
    sheet: ContactSheet, thumbnails: Thumbnails
) -> list[tuple[str, list[tuple[str | None, str, str]]]]:
    """The sheet for the page: per row, each image's URI, its note, its column."""
    return [
        (
            label,
            [
                (thumbnails.uri(tile.path), tile.note or "not found", column)
                for tile, column in zip(tiles, sheet.columns, strict=True)
            ],
        )
        for label, tiles in zip(sheet.rows, sheet.tiles, strict=True)
    ]


def shown_sheets(content: Content) -> list[ShownSheet]:
    """The first sheets of cells inside the page while they are few and small, the rest as links."""
    shown: list[ShownSheet] = []
    pixels = 0.0
    for sheet in content.cell_sheets:
        source = quote(content.relative(sheet.file))
        if len(shown) < MOST_INLINE and pixels < MOST_INLINE_PIXELS:
            pixels += sheet.width * sheet.height
            source = file_uri(sheet.file)
        shown.append(ShownSheet(sheet, source))
    return shown
