"""Contact sheets of stored image sets: along an axis (prompts × values), and of each cell.

A `ContactSheet` only says which image stands where; the page sets it as a table with real text, the
PDF as images and text, and `sheet_png` as the PNG for a slide.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps

from charsweep.core.columns import regional
from charsweep.core.errors import StoreError
from charsweep.core.store.files import inside
from charsweep.core.system.images import flat, in_colour, opened
from charsweep.core.system.names import as_file_name
from charsweep.results import CellResult, Record, Verdict
from charsweep.results.cells import SCORE, TOGETHER
from charsweep.results.labels import axis_label, point_text, value_text
from charsweep.results.points import SEED
from charsweep.results.records import Value, evenly

MOST_COLUMNS = 12  # of one sheet, references included; more do not fit a page
BOTH = "both"  # the share of images of two in which both are as asked
MOST_VALUES = 40  # of one axis; a denser one is thinned
TILE, SMALL_TILE = 128, 96  # pixels of a image in a sheet of an axis, of a cell
INLINE_TILE = 192
PAPER = "white"

Column = tuple[str, str | None, CellResult | None]  # heading, image set, cell


@dataclass(frozen=True)
class Tile:
    """One place of a sheet: a image, or the word that stands where none is."""

    path: Path | None
    note: str = ""


@dataclass(frozen=True)
class ContactSheet:
    """Rows of images with their labels."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    tiles: tuple[tuple[Tile, ...], ...]  # by row
    references: int = 0  # how many columns in front are no cells
    caption: str = ""
    is_grid: bool = False  # short labels on both sides, not prompts
    chosen: int | None = None  # the column of the recommended cell


@cache
def thumbnail(path: Path | None) -> str | None:
    """An image as a data URI, for the page; None if it cannot be read."""
    image = None if path is None else read_image(path, INLINE_TILE)
    return None if image is None else image_uri(image)


def read_image(path: Path, size: int) -> Image.Image | None:
    """The image in RGB, upright, on white, shrunk to fit `size`; None if it cannot be read."""
    try:
        with opened(path) as source:
            source.draft("RGB", (size, size))
            image = flat(in_colour(ImageOps.exif_transpose(source)), PAPER)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    return image


def image_uri(image: Image.Image) -> str:
    """A image as a WebP data URI; small images lose nothing by it that an eye can see."""
    out = io.BytesIO()
    image.save(out, format="WEBP", quality=88, method=3)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def file_uri(path: Path) -> str:
    """A sheet that was written, as a data URI."""
    with opened(path) as image:
        return image_uri(image.convert("RGB"))


class ImageFiles(NamedTuple):
    """An image set's files in their order, prompt by prompt, with how many seeds each has."""

    files: tuple[Path, ...] = ()
    seeds: int = 1
    prompts: tuple[str, ...] = ()


