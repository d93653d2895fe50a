"""Contact sheets of the training images as trajectories saw them, one per kind of framing.

They are framed anew from the files, by the functions that training uses and as each trajectory's
spec says; a file that is no longer what it was is not shown. Nothing of it needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageOps

from charsweep.character import (
    ALPHA,
    UNIT,
    TrainingImage,
    framed,
    mask_beside,
    open_masked,
    size_of,
)
from charsweep.core.errors import CharacterError, ConfigError, StoreError
from charsweep.core.keys import digest_of_content
from charsweep.core.methods import method_of
from charsweep.core.specs import CharacterSpec, Framing, Plugin, revived
from charsweep.core.store.files import read_json
from charsweep.core.system.images import open_image
from charsweep.core.system.names import as_file_name
from charsweep.report.figures.contact_sheets import ContactSheet, Tile
from charsweep.results import Record
from charsweep.results.records import of_trajectories

MOST = 24  # training images of a sheet
SMALL, LARGE = 192, 384  # pixels: smaller images are shown enlarged, larger ones reduced
VEIL = (214, 0, 110)  # lies over what a mask leaves out
UNREADABLE = (OSError, ValueError, KeyError, TypeError, CharacterError, ConfigError, StoreError)


@dataclass(frozen=True)
class Way:
    """How training images were looked at, and with which captions; () where none is read."""

    framing: Framing
    resolution: int
    unit: int  # of which the sides are multiples, in pixels
    digests: tuple[str, ...]
    captions: tuple[str, ...]

    @property
    def frame(self) -> tuple[str, int, int]:
        """What images are framed by."""
        return self.framing.crop, self.resolution, self.unit


def training_sheets(record: Record, folder: Path) -> tuple[ContactSheet, ...]:
    """One sheet per way; its images are written into `folder`."""
    files = known_files(record)
    sheets: list[ContactSheet] = []
    for way, methods in ways_of(record).items():
        shown = [files[digest] for digest in way.digests if digest in files]
        if shown:
            folder.mkdir(exist_ok=True)
            sheets.append(sheet_of(way, methods, files, folder, len(sheets) + 1))
    return tuple(sheets)


def known_files(record: Record) -> dict[str, Path]:
    """The training images that are still there, by the digest of their content."""
    paths = {path for part in (record, *record.parts) for path in part.sweep.character.images}
    return {digest_of_content(path): path for path in sorted(paths) if path.is_file()}


def ways_of(record: Record) -> dict[Way, list[str]]:
    """The different ways among a record's trajectories, each with the methods that looked so."""
    ways: dict[Way, list[str]] = {}
    for trajectory in of_trajectories(record.cells):
        path = record.store / trajectory / "spec.json"
        try:
            spec = read_json(path)["spec"]
            way, name = way_of(spec), str(spec["method"]["name"])
        except UNREADABLE:
            continue  # from another version; its cells are shown all the same
        methods = ways.setdefault(way, [])
        if name not in methods:
            methods.append(name)
    return ways


def way_of(spec: Mapping[str, Any]) -> Way:
    framing = revived(Framing, spec["framing"])
    method = method_of(revived(Plugin, spec["method"]))
    taught = [revived(CharacterSpec, spec["character"])]
    if company := spec.get("company"):
        taught.append(revived(CharacterSpec, company["other"]))
        masks = (*framing.masks, *company.get("masks", ()))
        framing = replace(framing, masks=masks if framing.masks else ())
    digests = tuple(digest for who in taught for digest in who.digests)
    captions = tuple(text for who in taught for text in method.captions(who))
    family = revived(Plugin, spec["base"]["family"]).made if spec["base"] else None
    unit = family.unit if family else UNIT
    return Way(framing, spec["resolution"], unit, digests, captions)


def sheet_of(
    way: Way, methods: Sequence[str], files: Mapping[str, Path], folder: Path, number: int
) -> ContactSheet:
    """One row per training image: the file, what was seen of it, and what of that counted."""
    columns = ["training image", "as seen", *["mirrored"] * way.framing.flip]
    columns += ["what counts"] * bool(way.framing.masks)
    rows, tiles = [], []
    for index, digest in enumerate(way.digests[:MOST]):
        path = files.get(digest)
        caption = way.captions[index] if way.captions else ""
        rows.append(label_of(way, caption, path))
        views = views_of(way, path, index)
        stem = folder / f"{number}-{index + 1:02d}"
        tiles.append((Tile(path), *(tile_of(view, f"{stem}-{n}.png") for n, view in views)))
    return ContactSheet(
        name=f"training-{number}-{as_file_name(' '.join(methods))}",
        title=f"As {', '.join(methods)} saw them: {measure(way)}",
        columns=tuple(columns),
        rows=tuple(rows),
        tiles=tuple(tiles),
        references=1,
        caption=explain(way),
    )


