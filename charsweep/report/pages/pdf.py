"""A report's content in, report.pdf out: the paper on this sweep, with vector plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_pdf import PdfPages

from charsweep.report.content import Chapter, Content
from charsweep.report.figures.contact_sheets import Sheet, read_picture
from charsweep.report.figures.style import style
from charsweep.report.pages.pdf_page import LEFT, ROOM, Paper
from charsweep.report.pages.pdf_table import set_table
from charsweep.report.pages.pdf_text import LEADING, clipped, width, wrap
from charsweep.results import facts
from charsweep.results.labels import LEVELS, metric_label
from charsweep.results.records import Record

MOST_ROWS = 60  # of a table; the rest is in tables/
MOST_FAILURES = 40
MOST_TILES = 700  # pictures, so that the file stays small enough to be sent by mail
PIXELS = 144  # of a picture
GRID_HEIGHT = 660.0
MOST_KEPT = 730.0  # points; a sheet that needs less is not broken over two pages
STRIP = 76.0  # points of a drawing in the strip


def write_pdf(content: Content, path: Path) -> None:
    """Write the PDF; the same content gives the same bytes."""
    record = content.record
    about = {
        "Title": record.sweep.question or record.sweep.name,
        "Subject": f"charsweep, sweep {record.sweep.name}",
        "Creator": "charsweep",
        "CreationDate": None,
        "ModDate": None,
    }
    with style(), PdfPages(path, metadata=about) as pages:
        paper = Paper(pages, f"charsweep · {record.sweep.name}")
        set_title(paper, record)
        set_verdict(paper, content)
        set_comparison(paper, content)
        budget = MOST_TILES
        for chapter in content.chapters:
            budget = set_chapter(paper, chapter, budget)
        set_fronts(paper, content)
        set_cells(paper, content)
        for sheet in content.training:
            set_sheet(paper, sheet)
        set_failures(paper, record)
        set_how(paper, record)
        paper.finish()


def set_title(paper: Paper, record: Record) -> None:
    """The question, what was asked, the drawings that teach the character, the exam."""
    sweep, character = record.sweep, record.sweep.character
    paper.paragraph(f"charsweep · {sweep.name} · {facts.state_line(record)}", 8, colour="#667085")
    paper.paragraph(sweep.question or sweep.name, 18, kind="bold", after=8)
    paper.pairs(facts.asked(record))
    named = character.identifier or character.name or "The character"
    noun = f", a {character.class_noun}" if character.class_noun else ""
    paper.heading(f"The character: {named}{noun}", 10.5, keep=STRIP + 40)
    set_strip(paper, record)
    count = f"{len(sweep.prompts)} prompts × {len(sweep.seeds)} seeds"
    paper.heading(f"The exam: {count}", 10.5, keep=30)
    for number, prompt in enumerate(sweep.prompts, start=1):
        paper.paragraph(f"{number}. {prompt}", 8.5, after=0)


def set_strip(paper: Paper, record: Record) -> None:
    """The drawings in rows with their captions below."""
    character = record.sweep.character
    captions = [*character.captions, *[""] * len(character.images)]
    each = int((ROOM + 8) // (STRIP + 8))
    known = list(zip(character.images, captions, strict=False))
    for start in range(0, len(known), each):
        row = known[start : start + each]
        texts = [clipped(wrap(c or path.name, STRIP, 6.5), 5) for path, c in row]
        height = STRIP + max(map(len, texts)) * 6.5 * LEADING + 8
        paper.need(height)
        for index, ((path, _), lines) in enumerate(zip(row, texts, strict=True)):
            x = LEFT + index * (STRIP + 8)
            place_picture(paper, path, "not found", x, STRIP)
            for number, line in enumerate(lines, start=1):
                base = paper.y + STRIP + 2 + number * 6.5 * LEADING
                paper.write(x, base, line, 6.5, "#667085")
        paper.y += height


def place_picture(paper: Paper, path: Path | None, note: str, x: float, side: float) -> None:
    """A picture at the cursor's height, or the word that stands for it."""
    picture = None if path is None else read_picture(path, PIXELS)
    if picture is None:
        paper.gone(note or "not found", x, paper.y, side)
    else:
        paper.picture(picture, x, paper.y, side)


