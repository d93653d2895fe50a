"""Entries of the store on their way between a head and a worker with a scratch store; no torch.

Only the head writes the store: a worker on another machine has a store of its own, gets what a unit
needs, and sends what it has finished, each entry whole or not at all: pieces under a temporary
name, the manifest last, a rename. What a lost worker had begun to send is dropped.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from charsweep.character import Drawings
from charsweep.core.cells import Cell
from charsweep.core.specs import ImageSetSpec, SnapshotSpec, Source, TrajectorySpec
from charsweep.core.store import Store
from charsweep.core.store.checksums import FILES, OWN, with_checksums
from charsweep.core.store.files import inside, read_json, temporary_path, unwritable
from charsweep.core.store.store import HELD_BY
from charsweep.engine.messages import Piece
from charsweep.engine.units import Reference, Train, Unit
from charsweep.plan import Scoring

PIECE_BYTES = 16 << 20  # of a message; whole snapshots would lie in memory several times over
MANIFESTS = ("snapshot.json", "images.json", "resume.json")
OF_SOURCE = ("spec.json", "loss.csv", "provenance.json", "diverged.json")
Stamp = tuple[int, int]  # when an entry was written, and the size of what tells of it


class Copies:
    """One end of the way between two stores: what lies at both, and what arrives here."""

    def __init__(self, store: Store, name: str = "copy", most_bytes: float = math.inf) -> None:
        self.store, self.name, self.most_bytes = store, name, most_bytes
        self.keeps = False  # a snapshot of more bytes than are sent
        self._same: dict[str, Stamp] = {}  # by entry
        self._arriving: set[Path] = set()

    def has(self, path: Path) -> bool:
        """Whether the other end has that entry."""
        return path.relative_to(self.store.root).as_posix() in self._same

    # -- from here ---------------------------------------------------------------------------------

    def pieces(self, paths: Iterable[Path]) -> Iterator[Piece]:
        """Those entries that the other end lacks, or has otherwise."""
        for path in paths:
            entry, stamp = path.relative_to(self.store.root).as_posix(), _stamp(path)
            if stamp is None or self._same.get(entry) == stamp:
                continue
            if (path / "snapshot.json").exists() and _bytes(path) > self.most_bytes:
                self.keeps = True
                yield from self.told([path], platform.node())
                continue
            yield from _read(entry, path)
            self._same[entry] = stamp

    def fetched(self, entry: str) -> Iterator[Piece]:
        """A snapshot, however large."""
        yield from _read(entry, inside(self.store.root, entry))

    def send_as(self, path: Path, entry: str) -> Iterator[Piece]:
        """A file under another name."""
        if entry not in self._same:
            yield from _read(entry, path)
            self._same[entry] = (0, 0)

    def told(self, folders: Iterable[Path], held_by: str | None = None) -> Iterator[Piece]:
        """Of snapshots, that they are stored, without their weights; of those that lie elsewhere
        themselves, nothing."""
        for folder in folders:
            path = folder / "snapshot.json"
            entry = path.relative_to(self.store.root).as_posix()
            if entry not in self._same and not self.has(folder) and path.exists():
                content = read_json(path)
                if HELD_BY in content:
                    continue
                short = {k: v for k, v in content.items() if k not in ("sizes", FILES, OWN)}
                short |= {HELD_BY: held_by} if held_by else {}
                told = json.dumps(with_checksums(short), indent=1)
                yield Piece(entry, (("", told.encode()),), True)
                self._same[entry] = (0, 0)

    # -- to here -----------------------------------------------------------------------------------

    def take(self, piece: Piece) -> None:
        """Add what has come; an entry is there when its last piece is.

        StoreError where it cannot be written.
        """
        path = inside(self.store.root, piece.entry)
        temporary = temporary_path(path.with_name(f"{path.name}.{self.name}"))
        try:
            for name, data in piece.data:
                file = inside(temporary, name) if name else temporary
                file.parent.mkdir(parents=True, exist_ok=True)
                self._arriving.add(temporary)
                with file.open("ab") as opened:
                    opened.write(data)
            if piece.ends:
                _put(temporary, path)
                self._arriving.discard(temporary)
        except OSError as error:
            raise unwritable(path, error) from error
        if piece.ends:
            self._note(piece.entry, path)
            if path.name == "snapshot.json":  # of what may lie here whole
                self._note(path.parent.relative_to(self.store.root).as_posix(), path.parent)

    def _note(self, entry: str, path: Path) -> None:
        if (stamp := _stamp(path)) is not None:
            self._same[entry] = stamp

    def drop(self) -> None:
        """Let go of what has not come whole."""
        for temporary in self._arriving:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.unlink(missing_ok=True)
        self._arriving.clear()


def _manifest(folder: Path) -> Path | None:
    return next((folder / name for name in MANIFESTS if (folder / name).exists()), None)


def _stamp(path: Path) -> Stamp | None:
    """None for what is not there, or not whole."""
    manifest = _manifest(path) if path.is_dir() else path
    if manifest is None or not manifest.exists() or (path.is_dir() and not is_whole(path)):
        return None
    found = manifest.stat()
    return found.st_mtime_ns, found.st_size


def is_whole(folder: Path) -> bool:
    """Whether an entry's files lie beside its manifest, which else only tells of them."""
    manifest = _manifest(folder)
    return manifest is not None and "sizes" in read_json(manifest)


