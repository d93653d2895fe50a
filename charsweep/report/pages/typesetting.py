"""PDFs set by Typst: a template and what it says; the same of them give the same bytes.

What people have written reaches a template as strings of JSON and is set as it stands, never read
as markup.
"""

from __future__ import annotations

import io
import json
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import typst

from charsweep.core.errors import StoreError
from charsweep.report.figures.contact_sheets import read_image

PROBE = Path(__file__).with_name("letters.typ")
# Up to Cyrillic, then punctuation, arrows and mathematics: in the fonts that Typst brings along.
COMMON = (range(0x530), range(0x2010, 0x2300))


def typeset(template: Path, words: Mapping[str, Any], path: Path, pixels: int) -> str:
    """Write the PDF to `path`; returns the letters that no font here has, and boxes stand for.

    The template reads `words` from words.json: dataclasses become dictionaries, and paths the
    names of files beside it, SVGs as they are, images at most `pixels` wide and high, none where
    a image cannot be read. A .bib that lies beside the template is there too.
    Raises StoreError.
    """
    with tempfile.TemporaryDirectory(prefix="charsweep-") as place:
        folder = Path(place)
        for file in (template, *template.parent.glob("*.bib")):
            shutil.copyfile(file, folder / file.name)
        said = Words(folder, pixels).plain(words)
        text = json.dumps(said, ensure_ascii=False, allow_nan=False)
        (folder / "words.json").write_text(text, encoding="utf-8")
        rare = rare_letters(text)
        try:
            fonts = folders_of_fonts(rare)
            typst.compile(folder / template.name, path, root=folder, font_paths=fonts)
            return missing_letters(rare, fonts)
        except RuntimeError as error:  # TypstError, and what is wrong before there is a document
            reason = " ".join(str(error).split())
            raise StoreError(
                f"{path.name} cannot be typeset ({reason}). Print index.html from a browser "
                "instead; requirements.txt names the release of typst that is known to work"
            ) from error


@dataclass(frozen=True)
class Words:
    """Values as JSON knows them, and a folder that the images among them are put into."""

    folder: Path
    pixels: int
    names: dict[Path, str | None] = field(default_factory=dict)

    def plain(self, value: Any) -> Any:
        """Strings come on one line; half a surrogate pair becomes a question mark."""
        if isinstance(value, str):
            return " ".join(value.encode("utf-8", "replace").decode("utf-8").split())
        if isinstance(value, Path):
            if value not in self.names:
                self.names[value] = self.put_in(value)
            return self.names[value]
        if is_dataclass(value):
            return {part.name: self.plain(getattr(value, part.name)) for part in fields(value)}
        if isinstance(value, Mapping):
            return {name: self.plain(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    def put_in(self, path: Path) -> str | None:
        """Copy a plot, or a image as PNG or JPEG, whichever is smaller: flat colours or not."""
        if path.suffix == ".svg":
            ending, data = ".svg", path.read_bytes()
        else:
            image = read_image(path, self.pixels)
            if image is None:
                return None
            png, jpeg = io.BytesIO(), io.BytesIO()
            image.save(png, format="PNG")
            image.save(jpeg, format="JPEG", quality=94, subsampling=0)
            known = ((".png", png.getvalue()), (".jpg", jpeg.getvalue()))
            ending, data = min(known, key=lambda item: len(item[1]))
        name = f"{len(self.names)}{ending}"
        (self.folder / name).write_bytes(data)
        return name


def rare_letters(text: str) -> list[str]:
    """The letters of a text, each once, that Typst's own fonts may lack."""
    found = dict.fromkeys(letter for letter in text if letter.isprintable())
    return [letter for letter in found if not any(ord(letter) in part for part in COMMON)]


def folders_of_fonts(letters: Sequence[str]) -> list[Path]:
    """Where fonts lie that have these letters."""
    if not letters:
        return []
    # Imported here: fonts are known by matplotlib, which most texts need not load.
    from charsweep.report.figures.fonts import fonts_for

    return sorted({font.parent for font in fonts_for("".join(letters))})


def missing_letters(rare: Sequence[str], fonts: Sequence[Path] = ()) -> str:
    """Of these letters, those that no font here has; `fonts` are folders with further ones."""
    if not rare:
        return ""
    found = typst.query(
        PROBE,
        "<missing>",
        field="value",
        one=True,
        font_paths=list(fonts),
        sys_inputs={"letters": json.dumps(list(rare))},
    )
    return str(json.loads(found))