def set_verdict(paper: Paper, content: Content) -> None:
    """The verdict on a card, what a careful reader should know below it."""
    paper.heading("Verdict")
    paper.card(content.verdict.sentences)
    for remark in content.verdict.remarks:
        paper.muted(remark)
    for note in content.record.notes:
        paper.paragraph(f"Note: {note}", 8.2, colour="#c8321f")


def set_comparison(paper: Paper, content: Content) -> None:
    """The methods' table, and what speaks for which."""
    if content.comparison is None:
        return
    set_table(paper, content.comparison, MOST_ROWS)
    if content.advantages is not None:
        paper.heading(content.advantages.title, 10.5, keep=60)
        paper.bullets(content.sentences)
        for note in content.advantages.notes:
            paper.muted(note)


def set_chapter(paper: Paper, chapter: Chapter, budget: int) -> int:
    """One part: question, verdict, plots, pictures; returns how many pictures may still come."""
    if chapter.is_part:
        sweep = chapter.record.sweep
        paper.heading(f"{sweep.name}: {sweep.question or sweep.name}", keep=150)
        paper.pairs(facts.asked(chapter.record))
        paper.card(chapter.verdict.sentences, 9.2)
        for remark in chapter.verdict.remarks:
            paper.muted(remark)
    small = 10.5 if chapter.is_part else 13.0
    set_tuning(paper, chapter, small)
    if chapter.losses:
        paper.heading("Loss per step", small, keep=200)
        paper.plots(chapter.losses.panels, 1, 400)
        raw = "; faint: every step" if chapter.losses.raw else ""
        paper.muted(
            f"Bold: mean over a twentieth of the curve{raw}. A red cross: the loss stopped being "
            "finite there."
        )
    sheets = [*chapter.grids, *chapter.sheets]
    if sheets:
        paper.heading("Pictures side by side", small, keep=140)
    for index, sheet in enumerate(sheets):
        tiles = len(sheet.rows) * len(sheet.columns)
        if tiles > budget:
            left = len(sheets) - index
            paper.muted(f"{left} more sheets are in contact_sheets/, to keep this file small.")
            break
        budget -= tiles
        set_sheet(paper, sheet)
    return budget


def set_tuning(paper: Paper, chapter: Chapter, size: float) -> None:
    """All plots that say how scores depend on the axes."""
    if not chapter.tuning:
        return
    paper.heading("Tuning", size, keep=220)
    paper.muted(
        "Dashed: the untaught base on the same exam. Solid: the true pictures of the exam. Dotted: "
        "the drawings compared with each other. A red cross at the bottom: the cell diverged "
        "(a circle: it failed)."
    )
    if chapter.history:
        paper.heading("The search, trial by trial", 9.5, keep=170)
        paper.plots([chapter.history], 1)
    if chapter.importance:
        paper.heading("Which axis matters", 9.5, keep=100)
        paper.plots([chapter.importance], 1)
        paper.muted("The share of each score's variation that an axis explains (Optuna).")
    if chapter.heat_maps:
        paper.heading("Two axes at once", 9.5, keep=150)
        paper.plots(chapter.heat_maps)
        paper.muted("Framed: the best. A red cross: nothing finished there.")
    for plots in chapter.tuning:
        paper.heading(f"Along {plots.label}", 9.5, keep=190)
        paper.legend(plots.legend_title, plots.legend)
        if plots.dots:
            paper.muted("Every dot is a trial, early ones dark; a ring marks the best.")
        if plots.banded:
            paper.muted("Means over training seeds; bands: their 95 % intervals (bootstrap).")
        if plots.thin:
            paper.muted("Thin: single combinations of the other axes. Bold: their means.")
        paper.plots(plots.panels)


