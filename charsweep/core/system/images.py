"""Image files: found in a folder, and decoded to upright RGB or RGBA.

Every image is decoded in full where it is first looked at, because a file that is cut short
would otherwise be noticed only in the middle of a sweep.

Only Pillow, no torch: `action=plan` reads the character too.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from charsweep.core.errors import CharacterError

FORMATS = ("PNG", "JPEG", "WEBP")  # what a store holds
DRAWN = (*FORMATS, "AVIF", "BMP", "GIF", "TIFF")  # what people bring
DRAWN_WORDS = "PNG, JPEG, WebP, AVIF, BMP, GIF or TIFF"
ENDINGS = (
    ".png", ".apng", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff",
)  # fmt: skip
# Images in formats that are not read: named in the error, so that none is left out in silence.
FOREIGN_ENDINGS = (
    ".jxl", ".heic", ".heif", ".jp2", ".j2k", ".jpx", ".tga", ".dds", ".exr", ".hdr", ".svg",
    ".psd", ".psb", ".kra", ".clip", ".csp", ".sai", ".sai2", ".xcf", ".ora", ".mdp", ".procreate",
    ".afphoto", ".raw", ".dng", ".cr2", ".nef", ".arw", ".qoi", ".ppm", ".pgm",
)  # fmt: skip
WHOLE = 100_000_000  # pixels; what has more is made smaller as it is decoded, by a whole factor
MAX_PIXELS = 175_000_000  # 700 MB while it is decoded; a scan of A2 at 600 dpi has 139 million
PNG = b"\x89PNG\r\n\x1a\n"
STRIP = 4_000_000  # pixels that are made smaller at a time


class UnusableError(ValueError):
    """What is wrong with one file, and what to do, without its name."""


def open_image(path: Path) -> Image.Image:
    """An image file as RGB: turned as its EXIF says, transparency on white, 8 bits a channel.

    Colour profiles are not applied. Raises `CharacterError`.
    """
    return flat(open_whole(path))


def open_whole(path: Path) -> Image.Image:
    """An image file as `open_image` gives it, but RGBA where it has transparency."""
    try:
        return decoded(read_bytes(path))
    except UnusableError as error:
        raise CharacterError(f"{path}: {error}") from error


@contextmanager
def opened(
    path: Path | BytesIO, formats: tuple[str, ...] = FORMATS, most: int = WHOLE
) -> Iterator[Image.Image]:
    """Like `Image.open`, of few formats and of at most so many pixels: for what is read back.

    A store may have come from somebody else, and of the forty formats that Pillow reads, one runs
    another program. Raises what Pillow raises: OSError, ValueError, SyntaxError,
    `DecompressionBombError`; of more pixels, `UnusableError`, which is a ValueError.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow's own, lower limit, and of odd metadata
        with Image.open(path, formats=formats) as image:
            if image.width * image.height > most:  # before it unfolds into gigabytes
                named = f"{path}: " if isinstance(path, Path) else ""
                raise UnusableError(
                    f"{named}{image.width} × {image.height} pixels is too large: at most "
                    f"{most // 10**6} million are read, reduce it"
                )
            yield image


def flat(image: Image.Image, background: str = "white") -> Image.Image:
    """RGBA over a colour, RGB as it is."""
    if image.mode == "RGB":
        return image
    under = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(under, image).convert("RGB")


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Sort key under which `2.png` comes before `10.png`, whatever the case."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def images_in(folder: Path) -> list[Path]:
    """Files right inside `folder` that are images by content, or say so by their ending."""
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
    return [path for path in names if not path.name.startswith(".") and _is_image(path)]


def _is_image(path: Path) -> bool:
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
    """The magic numbers of the formats in `DRAWN`."""
    if data[:4] == b"RIFF":
        return data[8:12] == b"WEBP"
    if data[4:8] == b"ftyp":
        return data[8:12] in (b"avif", b"avis", b"mif1")
    if data.startswith(b"BM"):  # two letters alone begin many a text: the reserved bytes are 0
        return data[6:10] == bytes(4)
    return data.startswith((PNG, b"\xff\xd8\xff", b"GIF87a", b"GIF89a",
                            b"II*\0", b"MM\0*"))  # fmt: skip


def read_bytes(path: Path) -> bytes:
    """A file's content. Raises `UnusableError`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnusableError(
            f"cannot be read ({error.strerror}): check the file and its permissions"
        ) from error


def decoded(data: bytes) -> Image.Image:
    """Bytes of an image file -> upright RGB or RGBA, every pixel. Raises `UnusableError`.

    More than `WHOLE` pixels are made fewer by a whole factor.
    """
    if not data:
        raise UnusableError("is empty (0 bytes): copy it again")
    if not _has_known_start(data[:12]):
        raise UnusableError(f"its content is not {DRAWN_WORDS}: convert it to PNG, or move it away")
    try:
        try:
            return _decoded(data)
        except UnusableError:
            raise
        except ValueError:  # Pillow's limits on texts, which pictures of other programs go beyond
            if not data.startswith(PNG):
                raise
            return _decoded(_without_texts(data))
    except UnusableError:
        raise
    except Image.DecompressionBombError as error:
        raise UnusableError(f"is too large ({error}): reduce it") from error
    except UnidentifiedImageError as error:
        raise UnusableError("its header is broken: export it again") from error
    except Exception as error:  # Pillow's decoders raise a dozen kinds for broken content
        raise UnusableError(f"cannot be decoded ({error}): export or copy it again") from error


def _decoded(data: bytes) -> Image.Image:
    with opened(BytesIO(data), DRAWN, MAX_PIXELS) as image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # a photograph with a preview of itself
            raise UnusableError(f"holds {frames} images: save the one that you mean as a PNG")
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        if image.width * image.height > WHOLE:
            return _reduced(image, math.isqrt(image.width * image.height // WHOLE) + 1)
        return in_colour(image)


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    """In colour, and smaller by a whole factor; by strips, so that it is never there twice."""
    rows = max(STRIP // image.width // factor, 1) * factor
    size = -(-image.width // factor), -(-image.height // factor)
    small = Image.new("RGBA" if image.has_transparency_data else "RGB", size)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        small.paste(in_colour(strip).reduce(factor), (0, top // factor))
    return small


def _without_texts(data: bytes) -> bytes:
    """A PNG without the chunks that hold texts or a colour profile."""
    kept, place = [data[:8]], 8
    while place + 8 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4])
        if data[place + 4 : place + 8] not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            kept.append(data[place:end])
        place = end
    return b"".join(kept)


def in_colour(image: Image.Image) -> Image.Image:
    """Any mode that files decode to -> RGB, or RGBA where it has transparency."""
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion clips instead of scaling
        image = image.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def message_of(where: str, problems: Sequence[str]) -> str:
    """All that is wrong as one message: one line, or a count and a line for each."""
    if len(problems) == 1:
        return f"{where}: {problems[0]}"
    return "\n".join([f"{where}: {len(problems)} things to mend", *(f"  {p}" for p in problems)])
