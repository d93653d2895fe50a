"""--help, --cfg and --info: wherever they stand, and whoever reads on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.small import command

from charsweep.__main__ import main
from charsweep.config import as_yaml


def answer(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (["--help"], ["--help"]),
        (["--cfg", "job"], ["--cfg", "job"]),
        (["--cfg=job"], ["-c", "job"]),
        (["--cfg", "job", "-p", "method"], ["--cfg", "job", "-p", "method"]),
    ],
)
def test_flags_count_wherever_they_stand(
    first: list[str], last: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["method=lora", "constraints.leak.most=0.5", "question=What's best?"]
    assert answer([*first, *words], capsys) == answer([*words, *last], capsys) != ""


def test_info_counts_wherever_it_stands() -> None:
    """In processes of their own: Hydra would leave its log open."""
    command = [sys.executable, "-m", "charsweep"]
    asked = (["--info", "defaults", "method=lora"], ["method=lora", "-i", "defaults"])
    told = [subprocess.run([*command, *words], capture_output=True, text=True) for words in asked]
    assert told[0].stdout == told[1].stdout != ""
    assert "method/lora" in told[0].stdout
    assert [one.returncode for one in told] == [0, 0]


def test_cfg_shows_what_the_words_make(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["character.identifier=ミア", "optimizer.amsgrad=true"]
    shown = answer([*words, "--cfg", "job"], capsys)
    assert shown == as_yaml(words)
    assert "identifier: ミア" in shown


def test_hydra_s_own_answers_are_of_the_words(tmp_path: Path) -> None:
    """In a process of its own: Hydra sets up its logging for good."""
    done = command("method=gan", "question=What's best?", "--info", "defaults", cwd=tmp_path)
    assert done.returncode == 0
    assert "method/gan" in done.stdout


@pytest.mark.parametrize("words", [["--help"], ["lr=1e-4", "--cfg", "job"], ["action=plan"]])
def test_nobody_reads_on(words: list[str]) -> None:
    """As `| head -1` does, or `| true`: no traceback."""
    command = [sys.executable, "-m", "charsweep", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        assert shell.stderr is not None
        shell.stdout.close()
        assert shell.stderr.read() == b""
        assert shell.wait() == 141
