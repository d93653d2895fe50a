"""A record in, index.html out: plots, sheets and tables are made, then one template is filled."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from charsweep.report import table
from charsweep.report.data import CellRow, Record
from charsweep.report.figures import style
from charsweep.report.groups import SEED
from charsweep.report.labels import (
    LEVELS,
    axis_label,
    bytes_text,
    duration_text,
    metric_label,
    point_text,
    value_text,
)
from charsweep.report.losses import draw_losses
from charsweep.report.sheets import (
    SMALL_TILE,
    TILE,
    Sheet,
    Thumbnails,
    axis_sheets,
    cell_sheet,
    draw_sheet,
    forget,
    image_files_cached,
    picture_uri,
)
from charsweep.report.tradeoff import draw_trade_off
from charsweep.report.tuning import draw_tuning
from charsweep.report.verdict import Verdict, judge, objectives_of

MOST_INLINE = 24  # sheets of cells inside index.html; the others are files beside it
MOST_INLINE_PIXELS = 30e6
# A core decodes about 30 million pixels of PNG a second, and a report should take under a minute.
MOST_PIXELS = 700e6


@dataclass(frozen=True)
class CellSheet:
    """A cell's contact sheet: inlined, or a file beside the page."""

    title: str
    marks: tuple[str, ...]
    source: str
    width: int
    height: int


@dataclass(frozen=True)
class Drawing:
    """One of the drawings that teach the character."""

    uri: str | None
    name: str
    caption: str


def build_page(record: Record, folder: Path, final: Path) -> str:
    """Write plots/, contact_sheets/ and table.csv into `folder` and return the page's HTML."""
    verdict = judge(record)
    plots, sheets = folder / "plots", folder / "contact_sheets"
    plots.mkdir()
    sheets.mkdir()
    thumbnails = Thumbnails()
    table.write_csv(record, verdict, folder / "table.csv")
    with style():
        # Several seeds are bands in the other plots; alone they are an axis like any other.
        axes = [axis for axis in record.axes if axis != SEED] or list(record.axes)
        tuning = [one for axis in axes if (one := draw_tuning(record, axis, plots))]
        losses = draw_losses(record, plots)
        trade_off = draw_trade_off(record, plots)
    along = [sheet for axis in record.axes for sheet in axis_sheets(record, verdict, axis)]
    for sheet in along:
        draw_sheet(sheet, TILE).save(sheets / f"{sheet.name}.png")
    cell_sheets, left_out = draw_cell_sheets(record, verdict, sheets)
    forget()
    store_link = quote(Path(os.path.relpath(record.store, final)).as_posix())
    return render(
        {
            "record": record,
            "sweep": record.sweep,
            "verdict": verdict,
            "state": state_line(record),
            "asked": asked(record),
            "drawings": drawings(record, thumbnails),
            "tuning": tuning,
            "losses": losses,
            "trade_off": trade_off,
            "axis_columns": table.columns(record),
            "metric_columns": table.metric_columns(record),
            "cost_columns": table.cost_columns(),
            "meanings": [(metric_label(one).short, metric_label(one)) for one in record.metrics],
            "rows": table.rows(record, verdict),
            "sorted": len(record.cells) > table.IN_GRID_ORDER,
            "sorted_by": metric_label(objectives_of(record)[0].metric).short,
            "seed_rows": table.seed_rows(record),
            "method_rows": table.method_rows(record),
            "levels": LEVELS,
            "sheets": [(sheet, picture_rows(sheet, thumbnails)) for sheet in along],
            "cell_sheets": cell_sheets,
            "linked": sum(not one.source.startswith("data:") for one in cell_sheets),
            "left_out": left_out,
            "store_link": store_link,
            "failures": failures(record),
            "how": how_it_ran(record),
            "versions": record.sweep.environment,
            "settings": json.dumps(record.sweep.settings, indent=2, ensure_ascii=False),
        }
    )


def render(context: Mapping[str, Any]) -> str:
    """Fill template.html; every string in the context is escaped there."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html").render(context)


def state_line(record: Record) -> str:
    """How far the sweep has come."""
    ended, planned = len(record.cells), record.sweep.plan.get("cells")
    total = max(ended, planned) if isinstance(planned, int) else ended
    if record.sweep.finished and ended == total:
        return f"{total} cells, finished {when(record.sweep.finished)}"
    return f"not finished: {ended} of {total} cells have ended; run the same command to go on"


def when(stamp: str) -> str:
    """2026-11-22T17:30:00+00:00 -> "2026-11-22 17:30 +00:00"."""
    date, _, time = stamp.partition("T")
    return f"{date} {time[:5]} {time[8:][-6:]}".strip() if time else stamp


def asked(record: Record) -> list[tuple[str, str]]:
    """What varies and what is held, each in a line."""
    lines = []
    for axis, values in record.axes.items():
        texts = [value_text(axis, value) for value in values]
        if len(texts) > 24:
            texts = [*texts[:11], "…", *texts[-2:]]
        lines.append((axis_label(axis), ", ".join(texts)))
    held = {
        axis: value
        for axis, value in record.sweep.fixed.items()
        if axis not in record.axes and isinstance(value, str | int | float | bool | None)
    }
    if held:
        texts = [f"{axis} = {value_text(axis, value)}" for axis, value in held.items()]
        lines.append(("held fixed", ", ".join(texts)))
    objectives = [
        f"{metric_label(one.metric).short} ({'maximised' if one.maximize else 'minimised'})"
        for one in objectives_of(record)
    ]
    lines.append(("objectives", ", ".join(objectives)))
    return lines


def drawings(record: Record, thumbnails: Thumbnails) -> list[Drawing]:
    """The strip of training images; a file that is gone keeps its caption."""
    character = record.sweep.character
    captions = [*character.captions, *[""] * len(character.images)]
    return [
        Drawing(thumbnails.uri(path), path.name, caption)
        for path, caption in zip(character.images, captions, strict=False)
    ]


def picture_rows(
    sheet: Sheet, thumbnails: Thumbnails
) -> list[tuple[str, list[tuple[str | None, str, str]]]]:
    """The sheet for the page: per prompt, each picture's URI, its note, its column."""
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


