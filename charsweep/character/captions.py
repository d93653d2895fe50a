"""Captions that lie beside training images.

From `NAME.txt` beside `NAME.png`, or from `metadata.jsonl` as `imagefolder` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from charsweep.core.errors import CharacterError, shown
from charsweep.core.system.images import UnusableError, message_of, natural_order, read_bytes

METADATA = "metadata.jsonl"


def captions_in(folder: Path, paths: Sequence[Path], problems: list[str]) -> dict[str, str]:
    """File name of an image -> its caption, from `NAME.txt` beside it or from `metadata.jsonl`."""
    texts = _text_captions(folder, paths, problems)
    rows = _metadata_captions(folder / METADATA, paths, problems)
    problems.extend(
        f"{name}: has a caption in {Path(name).stem}.txt and another in {METADATA}: keep one"
        for name in rows
        if name in texts
    )
    return texts | rows


def given_captions(folder: Path, paths: Sequence[Path]) -> dict[str, str]:
    """File name -> caption of the images that have one of their own. Raises `CharacterError`."""
    problems: list[str] = []
    captions = captions_in(folder, paths, problems)
    if problems:
        raise CharacterError(message_of(f"captions in {folder}", problems))
    return captions


def _text_captions(folder: Path, paths: Sequence[Path], problems: list[str]) -> dict[str, str]:
    captions = {}
    for file in sorted(folder.iterdir(), key=lambda path: natural_order(path.name)):
        if file.suffix.lower() != ".txt" or file.name.startswith(".") or file in paths:
            continue
        images = [path.name for path in paths if path.stem == file.stem]
        try:
            if len(images) != 1:
                raise UnusableError(_whose_caption(file, images))
            captions[images[0]] = _one_line(_read_text(file))
        except UnusableError as error:
            problems.append(f"{file.name}: {error}")
    return captions


def _whose_caption(file: Path, images: Sequence[str]) -> str:
    if images:
        return f"is the caption of which image, {' or '.join(images)}? Rename one of them"
    return f"is a caption without an image: add {file.stem}.png, or move the text away"


def _metadata_captions(file: Path, paths: Sequence[Path], problems: list[str]) -> dict[str, str]:
    """Rows `{"file_name": …, "text": …}`, one JSON object per line, as `imagefolder` reads them."""
    if not file.exists():
        return {}
    captions: dict[str, str] = {}
    names = [path.name for path in paths]
    try:
        lines = _read_text(file).splitlines()
    except UnusableError as error:
        problems.append(f"{file.name}: {error}")
        return {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            name, caption = _metadata_row(line, file.parent, names)
            if name in captions:
                raise UnusableError(f"gives {name} a second caption: keep one")
            captions[name] = caption
        except UnusableError as error:
            problems.append(f"{file.name}, line {number}: {error}")
    return captions


def _metadata_row(line: str, folder: Path, names: Sequence[str]) -> tuple[str, str]:
    """One row -> name of an image in the folder, caption. Raises `UnusableError`."""
    given = shown(line.strip(), 60)
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UnusableError(f"{given} is not valid JSON ({error}): mend the line") from error
    if not isinstance(row, Mapping):
        raise UnusableError(f'{given} is no object: write {{"file_name": …, "text": …}}')
    for field in ("file_name", "text"):
        if not isinstance(row.get(field), str):
            raise UnusableError(f'"{field}" is {row.get(field)!r}: a text is needed')
    return _name_in_folder(row["file_name"], folder, names), _one_line(row["text"])


def _name_in_folder(name: str, folder: Path, names: Sequence[str]) -> str:
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise UnusableError(f"{name} points outside the folder: give the name of an image in it")
    if len(path.parts) > 1 and (folder / path).exists():
        raise UnusableError(f"{name} is in a subfolder: move the image beside {METADATA}")
    if path.name not in names:
        raise UnusableError(f"{name} is no image in the folder: add it, or delete the line")
    return path.name


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
