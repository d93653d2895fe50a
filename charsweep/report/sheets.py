"""Image sets in, contact sheets out: along an axis (prompts × values) and per cell.

A `Sheet` only says which picture stands where; the page sets it as a table with real text, and
`draw_sheet` makes the PNG for a slide or a paper.
"""

from __future__ import annotations

import base64
import io
import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont, ImageOps

from charsweep.report.data import CellRow, Record, Value
from charsweep.report.groups import SEED
from charsweep.report.labels import as_file_name, axis_label, point_text, value_text
from charsweep.report.verdict import Verdict

MOST_COLUMNS = 12  # of one sheet, references included; more do not fit a page
MOST_VALUES = 40  # of one axis; a denser one is thinned
TILE, SMALL_TILE = 128, 96  # pixels of a picture in a sheet of an axis, of a cell
INLINE_TILE = 192
GAP, PAPER, FAINT, TEXT = 4, "white", "#eef0f3", "#1f2430"


@dataclass(frozen=True)
class Tile:
    """One place of a sheet: a picture, or the word that stands where none is."""

    path: Path | None
    note: str = ""


@dataclass(frozen=True)
class Sheet:
    """Rows of pictures with their labels."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    tiles: tuple[tuple[Tile, ...], ...]  # by row
    references: int = 0  # how many columns in front are no cells


class Thumbnails:
    """Pictures as they are put in sheets, each read once per report."""

    def __init__(self) -> None:
        self._uris: dict[tuple[Path, int], str | None] = {}

    def uri(self, path: Path | None, size: int = INLINE_TILE) -> str | None:
        """A data URI of the picture at most `size` wide and high; None if it cannot be read."""
        if path is None:
            return None
        if (path, size) not in self._uris:
            picture = read_picture(path, size)
            self._uris[path, size] = None if picture is None else picture_uri(picture)
        return self._uris[path, size]


def read_picture(path: Path, size: int) -> Image.Image | None:
    """The picture in RGB, upright, on white, shrunk to fit `size`; None if it cannot be read."""
    try:
        with Image.open(path) as opened:
            opened.draft("RGB", (size, size))
            picture = ImageOps.exif_transpose(opened)
            if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
                layer = picture.convert("RGBA")
                picture = Image.new("RGB", layer.size, PAPER)
                picture.paste(layer, mask=layer.getchannel("A"))
            picture = picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    return picture


def picture_uri(picture: Image.Image) -> str:
    """A picture as a WebP data URI; small pictures lose nothing by it that an eye can see."""
    out = io.BytesIO()
    picture.save(out, format="WEBP", quality=88, method=3)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def image_files(store: Path, folder: str | None) -> tuple[tuple[Path, ...], int]:
    """An image set's pictures in their order, prompt by prompt, and how many seeds each has."""
    if not folder:
        return (), 1
    place = store / folder
    try:
        manifest = json.loads((place / "images.json").read_text(encoding="utf-8"))
        files = tuple(place / Path(entry["file"]).name for entry in manifest["files"])
        return files, max(1, len(manifest["seeds"]))
    except (OSError, ValueError, KeyError, TypeError):
        return (), 1


def tile_of(store: Path, folder: str | None, prompt: int, seed: int, note: str) -> Tile:
    """The picture of one prompt and seed; the true pictures have one seed for all."""
    files, seeds = image_files_cached(store, folder)
    index = prompt * seeds + min(seed, seeds - 1)
    return Tile(files[index]) if index < len(files) else Tile(None, note)


@cache
def image_files_cached(store: Path, folder: str | None) -> tuple[tuple[Path, ...], int]:
    """`image_files`, remembered until `forget` is called at the end of a report."""
    return image_files(store, folder)


def forget() -> None:
    """Let the next report of this process read the manifests anew."""
    image_files_cached.cache_clear()


def axis_sheets(record: Record, verdict: Verdict, axis: str) -> tuple[Sheet, ...]:
    """The exam's first seed along one axis, the other axes held at the best cell's values."""
    chosen = column_cells(record, verdict, axis)
    if not chosen or not record.sweep.prompts:
        return ()
    held = {name: value for name, value in chosen[0].values.items() if name in record.axes}
    held.pop(axis, None)
    references = reference_columns(record, chosen)
    room = MOST_COLUMNS - len(references)
    chunks = [chosen[start : start + room] for start in range(0, len(chosen), room)]
    sheets = []
    for number, chunk in enumerate(chunks, start=1):
        folders = [*references, *((cell_label(axis, cell), cell.images, cell) for cell in chunk)]
        tiles = tuple(
            tuple(
                tile_of(record.store, folder, prompt, 0, missing(cell))
                for _, folder, cell in folders
            )
            for prompt in range(len(record.sweep.prompts))
        )
        part = f" ({number} of {len(chunks)})" if len(chunks) > 1 else ""
        at = f", {point_text(held, tuple(held))}" if held else ""
        slug = as_file_name(axis)
        sheets.append(
            Sheet(
                name=f"sheet-{slug}" + (f"-{number}" if len(chunks) > 1 else ""),
                title=f"Along {axis_label(axis)}{at}{part}",
                columns=tuple(label for label, _, _ in folders),
                rows=record.sweep.prompts,
                tiles=tiles,
                references=len(references),
            )
        )
    return tuple(sheets)


