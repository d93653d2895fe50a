"""Files torn, lost or foreign: one message that names the file and the remedy; then all is well."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import bits, finished_stages, quick
from helpers.small import cells_without_times
from helpers.variants import slow

from charsweep.__main__ import main

ONE = ["exam=quick", "train_steps=4", "exam.prompts=['a picture of {subject} jumping']",
       "sampler.batch_width=1", "inference_steps=1", "pack=1",
       "runtime.tracking=false"]  # fmt: skip
TRAJECTORY = "sweeps/store/dreambooth*"
SNAPSHOT = f"{TRAJECTORY}/step-000004"
IMAGES = f"{SNAPSHOT}/base*"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("torn") / "whole"
    assert main(quick(root, *ONE)) == 0
    return root


def halved(path: Path) -> None:
    """As a full disk or a broken copy leaves it."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def replaced(path: Path) -> None:
    """By valid JSON of something else."""
    path.write_text("[1, 2]")


def foreign(path: Path) -> None:
    """By the manifest of something else, as a file that was dropped into the wrong folder."""
    path.write_text('{"key": "0123456789ab", "spec": {"step": 7}}')


def one(root: Path, pattern: str) -> Path:
    (found,) = root.glob(pattern)
    return found


def tidied(message: str) -> Path:
    """Do what a message says: delete the file or folder that it names."""
    found = re.search(r"delete (/\S+?)[;:]? |delete (/\S+?)(?:$|[;:])", message)
    if found:
        path = Path(found[1] or found[2])
    else:
        path = Path(re.search(r"(/\S+?):? ", message)[1])  # "delete that file"
        assert re.search("delete (that|the) file|move the file away", message), message
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return path


@pytest.mark.parametrize(
    ("pattern", "tear"),
    [
        (f"{SNAPSHOT}/pytorch_lora_weights.safetensors", halved),
        slow(f"{SNAPSHOT}/pytorch_lora_weights.safetensors", Path.unlink),
        slow(f"{SNAPSHOT}/snapshot.json", halved),
        (f"{SNAPSHOT}/snapshot.json", foreign),
        (f"{IMAGES}/000.png", halved),
        slow(f"{IMAGES}/images.json", emptied),
        slow(f"{IMAGES}/images.json", replaced),
        (f"{IMAGES}/scores/dino--*.json", halved),
        slow(f"{TRAJECTORY}/spec.json", halved),
        (f"{TRAJECTORY}/spec.json", foreign),
        (f"{TRAJECTORY}/loss.csv", halved),
        slow(f"{TRAJECTORY}/loss.csv", emptied),
        slow(f"{TRAJECTORY}/provenance.json", replaced),
        slow("sweeps/store/speeds.json", halved),
        ("sweeps/store/speeds.json", replaced),
        ("sweeps/small/study.db", halved),
        slow("sweeps/small/sweep.json", halved),
    ],
)
def test_what_is_torn_is_named_and_mended_as_the_message_says(
    pattern: str,
    tear: Callable[[Path], None],
    whole: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "root"
    shutil.copytree(whole, root)
    path = one(root, pattern)
    tear(path)
    kept = finished_stages(root)

    assert main(quick(root, *ONE)) == 2
    *_, message = capfd.readouterr().err.splitlines()
    assert str(path) in message
    assert "Traceback" not in message
    assert {p: mark for p, mark in finished_stages(root).items() if p in kept} == kept

    deleted = tidied(message)
    assert path == deleted or path.is_relative_to(deleted)
    assert main(quick(root, *ONE)) == 0
    assert bits(root) == bits(whole)
    table = "sweeps/small/cells.csv"
    assert cells_without_times(root / table) == cells_without_times(whole / table)


def longer(root: Path) -> int:
    return main(quick(root, *ONE, "train_steps=8"))


@pytest.mark.parametrize(
    ("pattern", "tear"),
    [
        (f"{TRAJECTORY}/resume/step-000004/state.safetensors", halved),
        slow(f"{TRAJECTORY}/resume/step-000004/numbers.json", Path.unlink),
    ],
)
def test_a_torn_resume_state_is_unfinished_work_and_done_again(
    pattern: str, tear: Callable[[Path], None], whole: Path, tmp_path: Path
) -> None:
    root, plain = tmp_path / "root", tmp_path / "plain"
    for copy in (root, plain):
        shutil.copytree(whole, copy)
    tear(one(root, pattern))
    assert longer(root) == longer(plain) == 0
    assert bits(root) == bits(plain)


def test_a_torn_last_line_is_left_out(whole: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(whole, root)
    with one(root, f"{TRAJECTORY}/loss.csv").open("a") as file:
        file.write("5,0.12")
    (root / "sweeps/small/report/index.html").unlink()
    halved(root / "sweeps/small/plan.json")  # which nobody reads
    path = root / "sweeps/small/cells.jsonl"
    path.write_text(path.read_text()[:-20])
    (root / "sweeps/small/sweep.json").unlink()
    assert main(quick(root, *ONE)) == 0
    assert path.read_text().endswith("}\n")
    assert bits(root) == bits(whole)
    assert longer(root) == 0


@pytest.mark.parametrize("tear", [halved, emptied, replaced])
def test_torn_widths_are_measured_anew(
    tear: Callable[[Path], None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = quick(tmp_path, *ONE, "pack=auto", "action=plan")
    path = tmp_path / "sweeps/store/widths.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"sdxl": {"width": 4}}')
    assert main(words) == 0
    tear(path)
    assert main(words) == 2
    message = capfd.readouterr().err
    assert str(path) in message
    assert "delete that file" in message
    tidied(message)
    assert main(words) == 0


def test_foreign_files_and_another_place_change_nothing(whole: Path, tmp_path: Path) -> None:
    """Notes, thumbnails and folders in the store are left alone; a store that moves goes on."""
    root, moved = tmp_path / "root", tmp_path / "another place"
    shutil.copytree(whole, root, copy_function=shutil.copy2)
    store = root / "sweeps/store"
    (store / "notes.txt").write_text("mine")
    (store / "old").mkdir()
    for pattern in (TRAJECTORY, SNAPSHOT, IMAGES):
        (one(root, pattern) / ".DS_Store").write_bytes(b"\0")
    before = {path.relative_to(root): mark for path, mark in finished_stages(root).items()}
    root.rename(moved)
    assert main(quick(moved, *ONE)) == 0
    after = {path.relative_to(moved): mark for path, mark in finished_stages(moved).items()}
    assert after == before
    assert (moved / "sweeps/store/notes.txt").read_text() == "mine"
    elsewhere = tmp_path / "disk"
    (moved / "sweeps/store").rename(elsewhere)
    (moved / "sweeps/store").symlink_to(elsewhere)
    assert main(quick(moved, *ONE)) == 0
    assert bits(moved).keys() == bits(whole).keys()
