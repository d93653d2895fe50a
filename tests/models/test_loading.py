"""Bases in the formats in which people have them, against the same weights as a folder."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from helpers.single_file import autoencoder, write_single_file
from helpers.small import EXAM, encoder_named, execute, family, sweep_of
from helpers.true_shapes import modules, shapes
from helpers.variants import FAMILIES
from safetensors.torch import load_file, save_file

from charsweep.__main__ import main
from charsweep.core.errors import ModelsError
from charsweep.core.store.files import machine
from charsweep.core.system.console import out
from charsweep.core.system.images import open_image
from charsweep.evaluate.encoders import load_encoder
from charsweep.models import architectures, embedded
from charsweep.models.clip_tokenizer import clip_tokenizer
from charsweep.models.load import load_base
from charsweep.models.pipeline import LoadedPipeline, quiet
from charsweep.models.random_weights import make, numbers, write_random
from charsweep.models.weights import find_base, find_weights

WEIGHTS = embedded.FOLDER / "weights"
CPU = torch.device("cpu")


def load(path: str | Path, made: Path, name: str = "sdxl", **more: Any) -> LoadedPipeline:
    weights = find_base(str(path), made, family(name), **more)
    return load_base(weights.spec, weights, CPU)


@pytest.mark.parametrize("name", architectures.NAMES)
def test_shipped_shapes_are_those_of_the_real_modules(name: str) -> None:
    assert architectures.shapes_of(name) == shapes(modules(name))


def test_the_published_sizes() -> None:
    sizes = {
        name: {
            part: sum(torch.Size(shape).numel() for shape in tensors.values())
            for part, tensors in architectures.shapes_of(name).items()
        }
        for name in architectures.NAMES
    }
    text, vae = 123_060_480, 83_653_863
    assert sizes == {
        "sd15": {"unet": 859_520_964, "text_encoder": text, "vae": vae},
        "sdxl": {"unet": 2_567_463_684, "text_encoder": text, "text_encoder_2": 694_659_840,
                 "vae": vae},
        "clip": {"": 151_277_313},
        "dino": {"": 21_665_664},
    }  # fmt: skip


def test_the_tokenizer_is_clip_s() -> None:
    import open_clip

    texts = ["A picture of UnicornGirl, jumping on the beach!", "naïve café: 3 cats' 12,000 ½"]
    theirs = open_clip.SimpleTokenizer()(texts)
    first, second = clip_tokenizer("tokenizer"), clip_tokenizer("tokenizer_2")
    for text, wanted in zip(texts, theirs.tolist(), strict=True):
        assert first(text).input_ids == [number for number in wanted if number]
    assert (first.pad_token_id, second.pad_token_id) == (architectures.VOCABULARY - 1, 0)
    assert second("a cat", padding="max_length", max_length=6).input_ids[-1] == 0


@pytest.mark.usefixtures("shrunk")
@pytest.mark.parametrize("recipe", FAMILIES)
def test_a_single_file_is_the_same_base_as_its_folder(recipe: str, tmp_path: Path) -> None:
    folder = load(f"random:{recipe}", tmp_path, recipe)
    file = write_single_file(folder.pipeline, tmp_path / "artist.safetensors")
    single = load(file, tmp_path, recipe)
    assert single.digest() == folder.digest()
    assert single.family == folder.family
    prompt = ["a picture of UnicornGirl", ""]
    assert torch.equal(single.texts(prompt).hidden, folder.texts(prompt).hidden)
    moved = file.rename(tmp_path / "renamed.safetensors")
    found = find_base(str(moved), tmp_path, family(recipe))
    assert found.digest == single.spec.digest
    assert found.shapes == architectures.shapes_of(recipe)


def without_level(name: str) -> str:
    return re.sub(r"(cond_stage_model|conditioner\.embedders\.0)\.transformer\.text_model\.",
                  r"\1.transformer.", name)  # fmt: skip


@pytest.mark.usefixtures("shrunk")
@pytest.mark.parametrize("recipe", FAMILIES)
def test_names_that_sd_scripts_renames_on_reading(recipe: str, tmp_path: Path) -> None:
    """NovelAI's files lack a level; some hold the second encoder's projection turned round."""
    folder = load(f"random:{recipe}", tmp_path, recipe)
    file = write_single_file(folder.pipeline, tmp_path / "nai.safetensors")
    tensors = {without_level(name): tensor for name, tensor in load_file(file).items()}
    projection = "conditioner.embedders.1.model.text_projection"
    if projection in tensors:
        tensors[f"{projection}.weight"] = tensors.pop(projection).T.contiguous()
        left = f"{projection.rpartition('.')[0]}.transformer.text_model.embeddings.position_ids"
        tensors[left] = torch.arange(77)[None]  # as ComfyUI once wrote
    assert tensors.keys() != load_file(file).keys()
    save_file(tensors, file)
    single = load(file, tmp_path, recipe)
    assert single.digest() == folder.digest()
    prompt = ["a picture of UnicornGirl"]
    assert torch.equal(single.texts(prompt).hidden, folder.texts(prompt).hidden)


@pytest.mark.slow
@pytest.mark.usefixtures("shrunk")
def test_a_vae_of_another_file_stands_in_and_is_in_the_key(tmp_path: Path) -> None:
    own = load("random:sdxl", tmp_path)
    plain = find_base("random:sdxl", tmp_path, family("sdxl"))
    other = {name: tensor + 1 for name, tensor in autoencoder(own.pipeline.vae).items()}
    save_file(other, tmp_path / "sdxl_vae.safetensors")
    file = find_base(
        "random:sdxl", tmp_path, family("sdxl"), vae=str(tmp_path / "sdxl_vae.safetensors")
    )
    assert file.digest != plain.digest
    single = load_base(file.spec, file, CPU)
    assert torch.equal(single.denoiser.conv_in.weight, own.denoiser.conv_in.weight)
    expected = own.pipeline.vae.encoder.conv_in.weight + 1
    assert torch.equal(single.pipeline.vae.encoder.conv_in.weight, expected)
    single.pipeline.vae.save_pretrained(tmp_path / "vae")
    folder = load("random:sdxl", tmp_path, vae=str(tmp_path / "vae"))
    assert folder.digest() == single.digest()
    whole = load("random:sdxl", tmp_path, vae=str(plain.path))
    assert whole.digest() == own.digest()
    without = write_single_file(own.pipeline, tmp_path / "novae.safetensors", vae=False)
    assert load(without, tmp_path, vae=str(tmp_path / "vae")).digest() == single.digest()


def test_half_precision_files_are_read_where_they_are_alone_or_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(WEIGHTS / "sd15", folder)
    for path in folder.rglob("*.safetensors"):
        half = {name: tensor.half() for name, tensor in load_file(path).items()}
        save_file(half, path.with_suffix(".fp16.safetensors"), {"format": "pt"})
        save_file({n: t * 2 for n, t in half.items()}, path, {"format": "pt"})
    full = find_base(str(folder), tmp_path, family("sd15"))
    asked = find_base(str(folder), tmp_path, family("sd15"), variant="fp16")
    assert full.digest != asked.digest
    assert (
        load(folder, tmp_path, "sd15").digest()
        != load(folder, tmp_path, "sd15", variant="fp16").digest()
    )
    original = load("embedded:weights/sd15", tmp_path, "sd15")
    assert (
        load(folder, tmp_path, "sd15", variant="fp16").digest() == original.digest()
    )  # it is half itself
    for path in folder.rglob("*.safetensors"):
        if ".fp16" not in path.name:
            path.unlink()
    again = shutil.move(folder, tmp_path / "alone")
    alone = find_base(str(again), tmp_path, family("sd15"))
    assert (alone.digest, alone.pipeline.variant) == (asked.digest, "fp16")
    assert load(again, tmp_path, "sd15").digest() == original.digest()


def test_a_published_folder_s_safety_checker_is_not_wanted(tmp_path: Path) -> None:
    """Its file in model_index.json is neither fetched nor loaded, nor anything else it names."""
    shutil.copytree(WEIGHTS / "sd15", tmp_path / "base")
    path = tmp_path / "base" / "model_index.json"
    index = json.loads(path.read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    path.write_text(json.dumps({**index, "requires_safety_checker": True}))
    base = load(tmp_path / "base", tmp_path, "sd15")
    assert base.digest() == load("embedded:weights/sd15", tmp_path, "sd15").digest()


@pytest.mark.slow
@pytest.mark.usefixtures("shrunk")
def test_planning_and_a_run_with_models_random(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "models=random", f"root={tmp_path}", *EXAM, "train_steps=1", "resolution=64", "pack=1",
        "runtime.tracking=false", "runtime.energy=false", "name=tried",
    ]  # fmt: skip
    assert main([*words, "action=plan"]) == 0
    assert "1 to train" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert main(words) == 0
    made_in = tmp_path / "sweeps/store/weights"
    made = sorted(path.name.partition("--")[0] for path in made_in.glob("random-*"))
    assert made == ["random-clip", "random-dino", "random-sdxl"]
    (snapshot,) = tmp_path.glob("sweeps/store/dreambooth_lora-*/step-000001/*.safetensors")
    assert snapshot.stat().st_size > 10_000
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert main([*words, "lr=1e-5"]) == 0
    for path, when in written.items():
        assert path.stat().st_mtime_ns == when


@pytest.mark.usefixtures("shrunk")
def test_random_weights_leave_what_others_write(tmp_path: Path) -> None:
    """In the folder of all made weights, only what a killed process left is removed."""
    here, start = machine()
    others = tmp_path / f".random-sdxl--1.{os.getpid()}-{here}-{start}.tmp"
    left = tmp_path / f".random-sd15--1.1-{here}-before.tmp"  # the machine was started anew since
    for folder in (others, left):
        folder.mkdir()
    make("sd15", tmp_path / "random-sd15--1")
    assert others.is_dir()
    assert not left.exists()


def test_loading_is_quiet_and_then_as_loud_as_before(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    names = (None, "diffusers", "transformers", "peft", "open_clip", "timm", "charsweep")
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    with contextlib.suppress(ModelsError), quiet(), quiet():
        logging.getLogger("timm.models").error("a layer more")
        out("said by charsweep")
        raise ModelsError("no such layer")
    assert not caplog.records
    assert capsys.readouterr().out == "said by charsweep\n"
    assert [logger.level for logger in loggers] == before
    assert logging.root.manager.disable == 0
    for name in ("open_clip", "charsweep"):
        logging.getLogger(name).warning("heard")
    assert [record.name for record in caplog.records] == ["open_clip", "charsweep"]


def test_random_weights_are_a_function_of_their_recipe(tmp_path: Path) -> None:
    shape = {"a.weight": [8, 4], "norm.weight": [8], "a.bias": [8]}
    write_random(tmp_path / "one.safetensors", "sd15 unet", shape)
    read = load_file(tmp_path / "one.safetensors")
    assert (read["norm.weight"] == 1).all()
    assert (read["a.bias"] == 0).all()
    first = [round(float(value), 4) for value in read["a.weight"].flatten()[:4]]
    assert first == GOLDEN  # if this moves, raise architectures.VERSION
    (piece,) = numbers("", "b.weight", [300, 400])
    assert abs(piece).max() <= 1 / 20
    assert piece.std() == pytest.approx(1 / 20 / 3**0.5, rel=0.02)
    assert piece.mean() == pytest.approx(0, abs=1e-3)


GOLDEN = [-0.0557, 0.1083, 0.1654, -0.1597]


@pytest.mark.parametrize("what", ["clip", "dino"])
def test_an_encoder_s_file_reads_as_its_folder(what: Any, tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    spec, folder = encoder_named(sweep, what)
    (source,) = (WEIGHTS / what).glob("*.safetensors")
    for path in (WEIGHTS / what).glob("*.json"):
        shutil.copy(path, tmp_path)
    shutil.copy(source, tmp_path / "mine.safetensors")
    file = find_weights(str(tmp_path / "mine.safetensors"), what, tmp_path)
    images = [open_image(sweep.character.paths[0])]
    ours, theirs = (load_encoder(spec, one).images(images) for one in (file, folder))
    assert (ours == theirs).all()
    config = json.loads(next(tmp_path.glob("*config.json")).read_text())
    (tmp_path / "other").mkdir()
    shutil.copy(source, tmp_path / "other" / "mine.safetensors")
    name = "open_clip_config.json" if what == "clip" else "config.json"
    inner = config.get("preprocess_cfg") or config["pretrained_cfg"]
    inner["mean"] = [0.1, 0.2, 0.3]
    (tmp_path / "other" / name).write_text(json.dumps(config))
    moved = find_weights(str(tmp_path / "other" / "mine.safetensors"), what, tmp_path)
    assert moved.digest != file.digest  # preprocessing is recorded with the weights


@pytest.mark.slow
@pytest.mark.usefixtures("shrunk")
def test_a_dreambooth_snapshot_of_a_single_file_is_a_pipeline(tmp_path: Path) -> None:
    base = load("random:sd15", tmp_path, "sd15")
    file = write_single_file(base.pipeline, tmp_path / "artist.safetensors")
    words = ["models=random", f"models.bases.sd15.path={file}", "method=dreambooth",
             "method.class_images=1", "pack=1", "resolution=64", "lr=1e-4"]  # fmt: skip
    sweep, store, (result,) = execute(tmp_path, *words, "train_steps=1")
    assert result.state == "finished"
    pipeline = StableDiffusionPipeline.from_pretrained(
        store.snapshot(sweep.cells[0].images.snapshot)
    )
    assert len(pipeline.tokenizer) == architectures.VOCABULARY
