"""The benchmark: what it trains, what it watches, what it says; alone and without Hydra's kin."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.small import sweep_of
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed import measure, study, whole
from benchmarks.speed.__main__ import main, parser
from benchmarks.speed.clock import PARTS
from benchmarks.speed.measure import CACHED, PLAIN, Way, make, parts_of
from benchmarks.speed.ours import Ours
from benchmarks.speed.reference import Reference
from benchmarks.speed.results import Amount, Measured, training_ratio
from benchmarks.speed.study import TUNING, Straight, study_lines, study_table, study_times
from benchmarks.speed.table import lines
from benchmarks.speed.task import METHODS, Task, find_task

BARE = """
import sys
for name in ("hydra", "omegaconf", "mlflow", "optuna"):
    sys.modules[name] = None  # an import of it fails
from benchmarks.speed.__main__ import main
raise SystemExit(main(sys.argv[1:]))
"""
SMALL = ["--steps=2", "--rounds=2", "--warm-up=1", "--images=1", "--inference-steps=1"]


def task_of(method: str, widths: tuple[int, ...] | None = (1,)) -> Task:
    return find_task("embedded", method, None, None, "fp32", "cpu", None, widths)


@pytest.mark.parametrize("method", METHODS)
def test_it_trains_what_a_sweep_trains(method: str, tmp_path: Path) -> None:
    cell = sweep_of(tmp_path, f"method={method}", "lr=1e-4", "sampler.batch_width=16").cells[0]
    task = task_of(method, None)
    spec = task.spec(task.widths[-1])
    assert (spec.class_images is None) == (cell.trajectory.class_images is None)
    assert replace(spec, class_images=cell.trajectory.class_images) == cell.trajectory
    drawn = task.images(cell.images.snapshot, range(2), cell.images.inference_steps)
    assert replace(drawn, prompts=cell.images.prompts) == cell.images


@pytest.mark.slow
def test_a_bare_machine_is_enough() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BARE, "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--rounds" in done.stdout


@pytest.mark.slow
def test_a_bare_machine_gets_its_tables(tmp_path: Path) -> None:
    out = tmp_path / "results.md"
    out.write_text("# Results\n\n")
    done = subprocess.run(
        [sys.executable, "-c", BARE, *SMALL, "--packs=1,2", "--no-memory", f"--out={out}"],
        capture_output=True, text=True, timeout=200, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = out.read_text()
    assert text.startswith("# Results\n\n## lora on embedded sdxl, 64 px, fp32, batch 1")
    assert text.removeprefix("# Results\n\n") == done.stdout
    for loop in ("charsweep, 1 at once", "charsweep, 2 at once", PLAIN, CACHED):
        assert len([line for line in text.splitlines() if line.startswith(f"| {loop} |")]) == 2
    assert text.count("| training, 2 learning rates |") == 2
    assert text.count(f"| drawing | {PLAIN} |") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.md"]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS[:1])
def test_all_parts_of_a_step_are_seen(method: str, tmp_path: Path) -> None:
    task = task_of(method)
    before = torch.Tensor.backward
    for name in (Way(1), PLAIN, CACHED):
        with contextlib.closing(make(task, name, (1, 3), tmp_path)) as loop:
            loop.advance(1)  # before the first step, charsweep fills its caches
            parts = parts_of(task, loop, 2)
            left = [vars(owner).get(function) for owner, function, _ in loop.functions]
            assert not [one for one in left if "Clock" in getattr(one, "__qualname__", "")]
        assert set(parts) <= set(PARTS)
        assert sum(parts.values()) == pytest.approx(1.0)
        encodes = name == PLAIN
        seen = {part for part in parts if parts[part] > 0}
        assert seen == set(PARTS) - (set() if encodes else {"encoding"}), name
    assert torch.Tensor.backward is before


@pytest.mark.slow
def test_both_loops_do_the_same_work(tmp_path: Path) -> None:
    task = task_of("lora", (1, 2))
    plain = make(task, PLAIN, (), tmp_path)
    assert isinstance(plain, Reference)
    with contextlib.closing(plain):
        expected = plain.flops()
        plain.advance(2)
        moved = [p for n, p in plain.unet.named_parameters() if "lora_B" in n and p.abs().sum() > 0]
        assert len(moved) == len(plain.parameters) // 2
    for width in task.widths:
        with contextlib.closing(Ours(task, width, (2,), tmp_path / str(width))) as own:
            for slot, spec in enumerate(own.specs):
                own.trainable.enter(slot, spec)
            with FlopCounterMode(display=False) as counter:
                for share in own.trainable.losses([0] * width):
                    share.sum().backward()
        # ranks are padded from 4 to 8, which adds a little
        assert counter.get_total_flops() / (width * expected) == pytest.approx(1.0, abs=0.05)


def test_a_pack_is_compared_with_runs_one_after_the_other() -> None:
    eight = Measured("eight", 8, (2.0, 4.0), {}, None, ())
    plain = Measured("plain", 1, (1.0, 1.0), {}, None, ())
    assert training_ratio(eight, plain).by_round == (4.0, 2.0)


def test_a_whole_run_is_read_off_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(whole, "find_spec", lambda name: None)
    monkeypatch.setattr(whole, "SNAPSHOTS", 2)
    found = whole.whole_run(task_of("lora"), 5)
    assert (found.steps, found.snapshots, found.command_seconds) == (5, 3, None)
    assert 0.1 < found.share < 1.0


@pytest.mark.slow
def test_a_whole_run_is_the_command_where_it_can_be() -> None:
    found = whole.whole_run(task_of("lora"), 200)
    assert found.snapshots == 2
    assert found.command_seconds is not None
    assert found.step_seconds < found.seconds < found.command_seconds


def test_a_study_is_added_up_over_its_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "command", lambda words: (100.0, 400.0))
    monkeypatch.setattr(study, "script_times", lambda task: (Straight(8, 0.03), Straight(0, 0.01)))
    found = study_times(task_of("lora"), TUNING)
    assert (found.cells, found.steps, found.images) == (35, 36_000, 35 * 16)
    assert found.inference_steps == 16 * (7 + 19) * 50 + 16 * (550 - 50)
    assert found.training_ratio == pytest.approx((35 * 8 + 36_000 * 0.03) / 100)
    drawing = found.inference_steps * 0.01
    assert found.whole_ratio == pytest.approx((35 * 8 + 36_000 * 0.03 + drawing) / 400)
    assert "8.0 s to start, 30.0 ms a step, 0.50 s an image" in study_lines(found)[1]
    assert study_table([found]).rows[0][-2:] == ("13.6", "4.1")


@pytest.mark.slow
def test_a_script_is_timed_from_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "SCRIPT_STEPS", (1, 3))
    monkeypatch.setattr(study, "SCRIPT_INFERENCE", (1, 3))
    monkeypatch.setattr(study, "SCRIPT_IMAGES", 1)
    script, image = study.script_times(task_of("lora"))
    assert script.each > 0 < image.each


@pytest.mark.gpu
def test_true_sizes_on_a_card(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the random weights are made here
    assert main([*SMALL, "--base=sd15", "--packs=1,2", "--resolution=256", "--no-memory"]) == 0
    assert "lora on random sd15, 256 px, " in capsys.readouterr().out


# -- on a card -------------------------------------------------------------------------------------

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.sh"
FAKE = """#!/usr/bin/env bash
printf '%s ' "$@" >>"$0.log"; echo >>"$0.log"
case "$*" in *SLOW*) sleep 60 ;; *BROKEN*) exit 3 ;; esac
"""


def gpu_script(folder: Path, *words: str, **environment: str) -> tuple[int, str, list[list[str]]]:
    """Exit code, what is said, and the commands, none of which is done."""
    fake = folder / "python"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    done = subprocess.run(
        [SCRIPT, *words, folder / "out.md"], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHON": str(fake), **environment},
    )  # fmt: skip
    log = folder / "python.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return done.returncode, done.stderr, [shlex.split(line) for line in lines]


@pytest.mark.parametrize("words", [[], ["--small"]])
def test_the_script_for_a_card_asks_for_what_there_is(words: list[str], tmp_path: Path) -> None:
    code, said, commands = gpu_script(tmp_path, *words)
    assert (code, "missing" in said) == (0, False)
    assert [command[1] for command in commands] == [*["benchmarks.speed"] * 3, "pytest"]
    given = [parser().parse_args(command[2:]) for command in commands[:3]]
    assert [one.base for one in given] == ["sdxl", "sd15", None]
    assert given[0].packs == ((1, 2) if words else (1, 2, 4, 8))
    assert given[1].compile == ("default",)
    assert given[2].compile == ("reduce-overhead",)
    assert {one.out for one in given} == {tmp_path / "out.md"}
    assert {one.device for one in given} == {"cpu" if words else "cuda"}
    most = [int(line.split()[-2]) for line in said.splitlines() if ", at most " in line]
    assert len(most) == 4
    assert sum(most) < 480


def test_what_the_script_could_not_do_it_says(tmp_path: Path) -> None:
    fake = FAKE.replace("SLOW", '"-m pytest"').replace("BROKEN", "--base=sdxl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "FAKE", fake)
        code, said, commands = gpu_script(tmp_path, "--small", SECONDS_IN_ALL="7")
    assert code == 1
    assert len(commands) == 4
    assert "missing: LoRA on SDXL (exit code 3)\n" in said
    assert "missing: tests on a card (" in said
    code, said, commands = gpu_script(tmp_path, "--small", SECONDS_IN_ALL="0")
    assert said.count("(no time left)") == 4


@pytest.mark.slow
def test_its_small_commands_write_their_rows(tmp_path: Path) -> None:
    """The second in this process, as CUDA graphs too; nothing is really compiled."""
    _, _, *words = gpu_script(tmp_path, "--small")[2][1]
    with torch.compiler.set_stance("force_eager"):
        assert main([*words, "--packs=1,2", "--compile=default,reduce-overhead"]) == 0
    text = (tmp_path / "out.md").read_text()
    for loop in ("1 at once", "2 at once", "1 at once, compiled", "1 at once, CUDA graphs"):
        assert text.count(f"| charsweep, {loop} | ") == 2
    assert f"| drawing, compiled | {PLAIN} | " in text
    assert f"| training, 1 learning rate, CUDA graphs | {CACHED} | " in text
    assert "of the matrix peak" in text


@pytest.mark.slow
def test_what_cannot_be_compiled_or_has_no_time_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is measured all the same."""
    clock = [0.0]

    def compare(task: Task, amount: Amount, way: Way, *rest: Any) -> dict[str, Measured]:
        if way.mode == "default":
            raise RuntimeError("no compiler here\nand more")
        found = {
            name: Measured(name, width, (1.0,), {}, None, ())
            for name, width in ((way.name, way.width), (PLAIN, 1), (CACHED, 1))
        }
        clock[0] += 60.0
        return found

    monkeypatch.setattr(measure, "compare", compare)
    monkeypatch.setattr(measure, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    task, amount = task_of("lora"), Amount(1, 1, 1, 0, 1)
    modes = ["default", "reduce-overhead"]
    result = measure.measure(task, amount, False, str, modes, until=50.0)
    assert result.notes == (
        "There was no time for charsweep, 1 at once, compiled.",
        "There was no time for charsweep, 1 at once, CUDA graphs.",
    )
    clock[0] = 0.0
    result = measure.measure(task, amount, False, str, modes, until=100.0)
    assert result.notes == ("charsweep, 1 at once, compiled: no compiler here",)
    in_order = ["charsweep, 1 at once", "charsweep, 1 at once, CUDA graphs", PLAIN, CACHED]
    assert [loop.name for loop in result.loops] == in_order
    assert [note in lines(result) for note in result.notes] == [True]


@pytest.mark.slow
def test_the_script_runs_at_small_size(tmp_path: Path) -> None:
    out = tmp_path / "out.md"
    done = subprocess.run(
        [SCRIPT, "--small", out], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHON": sys.executable},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert out.read_text().count("\n## ") + 1 >= 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--compile=fast"], "fast should list some of default, reduce-overhead"),
        (["--method=dreambooth", "--packs=2"], "--packs 2: dreambooth trains alone"),
        (["--out=nowhere/results.md"], "--out nowhere/results.md: its folder is not there"),
        (["--device=mps"], "--device mps: this machine has none"),
        (["--method=dreambooth", "--base=sd15", "--whole-run=0"], "0 should be a whole number"),
        (["--packs=3"], "3 should list different powers of two up to 64"),
        (["--resolution=70"], "70 should be a multiple of 8 from 16 to 4096"),
        (["--images=-1"], "-1 should be a whole number"),
        (["--method=gan"], "invalid choice: 'gan'"),
    ],
)
def test_what_cannot_be_is_one_message(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    try:
        code = main(words)
    except SystemExit as exit_:
        code = exit_.code
    said = capsys.readouterr()
    assert code == 2
    assert message in said.err
    assert "Traceback" not in said.err
    assert not list(tmp_path.iterdir())
