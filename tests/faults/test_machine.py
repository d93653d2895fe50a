"""A full disk, a folder that is read-only, a locked study, too little memory, other packages."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from harness import bits, ended, finished_stages, quick, start, steps, until
from helpers.small import command

from charsweep.__main__ import main

ONE = ["train_steps=8", "pack=1", "runtime.tracking=false"]
RUN = f"{sys.executable} -m charsweep"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What comes of it where nothing happens."""
    root = tmp_path_factory.mktemp("machine") / "whole"
    assert main(quick(root, *ONE)) == 0
    return root


def cells(root: Path) -> list[dict[str, str]]:
    with (root / "sweeps/small/cells.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def in_a_namespace(script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script that may mount what only it sees; skips where that is not allowed."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs `unshare -rm`, to mount without being root")
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False
    )


def shell(words: list[str]) -> str:
    return f"{RUN} {shlex.join(words)}"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_message_and_goes_on_with_more_room(
    workers: int, whole: Path, tmp_path: Path
) -> None:
    """On a small tmpfs, at every stage at which it runs full; then it is made larger."""
    disk, saved = tmp_path / "disk", tmp_path / "saved"
    disk.mkdir()
    run = shell(quick(disk, *ONE, f"runtime.workers={workers}"))
    used = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    script = [f"mount -t tmpfs -o size=300k none {disk}"]
    for size in (300_000, 2 * used // 3):
        script += [f"mount -o remount,size={size} {disk}", f"{run} >/dev/null; echo rc $? >&2"]
    script += [f"mount -o remount,size=200m {disk}", f"{run} >&2; echo rc $? >&2",
               f"cp -r {disk} {saved}"]  # fmt: skip
    done = in_a_namespace("; ".join(script))
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("rc 2") >= 2
    assert done.stderr.count("No space left") + done.stderr.count("full") >= 2
    assert done.stderr.rstrip().endswith("rc 0")
    assert bits(saved) == bits(whole)


def test_a_read_only_folder_is_one_message(tmp_path: Path) -> None:
    """Even for root, whom permissions do not stop: mounted read-only."""
    root = tmp_path / "root"
    root.mkdir()
    script = f"mount --bind {root} {root}; mount -o remount,ro,bind {root}; "
    script += shell(quick(root, *ONE, "action=plan")) + "; echo rc $?; "
    script += shell(quick(root, *ONE)) + "; echo rc $?"
    done = in_a_namespace(script)
    assert [line for line in done.stdout.splitlines() if line.startswith("rc")] == ["rc 0", "rc 2"]
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"StoreError: cannot write {root}")
    assert "Read-only file system" in line
    assert "root=" in line
    assert not list(root.iterdir())


@pytest.mark.slow
def test_a_study_that_another_program_holds_is_waited_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = quick(tmp_path, *ONE, "train_steps=2")
    assert main(words) == 0
    path = tmp_path / "sweeps/small/study.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    threading.Timer(2.0, lambda: other.execute("ROLLBACK")).start()
    started = time.monotonic()
    assert main([*words, "+axes.seed=[0,1]"]) == 0
    assert time.monotonic() - started > 1.0
    assert f"waiting for {path}, which another program has locked" in capfd.readouterr().err
    assert steps(tmp_path) == 4