def _read(entry: str, path: Path) -> Iterator[Piece]:
    """An entry in pieces, manifest last."""
    names = [""]
    if path.is_dir():
        manifest = _manifest(path)
        assert manifest is not None
        names = [*read_json(manifest, "sizes")["sizes"], manifest.name]
    gathered: list[tuple[str, bytes]] = []
    for name in names:
        with (path / name if name else path).open("rb") as file:
            while True:
                gathered.append((name, file.read(PIECE_BYTES)))
                if sum(len(data) for _, data in gathered) < PIECE_BYTES:
                    break
                yield Piece(entry, tuple(gathered), False)
                gathered = []
    yield Piece(entry, tuple(gathered), True)


def _put(temporary: Path, path: Path) -> None:
    """Let an entry have its name; what is there whole stays."""
    if temporary.is_file():
        stays = path.name == "snapshot.json" and is_whole(path.parent)
        stays |= path.name == "diverged.json" and path.exists() and _step(path) <= _step(temporary)
        if stays:
            temporary.unlink()
        else:
            temporary.replace(path)
        return
    for file in temporary.rglob("*.safetensors"):  # these take long to make
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    manifest = _manifest(temporary)
    assert manifest is not None, temporary
    there = path / manifest.name
    if there.exists() and is_whole(path):
        shutil.rmtree(temporary)
    elif there.exists():  # image sets may lie beside a manifest that tells of weights elsewhere
        for name in [*read_json(manifest, "sizes")["sizes"], manifest.name]:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).replace(path / name)
        shutil.rmtree(temporary)
    else:
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
    if path.parent.name == "resume":  # the newest only
        for other in path.parent.glob("step-*"):
            if other != path:
                shutil.rmtree(other)


def _bytes(folder: Path) -> int:
    return int(read_json(folder / "snapshot.json", "bytes")["bytes"])


def _step(path: Path) -> int:
    return int(read_json(path, "step")["step"])


# -- what is sent ----------------------------------------------------------------------------------


def sources_of(unit: Unit) -> list[Source]:
    """The sources that a unit adds to."""
    if isinstance(unit, Reference):
        return [unit.images.snapshot.source]
    trainings = unit.pack.trainings if isinstance(unit, Train) else unit.trainings
    return [training.source for training in trainings]


def stored(folder: Path, states: bool = True) -> Iterator[Path]:
    """The entries of a source's folder, none before what it refers to; resume states if wanted."""
    yield from (folder / name for name in OF_SOURCE)
    if states:
        yield from sorted(folder.glob("resume/step-*"))
    for step in sorted(folder.glob("step-*")):
        yield step
        for images in sorted(step.glob("*/images.json")):
            if not images.parent.name.startswith("."):
                yield from _image_set(images.parent)


def _image_set(folder: Path) -> Iterator[Path]:
    yield folder
    yield from (path for path in sorted(folder.glob("scores/*.json")) if path.name[0] != ".")