def column_cells(record: Record, verdict: Verdict, axis: str) -> list[CellRow]:
    """One cell per value of the axis: the best cell and its neighbours along the axis."""
    best = verdict.winners[0].point.cells if verdict.winners else record.cells
    centre = next((cell for cell in best if cell.finished), best[0] if best else None)
    if centre is None:
        return []

    def same(cell: CellRow) -> bool:
        return all(
            cell.values.get(name) == centre.values.get(name) for name in record.axes if name != axis
        )

    along = {cell.values[axis]: cell for cell in record.cells if axis in cell.values and same(cell)}
    cells = [along[value] for value in record.axes[axis] if value in along]
    if len(cells) <= MOST_VALUES:
        return cells
    kept = {round(i * (len(cells) - 1) / (MOST_VALUES - 1)) for i in range(MOST_VALUES)}
    return [cell for index, cell in enumerate(cells) if index in kept or cell is centre]


Column = tuple[str, str | None, CellRow | None]


def reference_columns(record: Record, cells: Sequence[CellRow]) -> list[Column]:
    """The true pictures and the untaught base of every base the cells start from."""
    columns: list[Column] = []
    if record.sweep.truth:
        columns.append(("true picture", record.sweep.truth.images, None))
    used = dict.fromkeys(cell.base for cell in cells)
    for name in used:
        if name in record.sweep.bases:
            label = "untaught base" if len(used) == 1 else f"untaught {name}"
            columns.append((label, record.sweep.bases[name].images, None))
    return columns


def cell_label(axis: str, cell: CellRow) -> str:
    """A column's heading."""
    value: Value = cell.values[axis]
    word = axis if axis in ("lr", SEED) else ""
    return f"{word} {value_text(axis, value)}".strip()


def missing(cell: CellRow | None) -> str:
    """The word where a picture should be."""
    return cell.state if cell is not None and not cell.finished else "not found"


def cell_sheet(record: Record, cell: CellRow) -> Sheet:
    """Everything one cell drew: prompts × the exam's seeds."""
    seeds = record.sweep.seeds or (0,)
    tiles = tuple(
        tuple(
            tile_of(record.store, cell.images, prompt, seed, missing(cell))
            for seed in range(len(seeds))
        )
        for prompt in range(len(record.sweep.prompts))
    )
    return Sheet(
        name=f"cell-{as_file_name(cell.cell)}",
        title=point_text(cell.values, tuple(record.axes)),
        columns=tuple(f"seed {seed}" for seed in seeds),
        rows=record.sweep.prompts,
        tiles=tiles,
    )


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which travels with matplotlib."""
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


def draw_sheet(sheet: Sheet, tile: int, title: bool = True) -> Image.Image:
    """The sheet as a picture: prompts on the left, headings above, a note for what is missing."""
    size = max(9, round(tile / 9.5))
    side, line = round(tile * 1.55), round(size * 1.3)
    headings = [wrap(label, tile, size, 2) for label in sheet.columns]
    top = line * max((len(lines) for lines in headings), default=1) + GAP * 2
    above = round(line * 1.5) if title else 0
    title_lines = wrap(sheet.title, side + len(sheet.columns) * (tile + GAP), size, 2)
    above = line * len(title_lines) + GAP if title else 0
    width = side + len(sheet.columns) * (tile + GAP) + GAP
    height = above + top + len(sheet.rows) * (tile + GAP)
    paper = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(paper)
    if title:
        pen.text((GAP * 2, GAP), "\n".join(title_lines), TEXT, font=font(size))
    for column, lines in enumerate(headings):
        x = side + column * (tile + GAP) + tile / 2
        pen.text((x, above + top / 2), "\n".join(lines), TEXT, font(size), "mm", align="center")
    for row, label in enumerate(sheet.rows):
        y = above + top + row * (tile + GAP)
        words = "\n".join(wrap(label, side - GAP * 4, size, max(1, tile // line)))
        pen.text((GAP * 2, y + tile / 2), words, TEXT, font(size), "lm")
        for column, place in enumerate(sheet.tiles[row]):
            x = side + column * (tile + GAP)
            picture = None if place.path is None else read_picture(place.path, tile)
            if picture is None:
                pen.rectangle((x, y, x + tile - 1, y + tile - 1), fill=FAINT)
                note = place.note or "not found"
                pen.text((x + tile / 2, y + tile / 2), note, "#c8321f", font(size), "mm")
                continue
            paper.paste(enlarge(picture, tile), (x, y))
    return paper


def enlarge(picture: Image.Image, tile: int) -> Image.Image:
    """A picture smaller than its tile drawn at the tile's size, proportions kept."""
    scale = tile / max(picture.size)
    if scale <= 1:
        return picture
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def wrap(text: str, width: int, size: int, most: int) -> list[str]:
    """The text in at most so many lines of about `width` pixels, the rest as an ellipsis."""
    letters = max(4, int(width / (size * 0.58)))
    lines = textwrap.wrap(text, letters, max_lines=most, placeholder="…")
    return lines or [""]
