"""Diffusers folders with a part too few, too many, or by another name: they load, or are refused at
planning, in one message whose remedy works."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.single_file import autoencoder, write_single_file
from helpers.small import EXAM, family
from safetensors.torch import load_file, save_file

from charsweep.__main__ import main
from charsweep.models import embedded
from charsweep.models.load import load_base
from charsweep.models.pipeline import LoadedPipeline
from charsweep.models.weights import find_base

WEIGHTS = embedded.FOLDER / "weights"
CPU = torch.device("cpu")


def copy(folder: Path, name: str = "sdxl") -> Path:
    shutil.copytree(WEIGHTS / name, folder)
    return folder


def load(path: Path, name: str = "sdxl", **more: Any) -> LoadedPipeline:
    weights = find_base(str(path), path.parent, family(name), **more)
    return load_base(weights.spec, weights, CPU)


def planned(path: Path, root: Path, *words: str) -> int:
    given = f"models.bases.sdxl.path={path}"
    return main([given, f"root={root}", "action=plan", *EXAM, *words])


def remove(*parts: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for part in parts:
            path = folder / part
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def rename(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / old).rename(folder / new)

    return change


def index(**entries: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "model_index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return change


def torn(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text('{"a": ') and None


def half(part: str, *, alone: bool = True) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in (folder / part).glob("*.safetensors"):
            tensors = {name: tensor.half() for name, tensor in load_file(path).items()}
            save_file(tensors, path.with_suffix(".fp16.safetensors"), {"format": "pt"})
            if alone:
                path.unlink()

    return change


def pieces(folder: Path) -> None:
    """The U-Net's weights in two files with an index, the second lost."""
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    names = [f"{path.stem}-0000{i}-of-00002.safetensors" for i in (1, 2)]
    cut = len(tensors) // 2
    parts = [dict(list(tensors.items())[:cut]), dict(list(tensors.items())[cut:])]
    for name, part in zip(names, parts, strict=True):
        save_file(part, path.with_name(name), {"format": "pt"})
    weight_map = {key: name for name, part in zip(names, parts, strict=True) for key in part}
    content = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    path.with_name(f"{path.name}.index.json").write_text(json.dumps(content))
    path.unlink()


def lost_piece(folder: Path) -> None:
    pieces(folder)
    (folder / "unet" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()


UNET = "unet/diffusion_pytorch_model"
SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "no vae": (remove("vae"), "vae/ is missing (there is scheduler, text_encoder"),
    "no scheduler": (remove("scheduler"), "scheduler/ is missing"),
    "no tokenizer_2": (remove("tokenizer_2"), "tokenizer_2/ is missing"),
    "an empty tokenizer": (remove("tokenizer/tokenizer.json"), "tokenizer/ lacks"),
    "no text encoder": (remove("text_encoder_2"), "text_encoder_2/ is missing"),
    "a part by another name": (rename("text_encoder", "te"), "text_encoder/ is missing (there is"),
    "no config": (remove("unet/config.json"), "unet/ lacks config.json"),
    "no scheduler's config": (remove("scheduler/scheduler_config.json"), "scheduler_config.json"),
    "a torn config": (torn("vae/config.json"), "vae/config.json cannot be read"),
    "no weights": (remove(f"{UNET}.safetensors"), "unet/ has no .safetensors weights, none"),
    "bin": (rename("text_encoder/model.safetensors", "text_encoder/pytorch_model.bin"),
            "text_encoder/ has no .safetensors weights, only pytorch_model.bin, which may hold"),
    "sft": (rename(f"{UNET}.safetensors", f"{UNET}.sft"), "diffusion_pytorch_model.sft, which is"),
    "weights by another name": (rename(f"{UNET}.safetensors", "unet/mine.safetensors"),
                                "unet/ has mine.safetensors, which is read as diffusion_pytorch"),
    "another precision": (rename(f"{UNET}.safetensors", f"{UNET}.bf16.safetensors"),
                          "unet/ has weights in bf16 precision alone"),
    "a lost piece": (lost_piece, "unet/ lacks diffusion_pytorch_model-00002-of-00002.safetensors"),
    "no entry": (index(unet=None), "model_index.json names no class for unet/"),
    "an entry of nothing": (index(text_encoder=[None, None]), "names no class for text_encoder/"),
}  # fmt: skip