def set_sheet(paper: Paper, sheet: Sheet) -> None:
    """Rows of pictures with their labels; the headings again on each page."""
    side = min(130.0, max(30.0, *(width(row, 7) for row in sheet.rows)) + 8)
    tile = min(72.0, (ROOM - side) / len(sheet.columns) - 3)
    if sheet.is_grid:  # to be seen at a glance, so on one page if the pictures stay visible
        tile = min(tile, max(30.0, GRID_HEIGHT / len(sheet.rows) - 3))
    whole = len(sheet.rows) * (tile + 3) + 60
    paper.heading(sheet.title, 9.5, keep=whole if whole < MOST_KEPT else tile + 60)
    if sheet.caption:
        paper.muted(sheet.caption)
    set_sheet_head(paper, sheet, side, tile)
    for label, tiles in zip(sheet.rows, sheet.tiles, strict=True):
        if tile + 3 > paper.left_over:
            paper.turn()
            set_sheet_head(paper, sheet, side, tile)
        lines = clipped(wrap(label, side - 7, 7), max(1, int(tile / (7 * LEADING))))
        for index, line in enumerate(lines):
            middle = paper.y + tile / 2 + (index - len(lines) / 2 + 0.75) * 7 * LEADING
            paper.write(LEFT, middle, line, 7)
        for index, one in enumerate(tiles):
            place_picture(paper, one.path, one.note, LEFT + side + index * (tile + 3), tile)
        paper.y += tile + 3
    paper.y += 4


def set_sheet_head(paper: Paper, sheet: Sheet, side: float, tile: float) -> None:
    """The columns' names, wrapped over their pictures."""
    longest = max(width(word, 1) for text in sheet.columns for word in text.split() or [""])
    size = min(6.5, tile / max(longest, 1e-6))
    heads = [clipped(wrap(text, tile, size), 4) for text in sheet.columns]
    deep = max(map(len, heads))
    for index, lines in enumerate(heads):
        for number, line in enumerate(lines):
            at = LEFT + side + index * (tile + 3) + (tile - width(line, size)) / 2
            base = paper.y + (deep - len(lines) + number + 0.8) * size * LEADING
            paper.write(at, base, line, size)
    paper.y += deep * size * LEADING + 2


def set_fronts(paper: Paper, content: Content) -> None:
    """The Pareto plots, or why one would say nothing."""
    if not content.fronts:
        return
    paper.heading("Pareto fronts", keep=260)
    paper.muted("Filled: no other point equals or beats it on both counts and beats it on one.")
    for front in content.fronts:
        if front.plot:
            paper.plots([front.plot], 1, 350)
        else:
            paper.muted(f"{front.title.capitalize()}: {front.note}")


def set_cells(paper: Paper, content: Content) -> None:
    """Every cell, means over seeds, and what the columns mean."""
    if content.cells.rows:
        set_table(paper, content.cells, MOST_ROWS)
        paper.muted(
            "Small figures: difference from the untaught base on the same exam. Visual quality is "
            f"read off the quality ratio: {LEVELS}. Time alone is what a cell would cost by "
            "itself, time paid what it cost here, where cells share training."
        )
    if content.seeds is not None:
        set_table(paper, content.seeds, MOST_ROWS, 10.5)
    known = [metric_label(metric) for metric in content.record.metrics]
    paper.pairs([(label.short, label.meaning) for label in known if label.meaning], 8)


def set_failures(paper: Paper, record: Record) -> None:
    """Which cells gave no result, and why."""
    failures = facts.failures(record)
    paper.heading("What failed", keep=30)
    if not failures:
        paper.paragraph("Nothing: no cell diverged or failed.")
    lines = [(label, f"{state}: {reason}") for label, state, reason in failures]
    paper.pairs(lines[:MOST_FAILURES])
    if len(lines) > MOST_FAILURES:
        paper.muted(f"{len(lines) - MOST_FAILURES} more are in tables/cells.csv.")


def set_how(paper: Paper, record: Record) -> None:
    """The plan, its cost, and how to do it again."""
    paper.heading("How it was run", keep=60)
    versions = [f"{name} {value}" for name, value in record.sweep.environment.items() if value]
    lines = facts.how_it_ran(record)
    paper.pairs([*lines, *([("versions", " · ".join(versions))] if versions else [])])
    set_commands(paper, record.sweep.command.splitlines())


def set_commands(paper: Paper, commands: Sequence[str]) -> None:
    """The commands that reproduce or resume it."""
    if commands:
        paper.heading("To reproduce or resume it", 10.5, keep=40)
    for command in commands:
        paper.code(command)
