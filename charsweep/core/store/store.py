"""The store: the folder of every result, its path by spec, and whether it is really there.

An entry is written under a temporary name, renamed, and exists when its manifest does; the
manifest holds the whole spec and the digests of its files, and every hit compares the spec with
the one that was asked for. Nobody else joins path names, and no name leaves its folder.

    <root>/sweeps/store/<trajectory>/spec.json loss.csv resume/ step-000400/<image set>/scores/
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from charsweep.core.errors import StoreError
from charsweep.core.keys import canonical, differences
from charsweep.core.specs import (
    Added,
    ImageSetSpec,
    ScoreSpec,
    SnapshotSpec,
    Source,
    TrajectorySpec,
)
from charsweep.core.store.checksums import with_checksums
from charsweep.core.store.files import (
    clear_half_written,
    cut_short,
    one_name,
    read_json,
    unwritable,
    write_json,
)
from charsweep.core.store.losses import LossRow, read_losses
from charsweep.core.system.locks import locked

HELD_BY = "held_by"  # of a snapshot's manifest: where the weights are


class DrawnImage(NamedTuple):
    """A stored image, and the seconds that its like took to draw."""

    path: Path
    seconds: float


@dataclass(frozen=True)
class Store:
    """Every path on disk below `root`, the folder that commands are run in."""

    root: Path
    whole: bool = False  # a snapshot is not planned with whose weights lie with a worker

    @property
    def folder(self) -> Path:
        """The store itself, shared by all sweeps."""
        return self.root / "sweeps" / "store"

    # -- paths ---------------------------------------------------------------------------------

    def source(self, spec: Source) -> Path:
        """The folder of a trajectory, base, adapter or set of true images."""
        return self.folder / one_name(f"{spec.slug}--{spec.key}")

    @property
    def made_weights(self) -> Path:
        """Where the random weights of models=random are made; can be deleted."""
        return self.folder / "weights"

    def snapshot(self, spec: SnapshotSpec) -> Path:
        """The folder of a snapshot's weights, and of the image sets drawn with it."""
        return self.source(spec.source) / f"step-{spec.step:06d}"

    def images(self, spec: ImageSetSpec) -> Path:
        """The folder of an image set: `images.json`, PNGs and `scores/`."""
        return self.snapshot(spec.snapshot) / one_name(f"{spec.slug}--{spec.key}")

    def score(self, spec: ScoreSpec) -> Path:
        """The JSON file of a score."""
        name = one_name(f"{spec.metric.name}--{spec.key}.json")
        return self.images(spec.images) / "scores" / name

    def relative(self, path: Path) -> str:
        """A path of the store below `folder`, with slashes."""
        return path.relative_to(self.folder).as_posix()

    # -- what is there -------------------------------------------------------------------------

    def has_snapshot(self, spec: SnapshotSpec) -> bool:
        """Whether it is stored whole; StoreError where its manifest tells of another."""
        if not isinstance(spec.source, TrajectorySpec | Added):
            return True  # a base is its own snapshot
        there = _matches(self.snapshot(spec) / "snapshot.json", {"step": spec.step})
        if not there or isinstance(spec.source, Added):
            return there
        return _matches(self.source(spec.source) / "spec.json", spec.source)

    def held_by(self, spec: SnapshotSpec) -> str | None:
        """The machine of the worker with whom its weights stayed; None where they are here, or
        nowhere."""
        path = self.snapshot(spec) / "snapshot.json"
        held: str | None = read_json(path).get(HELD_BY) if path.exists() else None
        return held

    def has_images(self, spec: ImageSetSpec) -> bool:
        """Not without the snapshot in whose folder they lie: it is made anew whole."""
        there = self.has_snapshot(spec.snapshot)
        return there and _matches(self.images(spec) / "images.json", spec)

    def drawn_before(self, spec: ImageSetSpec) -> dict[tuple[int, int], DrawnImage]:
        """By the place of its prompt and its seed, each image of a set that another one holds.

        Another set of the same snapshot with other seeds alone, drawn in the same way: then the
        image is the same to the last bit. So it is whether or not halves are drawn by themselves,
        but for prompts that say so. At strength 0 that is one of the untaught base; what adapters
        draw apart may be one's alone (`ImageSetSpec.as_drawn`).
        """
        spec = spec.as_drawn
        if not spec.strength:
            spec = spec.untaught
        found: dict[tuple[int, int], DrawnImage] = {}
        if not self.has_snapshot(spec.snapshot):
            return found
        wanted, apart = canonical(spec), {"seeds": None, "regional": None}
        name = glob.escape(spec.slug.rpartition("x")[0])
        for path in sorted(self.snapshot(spec.snapshot).glob(f"{name}x*--*/images.json")):
            manifest = read_json(path, "spec", "files", "seconds")
            other, files = manifest["spec"], manifest["files"]
            alike = {**other, **apart} == {**wanted, **apart}
            fills = len(files) % spec.batch_width == 0
            if not alike or fills != spec.fills_batches or cut_short(path, manifest):
                continue
            places = itertools.product(range(len(spec.prompts)), other["seeds"])
            for (place, seed), entry in zip(places, files, strict=True):
                if seed in spec.seeds:
                    seconds = manifest["seconds"] / len(files)
                    found[place, seed] = DrawnImage(path.parent / entry["file"], seconds)
        return found

    def has_score(self, spec: ScoreSpec) -> bool:
        """Whether it is stored; StoreError where its file tells of another."""
        return _matches(self.score(spec), spec)

    def resume_step(self, spec: TrajectorySpec) -> int:
        """The last step whose resume state is whole; 0 if there is none."""
        states = (self.source(spec) / "resume").glob("step-*/resume.json")
        whole = [path.parent.name for path in states if not cut_short(path, read_json(path))]
        return max((int(name.removeprefix("step-")) for name in whole), default=0)

    def last_snapshot(self, spec: TrajectorySpec) -> int:
        """The last step that has a snapshot; 0 if none has."""
        found = self.source(spec).glob("step-*/snapshot.json")
        return max((int(path.parent.name.removeprefix("step-")) for path in found), default=0)

    def resume(self, spec: TrajectorySpec, step: int) -> Path:
        """The folder of the resume state at `step`."""
        return self.source(spec) / "resume" / f"step-{step:06d}"

    def diverged_at(self, spec: Source) -> int | None:
        """The step at which the loss was first not finite, if that has happened."""
        path = self.source(spec) / "diverged.json"
        return int(read_json(path, "step")["step"]) if path.exists() else None

    def mark_diverged(self, spec: Source, step: int) -> None:
        """Record that nothing finite comes from `step` on; an earlier mark stands."""
        known = self.diverged_at(spec)
        if known is None or step < known:
            write_json(self.source(spec) / "diverged.json", {"step": step})

    def losses(self, spec: Source, last: int | None = None) -> list[LossRow]:
        """The rows of its loss.csv up to step `last`."""
        return read_losses(self.source(spec) / "loss.csv", last)

    def check_losses(self, spec: TrajectorySpec, step: int) -> None:
        """StoreError unless loss.csv has a line for every step up to this one."""
        path = self.source(spec) / "loss.csv"
        rows = path.read_bytes().count(b"\n") - 1 if path.exists() else 0
        if rows < step:
            raise StoreError(
                f"{path} has {max(rows, 0)} of {step} steps; put it back from a copy, or delete "
                f"{path.parent}: that trajectory is trained again then"
            )

    # -- writing -------------------------------------------------------------------------------

    def open_trajectory(self, spec: TrajectorySpec) -> Path:
        """Make the trajectory's folder with its `spec.json`, or compare the one that is there."""
        folder = self.source(spec)
        if not _matches(folder / "spec.json", spec):
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "spec.json", with_checksums(_manifest(spec, spec.key)))
        return folder

    def commit_resume(self, spec: TrajectorySpec, step: int) -> None:
        """Drop all resume states but the one of `step`."""
        for other in (self.source(spec) / "resume").glob("step-*"):
            if other != self.resume(spec, step):
                shutil.rmtree(other)

    def write_score(self, spec: ScoreSpec, values: dict[str, Any]) -> None:
        """Store what a metric found, `values`, in which "value" is the score."""
        path = self.score(spec)
        path.parent.mkdir(exist_ok=True)
        write_json(path, with_checksums({**values, **_manifest(spec, spec.key)}))

    def read_score(self, spec: ScoreSpec) -> dict[str, Any]:
        """What was stored of a score, its "value" among it; StoreError where there is none."""
        stored: dict[str, Any] = read_json(self.score(spec), "value")
        return stored

    @contextlib.contextmanager
    def lock(self, spec: Source, *, wait: bool = True) -> Iterator[bool]:
        """Hold a source while working on it; the system lets go of it when a process dies.

        Gives False at once, without the lock, where another process holds it and `wait` is not
        set. What a killed process left half-written is cleared away first.
        """
        folder = self.source(spec)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / ".lock", folder.name, wait=wait) as ours:
                if ours:
                    clear_half_written(folder)
                yield ours
        except OSError as error:
            raise unwritable(folder, error) from error


