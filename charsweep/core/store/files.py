"""Atomic writes of files and folders: temporary name, rename, manifest last.

A reader sees the old or the new.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import psutil
from safetensors import SafetensorError

from charsweep.core.errors import StoreError
from charsweep.core.keys import digest_of
from charsweep.core.store.checksums import with_checksums

OWNER = re.compile(r"(\d+)(?:-(\w{6})-(\w{6}))?")  # process, machine, its start
MOST_BYTES = 255 - len(".." + ".4194304-machine-start0.tmp")  # of a name, beside a temporary's
FORGOTTEN = 7 * 24 * 3600  # seconds: nothing is written for a week without a change to it


def one_name(name: str) -> str:
    """The name of a file or folder as it is; StoreError where it would lead elsewhere."""
    if "/" in name or "\\" in name or "\0" in name or name in ("", ".", ".."):
        raise StoreError(
            f"{name!r} would lead out of its folder; give the method, sampler, metric or model in "
            "it a plain name, without / and \\"
        )
    if (size := len(name.encode())) > MOST_BYTES:
        raise StoreError(
            f"{name} is {size} bytes long, and the name of a folder holds {MOST_BYTES}; give the "
            "method, sampler, base or character in it a shorter one"
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


@cache
def machine() -> tuple[str, str]:
    """This machine, or what a container shows of it, and its start: numbers of processes are its.

    Other machines may work in the same folder, on a file system that they share.
    """
    try:
        place = str(Path("/proc/self/ns/pid").readlink())
        start = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:  # not Linux
        place, start = "", f"{psutil.boot_time():.0f}"
    name = f"{socket.gethostname()} {place}"
    return digest_of(name.encode())[:6], digest_of(start.encode())[:6]


def temporary_path(path: Path) -> Path:
    """The name beside `path` that this process writes under: `.name.PID-MACHINE-START.tmp`."""
    return path.with_name(f".{path.name}.{'-'.join((str(os.getpid()), *machine()))}.tmp")


def clear_abandoned(folder: Path) -> None:
    """Drop what killed processes left half-written in a folder that others may write to."""
    _drop_abandoned(folder.glob(".*.tmp*"))


def is_abandoned(path: Path) -> bool:
    """Whether the process that a temporary name belongs to has ended.

    Of another machine's that cannot be known; what nothing was written to for a week is abandoned.
    """
    owner = OWNER.fullmatch(path.name.split(".")[-2])
    if owner is None:
        return False
    pid, place, start = owner.groups()
    if place == machine()[0]:
        return start != machine()[1] or not psutil.pid_exists(int(pid))
    try:
        return time.time() - path.stat().st_mtime > FORGOTTEN
    except FileNotFoundError:  # it was no longer there
        return False


def clear_half_written(folder: Path) -> None:
    """The same in all that a folder holds."""
    _drop_abandoned(sorted(folder.rglob(".*.tmp"), reverse=True))


def _drop_abandoned(paths: Iterable[Path]) -> None:
    for path in paths:
        if not is_abandoned(path):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path, manifest: str, content: Mapping[str, Any]) -> Iterator[Path]:
    """Fill a temporary folder; it becomes `path`, manifest last, when the block ends well.

    The manifest gets the files' sizes in bytes, so that a file that was cut short is noticed.
    """
    temporary = temporary_path(path)
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
    """Replace a JSON file whole; ValueError for a number that is not finite."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_out(path: Path, text: str) -> None:
    """Write a file, and wait until the disk has it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def temporary_name(path: Path) -> Iterator[Path]:
    """A name beside `path` to write under; whatever is left there goes when the block ends."""
    temporary = temporary_path(path)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write under, which becomes `path` when the block ends well: all of it, or none."""
    with temporary_name(path) as temporary:
        yield temporary
        temporary.rename(path)


def claim(temporary: Path, path: Path) -> bool:
    """Let a written file have its name, unless another has taken it meanwhile; whether it has.

    A hard link fails where the name exists, and where a file system has none, so does creating it.
    """
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    except OSError:
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            return False
        temporary.replace(path)
    return True


def link_or_copy(path: Path, other: Path) -> None:
    """Give a file that is never written again a second name; a copy, where there are no links."""
    try:
        other.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, other)


def write_text(path: Path, text: str) -> None:
    """Replace a file whole: a reader sees the old text or the new one."""
    try:
        with replacing(path) as temporary:
            write_out(temporary, text)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError | SafetensorError) -> StoreError:
    """The StoreError that says why `path` could not be written, and what to do."""
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