@pytest.mark.parametrize("way", SPOILT)
def test_a_part_that_cannot_be_read_is_one_message_at_planning(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, said = SPOILT[way]
    folder = copy(tmp_path / "base")
    spoil(folder)
    assert planned(folder, tmp_path / "root") == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith(f"ModelsError: models.bases.sdxl.path={folder}: ")
    assert said in message
    assert not (tmp_path / "root").exists()


def test_all_that_is_wrong_is_said_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(tmp_path / "base")
    remove("tokenizer_2", "unet/config.json")(folder)
    assert planned(folder, tmp_path) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert "unet/ lacks config.json; tokenizer_2/ is missing" in message


def test_a_renamed_file_is_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copy(tmp_path / "base")
    rename(f"{UNET}.safetensors", "unet/mine.safetensors")(folder)
    assert planned(folder, tmp_path) == 2
    words = capsys.readouterr().err.split("unet/ has ")[1].split()
    (folder / "unet" / words[0].rstrip(",")).rename(folder / "unet" / words[5])
    assert planned(folder, tmp_path) == 0


def test_a_vae_of_another_place_makes_a_folder_without_one_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, own = copy(tmp_path / "base"), load(WEIGHTS / "sdxl")
    remove("vae")(folder)
    assert planned(folder, tmp_path) == 2
    assert "a VAE may come from models.bases.sdxl.vae=FILE-OR-FOLDER" in capsys.readouterr().err
    for vae in (WEIGHTS / "sdxl" / "vae", WEIGHTS / "sdxl"):
        assert planned(folder, tmp_path, f"models.bases.sdxl.vae={vae}") == 0
        assert load(folder, vae=str(vae)).digest() == own.digest()
    index(vae=[None, None])(folder)
    assert load(folder, vae=str(WEIGHTS / "sdxl" / "vae")).digest() == own.digest()


def test_a_vae_of_another_width_is_refused_without_the_folder_s_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(tmp_path / "base")
    remove("vae")(folder)
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "in_channels": 4}))
    words = [f"models.bases.sdxl.vae={WEIGHTS / 'sdxl' / 'vae'}", "train_steps=1", *EXAM]
    given = f"models.bases.sdxl.path={folder}"
    assert main([given, f"root={tmp_path}", "runtime.tracking=false", *words]) == 2
    assert "ModelsError" in capsys.readouterr().err


@pytest.mark.parametrize("way", ["surplus", "image encoder", "pieces"])
def test_what_diffusers_reads_is_read(way: str, tmp_path: Path) -> None:
    folder = copy(tmp_path / "base")
    if way == "surplus":
        copy(folder / "old")
        (folder / "notes").mkdir()
        (folder / "README").write_text("mine")
        (folder / "unet" / "LICENSE").write_text("mine")
    elif way == "image encoder":  # named, and not there
        index(image_encoder=["transformers", "CLIPVisionModelWithProjection"],
              feature_extractor=["transformers", "CLIPImageProcessor"])(folder)  # fmt: skip
    else:
        pieces(folder)
    assert load(folder).digest() == load(WEIGHTS / "sdxl").digest()


def test_a_part_in_half_precision_alone_is_read_so(tmp_path: Path) -> None:
    """diffusers is asked for fp16 and takes full precision where there is no other."""
    folder = copy(tmp_path / "base")
    half("unet")(folder)
    weights = find_base(str(folder), tmp_path, family("sdxl"))
    assert weights.pipeline.variant == "fp16"
    assert load(folder).digest() == load(WEIGHTS / "sdxl").digest()  # which is half itself
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = {name: tensor + 1 for name, tensor in load_file(path).items()}
    save_file(tensors, path, {"format": "pt"})
    moved = shutil.move(folder, tmp_path / "other")
    other = find_base(str(moved), tmp_path, family("sdxl"))
    assert other.digest != weights.digest  # a plain part counts too