@cache
def image_files(store: Path, folder: str | None) -> ImageFiles:
    """The files of a stored image set; none where it cannot be read."""
    if not folder:
        return ImageFiles()
    try:
        place = inside(store, folder)
        manifest = json.loads((place / "images.json").read_text(encoding="utf-8"))
        files = tuple(inside(place, str(entry["file"])) for entry in manifest["files"])
        prompts = tuple(map(str, manifest.get("prompts", ())))
        return ImageFiles(files, max(1, len(manifest["seeds"])), prompts)
    except (StoreError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return ImageFiles()


def forget() -> None:
    """Let the next report of this process read manifests and images anew."""
    image_files.cache_clear()
    thumbnail.cache_clear()


def tile_of(store: Path, folder: str | None, prompt: int, seed: int, note: str) -> Tile:
    """The image of one prompt and seed; the true images have one seed for all."""
    found = image_files(store, folder)
    index = prompt * found.seeds + min(seed, found.seeds - 1)
    return Tile(found.files[index]) if index < len(found.files) else Tile(None, note)


def axis_sheets(record: Record, verdict: Verdict, axis: str) -> tuple[ContactSheet, ...]:
    """The exam's first seed along one axis, the others held at the recommended cell's values."""
    chosen = column_cells(record, verdict, axis) if record.is_listed(axis) else []
    if not chosen or not record.sweep.prompts:
        return ()
    held = {name: value for name, value in chosen[0].values.items() if name in record.axes}
    held.pop(axis, None)
    references = reference_columns(record, chosen)
    room = MOST_COLUMNS - len(references)
    chunks = [chosen[start : start + room] for start in range(0, len(chosen), room)]
    sheets = []
    for number, chunk in enumerate(chunks, start=1):
        own = [(heading(axis, cell.values[axis]), cell.images, cell) for cell in chunk]
        part = f" ({number} of {len(chunks)})" if len(chunks) > 1 else ""
        at = f", {point_text(held, tuple(held))}" if held else ""
        name = f"sheet-{as_file_name(axis)}" + (f"-{number}" if len(chunks) > 1 else "")
        title = f"Along {axis_label(axis)}{at}{part}"
        caption = "First seed of the exam."
        sheets.append(prompts_sheet(record, verdict, [*references, *own], name, title, caption))
    return tuple(sheets)


def front_sheet(record: Record, verdict: Verdict) -> ContactSheet | None:
    """What a search found: the recommended cell, the leader on each objective, the Pareto set."""
    ahead = [leader.point for leader in verdict.leaders[:2]]
    best = verdict.recommendation.point
    shown = (*([best] if best else []), *ahead, *verdict.front)
    points = {frozenset(point.values.items()): point for point in shown}.values()
    cells = [next(cell for cell in point.cells if cell.finished) for point in points]
    references = reference_columns(record, cells)
    own = [(trial_label(record, cell), cell.images, cell) for cell in cells]
    if not cells or not record.sweep.prompts:
        return None
    caption = (
        "First seed of the exam; the recommended one, the highest on each score, then the Pareto "
        f"set. Headings: {' · '.join(axis_label(axis) for axis in record.axes)}."
    )
    columns: list[Column] = [*references, *own][:MOST_COLUMNS]
    title = "What the search found"
    return prompts_sheet(record, verdict, columns, "sheet-front", title, caption)


def prompts_sheet(
    record: Record, verdict: Verdict, columns: Sequence[Column], name: str, title: str, caption: str
) -> ContactSheet:
    """The exam's prompts × these columns."""
    cells = [cell for _, _, cell in columns]
    return ContactSheet(
        name=name,
        title=title,
        columns=tuple(label for label, _, _ in columns),
        rows=record.sweep.prompts,
        tiles=tuple(
            tuple(
                tile_of(record.store, folder, prompt, 0, missing(cell))
                for _, folder, cell in columns
            )
            for prompt in range(len(record.sweep.prompts))
        ),
        references=sum(cell is None for cell in cells),
        caption=caption,
        chosen=place_of(verdict.recommendation.cell, cells),
    )


def place_of(chosen: CellResult | None, cells: Sequence[CellResult | None]) -> int | None:
    """Where the recommended cell stands, if it is there."""
    return cells.index(chosen) if chosen is not None and chosen in cells else None


def trial_label(record: Record, cell: CellResult) -> str:
    """A column's heading where every cell differs on every axis: "trial 8: 7.7e-4 · 16"."""
    values = {axis: cell.values[axis] for axis in record.axes if axis in cell.values}
    short = [
        value_text(axis, float(f"{value:.2g}") if isinstance(value, float) else value)
        for axis, value in values.items()
    ]
    text = " · ".join(short)
    return text if cell.trial is None else f"trial {cell.trial}: {text}"


def column_cells(record: Record, verdict: Verdict, axis: str) -> list[CellResult]:
    """One cell per value of the axis: the recommended cell and its neighbours along the axis."""
    centre = centre_cell(record, verdict)
    if centre is None:
        return []
    along = around(record, centre, axis)
    values = [value for value in record.axes[axis] if (value,) in along]
    return [along[value,] for value in evenly(values, MOST_VALUES, centre.values.get(axis))]


def around(record: Record, centre: CellResult, *axes: str) -> dict[tuple[Value, ...], CellResult]:
    """The cells that agree with the centre on every axis but these, by their values on them."""
    others = [axis for axis in record.axes if axis not in axes]
    return {
        tuple(cell.values[axis] for axis in axes): cell
        for cell in record.cells
        if all(axis in cell.values for axis in axes)
        and all(cell.values.get(axis) == centre.values.get(axis) for axis in others)
    }


def centre_cell(record: Record, verdict: Verdict) -> CellResult | None:
    """The cell whose values are held while others vary: the recommended one, or any."""
    if verdict.recommendation.cell is not None:
        return verdict.recommendation.cell
    cells = verdict.leaders[0].point.cells if verdict.leaders else record.cells
    return next((cell for cell in cells if cell.finished), cells[0] if cells else None)


def reference_columns(record: Record, cells: Sequence[CellResult]) -> list[Column]:
    """The true images and the untaught base of every base the cells start from."""
    columns: list[Column] = []
    if record.sweep.truth:
        columns.append(("true picture", record.sweep.truth.images, None))
    used = dict.fromkeys(cell.base for cell in cells)
    for name in used:
        if name in record.sweep.bases:
            label = "untaught base" if len(used) == 1 else f"untaught {name}"
            columns.append((label, record.sweep.bases[name].images, None))
    return columns


def heading(axis: str, value: Value) -> str:
    """A value as a row or column is called; a bare rate or seed would say nothing."""
    word = axis if axis in ("lr", SEED) else ""
    return f"{word} {value_text(axis, value)}".strip()


def missing(cell: CellResult | None) -> str:
    """The word where a image should be."""
    return cell.state if cell is not None and not cell.finished else "not found"


def company_sheet(record: Record, verdict: Verdict) -> ContactSheet | None:
    """Two characters in one picture, as each setting draws them; the best ones, best first."""
    drawn = [cell for cell in record.cells if TOGETHER in cell.parts]
    cells = sorted(drawn, key=lambda cell: -(cell.scores.get(SCORE) or 0.0))[: MOST_COLUMNS - 1]
    both, untaught = cells[0].parts[TOGETHER] if cells else (None, None)
    prompts = image_files(record.store, both).prompts
    if not prompts:  # as where MLflow alone is read, which has pictures of the exam itself
        return None
    columns: list[Column] = [("untaught base", untaught, None)]
    columns += [(company_label(record, cell), cell.parts[TOGETHER][0], cell) for cell in cells]
    left = len(drawn) - len(cells)
    return ContactSheet(
        name="sheet-company",
        title="Both in one picture",
        columns=tuple(label for label, _, _ in columns),
        rows=tuple(regional(prompt).whole for prompt in prompts),
        tiles=tuple(
            tuple(tile_of(record.store, folder, row, 0, "not found") for _, folder, _ in columns)
            for row in range(len(prompts))
        ),
        references=1,
        caption=(
            "First seed of the exam's part together; settings with the highest score first, with "
            "the share of their images in which both are there, each where it should be. Headings: "
            f"{' · '.join(axis_label(axis) for axis in record.axes)}."
            + (f" {left} more are left out." if left else "")
        ),
        chosen=place_of(verdict.recommendation.cell, [cell for _, _, cell in columns]),
    )


def company_label(record: Record, cell: CellResult) -> str:
    """A column's heading: "separate · 0.8 · 1: both 63 %"."""
    values = [value_text(axis, cell.values[axis]) for axis in record.axes if axis in cell.values]
    both = cell.scores.get(BOTH)
    told = f": both {both:.0%}" if both is not None else ""
    return " · ".join(values) + told


def side_effects_sheet(record: Record, verdict: Verdict) -> ContactSheet | None:
    """The parts of the exam as the untaught base and the recommended cell draw them."""
    cell = verdict.recommendation.cell
    if cell is None:
        return None
    rows, tiles = [], []
    for name, (drawn, untaught) in cell.parts.items():
        if name == TOGETHER:  # which has a sheet of its own
            continue
        for index, prompt in enumerate(image_files(record.store, drawn).prompts):
            rows.append(f"{name}: {prompt}")
            pair = (untaught, drawn)
            tiles.append(tuple(tile_of(record.store, f, index, 0, "not found") for f in pair))
    if not rows:
        return None
    return ContactSheet(
        name="sheet-side-effects",
        title="What else teaching did",
        columns=("untaught base", "recommended"),
        rows=tuple(rows),
        tiles=tuple(tiles),
        references=1,
        caption=(
            "Prompts that are not of the exam itself: everybody of the class (others), unrelated "
            "ones (elsewhere), the character in other clothes (changes). The same seed in a row; "
            "the untaught base is asked with the class noun."
        ),
        chosen=1,
    )


def cell_sheet(record: Record, cell: CellResult) -> ContactSheet:
    """Everything one cell drew: the prompts of its sweep's exam × that exam's seeds."""
    sweep = record.part_of(cell).sweep
    seeds = sweep.seeds or (0,)
    tiles = tuple(
        tuple(
            tile_of(record.store, cell.images, prompt, seed, missing(cell))
            for seed in range(len(seeds))
        )
        for prompt in range(len(sweep.prompts))
    )
    return ContactSheet(
        name=f"cell-{as_file_name(cell.cell)}",
        title=point_text(cell.values, tuple(record.axes)),
        columns=tuple(f"seed {seed}" for seed in seeds),
        rows=sweep.prompts,
        tiles=tiles,
    )
