"""A folder of drawings in; checked paths, captions and content digests out, and the pictures.

Everything is looked at before anything is said: one `CharacterError` lists every drawing and every
caption that cannot be used, so a folder is mended in one go. Each drawing is decoded in full here,
because a file that is cut short would otherwise be noticed only in the middle of a sweep.

Only Pillow, no torch: `action=plan` reads the character too.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from charsweep.errors import CharacterError
from charsweep.keys import digest_of
from charsweep.specs import CharacterSpec

FORMATS = ("PNG", "JPEG", "WEBP")
ENDINGS = (".png", ".jpg", ".jpeg", ".jfif", ".webp")
# Pictures in formats that are not read: named in the error, so that none is left out in silence.
FOREIGN_ENDINGS = (".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".svg", ".psd")
MAX_PIXELS = 100_000_000  # about 300 MB decoded; a scan of A4 at 600 dpi has 35 million
METADATA = "metadata.jsonl"


@dataclass(frozen=True)
class Character:
    """The training images in their order, one caption each, and the words that stand for them."""

    name: str
    paths: tuple[Path, ...]
    captions: tuple[str, ...]
    identifier: str
    class_noun: str
    instance_prompt: str
    class_prompt: str
    spec: CharacterSpec


def load_character(
    name: str,
    folder: Path,
    identifier: str,
    class_noun: str,
    instance_prompt: str,
    class_prompt: str,
    min_size: int = 32,
) -> Character:
    """Find, decode and caption the drawings in `folder`; `min_size` is the shorter side in pixels.

    An image without a caption gets the instance prompt. Raises `CharacterError`.
    """
    problems = list(_wrong_words(identifier, class_noun, instance_prompt, class_prompt))
    paths = _pictures_in(folder)
    digests = _checked_digests(paths, min_size, problems)
    texts = _captions_in(folder, paths, problems)
    if not paths:
        problems.append("it holds no PNG, JPEG or WebP: put one drawing or more right into it")
    if problems:
        raise CharacterError(_message(f"character {name}, folder {folder}", problems))
    captions = tuple(texts.get(path.name, instance_prompt) for path in paths)
    spec = CharacterSpec(
        name=name,
        digests=digests,
        captions=captions,
        identifier=identifier,
        class_noun=class_noun,
        instance_prompt=instance_prompt,
        class_prompt=class_prompt,
    )
    return Character(
        name=name,
        paths=tuple(paths),
        captions=captions,
        identifier=identifier,
        class_noun=class_noun,
        instance_prompt=instance_prompt,
        class_prompt=class_prompt,
        spec=spec,
    )


def load_truth(folder: Path, count: int) -> tuple[str, ...]:
    """Content digests of the true pictures `00.png`, `01.png`, …: exactly one per exam prompt.

    Raises `CharacterError`.
    """
    names = [f"{index:02d}.png" for index in range(count)]
    found = {path.name: path for path in _pictures_in(folder)}
    problems = [f"{name} is missing: draw it" for name in names if name not in found]
    problems += [
        f"{name} belongs to none of the {count} exam prompts: rename it or move it away"
        for name in found
        if name not in names
    ]
    digests = _checked_digests([found[name] for name in names if name in found], 1, problems)
    if problems:
        raise CharacterError(_message(f"true pictures of the exam, folder {folder}", problems))
    return digests


def given_captions(folder: Path, paths: Sequence[Path]) -> dict[str, str]:
    """File name -> caption of the images that have one of their own. Raises `CharacterError`."""
    problems: list[str] = []
    captions = _captions_in(folder, paths, problems)
    if problems:
        raise CharacterError(_message(f"captions in {folder}", problems))
    return captions


def open_picture(path: Path) -> Image.Image:
    """An image file as RGB: turned as its EXIF says, transparency on white, 8 bits a channel.

    Colour profiles are not applied. Raises `CharacterError`.
    """
    try:
        return _decode(_read(path))
    except _UnusableError as error:
        raise CharacterError(f"{path}: {error}") from error


def picture_at(image: Image.Image, resolution: int) -> Image.Image:
    """The middle square of an RGB image at `resolution` × `resolution` pixels.

    Training images, references and true pictures are all seen through this one function. The
    whole part of the factor is a mean over blocks, the rest Lanczos: for whole factors this is
    exactly how the embedded world is drawn, without the halos that Lanczos gives flat colours.
    """
    side = min(image.size)
    factor = max(side // resolution, 1)
    side -= side % factor  # at most a few pixels of the edge, so that all blocks are whole
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side)).reduce(factor)
    if square.width == resolution:
        return square
    return square.resize((resolution, resolution), Image.Resampling.LANCZOS)


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Sort key under which `2.png` comes before `10.png`, whatever the case."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


# --- finding ---------------------------------------------------------------------------------


def _pictures_in(folder: Path) -> list[Path]:
    """Files right inside `folder` that are pictures by content, or say so by their ending."""
    try:
        names = sorted(folder.iterdir(), key=lambda path: natural_order(path.name))
    except FileNotFoundError as error:
        raise CharacterError(f"{folder} does not exist: give the folder of the images") from error
    except NotADirectoryError as error:
        raise CharacterError(f"{folder} is a file: give the folder that holds it") from error
    except OSError as error:
        raise CharacterError(
            f"{folder} cannot be read ({error.strerror}): check its permissions"
        ) from error
    return [path for path in names if not path.name.startswith(".") and _is_picture(path)]


def _is_picture(path: Path) -> bool:
    if path.suffix.lower() in ENDINGS + FOREIGN_ENDINGS:
        return not path.is_dir()  # a broken file or link must be reported, not skipped
    try:
        return path.is_file() and _has_known_start(_head(path))
    except OSError:
        return False


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(12)


def _has_known_start(data: bytes) -> bool:
    """The magic numbers of PNG, JPEG and WebP."""
    if data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return True
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


# --- decoding --------------------------------------------------------------------------------


class _UnusableError(Exception):
    """What is wrong with one file, and what to do, without its name."""


def _checked_digests(paths: Iterable[Path], min_size: int, problems: list[str]) -> tuple[str, ...]:
    """Content digests of files that decode and are large enough; the others go to `problems`."""
    digests = []
    for path in paths:
        try:
            data = _read(path)
            width, height = _decode(data).size
            if min(width, height) < min_size:
                raise _UnusableError(
                    f"{width} × {height} pixels is too small: at least {min_size} × {min_size} "
                    "are needed"
                )
            digests.append(digest_of(data))
        except _UnusableError as error:
            problems.append(f"{path.name}: {error}")
    return tuple(digests)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _UnusableError(
            f"cannot be read ({error.strerror}): check the file and its permissions"
        ) from error


def _decode(data: bytes) -> Image.Image:
    """Bytes of an image file -> RGB, every pixel decoded. Raises `_UnusableError`."""
    if not data:
        raise _UnusableError("is empty (0 bytes): copy it again")
    if not _has_known_start(data[:12]):
        raise _UnusableError("its content is not PNG, JPEG or WebP: convert it to PNG")
    try:
        # Pillow warns of odd metadata and of its own, movable, size limit; neither matters here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(BytesIO(data), formats=FORMATS) as image:
                _refuse_bomb(*image.size)
                image.load()
                return _as_rgb(ImageOps.exif_transpose(image))
    except _UnusableError:
        raise
    except Image.DecompressionBombError as error:
        raise _UnusableError(f"is too large ({error}): reduce it") from error
    except UnidentifiedImageError as error:
        raise _UnusableError("its header is broken: export it again") from error
    except Exception as error:  # Pillow's decoders raise a dozen kinds for broken content
        raise _UnusableError(f"cannot be decoded ({error}): export or copy it again") from error


def _refuse_bomb(width: int, height: int) -> None:
    """Known from the header, before a small file unfolds into gigabytes."""
    if width * height > MAX_PIXELS:
        raise _UnusableError(
            f"{width} × {height} pixels is too large: at most {MAX_PIXELS // 10**6} million are "
            "read, reduce it"
        )


def _as_rgb(image: Image.Image) -> Image.Image:
    """Any mode that PNG, JPEG or WebP decode to -> RGB, transparency over white."""
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion clips instead of scaling
        image = image.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


# --- captions --------------------------------------------------------------------------------


def _captions_in(folder: Path, paths: Sequence[Path], problems: list[str]) -> dict[str, str]:
    """File name of an image -> its caption, from `NAME.txt` beside it or from `metadata.jsonl`."""
    texts = _text_captions(folder, paths, problems)
    rows = _metadata_captions(folder / METADATA, paths, problems)
    problems.extend(
        f"{name}: has a caption in {Path(name).stem}.txt and another in {METADATA}: keep one"
        for name in rows
        if name in texts
    )
    return texts | rows


def _text_captions(folder: Path, paths: Sequence[Path], problems: list[str]) -> dict[str, str]:
    captions = {}
    for file in sorted(folder.iterdir(), key=lambda path: natural_order(path.name)):
        if file.suffix.lower() != ".txt" or file.name.startswith(".") or file in paths:
            continue
        images = [path.name for path in paths if path.stem == file.stem]
        try:
            if len(images) != 1:
                raise _UnusableError(_whose_caption(file, images))
            captions[images[0]] = _one_line(_read_text(file))
        except _UnusableError as error:
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
    except _UnusableError as error:
        problems.append(f"{file.name}: {error}")
        return {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            name, caption = _metadata_row(line, file.parent, names)
            if name in captions:
                raise _UnusableError(f"gives {name} a second caption: keep one")
            captions[name] = caption
        except _UnusableError as error:
            problems.append(f"{file.name}, line {number}: {error}")
    return captions


def _metadata_row(line: str, folder: Path, names: Sequence[str]) -> tuple[str, str]:
    """One row -> name of an image in the folder, caption. Raises `_UnusableError`."""
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise _UnusableError(
            f"{_short(line)} is not valid JSON ({error}): mend the line"
        ) from error
    if not isinstance(row, Mapping):
        raise _UnusableError(f'{_short(line)} is no object: write {{"file_name": …, "text": …}}')
    for field in ("file_name", "text"):
        if not isinstance(row.get(field), str):
            raise _UnusableError(f'"{field}" is {row.get(field)!r}: a text is needed')
    return _name_in_folder(row["file_name"], folder, names), _one_line(row["text"])


def _name_in_folder(name: str, folder: Path, names: Sequence[str]) -> str:
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise _UnusableError(f"{name} points outside the folder: give the name of an image in it")
    if len(path.parts) > 1 and (folder / path).exists():
        raise _UnusableError(f"{name} is in a subfolder: move the image beside {METADATA}")
    if path.name not in names:
        raise _UnusableError(f"{name} is no image in the folder: add it, or delete the line")
    return path.name


def _read_text(file: Path) -> str:
    try:
        return _read(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _UnusableError(f"is not UTF-8 text ({error.reason}): save it as UTF-8") from error


def _one_line(text: str) -> str:
    """A caption without line breaks and doubled spaces."""
    caption = " ".join(text.split())
    if not caption:
        raise _UnusableError("the caption is empty: write one, or remove it to use the prompt")
    return caption


# --- words and messages ----------------------------------------------------------------------


def _wrong_words(
    identifier: str, class_noun: str, instance_prompt: str, class_prompt: str
) -> Iterator[str]:
    """What would make the prompts meaningless: the identifier is what training ties to her."""
    words = {
        "identifier": identifier,
        "class_noun": class_noun,
        "instance_prompt": instance_prompt,
        "class_prompt": class_prompt,
    }
    empty = [field for field, text in words.items() if not text.strip()]
    yield from (f"{field} is empty: write it" for field in empty)
    if empty:
        return
    if identifier not in instance_prompt:
        yield (
            f'instance_prompt "{instance_prompt}" does not contain the identifier "{identifier}": '
            f'write, for instance, "a picture of {identifier}"'
        )
    if identifier in class_prompt:
        yield (
            f'class_prompt "{class_prompt}" contains the identifier "{identifier}": name the '
            f'class only, for instance "a picture of {class_noun}"'
        )


def _short(text: str, length: int = 60) -> str:
    text = text.strip()
    return text if len(text) <= length else text[: length - 1] + "…"


def _message(where: str, problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return f"{where}: {problems[0]}"
    return "\n".join([f"{where}: {len(problems)} things to mend", *(f"  {p}" for p in problems)])
