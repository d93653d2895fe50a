"""The mistakes that people make most, and the exact message that each gets: docs/mistakes.md."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from PIL import Image

from charsweep.__main__ import main
from charsweep.models import embedded

TABLE = Path(__file__).parents[2] / "docs" / "mistakes.md"
PROMPT = "$ python -m charsweep "
PORT = 48765  # that another program listens on
HOME = "/home/you/study"  # what the table calls the folder that a test stands in
# Tensors by which single files are told apart: what an SD 1.5 and an SDXL checkpoint have.
UNET, VAE = "model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.decoder.weight"
SDXL = "conditioner.embedders.1.model.token_embedding.weight"


def rows() -> Iterator[tuple[str, str]]:
    """The commands of the table, without `python -m charsweep`, and what is printed after each."""
    for block in re.findall(r"```console\n(.*?)```", TABLE.read_text(encoding="utf-8"), re.DOTALL):
        first, _, message = block.partition("\n")
        assert first.startswith(PROMPT), first
        yield first.removeprefix(PROMPT), message


def checkpoint(*names: str) -> bytes:
    """A safetensors file with four numbers, one per channel, under each name."""
    tensors = {
        name: {"dtype": "F32", "shape": [1, 4], "data_offsets": [16 * place, 16 * place + 16]}
        for place, name in enumerate(names)
    }
    header = json.dumps(tensors).encode()
    return struct.pack("<Q", len(header)) + header + bytes(16 * len(names))


def things(folder: Path) -> None:
    """What the table's commands find around them: good drawings, bad ones, weights of two kinds."""
    good = folder / "drawings"
    shutil.copytree(embedded.FOLDER / "unicorn_girl", good)
    copies = ("caption_left", "caption_mistyped", "text_file", "tiny", "no_masks", "new_format")
    for name in (*copies, "other_column", "one_folder_down/train"):
        shutil.copytree(good, folder / name)
    (folder / "caption_mistyped" / "03.txt").rename(folder / "caption_mistyped" / "O3.txt")
    (folder / "new_format" / "03.txt").unlink()
    (folder / "new_format" / "03.png").rename(folder / "new_format" / "03.jxl")
    (folder / "new_format" / "03.jxl").write_bytes(b"\xff\x0a" + bytes(20))
    (folder / "other_column" / "03.txt").unlink()
    row = {"file_name": "03.png", "label": "a picture"}
    (folder / "other_column" / "metadata.jsonl").write_text(json.dumps(row))
    (folder / "caption_left" / "03.png").unlink()
    (folder / "text_file" / "03.png").write_text("not a picture")
    Image.new("RGB", (16, 16)).save(folder / "tiny" / "03.png")
    shutil.rmtree(folder / "no_masks" / "masks")
    (folder / "empty").mkdir()
    (folder / "sdxl_model.safetensors").write_bytes(checkpoint(UNET, VAE, SDXL))
    (folder / "my_lora.safetensors").write_bytes(checkpoint("lora_unet_x.lora_up.weight"))
    whole = (folder / "sdxl_model.safetensors").read_bytes()
    (folder / "half.safetensors").write_bytes(whole[:-4])
    (folder / "page.safetensors").write_bytes(b"<!doctype html>" * 9)
    for name, part in (("no_vae", "vae"), ("no_tokenizer", "tokenizer_2")):
        shutil.copytree(embedded.FOLDER / "weights" / "sdxl", folder / name)
        shutil.rmtree(folder / name / part)
    (folder / "embedding.safetensors").write_bytes(checkpoint("clip_l", "clip_g"))
    earlier = folder / "earlier" / "sweeps" / "single"
    earlier.mkdir(parents=True)
    (earlier / ".lock").touch()
    (earlier.parent / "store").mkdir()
    study = optuna.create_study(
        storage=f"sqlite:///{earlier / 'study.db'}", study_name="single",
        directions=["maximize", "maximize"],
    )  # fmt: skip
    study.set_user_attr("meaning", {"dreambooth_lora.batch_size": 2})
    (folder / "earlier" / "mlflow.db").touch()


@pytest.fixture
def study(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A person's folder, in which no command of the table writes anything."""
    folder = tmp_path_factory.getbasetemp() / "mistakes"
    if not folder.exists():
        things(folder)
    before = sorted(folder.rglob("*"))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HOME", str(folder.parent / "hub"))
    with socket.socket() as server:
        with contextlib.suppress(OSError):  # somebody else has it, which is as well
            server.bind(("127.0.0.1", PORT))
            server.listen()
        yield folder
    assert sorted(folder.rglob("*")) == before


def test_the_table_holds_forty() -> None:
    found = [command for command, _ in rows()]
    assert len(found) == len(set(found)) >= 40


@pytest.mark.parametrize(("line", "message"), list(rows()), ids=[line for line, _ in rows()])
def test_a_mistake_gets_its_message(
    line: str, message: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(shlex.split(line)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.replace(str(study), HOME) == message
