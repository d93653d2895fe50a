"""Adapter files from elsewhere: found, named, told apart, and what they say of their making."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.adapter_files import adapter_file as adapter

from charsweep.core.errors import ConfigError
from charsweep.models.adapter_metadata import making_of, steps_in
from charsweep.models.adapter_source import AdapterFile, find_adapters, told_apart


def named(*paths: str) -> list[tuple[str, int | None]]:
    files = [AdapterFile(file, "") for path in paths for file in find_adapters(path, path)]
    return [(file.name, file.run_steps) for file in told_apart(files)]


# -- found, and told apart -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "run", "steps"),
    [
        ("girl_000000250", "girl", "000000250"),  # ai-toolkit
        ("girl-step00000400", "girl", "00000400"),  # sd-scripts
        ("girl-000010", "girl", ""),  # sd-scripts, an epoch
        ("lora2025-11-02_10-00-00-save-500-5-0", "lora2025-11-02_10-00-00", "500"),  # OneTrainer
        ("checkpoint-1500", "", "1500"),  # diffusers, SimpleTuner
        ("girl_v2_800steps", "girl_v2", "800"),
        ("girl_v2", "girl_v2", ""),
        ("00001", "00001", ""),
    ],
)
def test_the_steps_in_a_name(name: str, run: str, steps: str) -> None:
    assert steps_in(name) == (run, steps)


def test_checkpoints_of_one_run_are_one_name_and_their_steps(tmp_path: Path) -> None:
    for number, name in enumerate(["girl", "girl_000000500", "girl_000000250", "other_v2"]):
        told = {"training_info": '{"step": 750}'} if name == "girl" else {}
        adapter(tmp_path / "runs" / f"{name}.safetensors", number, **told)
    runs = [("girl", 250), ("girl", 500), ("girl", 750), ("other_v2", None)]
    assert named(f"{tmp_path}/runs/*.safetensors") == runs
    assert named(f"{tmp_path}/runs") == runs
    assert named(f"{tmp_path}/runs/girl.safetensors") == [("girl", None)]


def test_epochs_are_a_run_where_the_header_has_the_steps(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        adapter(tmp_path / f"girl-{epoch:06d}.safetensors", epoch, ss_steps=str(100 * epoch))
        adapter(tmp_path / f"bare-{epoch:06d}.safetensors", 9 + epoch)
    found = named(f"{tmp_path}/girl*", f"{tmp_path}/bare*")
    assert found[:3] == [("girl", 100), ("girl", 200), ("girl", 300)]
    assert found[3:] == [(f"bare-{epoch:06d}", None) for epoch in (1, 2, 3)]


def test_a_training_folder_of_diffusers_is_a_run(tmp_path: Path) -> None:
    for number, steps in enumerate((500, 1000)):
        adapter(tmp_path / f"out/checkpoint-{steps}/pytorch_lora_weights.safetensors", number)
    assert named(f"{tmp_path}/out") == [("out", 500), ("out", 1000)]
    adapter(tmp_path / "out/pytorch_lora_weights.safetensors", 2)
    adapter(tmp_path / "out/copy-for-comfy.safetensors", 3)  # an export: the same in other names
    assert named(f"{tmp_path}/out") == [("out", 500), ("out", 1000), ("out (last)", None)]


def test_each_content_counts_once_and_names_are_told_apart(tmp_path: Path) -> None:
    for number, folder in enumerate(("one", "two", "three/deep", "four/deep")):
        adapter(tmp_path / folder / "mine.safetensors", number)
    shutil.copy(tmp_path / "one/mine.safetensors", tmp_path / "again.safetensors")
    adapter(tmp_path / "alone.safetensors", 7)
    first, second, third, *deep = (
        name for name, _ in named(*(f"{tmp_path}/{one}" for one in ("one", "*", "*/deep")))
    )
    assert (first, second, third) == ("one/mine", "alone", "two/mine")
    assert len(set(deep)) == len(deep) == 2
    assert all(name.startswith("deep/mine (") for name in deep)


def test_the_digest_is_of_the_content_and_of_peft_s_settings(tmp_path: Path) -> None:
    first = adapter(tmp_path / "a.safetensors")
    second = Path(shutil.copy(first, tmp_path / "b.safetensors"))
    assert AdapterFile(first, "").digest == AdapterFile(second, "").digest
    folder = tmp_path / "peft"
    folder.mkdir()
    whole = Path(shutil.copy(first, folder / "adapter_model.safetensors"))
    assert AdapterFile(whole, "").digest == AdapterFile(first, "").digest
    for alpha in (4, 8):
        content = {"peft_type": "LORA", "r": 4, "lora_alpha": alpha}
        (folder / "adapter_config.json").write_text(json.dumps(content))
        first = Path(shutil.copytree(folder, tmp_path / f"peft{alpha}"))
    digests = {
        AdapterFile(tmp_path / name / "adapter_model.safetensors", "").digest
        for name in ("peft4", "peft8")
    }
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere.safetensors", "there is no such file"),
        ("lora.pt", "may hold pickled code"),
        ("empty", "no .safetensors file lies in that folder"),
        ("*.ckpt", "no adapter lies where that pattern leads"),
        ("e*", "no adapter lies where that pattern leads"),
    ],
)
def test_what_is_no_adapter_is_said(path: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "lora.pt").write_bytes(b"PK")
    (tmp_path / "old.ckpt").write_bytes(b"PK")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError) as error:
        find_adapters(f"{tmp_path}/{path}", f"adapters={path}")
    assert str(error.value).startswith(f"adapters={path}: ")
    assert said in str(error.value)


def test_names_with_signs_of_patterns_are_names_first(tmp_path: Path) -> None:
    file = adapter(tmp_path / "girl [v2].safetensors")
    assert find_adapters(str(file), "") == [file]


# -- what they say of themselves -------------------------------------------------------------------

MAKINGS = {
    "sd-scripts": (
        {"ss_steps": "1600", "ss_unet_lr": "0.0001", "ss_learning_rate": "0.5",
         "ss_network_dim": "9", "ss_network_alpha": "2.0", "ss_network_module": "networks.lora",
         "ss_sd_model_name": "/home/me/models/noob.safetensors",
         "modelspec.trigger_phrase": "zwx girl"},
        {"trainer": "sd-scripts", "steps": 1600, "lr": 1e-4, "rank": 4, "alpha": 2,
         "base": "noob.safetensors", "trigger": "zwx girl"},
    ),
    "text encoders alone": (
        {"ss_unet_lr": "None", "ss_learning_rate": "5e-5"}, {"lr": 5e-5, "trainer": "sd-scripts"},
    ),
    "ai-toolkit": (
        {"software": '{"name": "ai-toolkit"}', "training_info": '{"step": 250, "epoch": 3}'},
        {"trainer": "ai-toolkit", "steps": 250},
    ),
    "OneTrainer": (
        {"ot_revision": "abc", "ot_config": '{"learning_rate": 0.0003}',
         "ss_base_model_version": "sdxl_"},
        {"trainer": "OneTrainer", "lr": 3e-4, "base": "sdxl_"},
    ),
    "LyCORIS": (
        {"ss_network_module": "lycoris.kohya"}, {"trainer": "sd-scripts, LyCORIS"},
    ),
    "nothing": ({}, {}),
    "nonsense": (
        {"ss_steps": "many", "ss_unet_lr": "nan", "training_info": "[[[", "software": "3",
         "ss_network_alpha": "-1", "modelspec.trigger_phrase": "a\n\x1b[31mb"},
        {"trainer": "sd-scripts"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MAKINGS)
def test_what_a_header_says_is_read(name: str, tmp_path: Path) -> None:
    told, known = MAKINGS[name]
    file = adapter(tmp_path / "a.safetensors", **told)
    assert making_of(file) == {"kind": "LoRA", "rank": 4, **known}
