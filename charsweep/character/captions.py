"""Captions that lie beside training images, as trainers write them.

NAME.txt, NAME.caption or NAME.json of NAME.png, or a table of the whole folder: metadata.jsonl as
`imagefolder` reads it, metadata.csv, sd-scripts' metadata (JSON by image), or any such file under
another name in which drawings of the folder are named.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from charsweep.character.folder import Contents
from charsweep.core.errors import shown
from charsweep.core.system.images import UnusableError, read_bytes
from charsweep.core.words import same

METADATA = "metadata"
TEXTS = (".txt", ".caption", ".cap", ".text", ".tags", ".prompt")
TABLES = (".jsonl", ".json", ".csv")
# Columns, the one that is taken first where a row has several: of `imagefolder`, musubi-tuner,
# InvokeAI and ai-toolkit.
FILE_COLUMNS = ("file_name", "image", "image_path", "filename", "file", "path")
CAPTION_COLUMNS = ("text", "caption", "prompt")
TAGS = "tags"  # of sd-scripts' metadata, which it puts after the caption


@dataclass
class Captions:
    """By an image's file name: its caption and the file that has it; and every file read."""

    texts: dict[str, tuple[str, Path]] = field(default_factory=dict)
    files: set[Path] = field(default_factory=set)

    def add(self, image: Path, text: str, file: Path) -> None:
        """Raises `UnusableError` where another says something else of the same image."""
        caption = _one_line(text)
        known, earlier = self.texts.setdefault(image.name, (caption, file))
        if known == caption:
            return
        if earlier == file:
            raise UnusableError(f"gives {image.name} a second caption: keep one")
        raise _TwiceError(
            f"{image.name}: has a caption in {earlier.name} and another in {file.name}: keep one"
        )


class _TwiceError(UnusableError):
    """Said of the image, not of the file."""


def captions_in(contents: Contents, problems: list[str]) -> Captions:
    """The captions of a folder's drawings; what cannot be used goes to `problems`."""
    found = Captions()
    stray = []
    for file in contents.others:
        ending = file.suffix.lower()
        if ending not in TEXTS + TABLES or not file.is_file():
            continue
        beside = file.parent == contents.folder
        own = _named(file.stem, contents.drawings) if beside else []
        if ending in TABLES and not own:
            _read_table(file, contents, found, problems)
        elif own:
            _read_own(file, own, found, problems)
        elif _named(file.stem, list(contents.aside)):  # of a mask: no caption of ours
            continue
        elif beside:
            stray.append(file)
    for file in stray:
        problems.append(f"{file.name}: {_whose(file, contents.drawings, found)}")
    return found


def _read_own(file: Path, own: Sequence[Path], found: Captions, problems: list[str]) -> None:
    """A file with the caption of one image."""
    try:
        image = _the_one(own)
        text: str | None = _read_text(file)
        if file.suffix.lower() == ".json":
            text = _caption_of(json.loads(text or ""))
        if text is not None:  # a picture's other particulars are no caption
            found.files.add(file)
            found.add(image, text, file)
    except _TwiceError as error:
        problems.append(str(error))
    except (json.JSONDecodeError, RecursionError) as error:
        problems.append(f"{file.name}: is not valid JSON ({error}): mend it")
    except UnusableError as error:
        problems.append(f"{file.name}: {error}")


def _read_table(file: Path, contents: Contents, found: Captions, problems: list[str]) -> None:
    """A file with the captions of many; one under another name than metadata may be no such."""
    strict = file.stem.casefold() == METADATA
    try:
        rows = list(_rows(file))
    except UnusableError as error:
        if strict:
            problems.append(f"{file.name}: {error}")
        return
    for where, row in rows:
        try:
            if isinstance(row, UnusableError):
                raise row
            image = _image_of(row, file.parent, contents.drawings)
            if image is None:
                if strict:
                    _check_aside(row, [*contents.aside, *contents.loose_masks])
                continue
            found.files.add(file)
            found.add(image, _text_of(row), file)
        except _TwiceError as error:
            problems.append(str(error))
        except UnusableError as error:
            if strict or file in found.files:
                problems.append(f"{file.name}, {where}: {error}")


Row = Mapping[str, Any] | UnusableError  # with its file's name in the first of FILE_COLUMNS


def _rows(file: Path) -> Iterator[tuple[str, Row]]:
    """Where each row stands, and the row, or what is wrong with it. Raises `UnusableError`."""
    text, ending = _read_text(file), file.suffix.lower()
    if ending == ".csv":
        reader = csv.DictReader(io.StringIO(text))
        try:
            for row in reader:
                yield f"line {reader.line_num}", {str(k): v for k, v in row.items() if k}
        except csv.Error as error:
            raise UnusableError(f"is not valid CSV ({error}): mend it") from error
    elif ending == ".jsonl":
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                yield f"line {number}", _object(line)
    else:
        yield from _json_rows(text)


