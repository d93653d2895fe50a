"""Specs in, paths out: where everything lives, and whether it is really there.

An entry is written under a temporary name, renamed, and exists when its manifest does; the
manifest holds the whole spec and the digests of its files, and every hit compares the spec with
the one that was asked for. Nobody else joins path names, and no name leaves its folder.

    <root>/sweeps/store/<trajectory>/spec.json loss.csv resume/ step-000400/<image set>/scores/
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from charsweep.checksums import with_checksums
from charsweep.errors import StoreError
from charsweep.keys import canonical, differences
from charsweep.locks import locked
from charsweep.specs import ImageSetSpec, ScoreSpec, SnapshotSpec, Source, TrajectorySpec

LOSS_COLUMNS = ("step", "loss", "lr", "grad_norm", "seconds")


@dataclass(frozen=True)
class LossRow:
    """One optimizer update: step from 1, loss, learning rate, gradient norm, seconds it took.

    `parts` are the losses that add up to the loss, by name, where there are several.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    seconds: float
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Store:
    """Every path on disk below `root`, the folder that commands are run in."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / "sweeps" / "store"

    # -- paths ---------------------------------------------------------------------------------

    def source(self, spec: Source) -> Path:
        return self.folder / one_name(f"{spec.slug}--{spec.key}")

    @property
    def made_weights(self) -> Path:
        """Where the random weights of models=random are made; can be deleted."""
        return self.folder / "weights"

    def snapshot(self, spec: SnapshotSpec) -> Path:
        return self.source(spec.source) / f"step-{spec.step:06d}"

    def images(self, spec: ImageSetSpec) -> Path:
        return self.snapshot(spec.snapshot) / one_name(f"{spec.slug}--{spec.key}")

    def score(self, spec: ScoreSpec) -> Path:
        name = one_name(f"{spec.metric.name}--{spec.key}.json")
        return self.images(spec.images) / "scores" / name

    def relative(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    # -- what is there -------------------------------------------------------------------------

    def has_snapshot(self, spec: SnapshotSpec) -> bool:
        if not isinstance(spec.source, TrajectorySpec):
            return True  # a base is its own snapshot
        return _matches(self.snapshot(spec) / "snapshot.json", {"step": spec.step}) and _matches(
            self.source(spec.source) / "spec.json", spec.source
        )

    def has_images(self, spec: ImageSetSpec) -> bool:
        """Not without the snapshot in whose folder they lie: it is made anew whole."""
        there = self.has_snapshot(spec.snapshot)
        return there and _matches(self.images(spec) / "images.json", spec)

    def has_score(self, spec: ScoreSpec) -> bool:
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
        return self.source(spec) / "resume" / f"step-{step:06d}"

    def diverged_at(self, spec: TrajectorySpec) -> int | None:
        """The step at which the loss was first not finite, if that has happened."""
        path = self.source(spec) / "diverged.json"
        return int(read_json(path, "step")["step"]) if path.exists() else None

    def mark_diverged(self, spec: TrajectorySpec, step: int) -> None:
        """Record that nothing finite comes from `step` on; an earlier mark stands."""
        known = self.diverged_at(spec)
        if known is None or step < known:
            write_json(self.source(spec) / "diverged.json", {"step": step})

    def losses(self, spec: TrajectorySpec, last: int | None = None) -> list[LossRow]:
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
        path = self.score(spec)
        path.parent.mkdir(exist_ok=True)
        write_json(path, with_checksums({**values, **_manifest(spec, spec.key)}))

    def read_score(self, spec: ScoreSpec) -> dict[str, Any]:
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


def one_name(name: str) -> str:
    """The name of a file or folder as it is; StoreError where it would lead elsewhere."""
    if "/" in name or "\\" in name or "\0" in name or name in ("", ".", ".."):
        raise StoreError(
            f"{name!r} would lead out of its folder; give the method, sampler, metric or model in "
            "it a plain name, without / and \\"
        )
    return name


def inside(folder: Path, name: str) -> Path:
    """`folder / name`, for a name that a file gave; StoreError where that lies outside."""
    path = folder / name
    if "\0" in name or not path.resolve().is_relative_to(folder.resolve()):
        raise StoreError(
            f"{name!r} leads out of {folder}; what names it was not written by charsweep: delete "
            "that, or have it written anew by the sweep's own command"
        )
    return path


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def clear_abandoned(folder: Path) -> None:
    """Drop what killed processes left half-written in a folder that others may write to."""
    for path in folder.glob(".*.tmp*"):
        if is_abandoned(path):
            path.unlink(missing_ok=True)


def is_abandoned(path: Path) -> bool:
    """Whether the process that a temporary name (`.name.PID.tmp`) belongs to has ended."""
    pid = path.name.split(".")[-2]
    return pid.isdigit() and not is_alive(int(pid))


def clear_half_written(folder: Path) -> None:
    """Drop what killed processes left half-written in a folder that nobody else works in."""
    for path in sorted(folder.rglob(".*.tmp"), reverse=True):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


# -- files: temporary name, rename, manifest last --------------------------------------------------


@contextlib.contextmanager
def new_folder(path: Path, manifest: str, content: Mapping[str, Any]) -> Iterator[Path]:
    """Fill a temporary folder; it becomes `path`, manifest last, when the block ends well.

    The manifest gets the files' sizes in bytes, so that a file that was cut short is noticed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():  # left behind without a manifest by an interrupted run
            shutil.rmtree(path)
        whole = {**content, "sizes": _sizes_on_disk(temporary)}
        write_json(temporary / manifest, with_checksums(whole, temporary))
        temporary.rename(path)
    except (OSError, SafetensorError) as error:
        raise unwritable(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sizes_on_disk(folder: Path) -> dict[str, int]:
    """Sizes of a folder's files, once those that take long to make would outlast a power failure.

    Images are drawn again within seconds, and a sync of each would cost as much as a step.
    """
    sizes = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.suffix == ".safetensors":
            with path.open("rb") as file:
                os.fsync(file.fileno())
        sizes[path.relative_to(folder).as_posix()] = path.stat().st_size
    return sizes


def cut_short(path: Path, manifest: Mapping[str, Any]) -> str | None:
    """The first file beside the manifest at `path` that has not the size it was written with."""
    for name, size in manifest.get("sizes", {}).items():
        file = path.parent / name
        found = file.stat().st_size if file.is_file() else 0
        if found != size:
            return f"{file} has {found:,} bytes and was written with {size:,}"
    return None


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_out(path: Path, text: str) -> None:
    """Write a file, and wait until the disk has it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Replace a file whole: a reader sees the old text or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_out(temporary, text)
        temporary.rename(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError | SafetensorError) -> StoreError:
    reason = getattr(error, "strerror", None) or error
    return StoreError(
        f"cannot write {path}: {reason}; free space or set root= to a folder "
        "that can be written, then run the same command again"
    )


def read_json(path: Path, *fields: str) -> Any:
    """What a JSON file says; StoreError where it cannot be read, or lacks one of the fields."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if lacking := [name for name in fields if name not in content]:
            raise ValueError(f"it says nothing of {', '.join(lacking)}")
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(
            f"cannot read {path}: {error}; delete that file and run the same command again"
        ) from error
    return content


def image_manifest(spec: ImageSetSpec, seconds: float) -> dict[str, Any]:
    """What `images.json` says: prompt-major files, their prompts and seeds."""
    pairs = [(p, s) for p in range(len(spec.prompts)) for s in range(len(spec.seeds))]
    files = [
        {"file": f"{i:03d}.png", "prompt": p, "seed": spec.seeds[s]}
        for i, (p, s) in enumerate(pairs)
    ]
    return {
        **_manifest(spec, spec.key),
        "prompts": list(spec.prompts),
        "seeds": list(spec.seeds),
        "files": files,
        "seconds": seconds,
    }


def read_losses(path: Path, last: int | None = None) -> list[LossRow]:
    """Rows of a `loss.csv` up to step `last`; [] without a file, StoreError for a broken one.

    A last line that a killed process has not ended is left out.
    """
    if not path.exists():
        return []
    try:
        *whole, _ = path.read_text(encoding="utf-8").split("\n")  # the last is empty, or torn
        columns, *rows = csv.reader(whole)
        if tuple(columns[: len(LOSS_COLUMNS)]) != LOSS_COLUMNS:
            raise ValueError(f"its first line is not {','.join(LOSS_COLUMNS)}")
        known = (_loss_row(row, columns) for row in rows)
        return [row for row in known if last is None or row.step <= last]
    except (OSError, ValueError) as error:
        raise StoreError(
            f"cannot read {path}: {error}; put it back from a copy, or delete {path.parent}: that "
            "trajectory is trained again then"
        ) from error


def _loss_row(row: Sequence[str], columns: Sequence[str]) -> LossRow:
    step, loss, lr, norm, seconds, *rest = row
    parts = dict(zip(columns[len(LOSS_COLUMNS) :], map(float, rest), strict=True))
    return LossRow(int(step), float(loss), float(lr), float(norm), float(seconds), parts)


def write_losses(path: Path, rows: Sequence[LossRow], parts: Sequence[str] = ()) -> None:
    """Replace a `loss.csv`; the columns of `parts` stand behind those of every method."""
    lines = [",".join([*LOSS_COLUMNS, *parts]), *(loss_line(row) for row in rows)]
    write_text(path, "\n".join(lines) + "\n")


def loss_line(row: LossRow) -> str:
    text = f"{row.step},{row.loss!r},{row.lr!r},{row.grad_norm!r},{row.seconds:.6f}"
    return ",".join([text, *(repr(loss) for loss in row.parts.values())])


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
