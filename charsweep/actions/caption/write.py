"""Caption files, `NAME.txt` beside the image; what is there already is never touched."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from charsweep.core.errors import CharacterError
from charsweep.core.store.files import claim, temporary_name, write_out
from charsweep.models import embedded


def caption_file(image: Path) -> Path:
    """Where an image's caption lies: `NAME.txt` beside it."""
    return image.with_suffix(".txt")


def is_shipped(folder: Path) -> bool:
    """Whether the training images came with the package, where nothing is written."""
    return folder.resolve().is_relative_to(embedded.FOLDER.resolve())


def check_writable(folder: Path, images: Sequence[Path]) -> None:
    """Raise `CharacterError` before anything is loaded, if these images cannot be captioned."""
    shared = [stem for stem, count in Counter(path.stem for path in images).items() if count > 1]
    if shared:
        names = " and ".join(path.name for path in images if path.stem == shared[0])
        raise CharacterError(
            f"{folder}: {names} would share the caption {shared[0]}.txt; rename one of them"
        )
    if not os.access(folder, os.W_OK):
        raise CharacterError(
            f"{folder} cannot be written to; copy the drawings to a folder that can, or set "
            "caption.write=false to look only"
        )


def write_new(path: Path, text: str) -> bool:
    """Write a file that is not there yet, whole or not at all; False if it is there.

    A person may save a caption at the same moment, so the name is taken and not looked up.
    """
    try:
        with temporary_name(path) as temporary:
            write_out(temporary, text)
            return claim(temporary, path)
    except OSError as error:
        raise CharacterError(
            f"cannot write {path}: {error.strerror or error}; free space there, or set "
            "caption.write=false to look only"
        ) from error