def test_a_file_without_an_ending_and_a_variant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(tmp_path / "base")
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        half(part, alone=False)(folder)
    (folder / "unet" / "LICENSE").write_text("mine")
    assert planned(folder, tmp_path, "models.bases.sdxl.variant=fp16") == 2
    assert "unet/LICENSE has no ending" in capsys.readouterr().err
    (folder / "unet" / "LICENSE").unlink()
    assert planned(folder, tmp_path, "models.bases.sdxl.variant=fp16") == 0


# -- single files, whatever they are called --------------------------------------------------------


@pytest.mark.usefixtures("shrunk")
@pytest.mark.parametrize("name", ["mine.sft", "mine"])
def test_a_file_by_another_ending_is_read_for_what_it_is(name: str, tmp_path: Path) -> None:
    whole = find_base("random:sdxl", tmp_path, family("sdxl"))
    own = load_base(whole.spec, whole, CPU)
    file = write_single_file(own.pipeline, tmp_path / "mine.safetensors").rename(tmp_path / name)
    save_file(autoencoder(own.pipeline.vae), tmp_path / f"vae-{name}")
    assert load(file).digest() == own.digest()
    assert load(file, vae=str(tmp_path / f"vae-{name}")).digest() == own.digest()


@pytest.mark.parametrize(("content", "said"), [
    (b"PK\x03\x04" + bytes(60), "may hold code"), (b"\x80\x02}q" + bytes(60), "may hold code"),
    (b"GGUF" + bytes(60), "a GGUF file"),
])  # fmt: skip
@pytest.mark.parametrize("name", ["mine", "mine.safetensors", "mine.sft"])
def test_a_file_of_another_kind_is_called_that(
    name: str, content: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert planned(tmp_path / name, tmp_path) == 2
    message = capsys.readouterr().err
    assert said in message
    assert "give it as a .safetensors file" in message


@pytest.mark.parametrize("name", ["gone/mine.sft", "gone/mine.safetensors"])
def test_a_file_that_is_not_there(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert planned(Path(name), tmp_path) == 2
    assert "is not there (looked from" in capsys.readouterr().err


# -- a VAE, an encoder -----------------------------------------------------------------------------


@pytest.mark.parametrize(("spoil", "said"), [
    (remove("config.json"), "lacks config.json"),
    (rename("diffusion_pytorch_model.safetensors", "vae.safetensors"), "rename it"),
    (rename("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"), "hold code"),
    (torn("config.json"), "cannot be read"),
    (lambda folder: shutil.copy(WEIGHTS / "sdxl/unet/config.json", folder), "UNet2DCondition"),
])  # fmt: skip
def test_a_vae_that_is_none_is_said_at_planning(
    spoil: Callable[[Path], Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(WEIGHTS / "sdxl" / "vae", tmp_path / "vae")
    spoil(tmp_path / "vae")
    words = [f"models.bases.sdxl.vae={tmp_path / 'vae'}", f"root={tmp_path}", "action=plan"]
    assert main(words) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert said in message
    assert "models.bases.sdxl.vae=" in message


def test_a_vae_s_file_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "lora.safetensors"
    save_file({"lora_unet_conv_in.lora_up.weight": torch.zeros(2)}, file)
    assert main([f"models.bases.sdxl.vae={file}", f"root={tmp_path}", "action=plan"]) == 2
    assert "an adapter, not a base" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["clip", "dino"])
def test_an_encoder_s_folder_without_its_config(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = {"clip": "open_clip_config.json", "dino": "config.json"}[what]
    folder = copy(tmp_path / what, what)
    (folder / name).unlink()
    words = [f"models.encoders.{what}.path={folder}", f"root={tmp_path}", "action=plan"]
    assert main(words) == 2
    assert f"lacks {name}" in capsys.readouterr().err