def _object(line: str) -> Row:
    given = shown(line.strip(), 60)
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        return UnusableError(f"{given} is not valid JSON ({error}): mend the line")
    if isinstance(row, Mapping):
        return row
    return UnusableError(f'{given} is no object: write {{"file_name": …, "text": …}}')


def _json_rows(text: str) -> Iterator[tuple[str, Row]]:
    """`[{"file_name": …, "caption": …}]`, or `{NAME: "…"}`, or `{NAME: {"caption": …}}`."""
    try:
        whole = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UnusableError(f"is not valid JSON ({error}): mend it") from error
    if isinstance(whole, list):
        for number, row in enumerate(whole, start=1):
            known = isinstance(row, Mapping)
            yield f"entry {number}", row if known else UnusableError("is no object")
    elif isinstance(whole, Mapping):
        for name, row in whole.items():
            own = row if isinstance(row, Mapping) else {CAPTION_COLUMNS[0]: row}
            yield shown(name), {FILE_COLUMNS[0]: name, **own}
    else:
        raise UnusableError('holds no captions: write {"NAME.png": "…"}')


def _image_of(row: Mapping[str, Any], folder: Path, drawings: Sequence[Path]) -> Path | None:
    """The drawing that a row is of; None for what is none. Raises `UnusableError`."""
    name = _name_in(row)
    path, place = Path(name.replace("\\", "/")), drawings[0].parent.absolute() if drawings else None
    if ".." in path.parts or (path.is_absolute() and path.parent != place):
        raise UnusableError(f"{name} points outside the folder: give the name of an image in it")
    if len(path.parts) > 1 and folder / path not in drawings and (folder / path).exists():
        raise UnusableError(f"{name} is in a subfolder: move the image beside the captions")
    own = _named(path.name, drawings)
    return _the_one(own) if own else None


def _check_aside(row: Mapping[str, Any], aside: Sequence[Path]) -> None:
    name = _name_in(row)
    if not _named(Path(name).name, aside):
        raise UnusableError(f"{name} is no image in the folder: add it, or take it out")


def _text_of(row: Mapping[str, Any]) -> str:
    """The caption in a row of a table. Raises `UnusableError`."""
    text = _caption_of(row)
    if text is None:
        raise UnusableError(
            f"has no caption, its columns are {', '.join(row)}: call the one with the caption "
            f"{CAPTION_COLUMNS[0]}"
        )
    return text


def _name_in(row: Mapping[str, Any]) -> str:
    """The file that a row says it is of. Raises `UnusableError`."""
    column = next((name for name in FILE_COLUMNS if name in row), None)
    if column is None:
        raise UnusableError(
            f"names no image, its columns are {', '.join(row)}: call the one with the file's "
            f"name {FILE_COLUMNS[0]}"
        )
    if not isinstance(row[column], str):
        raise UnusableError(f'"{column}" is {row[column]!r}: a text is needed')
    return str(row[column])


def _named(name: str, images: Sequence[Path]) -> list[Path]:
    """The images of that name, with or without its ending, however its letters are written."""
    wanted = same(name).casefold()
    exact = [path for path in images if same(path.name).casefold() == wanted]
    return exact or [path for path in images if same(path.stem).casefold() == wanted]


def _the_one(own: Sequence[Path]) -> Path:
    if len(own) > 1:
        names = " or ".join(path.name for path in own)
        raise UnusableError(f"is the caption of which image, {names}? Rename one of them")
    return own[0]


def _caption_of(row: Any) -> str | None:
    """The caption in a row, its tags after it; None where there is none."""
    if isinstance(row, str):
        return row
    if not isinstance(row, Mapping):
        return None
    column = next((name for name in CAPTION_COLUMNS if row.get(name) is not None), None)
    tags = row.get(TAGS)
    found = {column: row[column]} if column else {}
    if tags:
        found[TAGS] = ", ".join(map(str, tags)) if isinstance(tags, list) else tags
    for name, value in found.items():
        if not isinstance(value, str):
            raise UnusableError(f'"{name}" is {shown(repr(value), 60)}: a text is needed')
    return ", ".join(found.values()) if found else None


def _whose(file: Path, drawings: Sequence[Path], found: Captions) -> str:
    """What to do with a caption of no image: perhaps its name is mistyped."""
    bare = {path.stem: path.name for path in drawings if path.name not in found.texts}
    near = difflib.get_close_matches(file.stem, bare, 1, 0.5)
    near += sorted(filter(file.stem.startswith, bare), key=len, reverse=True)
    if not near:
        return f"is a caption without an image: add {file.stem}.png, or move the text away"
    return (
        f"is a caption without an image: rename it {near[0]}{file.suffix} if it is that of "
        f"{bare[near[0]]}, or move the text away"
    )


def _read_text(file: Path) -> str:
    try:
        return read_bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnusableError(f"is not UTF-8 text ({error.reason}): save it as UTF-8") from error


def _one_line(text: str) -> str:
    """A caption without line breaks and doubled spaces."""
    caption = " ".join(text.split())
    if not caption:
        raise UnusableError("the caption is empty: write one, or remove it to use the prompt")
    return caption
