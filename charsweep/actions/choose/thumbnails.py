"""Small versions of stored images, made once: `sweeps/NAME/thumbnails/<image set>/<number>.webp`.

An image set never changes under its key, so neither do these. They can be deleted at any time.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from charsweep.core.store.files import replacing
from charsweep.core.system.images import opened
from charsweep.report.figures.contact_sheets import read_image

SIZE = 256  # pixels of the longer side; smaller images are shown as they are
LARGE = 1024  # of a drawing, which may be a scan
QUALITY = 85
TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


@dataclass(frozen=True)
class Picture:
    """The bytes of an image file, and what kind they are."""

    data: bytes
    media_type: str


@dataclass(frozen=True)
class Thumbnails:
    """The folder that they lie in."""

    folder: Path

    def of(self, path: Path, place: str, size: int = SIZE) -> Picture | None:
        """A small version, kept under `place`; the image itself where it is as small.

        None for what cannot be read.
        """
        kept = self.folder / f"{place}.webp"
        with contextlib.suppress(OSError):
            return Picture(kept.read_bytes(), TYPES[".webp"])
        if (whole := as_it_is(path, size)) is not None:
            return whole
        image = read_image(path, size)
        if image is None:
            return None
        out = io.BytesIO()
        image.save(out, format="WEBP", quality=QUALITY, method=3)
        with contextlib.suppress(OSError):  # a folder that cannot be written, a full disk
            kept.parent.mkdir(parents=True, exist_ok=True)
            with replacing(kept) as temporary:
                temporary.write_bytes(out.getvalue())
        return Picture(out.getvalue(), TYPES[".webp"])


def as_it_is(path: Path, size: int | None = None) -> Picture | None:
    """A file whose content is an image as its name says, and not larger; else None."""
    media_type = TYPES.get(path.suffix.lower())
    if media_type is None:
        return None
    try:
        with opened(path) as image:
            fits = size is None or max(image.size) <= size
            alike = Image.MIME.get(image.format or "") == media_type
        return Picture(path.read_bytes(), media_type) if fits and alike else None
    except UNREADABLE:
        return None