# -- files: temporary name, rename, manifest last --------------------------------------------------


def image_manifest(spec: ImageSetSpec, seconds: float) -> dict[str, Any]:
    """What `images.json` says: prompt-major files, their prompts and seeds."""
    pairs = itertools.product(range(len(spec.prompts)), spec.seeds)
    files = [
        {"file": f"{i:03d}.png", "prompt": prompt, "seed": seed}
        for i, (prompt, seed) in enumerate(pairs)
    ]
    return {
        **_manifest(spec, spec.key),
        "prompts": list(spec.prompts),
        "seeds": list(spec.seeds),
        "files": files,
        "seconds": seconds,
    }


def _manifest(spec: Any, key: str) -> dict[str, Any]:
    return {"key": key, "spec": canonical(spec)}


def _matches(path: Path, spec: Any) -> bool:
    """Whether the manifest is there; StoreError if it says something else than asked for, or than
    what lies beside it."""
    if not path.exists():
        return False
    manifest = read_json(path)
    wanted = canonical(spec)
    if not isinstance(manifest, dict) or "spec" not in manifest:
        raise StoreError(f"{path} is not a manifest of charsweep; delete {path.parent}")
    if manifest["spec"] != wanted:
        fields = "; ".join(differences(manifest["spec"], wanted))
        raise StoreError(
            f"{path} holds another result than its name says ({fields}); "
            f"delete {path.parent} and run the same command again"
        )
    if torn := cut_short(path, manifest):
        raise StoreError(f"{torn}; delete {path.parent} and run the same command again")
    return True