def draw_cell_sheets(
    record: Record, verdict: Verdict, folder: Path
) -> tuple[list[CellSheet], tuple[CellRow, ...]]:
    """Draw a sheet per finished cell, the marked ones first; return them and those left out.

    The first ones are inlined while they are few and small. Decoding is what takes time, so cells
    are left out once a budget of source pixels is spent.
    """
    finished = [cell for cell in record.cells if cell.finished and cell.images]
    finished.sort(key=lambda cell: not verdict.marks(cell))  # stable: grid order within
    drawn: list[CellSheet] = []
    spent = inlined = 0.0
    for index, cell in enumerate(finished):
        if spent > MOST_PIXELS:
            return drawn, tuple(finished[index:])
        spent += source_pixels(record.store, cell)
        sheet = cell_sheet(record, cell)
        if not sheet.rows:
            continue
        picture = draw_sheet(sheet, SMALL_TILE, title=False)
        picture.save(folder / f"{sheet.name}.png")
        source = f"contact_sheets/{quote(sheet.name)}.png"
        if len(drawn) < MOST_INLINE and inlined < MOST_INLINE_PIXELS:
            inlined += picture.width * picture.height
            source = picture_uri(picture)
        marks = verdict.marks(cell)
        drawn.append(CellSheet(sheet.title, marks, source, picture.width, picture.height))
    return drawn, ()


def source_pixels(store: Path, cell: CellRow) -> float:
    """How many pixels a cell's pictures have, judged by the first."""
    files, _ = image_files_cached(store, cell.images)
    try:
        with Image.open(files[0]) as first:
            return float(first.width * first.height * len(files))
    except (OSError, IndexError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 0.0


def failures(record: Record) -> list[tuple[str, str, str]]:
    """Label, state and reason of every cell without a result."""
    found = []
    for cell in record.cells:
        if cell.finished:
            continue
        reason = cell.error or ""
        if cell.state == "diverged":
            at = f" at step {cell.diverged_at}" if cell.diverged_at is not None else ""
            reason = f"the loss stopped being finite{at}" + (f": {reason}" if reason else "")
        label = point_text(cell.values, tuple(record.axes))
        found.append((label, cell.state, reason or "no reason was recorded"))
    return found


def how_it_ran(record: Record) -> list[tuple[str, str]]:
    """The plan and its cost, each in a line."""
    plan, cells = record.sweep.plan, record.cells
    lines: list[tuple[str, str]] = []
    if isinstance(plan.get("steps_asked"), int) and isinstance(plan.get("steps_needed"), int):
        asked_for, needed = plan["steps_asked"], plan["steps_needed"]
        saved = f", {asked_for / needed:.3g} times less" if asked_for > needed > 0 else ""
        text = f"{asked_for:,} asked by the cells, {needed:,} needed{saved}"
        if isinstance(plan.get("trajectories"), int):
            text += f", on {count(plan['trajectories'], 'trajectory', 'trajectories')}"
        lines.append(("training steps", text))
    if isinstance(plan.get("images"), int):
        lines.append(("pictures", f"{plan['images']:,} to draw"))
    estimates = (duration_text(plan.get("seconds")), bytes_text(plan.get("bytes")))
    if any(estimates):
        lines.append(("planned cost", ", ".join(text for text in estimates if text)))
    alone = sum(cell.costs.get("train_seconds", 0.0) for cell in cells)
    paid = sum(cell.costs.get("paid_seconds", 0.0) for cell in cells)
    if alone:
        text = f"{duration_text(paid)} paid, {duration_text(alone)} if each cell ran alone"
        lines.append(("training time", text))
    if record.sweep.started:
        lines.append(("started", when(record.sweep.started)))
    if record.sweep.finished:
        lines.append(("finished", when(record.sweep.finished)))
    lines.append(("machine", machine(record.sweep.environment)))
    return [(label, text) for label, text in lines if text]


def machine(environment: Mapping[str, Any]) -> str:
    """Device, processor and threads in a line."""
    parts = [environment.get("device"), environment.get("processor")]
    if environment.get("threads"):
        parts.append(f"{environment['threads']} threads")
    return ", ".join(str(part) for part in parts if part)


def count(number: int, one: str, many: str) -> str:
    """ "1 trajectory", "7 trajectories"."""
    return f"{number:,} {one if number == 1 else many}"


__all__: Sequence[str] = ("build_page",)
