"""index.html: the report as a page, from one template in which everything is escaped."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import quote

from charsweep.core.columns import regional
from charsweep.core.system.templates import fill
from charsweep.report.content import CellSheet, Content
from charsweep.report.figures.contact_sheets import file_uri, image_files, thumbnail
from charsweep.results import CellResult, Record, cells_table, facts
from charsweep.results.cells import TOGETHER
from charsweep.results.labels import LEVELS, metric_label
from charsweep.results.points import SEED
from charsweep.results.reasons import setting_text
from charsweep.results.records import SweepRecord, Value
from charsweep.results.unlike import unlike
from charsweep.results.verdict import objectives_of

MOST_DRAWN, MOST_TRAINING_IMAGES = 4, 8  # images on the first screen
MOST_INLINE = 24  # sheets of cells inside index.html; the others are files beside it
MOST_INLINE_PIXELS = 30e6
TEMPLATE = Path(__file__).with_name("template.html")


def build_page(content: Content, final: Path, pdf_note: str = "") -> str:
    """The page's HTML; `final` is where the report will lie, `pdf_note` what its PDF lacks."""
    record = content.record
    shown = shown_sheets(content)
    return fill(
        TEMPLATE,
        {
            "content": content,
            "record": record,
            "sweep": record.sweep,
            "unlike": unlike(record),
            "exams": exams_of(record),
            "best": content.verdict.recommendation,
            "rest": setting_text(held(record)),
            "drawn_images": drawn_images(record, content.verdict.recommendation.cell),
            "most_drawings": MOST_TRAINING_IMAGES,
            "state": facts.state_line(record),
            "asked": facts.asked,
            "meanings": [metric_label(metric) for metric in record.metrics],
            "is_sorted": cells_table.is_sorted(record),
            "sorted_by": metric_label(objectives_of(record)[0].metric).short,
            "levels": LEVELS,
            "thumbnail": thumbnail,
            "cell_sheets": shown,
            "linked": sum(not source.startswith("data:") for _, source in shown),
            "store_link": quote(Path(os.path.relpath(record.store, final)).as_posix()),
            "failures": facts.failures(record),
            "how": facts.how_it_ran(record),
            "has_pdf": (content.folder / "report.pdf").exists(),
            "pdf_note": pdf_note,
            "settings": json.dumps(record.sweep.settings, indent=2, ensure_ascii=False),
        },
    )


def exams_of(record: Record) -> list[tuple[str, SweepRecord]]:
    """What has the prompts and seeds of the exam; of several, each with the part's name."""
    if record.sweep.prompts or not record.parts:
        return [("", record.sweep)]
    return [(part.sweep.name, part.sweep) for part in record.parts]


def held(record: Record) -> dict[str, Value]:
    """What of a setting is the same in all cells."""
    fixed = {axis: value for axis, value in record.sweep.fixed.items() if axis != SEED}
    return {axis: value for axis, value in fixed.items() if axis not in record.axes}


def drawn_images(record: Record, cell: CellResult | None) -> list[tuple[Path, str]]:
    """What the recommended cell drew: the exam's first prompts, of few prompts several seeds; of
    two characters, both in one picture."""
    if cell is None:
        return []
    both = image_files(record.store, cell.parts.get(TOGETHER, [None])[0])
    files, seeds = (both if both.files else image_files(record.store, cell.images))[:2]
    told = tuple(regional(prompt).whole for prompt in both.prompts)
    prompts = told or record.part_of(cell).sweep.prompts
    each = -(-MOST_DRAWN // max(1, len(prompts)))  # seeds of a prompt
    return [
        (path, prompt)
        for number, prompt in enumerate(prompts)
        for path in files[number * seeds : (number + 1) * seeds][:each]
    ][:MOST_DRAWN]


def shown_sheets(content: Content) -> list[tuple[CellSheet, str]]:
    """The first sheets of cells inside the page while they are few and small, the rest as links."""
    shown: list[tuple[CellSheet, str]] = []
    pixels = 0.0
    for sheet in content.cell_sheets:
        source = quote(content.relative(sheet.file))
        if len(shown) < MOST_INLINE and pixels < MOST_INLINE_PIXELS:
            pixels += sheet.width * sheet.height
            source = file_uri(sheet.file)
        shown.append((sheet, source))
    return shown
