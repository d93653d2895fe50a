"""The images that MLflow shows of an image set; and those images cut up again.

A image of the exam is a row: one prompt, its seeds side by side. MLflow's image grid puts the
same row of several runs beside each other, which single images would not let one compare.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from charsweep.core.store.files import inside, read_json
from charsweep.core.system.images import opened

TILE = 160  # px; a contact sheet of 8 x 2 stays under 1 MB
NOTE_TILE = 96  # px
ROW_TILE = 256  # px; the embedded models' images are 64 and so stay whole
KEY_LENGTH = 60  # of a prompt in a file's name


def contact_sheet(images: Path) -> Image.Image | None:
    """The image set as one image, rows prompts, columns seeds; None without images."""
    rows = list(_rows(images, TILE))
    if not rows:
        return None
    height = rows[0][1].height
    sheet = Image.new("RGB", (max(row.width for _, row in rows), height * len(rows)), "white")
    for index, (_, row) in enumerate(rows):
        sheet.paste(row, (0, index * height))
    return sheet


def strip(images: Path) -> Image.Image | None:
    """The first picture of every prompt in one row, for a note; None without images."""
    rows = [row for _, row in _rows(images, NOTE_TILE)]
    if not rows:
        return None
    seeds = len(read_json(images / "images.json")["seeds"])
    width, height = rows[0].width // seeds, rows[0].height
    picture = Image.new("RGB", (width * len(rows), height), "white")
    for index, row in enumerate(rows):
        picture.paste(row.crop((0, 0, width, height)), (index * width, 0))
    return picture


def exam_rows(images: Path, label: str = "exam") -> Iterator[tuple[str, Image.Image]]:
    """`exam/01 a picture of …` and the picture of that prompt, for each prompt."""
    for prompt, row in _rows(images, ROW_TILE):
        prompts = read_json(images / "images.json")["prompts"]
        yield image_key(label, prompt, prompts[prompt]), row


def image_key(label: str, index: int, text: str = "") -> str:
    """A key that MLflow takes: letters, digits, spaces, `_`, `-`, `.`, and one slash."""
    return f"{plain(label)}/{index + 1:02d} {plain(text)[:KEY_LENGTH]}".strip()


def plain(text: str) -> str:
    """Only what MLflow allows in the name of a picture."""
    return re.sub(r"[^A-Za-z0-9_\-. ]+", "", text).strip()


def index_of(file: str, label: str) -> int | None:
    """Which image of `label` a logged file is, from 0; None if it is none."""
    found = re.match(rf"{re.escape(plain(label))}~(\d+)[ +].*\.png$", file)
    return int(found[1]) - 1 if found else None


def cut(rows: Mapping[int, Path], manifest: Mapping[str, Any], folder: Path) -> None:
    """Undo `exam_rows`: write the tiles of each prompt's row under the names in the manifest."""
    for prompt, path in rows.items():
        with opened(path) as row:
            entries = _of_prompt(manifest, prompt)
            width = row.width // len(entries)
            for column, entry in enumerate(entries):
                tile = row.crop((column * width, 0, (column + 1) * width, row.height))
                tile.save(inside(folder, entry["file"]))


def _rows(images: Path, most: int) -> Iterator[tuple[int, Image.Image]]:
    """Prompt and its images side by side, at most `most` pixels high; an absent one is white."""
    path = images / "images.json"
    manifest = read_json(path) if path.exists() else {"files": []}
    named = [inside(images, entry["file"]) for entry in manifest["files"]]
    present = [path for path in named if path.exists()]
    if not present:
        return
    with opened(present[0]) as first:
        height = min(most, first.height)
        size = round(first.width * height / first.height), height
    for prompt in dict.fromkeys(entry["prompt"] for entry in manifest["files"]):
        entries = _of_prompt(manifest, prompt)
        row = Image.new("RGB", (size[0] * len(entries), height), "white")
        for column, entry in enumerate(entries):
            if images / entry["file"] in present:
                row.paste(_tile(images / entry["file"], size), (column * size[0], 0))
        yield prompt, row


def _tile(path: Path, size: tuple[int, int]) -> Image.Image:
    with opened(path) as image:
        colours = image.convert("RGB")
    return colours.resize(size, Image.Resampling.LANCZOS)


def _of_prompt(manifest: Mapping[str, Any], prompt: int) -> Sequence[Mapping[str, Any]]:
    return [entry for entry in manifest["files"] if entry["prompt"] == prompt]
