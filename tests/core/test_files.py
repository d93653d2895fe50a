"""Temporary names: whose they are, and when what bears them is left behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from charsweep.core.errors import StoreError
from charsweep.core.store import files
from charsweep.core.system import locks

HERE, START = files.machine()
WEEK = 7 * 24 * 3600


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("owner", "days", "goes"),
    [
        ("{dead}-{here}-{start}", 0, True),
        ("1-{here}-{start}", 30, False),  # lives
        ("1-{here}-other1", 0, True),  # this machine was started anew since
        ("{dead}-other1-{start}", 0, False),  # of another machine, where it may live
        ("{dead}-other1-other2", 6, False),
        ("{dead}-other1-other2", 8, True),
        ("{dead}", 0, False),  # of an earlier version: on which machine is not known
        ("{dead}", 8, True),
        ("backup", 30, False),  # nothing of ours
    ],
)
@pytest.mark.parametrize("clear", [files.clear_abandoned, files.clear_half_written])
def test_what_another_machine_writes_is_left_alone(
    tmp_path: Path, dead: int, owner: str, days: int, goes: bool, clear: object
) -> None:
    """On a file system that machines share, the numbers of processes are each machine's own."""
    name = owner.format(dead=dead, here=HERE, start=START)
    folder, file = tmp_path / f".step-000400.{name}.tmp", tmp_path / f".cells.csv.{name}.tmp"
    folder.mkdir()
    (folder / "000.png").touch()
    file.touch()
    for path in (folder, file):
        changed = path.stat().st_mtime - days * 24 * 3600
        os.utime(path, (changed, changed))
    clear(tmp_path)  # type: ignore[operator]
    assert (folder.exists(), file.exists()) == (not goes, not goes)


def test_two_machines_write_one_folder_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same process number on both: neither takes away what the other is just writing."""
    place = tmp_path / "step-000400"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "machine", lambda: ("other1", "other2"))
        theirs = files.temporary_path(place)
    theirs.mkdir()
    (theirs / "weights.safetensors").write_bytes(b"half")
    files.clear_abandoned(tmp_path)
    with files.new_folder(place, "snapshot.json", {}) as ours:
        files.clear_half_written(tmp_path)
        assert ours != theirs
        (ours / "weights.safetensors").write_bytes(b"whole")
    assert (theirs / "weights.safetensors").read_bytes() == b"half"
    assert (place / "snapshot.json").exists()


def test_who_holds_a_lock_is_named_with_its_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".lock"
    with locks.locked(path, "it"), path.open() as file:
        assert locks._owner(file) == f"process {os.getpid()}"
        monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
        assert locks._owner(file).startswith(f"process {os.getpid()} on ")


def test_a_name_that_leads_elsewhere_is_refused() -> None:
    with pytest.raises(StoreError, match="lead out of its folder"):
        files.one_name("../x")