@pytest.mark.slow
def test_a_clock_that_jumps_changes_no_duration(whole: Path, tmp_path: Path) -> None:
    """The wall clock of the process falls back by a year in training, then leaps by three."""
    libraries = list(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not libraries:
        pytest.skip("needs libfaketime: apt-get install faketime")
    root, log, clock = tmp_path / "root", tmp_path / "log", tmp_path / "clock"
    clock.write_text("+0")
    began = time.monotonic()
    process = start(
        quick(root, *ONE), log, LD_PRELOAD=str(libraries[0]), FAKETIME_NO_CACHE="1",
        FAKETIME_TIMESTAMP_FILE=str(clock), FAKETIME_DONT_FAKE_MONOTONIC="1",
    )  # fmt: skip
    until(lambda: "\ntraining" in log.read_text(), process, log)
    clock.write_text("-365d")
    until(lambda: steps(root) > 0, process, log)
    clock.write_text("+730d")
    assert ended(process) == 0, log.read_text()
    seconds = time.monotonic() - began
    assert bits(root) == bits(whole)
    (row,) = cells(root)
    for name in ("train_seconds", "paid_seconds", "sample_seconds"):
        assert 0 < float(row[name]) < seconds
    sweep = json.loads((root / "sweeps/small/sweep.json").read_text())
    assert int(sweep["finished"][:4]) - int(sweep["started"][:4]) >= 2  # it did jump


@pytest.mark.slow
def test_other_versions_do_not_go_on_where_former_ones_stopped(tmp_path: Path) -> None:
    """Finished work of other versions stands; a state is refused, or trained anew without it."""
    root, packages = tmp_path / "root", tmp_path / "packages"
    words = quick(root, *ONE, "train_steps=2")
    assert main(words) == 0
    upgraded = packages / "diffusers-99.1.dist-info"
    upgraded.mkdir(parents=True)
    (upgraded / "METADATA").write_text("Metadata-Version: 2.1\nName: diffusers\nVersion: 99.1\n")
    path = os.pathsep.join([str(packages), os.environ.get("PYTHONPATH", "")])
    kept = finished_stages(root)

    same = command(*words, "action=plan", PYTHONPATH=path)
    assert same.returncode == 0, same.stderr
    more = command(*words, "train_steps=4", "action=plan", PYTHONPATH=path)
    assert more.returncode == 2
    (state,) = root.glob("sweeps/store/dreambooth*/resume/step-000002")
    assert more.stderr.startswith(f"StoreError: {state} was written with other versions")
    assert 'diffusers: "' in more.stderr
    assert '" is not "99.1"' in more.stderr
    assert finished_stages(root) == kept

    shutil.rmtree(state)
    assert command(*words, "train_steps=4", "action=plan", PYTHONPATH=path).returncode == 0
    (provenance,) = root.glob("sweeps/store/dreambooth*/provenance.json")
    (run,) = json.loads(provenance.read_text())["runs"]
    assert {"torch", "diffusers", "mlflow", "python"} <= run.keys()


def little_memory(megabytes: int, words: list[str]) -> subprocess.CompletedProcess[str]:
    """With so many addresses: enough to import and load, not for the batch that is asked for."""
    if not shutil.which("prlimit"):
        pytest.skip("needs prlimit, of util-linux")
    return subprocess.run(
        ["prlimit", f"--as={megabytes}000000", *shlex.split(shell(words))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_too_little_memory_to_draw_is_one_message(tmp_path: Path) -> None:
    words = quick(tmp_path, *ONE, "sampler.batch_width=256", "resolution=512")
    done = little_memory(6000, words)
    assert done.returncode == 2, done.stderr
    *_, line = done.stderr.splitlines()
    assert line.startswith("TrainingError: out of memory (drawing base-sdxl")
    assert "a smaller sampler.batch_width or resolution takes less" in line


@pytest.mark.slow
def test_too_little_memory_to_train_fails_the_cell_and_says_what_takes_less(tmp_path: Path) -> None:
    """The report is written, and the same command with more memory puts the cell right."""
    words = quick(tmp_path, "train_steps=1", "pack=1", "batch_size=1024")
    done = little_memory(4500, words)
    assert done.returncode == 2, done.stderr
    *_, line = done.stderr.splitlines()
    assert line.startswith("TrainingError: 1 of 1 cells failed")
    (row,) = cells(tmp_path)
    assert row["state"] == "failed"
    assert row["error"].startswith("out of memory")
    assert "runtime.micro_batch" in row["error"]
    assert (tmp_path / "sweeps/small/report/index.html").exists()
    assert mlflow_statuses(tmp_path) == ["FAILED"]

    assert main(words) == 0
    (row,) = cells(tmp_path)
    assert row["state"] == "finished"
    assert mlflow_statuses(tmp_path) == ["FINISHED"]


def mlflow_statuses(root: Path) -> list[str]:
    """Of the runs of cells that MLflow shows."""
    query = "select status from runs where lifecycle_stage = 'active' and name != 'small'"
    with sqlite3.connect(root / "mlflow.db") as database:
        return [status for (status,) in database.execute(query)]


@pytest.mark.slow
def test_numbers_that_are_none_end_their_own_trial_of_a_pack(tmp_path: Path) -> None:
    """One trial's stored weights turn into NaN; it diverges, and the other goes on as if alone."""
    from safetensors.torch import load_file, save_file

    root, plain = tmp_path / "root", tmp_path / "plain"
    words = ["pack=2", "runtime.tracking=false"]
    assert main(quick(root, *words, "+axes.lr=[1e-2,1e-3]", "train_steps=4")) == 0
    (state,) = root.glob("sweeps/store/*lr1e-02*/resume/step-000004/state.safetensors")
    save_file({name: tensor * float("nan") for name, tensor in load_file(state).items()}, state)
    assert main(quick(root, *words, "+axes.lr=[1e-2,1e-3]", "train_steps=8")) == 0
    assert main(quick(plain, *words, "lr=1e-3", "train_steps=8")) == 0

    assert {row["lr"]: row["state"] for row in cells(root) if row["step"] == "8"} == {
        "0.01": "diverged", "0.001": "finished",
    }  # fmt: skip
    (mark,) = root.glob("sweeps/store/*lr1e-02*/diverged.json")
    assert json.loads(mark.read_text()) == {"step": 5}
    ours, theirs = bits(root), bits(plain)
    later = [name for name in theirs if "lr1e-03" in name]
    assert any(name.endswith("step-000008/pytorch_lora_weights.safetensors") for name in later)
    assert [name for name in later if ours[name] != theirs[name]] == []
