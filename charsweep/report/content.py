"""The content of a report: plots and contact sheets drawn, tables made, words chosen.

Page, PDF and Markdown are three ways to set the same `Content`; nothing is reckoned in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from charsweep.core.system.images import opened
from charsweep.core.system.names import as_file_name
from charsweep.report.figures.contact_sheets import (
    SMALL_TILE,
    TILE,
    ContactSheet,
    axis_sheets,
    cell_sheet,
    company_sheet,
    front_sheet,
    image_files,
    side_effects_sheet,
)
from charsweep.report.figures.heatmap import draw_heat_maps
from charsweep.report.figures.losses import LossPlots, draw_losses
from charsweep.report.figures.pareto import Front, draw_fronts
from charsweep.report.figures.picture_grids import picture_grids
from charsweep.report.figures.search_trials import draw_history, draw_importance
from charsweep.report.figures.sheet_png import draw_sheet
from charsweep.report.figures.style import Plot, style
from charsweep.report.figures.training_images import training_sheets
from charsweep.report.figures.tuning import TuningPlots, draw_tuning
from charsweep.results import CellResult, Record, Verdict, cells_table, judge
from charsweep.results.advantages import advantages, advantages_table
from charsweep.results.agreement import agreement_table, votes_said
from charsweep.results.compare_methods import comparison_table
from charsweep.results.points import SEED
from charsweep.results.table import Table

# A core decodes about 30 million pixels of PNG a second, and a report should take under a minute.
MOST_PIXELS = 700e6


@dataclass(frozen=True)
class Chapter:
    """What is drawn of one part of a sweep, or of the whole when it has no parts."""

    slug: str  # its folder below plots/ and contact_sheets/; empty for the whole
    record: Record
    verdict: Verdict
    tuning: tuple[TuningPlots, ...]
    history: Plot | None
    importance: Plot | None
    heat_maps: tuple[Plot, ...]
    losses: LossPlots | None
    sheets: tuple[ContactSheet, ...]  # prompts × values
    grids: tuple[ContactSheet, ...]  # values × values

    @property
    def is_part(self) -> bool:
        """Whether it needs a heading and a verdict of its own."""
        return bool(self.slug)


@dataclass(frozen=True)
class CellSheet:
    """A cell's contact sheet and where its image was written."""

    title: str
    marks: tuple[str, ...]
    file: Path
    width: int
    height: int


@dataclass(frozen=True)
class Content:
    """All of a report."""

    record: Record
    verdict: Verdict
    training: tuple[ContactSheet, ...]  # the training images as they were looked at
    chapters: tuple[Chapter, ...]
    fronts: tuple[Front, ...]
    comparison: Table | None
    advantages: Table | None
    sentences: tuple[str, ...]  # of the advantages
    votes: tuple[str, ...]  # sentences: what people's votes say; none without votes
    agreement: Table | None  # of the scores with the votes
    cells: Table
    seeds: Table | None
    cell_sheets: tuple[CellSheet, ...]
    left_out: tuple[CellResult, ...]  # cells without a sheet
    folder: Path  # where the files lie while the report is made

    @property
    def tables(self) -> tuple[Table, ...]:
        """All tables, as they are written to tables/."""
        known = (self.comparison, self.advantages, self.agreement, self.cells, self.seeds)
        return tuple(table for table in known if table is not None)

    def relative(self, file: Path) -> str:
        """A file of the report as the page links it."""
        return file.relative_to(self.folder).as_posix()


def build_content(record: Record, folder: Path) -> Content:
    """Draw everything into plots/ and contact_sheets/ of `folder`."""
    verdict = judge(record)
    plots, sheets = folder / "plots", folder / "contact_sheets"
    plots.mkdir()
    sheets.mkdir()
    with style(words_of(record)):
        parts = record.parts or (record,)
        slugs = slugs_of(record.parts) or [""]
        chapters = tuple(
            build_chapter(part, slug, plots / slug, sheets / slug)
            for part, slug in zip(parts, slugs, strict=True)
        )
        fronts = draw_fronts(record, plots)
    cell_sheets, left_out = draw_cell_sheets(record, verdict, sheets)
    training = training_sheets(record, folder / "training")
    for sheet in training:
        draw_sheet(sheet, TILE).save(sheets / f"{sheet.name}.png")
    return Content(
        record=record,
        verdict=verdict,
        training=training,
        chapters=chapters,
        fronts=fronts,
        comparison=comparison_table(record),
        advantages=advantages_table(record),
        sentences=tuple(advantage.sentence for advantage in advantages(record)),
        votes=votes_said(record),
        agreement=agreement_table(record),
        cells=cells_table.cells_table(record, verdict),
        seeds=cells_table.seeds_table(record),
        cell_sheets=cell_sheets,
        left_out=left_out,
        folder=folder,
    )