def needed(unit: Unit, store: Store, states: dict[str, int]) -> Iterator[Path]:
    """The entries that a worker must have to do a unit.

    `states`: the steps up to which it has trained itself, by the trajectory's folder.
    """
    if isinstance(unit, Reference):
        for scoring in unit.scorings:
            yield from _of_scoring(scoring, store)
        return
    for source in sources_of(unit):
        folder = store.source(source)
        done = store.resume_step(source) if isinstance(source, TrajectorySpec) else 0
        if states.get(folder.name, 0) > done:
            continue
        yield from (folder / name for name in OF_SOURCE)
        if isinstance(unit, Train):
            yield from folder.glob("resume/step-*")
    if isinstance(unit, Train):
        cells = [cell for training in unit.pack.trainings for cell in training.cells]
        for images in _unique(own for cell in cells for own in cell.class_sets):
            yield from _image_set(store.images(images))
        return
    for training in unit.trainings:
        for scoring in training.scorings:
            yield from _of_scoring(scoring, store)
    cells = [cell for training in unit.trainings for cell in training.cells]
    for images in _unique(images for cell in cells for images in _untaught(cell)):
        yield from _image_set(store.images(images))


def _of_scoring(scoring: Scoring, store: Store) -> Iterator[Path]:
    own, drawn = scoring.images.snapshot, scoring.images.as_drawn.snapshot
    if scoring.draw:
        yield store.snapshot(own)
        if drawn != own:  # of adapters that draw apart, the one that draws all of it
            yield from (store.source(drawn.source) / "spec.json", store.snapshot(drawn))
    if scoring.before:
        for images in sorted(store.snapshot(drawn).glob("*--*/images.json")):
            yield images.parent
    yield from _image_set(store.images(scoring.images))
    if scoring.class_noun_set:
        yield from _image_set(store.images(scoring.class_noun_set))


def _untaught(cell: Cell) -> Iterator[ImageSetSpec | None]:
    yield from (cell.class_noun_set, cell.untaught_set, *(part.untaught for part in cell.parts))
    yield from (images.untaught for images in cell.drawn_sets if not images.strength)


def _unique(sets: Iterable[ImageSetSpec | None]) -> list[ImageSetSpec]:
    return list({images.key: images for images in sets if images is not None}.values())


def snapshots_of(unit: Unit, store: Store) -> Iterator[Path]:
    """The snapshots that a worker must know of, though not have."""
    trainings = () if isinstance(unit, Reference) else (
        unit.pack.trainings if isinstance(unit, Train) else unit.trainings
    )  # fmt: skip
    for training in trainings:
        for step in sorted({cell.step for cell in training.cells}):
            yield store.snapshot(SnapshotSpec(training.source, step))


# -- drawings, and adapters that are on a base while it is taught ----------------------------------


def teaching_entries(adapters: Mapping[str, Path]) -> Iterator[tuple[Path, str]]:
    """Adapter files by their digests, each with the name that it has at a worker."""
    for digest, path in adapters.items():
        yield path, _of_teaching(digest, path)


def teaching_at(root: Path, adapters: Mapping[str, Path]) -> dict[str, Path]:
    """The same files as they lie at a worker."""
    return {digest: root / _of_teaching(digest, path) for digest, path in adapters.items()}


def _of_teaching(digest: str, path: Path) -> str:
    return f"adapters/{digest}{path.suffix}"


def drawing_entries(drawings: Drawings) -> Iterator[tuple[Path, str]]:
    """The files of the characters, each with the name that it has at a worker."""
    for digest, path in drawings.paths.items():
        yield path, _of_drawing(digest, path)
    for key, own in drawings.class_images.items():
        for number, path in enumerate(own.paths):
            yield path, _of_drawing(f"{key}-{number}", path)


def drawings_at(root: Path, drawings: Drawings) -> Drawings:
    """The same drawings as they lie at a worker."""
    return Drawings(
        {digest: root / _of_drawing(digest, path) for digest, path in drawings.paths.items()},
        {
            key: replace(own, paths=tuple(
                root / _of_drawing(f"{key}-{number}", path) for number, path in enumerate(own.paths)
            ))
            for key, own in drawings.class_images.items()
        },
    )  # fmt: skip


def _of_drawing(name: str, path: Path) -> str:
    return f"drawings/{name}{path.suffix}"
