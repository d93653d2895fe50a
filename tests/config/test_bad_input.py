"""The mistakes people make: each exits 2 with one message that gives the value and the remedy."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from charsweep.__main__ import main
from charsweep.core.signatures import parameters_of
from charsweep.models import embedded

DRAWINGS = embedded.FOLDER / "unicorn_girl"
WEIGHTS = embedded.FOLDER / "weights"
FOLDER = ["character=folder", "character.images=embedded:unicorn_girl"]

# What was typed, and words that the message must hold: the value, where, what to do.
TYPED: list[tuple[list[str], list[str]]] = [
    (["method=nope"], ["method=nope", "dreambooth_lora"]),
    (["sweep=lr_grid"], ["+sweep=lr_grid"]),
    (["+sweep=nope"], ["sweep=nope", "lr_grid"]),
    (["models=huge"], ["models=huge", "embedded"]),
    (["metric=[dino,beauty]"], ["metric=beauty"]),
    (["lr=-1e-4"], ["lr=-0.0001", "greater than 0"]),
    (["lr=0"], ["lr=0", "greater than 0"]),
    (["lr=fast"], ["lr=fast", "number"]),
    (["lr=nan"], ["lr=nan", "finite"]),
    (["lr=inf"], ["lr=inf"]),
    (["train_steps=0"], ["train_steps=0", "greater than or equal to 1"]),
    (["train_steps=1.5"], ["train_steps=1.5", "whole number"]),
    (["train_steps=many"], ["train_steps=many", "whole number"]),
    (["inference_steps=5000"], ["inference_steps=5000", "1000"]),
    (["seed=-1"], ["seed=-1"]),
    (["batch_size=0"], ["batch_size=0"]),
    (["resolution=100"], ["resolution=100", "multiple of 8"]),
    (["precision=fp64"], ["precision=fp64", "fp32"]),
    (["max_grad_norm=0"], ["max_grad_norm=0"]),
    (["action=fly"], ["action=fly", "run"]),
    (["name=../escape"], ["name=../escape"]),
    (["name="], ["name="]),
    (["tran_steps=100"], ["tran_steps"]),
    (["+tran_steps=100"], ["tran_steps", "no such setting"]),
    (["method.rank=0"], ["method.rank=0"]),
    (["method.rank=four"], ["method.rank=four", "whole number"]),
    (["method.alpha=-1"], ["method.alpha=-1"]),
    (["method.adapter=magic"], ["method.adapter=magic", "lora"]),
    (["method.trains=everything"], ["method.trains=everything", "adapters"]),
    (["method=dreambooth", "+method.rank=4"], ["method", "trains=adapters"]),
    (["method.base=sd3"], ["method.base=sd3", "sdxl"]),
    (["method.prior_weight=-1"], ["method.prior_weight=-1"]),
    (["method.noise_offset=x"], ["method.noise_offset=x"]),
    (["+method.colour=red"], ["method.colour", "no such setting"]),
    (["schedule.warmup_steps=-3"], ["schedule.warmup_steps=-3"]),
    (["method._target_=charsweep.nope.X"], ["charsweep.nope.X"]),
    (["method._target_=os.system"], ["os.system", "plug-in"]),
    (["schedule._target_=builtins.print"], ["builtins.print", "plug-in"]),
    (["sampler.guidance_scale=0"], ["sampler.guidance_scale=0"]),
    (["sampler.batch_width=0"], ["sampler.batch_width=0"]),
    (["exam.prompts=[]"], ["exam.prompts"]),
    (["exam.prompts=['a picture of a girl']"], ["{subject}"]),
    (["exam.seeds=[]"], ["exam.seeds"]),
    (["exam.seeds=[1,1]"], ["exam.seeds", "twice"]),
    (["+axes.lr=[]"], ["axes.lr", "empty"]),
    (["+axes.lr=1e-4"], ["axes.lr=0.0001", "list"]),
    (["+axes.lr=[1e-4,1e-4]"], ["axes.lr", "twice"]),
    (["+axes.lr=[1e-4,0.0001]"], ["axes.lr", "twice"]),
    (["+axes.lr=[1e-4,soon]"], ["axes.lr", "soon"]),
    (["+axes.lr=[1e-4,-1]"], ["axes.lr", "-1"]),
    (["+axes.colour=[red]"], ["axes.colour", "method"]),
    (["+axes.name=[a,b]"], ["axes.name"]),
    (["+axes.method=[lora,nope]"], ["method=nope"]),
    (["+axes.method.rank=[4,zero]"], ["method.rank=zero"]),
    (["+axes.method.rank=[4,{a:1}]"], ["axes.method.rank", "numbers or words"]),
    (["objectives=[beauty]"], ["objectives.beauty"]),
    (["objectives=[-leak]", "exam=quick"], ["objectives.leak", "no part others", "exam=positions"]),
    (["+constraints.flexibility.least=0.5", "exam=quick"], ["constraints.flexibility", "changes"]),
    (["objectives=dino"], ["objectives=dino", "[dino,-copy]"]),
    (["+axes={lr:{low:1,high:2}}"], ["axes.lr", "a grid has no ranges", "search=tpe"]),
    (["search=tpe", "+axes={lr:{low:2,high:1}}"], ["axes.lr", "low=2 should be below high=1"]),
    (["search=tpe", "+axes={lr:{low:0,high:1,log:true}}"], ["axes.lr", "above 0"]),
    (["search=tpe", "+axes={lr:{low:1,high:2}}", "seeds=3"], ["seeds=3", "leave"]),
    (["search=tpe", "search.trials=0"], ["search.trials=0"]),
    (["search=tpe", "search.sampler._target_=optuna.nothing"], ["optuna.nothing"]),
    (["search=halving"], ["no axes to search"]),
    (
        ["search=halving", "objectives=[identity,prompt]"],
        ["objectives=identity, prompt", "objectives=[score]"],
    ),
    (["search=halving", "objectives=[dino]", "train_steps=100"], ["search.rungs", "train_steps"]),
    (["search.rungs=[100]"], ["search", "need each other"]),
    (["+parts.a.train_step=5"], ["train_step"]),
    (["+parts.a.method=loha"], ["loha"]),
    (["+parts.a.constraints={leak:{most:1}}"], ["parts.a", "constraints"]),
    (["+parts.a.sweep=tpe"], ["parts.a", "run it by itself"]),
    (["method=gan", "resolution=null"], ["resolution=null", "resolution=64"]),
    (["runtime.device=tpu"], ["runtime.device=tpu", "auto"]),
    (["runtime.threads=0"], ["runtime.threads=0"]),
    (["character=folder"], ["character.images"]),
    (["character=folder", "character.images=no/such/folder"], ["no/such/folder"]),
    (["character.identifier=''"], ["character.identifier"]),
    (["character.class_noun=' '"], ["character.class_noun"]),
    (["character.class_prompt='a UnicornGirl'"], ["class_prompt", "the class only"]),
    ([*FOLDER, "character.identifier=' '"], ["character.identifier"]),
    ([*FOLDER, "character.instance_prompt='a girl'"], ["a girl", "Zwx"]),
    ([*FOLDER, "character.class_prompt='a Zwx'"], ["class_prompt", "the class only"]),
    (["metric.dino._target_=torch.optim.AdamW"], ["metric.dino", "is no plug-in"]),
    (["character.instance_prompt='a picture of her'"], ["a picture of her", "UnicornGirl"]),
    (["models.bases.sdxl.path=no/such/folder"], ["no/such/folder"]),
    (["models.bases.sdxl.path=model.ckpt"], ["model.ckpt"]),
    (["models.bases.sdxl.path=embedded:weights/clip"], ["model_index.json"]),
    (["models.encoders.clip.path=/no/such/clip"], ["/no/such/clip"]),
    (["lr=[1,2]"], ["lr="]),
    (["lr"], ["lr"]),
    (["lr=1e-4=2"], ["lr=1e-4=2"]),
    (["--resume"], ["--resume"]),
    (["+optimizer.colour=red"], ["optimizer.colour=red", "AdamW takes no colour", "betas"]),
    (["optimizer._target_=torch.optim.Nope"], ["torch.optim.Nope", "no such class"]),
    (["sampler._target_=diffusers.NopeScheduler"], ["diffusers.NopeScheduler", "no such class"]),
    (["search=halving", "search.pruner.kep=0.5"], ["search.pruner.kep", "keep"]),
    (
        ["+axes.sampler=[ddim,dpm]", "sampler.settings.use_karras_sigmas=true"],
        ["DDIMScheduler takes no use_karras_sigmas"],
    ),
    (
        ["sampler._target_=diffusers.FlowMatchEulerDiscreteScheduler"],
        ["FlowMatchEulerDiscreteScheduler cannot draw", "sampler=base"],
    ),
    (["method.target_modules=[to_q,atn]"], ["method.target_modules=atn", "to_k"]),
    (["method.target_modules=[norm1]"], ["method.target_modules=norm1", "linear"]),
    (["+axes.method.target_modules=[attn,to_q]"], ["method.target_modules"]),
    (["+sampler.settings.use_karas_sigmas=true"], ["use_karras_sigmas"]),
    (["identifier=mia", "bee"], ["bee: stands without"]),
    (["++hydra.job.chdir=true"], ["hydra.job.chdir", "root=FOLDER"]),
    (["hydra/launcher=basic"], ["hydra/launcher", "root=FOLDER"]),
    (["constraints.flexbility.least=0.5"], ["constraints.flexbility", "flexibility"]),
    (["--config-dir", "no/such/conf"], ["no/such/conf"]),
]


def refuse(words: list[str], capsys: pytest.CaptureFixture[str], root: Path) -> str:
    """The message of a refused command; nothing may have been written."""
    assert main([*words, *([] if "root=" in str(words) else [f"root={root}"])]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert len(captured.err) < 1500
    if root.is_dir():
        assert [path.name for path in root.iterdir() if path.name != "given"] == []
    return captured.err


@pytest.mark.parametrize(("words", "said"), TYPED, ids=[" ".join(words) for words, _ in TYPED])
def test_a_wrong_word_is_one_message(
    words: list[str], said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refuse(words, capsys, tmp_path)
    for word in said:
        assert word in message, message


def test_all_mistakes_are_shown_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["lr=-1", "train_steps=0", "method.rank=0", "schedule.warmup_steps=-1"]
    message = refuse(words, capsys, tmp_path)
    for word in ("lr=-1", "train_steps=0", "method.rank=0", "schedule.warmup_steps=-1"):
        assert word in message


def no_images(folder: Path) -> None:
    folder.mkdir()


def broken_png(folder: Path) -> None:
    shutil.copytree(DRAWINGS, folder)
    data = (folder / "03.png").read_bytes()
    (folder / "03.png").write_bytes(data[: len(data) // 2])


def no_image_at_all(folder: Path) -> None:
    shutil.copytree(DRAWINGS, folder)
    (folder / "03.png").write_text("not a picture")


def too_small(folder: Path) -> None:
    shutil.copytree(DRAWINGS, folder)
    Image.new("RGB", (8, 8)).save(folder / "03.png")


def caption_alone(folder: Path) -> None:
    shutil.copytree(DRAWINGS, folder)
    (folder / "03.png").unlink()


@pytest.mark.parametrize("make", [no_images, broken_png, no_image_at_all, too_small, caption_alone])
def test_bad_drawings_are_one_message(
    make: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "given"
    make(folder)
    words = ["character=folder", f"character.images={folder}"]
    message = refuse(words, capsys, tmp_path)
    assert ("given" if make is no_images else "03") in message


def base_copy(folder: Path, name: str = "sdxl") -> Path:
    shutil.copytree(WEIGHTS / name, folder)
    return folder


def truncated(folder: Path) -> None:
    path = base_copy(folder) / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:100_000])


def without_unet(folder: Path) -> None:
    shutil.rmtree(base_copy(folder) / "unet")


def other_tokenizer(folder: Path) -> None:
    path = base_copy(folder) / "text_encoder" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "vocab_size": 999}))


def no_json(folder: Path) -> None:
    (base_copy(folder) / "model_index.json").write_text("{")


def other_pipeline(folder: Path) -> None:
    path = base_copy(folder) / "model_index.json"
    path.write_text(path.read_text().replace("StableDiffusionXLPipeline", "FluxPipeline"))


@pytest.mark.parametrize(
    "make", [truncated, without_unet, other_tokenizer, no_json, other_pipeline]
)
def test_unreadable_weights_are_one_message(
    make: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "given"
    make(folder)
    words = [f"models.bases.sdxl.path={folder}", f"root={tmp_path}", "runtime.tracking=false"]
    assert main(words) == 2
    message = capsys.readouterr().err
    assert "ModelsError" in message
    assert str(folder) in message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    "words",
    [
        ["optimizer._target_=torch.optim.Nope"],
        ["optimizer._target_=collections.OrderedDict"],
        ["+optimizer.colour=red"],
        ["sampler._target_=diffusers.NopeScheduler"],
        ["sampler=ddim", "sampler.settings.beta_schedule=nope", "+sampler.settings={}"],
        ["runtime.device=cuda"],
    ],
)
def test_what_only_torch_knows_is_refused_before_training(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    if "runtime.device=cuda" in words and torch.cuda.is_available():
        pytest.skip("there is a card")
    assert main([*words, f"root={tmp_path}", "runtime.tracking=false", "train_steps=1"]) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert "ConfigError" in captured.err
    assert not list(tmp_path.glob("sweeps/store/*/loss.csv"))


def test_a_package_that_is_missing_is_said_at_planning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    missing = ("prodigyopt", "bitsandbytes")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in missing else find(name)
    )
    parameters_of.cache_clear()
    message = refuse(["action=plan", "+axes.optimizer=[adamw,prodigy]"], capsys, tmp_path)
    assert "pip install 'charsweep[optimizers]'" in message
    assert "prodigyopt is not installed" in message
    parameters_of.cache_clear()


def test_a_root_that_cannot_be_written_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main([f"root={tmp_path / 'file'}", "train_steps=1"]) == 2
    message = capsys.readouterr().err
    assert "StoreError" in message
    assert str(tmp_path / "file") in message
    assert "root=" in message


def test_a_report_of_a_sweep_that_never_ran(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refuse(["+sweep=lr_grid", "action=report"], capsys, tmp_path)
    assert "lr_grid" in message
    assert "run it first" in message