def label_of(way: Way, caption: str, path: Path | None) -> str:
    """The caption as it was read, and how large the image was when it was seen."""
    try:
        assert path is not None
        width, height = size_of(open_image(path).size, *way.frame)
    except (AssertionError, CharacterError):
        return caption
    name = caption or path.name
    return f"{name} ({width}\u00a0×\u00a0{height})" if way.framing.crop != "center" else name


def views_of(way: Way, path: Path | None, index: int) -> list[tuple[str, Image.Image | None]]:
    """The images of a row by name; None where a file is gone."""
    names = ["seen", *["mirrored"] * way.framing.flip, *["counts"] * bool(way.framing.masks)]
    try:
        opened_image = opened(way, path, index)
    except UNREADABLE:
        return [(name, None) for name in names]
    seen = framed(opened_image.image, *way.frame)
    mirror = framed(ImageOps.mirror(opened_image.image), *way.frame)
    views: dict[str, Image.Image | None] = {"seen": windowed(seen, way), "mirrored": sized(mirror)}
    if opened_image.mask is not None:
        views["counts"] = sized(veiled(seen, framed(opened_image.mask, *way.frame)))
    return [(name, views.get(name)) for name in names]


def opened(way: Way, path: Path | None, index: int) -> TrainingImage:
    """The image with its mask, if that is still the one that was used."""
    if path is None:
        raise FileNotFoundError
    if not way.framing.masks:
        return TrainingImage(open_image(path), None)
    if way.framing.masks[index] == ALPHA:
        return open_masked(path, None)
    mask = mask_beside(path)
    if mask is None or digest_of_content(mask) != way.framing.masks[index]:
        return TrainingImage(open_image(path), None)
    return open_masked(path, mask)


def tile_of(view: Image.Image | None, file: str) -> Tile:
    if view is None:
        return Tile(None)
    view.save(file)
    return Tile(Path(file))


def veiled(seen: Image.Image, mask: Image.Image) -> Image.Image:
    """A image with what its mask leaves out under a veil."""
    veil = Image.blend(seen, Image.new("RGB", seen.size, VEIL), 0.6)
    return Image.composite(seen, veil, mask)


def windowed(seen: Image.Image, way: Way) -> Image.Image:
    """For random windows, the one in the middle outlined; others lie anywhere beside it."""
    image = sized(seen)
    if way.framing.crop != "random" or seen.width == seen.height:
        return image
    side = min(image.size) - 1
    left, top = (image.width - 1 - side) // 2, (image.height - 1 - side) // 2
    ImageDraw.Draw(image).rectangle((left, top, left + side, top + side), outline=VEIL, width=3)
    return image


def sized(image: Image.Image) -> Image.Image:
    """A copy that can be looked at: small ones with each pixel as a square."""
    times = SMALL // max(image.size)
    if times > 1:
        size = (image.width * times, image.height * times)
        return image.resize(size, Image.Resampling.NEAREST)
    copy = image.copy()
    copy.thumbnail((LARGE, LARGE), Image.Resampling.LANCZOS)
    return copy


def measure(way: Way) -> str:
    """ "the middle 64 × 64 pixels"."""
    square = f"{way.resolution} × {way.resolution} pixels"
    return {
        "center": f"the middle square, {square}",
        "random": f"windows of {square}",
        "buckets": f"buckets of about {square}",
    }[way.framing.crop]


def explain(way: Way) -> str:
    """What the images of a sheet do not say by themselves."""
    parts = []
    if way.framing.crop == "random":
        parts.append("A step shows a window as large as the outlined one, anywhere in the picture.")
    if way.framing.flip:
        parts.append("Half the steps show it mirrored.")
    if way.framing.masks:
        parts.append(f"What is veiled counts {way.framing.background:g} times as much as the rest.")
    if len(way.digests) > MOST:
        parts.append(f"The first {MOST} of {len(way.digests)}.")
    return " ".join(parts)