def words_of(record: Record) -> str:
    """All that may be written on a plot or a contact sheet, in any order."""
    values = [(axis, value) for cell in record.cells for axis, value in cell.values.items()]
    texts = [str(text) for pair in dict.fromkeys(values) for text in pair]
    for sweep in (part.sweep for part in (record, *record.parts)):
        names = (path.name for path in sweep.character.images)
        texts += [*sweep.axes, *sweep.bases, *sweep.prompts, *sweep.character.captions, *names]
    return "\n".join(texts)


def slugs_of(parts: Sequence[Record]) -> list[str]:
    """A folder name per part, each its own."""
    slugs: list[str] = []
    for index, part in enumerate(parts):
        slug = as_file_name(part.sweep.name) or "part"
        slugs.append(f"{slug}-{index + 1}" if slug in slugs else slug)
    return slugs


def build_chapter(record: Record, slug: str, plots: Path, sheets: Path) -> Chapter:
    """Draw one part."""
    verdict = judge(record)
    # Several seeds are bands in the other plots; alone they are an axis like any other.
    axes = [axis for axis in record.axes if axis != SEED] or list(record.axes)
    along = [sheet for axis in record.axes for sheet in axis_sheets(record, verdict, axis)]
    if record.sweep.search and (found := front_sheet(record, verdict)):
        along.insert(0, found)
    if company := company_sheet(record, verdict):
        along.insert(0, company)
    if effects := side_effects_sheet(record, verdict):
        along.append(effects)
    grids = picture_grids(record, verdict)
    sheets.mkdir(exist_ok=True)
    for sheet in (*along, *grids):
        draw_sheet(sheet, TILE).save(sheets / f"{sheet.name}.png")
    return Chapter(
        slug=slug,
        record=record,
        verdict=verdict,
        tuning=tuple(drawn for axis in axes if (drawn := draw_tuning(record, axis, plots))),
        history=draw_history(record, plots),
        importance=draw_importance(record, plots),
        heat_maps=draw_heat_maps(record, plots),
        losses=draw_losses(record, plots),
        sheets=tuple(along),
        grids=grids,
    )


def draw_cell_sheets(
    record: Record, verdict: Verdict, folder: Path
) -> tuple[tuple[CellSheet, ...], tuple[CellResult, ...]]:
    """Draw a sheet per finished cell, the marked ones first; return them and those left out.

    Decoding is what takes time, so cells are left out once a budget of source pixels is spent.
    """
    finished = [cell for cell in record.cells if cell.finished and cell.images]
    finished.sort(key=lambda cell: not verdict.marks(cell))  # stable: grid order within
    drawn: list[CellSheet] = []
    spent = 0.0
    for index, cell in enumerate(finished):
        if spent > MOST_PIXELS:
            return tuple(drawn), tuple(finished[index:])
        spent += source_pixels(record.store, cell)
        sheet = cell_sheet(record, cell)
        if not sheet.rows:
            continue
        image = draw_sheet(sheet, SMALL_TILE, title=False)
        file = folder / f"{sheet.name}.png"
        image.save(file)
        marks = verdict.marks(cell)
        drawn.append(CellSheet(sheet.title, marks, file, image.width, image.height))
    return tuple(drawn), ()


def source_pixels(store: Path, cell: CellResult) -> float:
    """How many pixels a cell's images have, judged by the first."""
    files = image_files(store, cell.images).files
    try:
        with opened(files[0]) as first:
            return float(first.width * first.height * len(files))
    except (OSError, IndexError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 0.0
