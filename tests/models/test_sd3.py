"""A base taught by flow matching: one .py and one .yaml, through everything that others go through.

Its weights are random and tiny, so what it draws means nothing; that it draws the same does.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from helpers.small import base_named, execute, small
from helpers.tiny_sd3 import SHAPE, write_sd3
from helpers.variants import slow
from PIL import Image

from charsweep.__main__ import main
from charsweep.core.plugins import resolve
from charsweep.core.seeding import generator
from charsweep.core.specs import Plugin
from charsweep.models.families.flow import Flow, LogitNormal
from charsweep.models.families.sd3 import StableDiffusion3, transformer_shapes
from charsweep.models.load import load_base
from charsweep.models.pipeline import quiet
from charsweep.models.weights import BaseWeights, find_base
from charsweep.plan import cost

ENCODERS = [
    f"models.encoders.{name}.{setting}"
    for name in ("clip", "dino")
    for setting in (f"path=embedded:weights/{name}", "resize=64", "crop=64")
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The pipeline with and without T5."""
    root = tmp_path_factory.mktemp("sd3")
    with quiet():
        return {t5: write_sd3(root / f"t5-{t5}", t5=t5) for t5 in (True, False)}


def words(folder: Path, *more: str) -> list[str]:
    return ["models=sd3", "method.base=sd3", f"models.bases.sd3.path={folder}", "pack=2",
            "resolution=64", "models.bases.sd3.resolution=64", *ENCODERS, *more]  # fmt: skip


def weights_of(folder: Path, **settings: Any) -> BaseWeights:
    family = Plugin("sd3", "StableDiffusion3", 1, settings)
    return find_base(str(folder), folder.parent, family)


# -- what is taught --------------------------------------------------------------------------------


def test_noise_is_mixed_in_as_the_scheduler_unmixes_it() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    flow = Flow(LogitNormal(), lambda size: 3.0, 1000)
    latents, noise = (torch.randn(3, 4, 8, 8, generator=generator(i, "")) for i in range(2))
    times = scheduler.timesteps[torch.tensor([0, 400, 999])]
    noisy = flow.noised(latents, noise, times)
    torch.testing.assert_close(noisy, scheduler.scale_noise(latents, times, noise))
    torch.testing.assert_close(noisy[0], noise[0])
    left = noisy - (times / 1000).view(-1, 1, 1, 1) * flow.target(latents, noise, times)
    torch.testing.assert_close(left, latents)


def test_times_are_logit_normal_and_shifted() -> None:
    flow = Flow(LogitNormal(0.3, 0.8), lambda size: 3.0, 1000)
    drawn = flow.timesteps(20_000, (8, 8), generator(0, "timestep"))
    assert torch.equal(drawn, flow.timesteps(20_000, (8, 8), generator(0, "timestep")))
    times = drawn / 1000
    logits = torch.logit(times / (3 - 2 * times))  # the shift undone
    assert logits.mean().item() == pytest.approx(0.3, abs=0.02)
    assert logits.std().item() == pytest.approx(0.8, abs=0.02)
    assert flow.weights(times, None).eq(1).all()


@pytest.mark.parametrize("t5", [True, slow(False)])
def test_prompts_are_read_as_when_drawing(t5: bool, folders: dict[bool, Path]) -> None:
    weights = weights_of(folders[True], t5=t5)
    base = load_base(weights.spec, weights, torch.device("cpu"))
    assert len(base.text_encoders) == len(base.tokenizers) == (3 if t5 else 2)
    told = base.texts(["a picture of girl", ""])
    with torch.no_grad():
        hidden, _, pooled, _ = base.pipeline.encode_prompt(
            ["a picture of girl", ""], None, None, do_classifier_free_guidance=False
        )
    torch.testing.assert_close(told.hidden, hidden)
    torch.testing.assert_close(told.pooled, pooled)
    assert told.hidden[:, 77:].eq(0).all().item() is not t5
    assert weights.digest == weights_of(folders[True]).digest
    same = weights.spec.key == weights_of(folders[True]).spec.key
    assert same is False  # what was typed is in the key, `t5: true` as well


# -- the whole command -----------------------------------------------------------------------------


def drawn_plainly(
    folder: Path, adapter: Path | None, prompts: list[str], seeds: list[int]
) -> list[Any]:
    """What diffusers alone draws, with an adapter's file or without, as 8-bit pixels."""
    lacks = {} if (folder / "text_encoder_3").exists() else {
        "text_encoder_3": None, "tokenizer_3": None
    }  # fmt: skip
    with quiet(), torch.inference_mode():
        pipeline = StableDiffusion3Pipeline.from_pretrained(folder, local_files_only=True, **lacks)
        pipeline.set_progress_bar_config(disable=True)
        if adapter is not None:
            pipeline.load_lora_weights(adapter)
        images = pipeline(
            prompts, negative_prompt=[""] * len(prompts), num_inference_steps=2,
            guidance_scale=5.0, height=64, width=64, output_type="np",
            generator=[generator(seed, "image") for seed in seeds],
        ).images  # fmt: skip
    return list((images * 255).round().astype("uint8"))


@pytest.mark.slow
@pytest.mark.parametrize("t5", [True, slow(False)])
def test_a_sweep_is_trained_drawn_scored_and_exported(
    t5: bool, folders: dict[bool, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["lr=1e-2", "+axes.train_steps=[1,2]", f"method.text_encoder={str(t5).lower()}",
            "runtime.tracking=false", "runtime.energy=false"]  # fmt: skip
    given = small(tmp_path, *words(folders[t5], *more))
    assert main(given) == 0
    assert main([*given, "action=export"]) == 0
    said = capsys.readouterr().out
    assert "no kohya file" in said
    (export,) = (tmp_path / "sweeps/small/export").iterdir()
    assert [p.name for p in export.glob("*.safetensors")] == ["pytorch_lora_weights.safetensors"]
    readme = (export / "README.md").read_text()
    assert "StableDiffusion3Pipeline.from_pretrained" in readme
    assert ("text_encoder_3=None, tokenizer_3=None" in readme) is not t5
    assert "sd3-diffusers" in readme
    step = next(tmp_path.glob("sweeps/store/dreambooth_lora-sd3-*/step-000002"))
    (images,) = (path.parent for path in step.glob("*/images.json"))
    manifest = json.loads((images / "images.json").read_text())
    listed = manifest["files"]
    assert len(listed) == 4
    prompts = [manifest["prompts"][one["prompt"]] for one in listed]
    plain = drawn_plainly(folders[t5], step, prompts, [one["seed"] for one in listed])
    untaught = drawn_plainly(folders[t5], None, prompts, [one["seed"] for one in listed])
    assert not any(np.array_equal(*pair) for pair in zip(plain, untaught, strict=True))
    for entry, pixels in zip(listed, plain, strict=True):
        drawn = np.asarray(Image.open(images / entry["file"]), int)
        assert np.abs(drawn - pixels).max() <= 1  # ours has the adapter in the weights
    assert list((images / "scores").glob("dino*.json"))
    written = {
        path: path.stat().st_mtime_ns
        for path in tmp_path.glob("sweeps/store/*/step-*/*.safetensors")
    }
    assert len(written) == 2
    assert main(given) == 0  # all of it is found again
    assert all(path.stat().st_mtime_ns == when for path, when in written.items())


def test_all_weights_train_and_the_base_is_put_back(
    folders: dict[bool, Path], tmp_path: Path
) -> None:
    given = words(folders[True], "method=dreambooth", "method.base=sd3", "method.prior_weight=0",
                  "method.text_encoder=true", "lr=1e-3", "train_steps=1", "pack=1")  # fmt: skip
    sweep, store, (result,) = execute(tmp_path, *given)
    assert result.state == "finished"
    spec = sweep.cells[0].trajectory.base
    base = load_base(spec, base_named(sweep, "sd3"), torch.device("cpu"))
    before = base.digest()
    with base.with_snapshot(store.snapshot(sweep.cells[0].images.snapshot)):
        taught = base.digest()
        prompt, pose = base.pipeline.text_encoder_2, base.denoiser
        assert not prompt.training
        assert not pose.training
    assert taught != before == base.digest()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch keeps it to itself
def test_compiled_blocks_learn_the_same(folders: dict[bool, Path], tmp_path: Path) -> None:
    taught = words(folders[False], "pack=1", "train_steps=3")
    sweep, plain, _ = execute(tmp_path / "plain", *taught)
    _, fast, _ = execute(tmp_path / "compiled", *taught, "runtime.compile=true")
    losses = [
        [row.loss for row in store.losses(sweep.cells[0].trajectory)] for store in (plain, fast)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


# -- what a plan says ------------------------------------------------------------------------------


SD3_MEDIUM = {
    **SHAPE, "sample_size": 128, "in_channels": 16, "out_channels": 16, "num_layers": 24,
    "attention_head_dim": 64, "num_attention_heads": 24, "joint_attention_dim": 4096,
    "caption_projection_dim": 1536, "pooled_projection_dim": 2048, "pos_embed_max_size": 192,
    "dual_attention_layers": [], "qk_norm": None,
}  # fmt: skip
SD35_MEDIUM = {
    **SD3_MEDIUM, "pos_embed_max_size": 384, "qk_norm": "rms_norm",
    "dual_attention_layers": list(range(13)),
}  # fmt: skip


@pytest.mark.parametrize("config", [SHAPE, SD3_MEDIUM, SD35_MEDIUM], ids=["tiny", "3", "3.5"])
def test_the_transformer_s_tensors_are_known_by_its_config(config: dict[str, Any]) -> None:
    with torch.device("meta"):
        module = SD3Transformer2DModel(**config)
    real = {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
    assert dict(transformer_shapes(dict(module.config))) == real


def test_an_adapter_is_as_large_as_planned_to_the_byte(
    folders: dict[bool, Path], tmp_path: Path
) -> None:
    sides = "method.target_modules=[to_q,to_out.0,add_q_proj,to_add_out]"
    sweep, store, _ = execute(tmp_path, *words(folders[False], "train_steps=1", sides))
    (cell,) = sweep.cells
    folder = store.snapshot(cell.images.snapshot)
    written = (folder / "pytorch_lora_weights.safetensors").stat().st_size
    assert cost.snapshot_bytes(cell.trajectory, sweep.bases) == written
    configs = tmp_path / "not-fetched"  # as a repository lies in the cache after planning
    shutil.copytree(folders[False], configs, ignore=shutil.ignore_patterns("*.safetensors"))
    weights = base_named(sweep, "sd3")
    unseen = replace(weights, pipeline=replace(weights.pipeline, path=configs))
    assert cost.snapshot_bytes(cell.trajectory, {cell.trajectory.base_key: unseen}) == written


# -- what is refused -------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], root: Path, *given: str) -> str:
    quietly = ("runtime.tracking=false", "runtime.energy=false")
    assert main(small(root, *given, *quietly)) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert not list(root.glob("sweeps/store/*/step-*"))
    return message


@pytest.mark.parametrize(("given", "said"), [
    ("method.min_snr_gamma=5", ["min_snr_gamma=5", "flow matching", "min_snr_gamma=null"]),
    ("sampler=ddim", ["DDIMScheduler", "SD 3-type", "sampler=base"]),
    ("sampler=euler", ["EulerDiscreteScheduler", "SD 3-type", "sampler=base"]),
    ("+models.bases.sd3.logit_mean_=1", ["models.bases.sd3.logit_mean_", "no such setting"]),
    ("models.bases.sd3.logit_std=0", ["models.bases.sd3.logit_std=0", "greater than 0"]),
])  # fmt: skip
def test_what_a_flow_has_no_use_for(
    given: str, said: list[str], folders: dict[bool, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    message = refused(capsys, tmp_path, *words(folders[False], given))
    for word in said:
        assert word in message, message


def test_a_flow_s_scheduler_is_not_for_noise_levels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = "sampler._target_=diffusers.FlowMatchEulerDiscreteScheduler"
    message = refused(capsys, tmp_path, flow, "train_steps=1")
    for word in ("FlowMatchEulerDiscreteScheduler", "SDXL-type", "noise levels"):
        assert word in message, message


def test_a_flow_s_shift_is_not_dropped(
    folders: dict[bool, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """DPM++ knows it by another name than the base's own scheduler; the remedy is the next test."""
    flow = ["sampler=dpm", "+sampler.settings.use_flow_sigmas=true",
            "+sampler.settings.prediction_type=flow_prediction"]  # fmt: skip
    message = refused(capsys, tmp_path, *words(folders[False], *flow))
    for word in ("without the shift 3", "DPMSolverMultistep", "+sampler.settings.flow_shift=3"):
        assert word in message, message


def test_other_flow_schedulers_draw(folders: dict[bool, Path], tmp_path: Path) -> None:
    flow = ["sampler=dpm", "+sampler.settings.use_flow_sigmas=true",
            "+sampler.settings.prediction_type=flow_prediction",
            "+sampler.settings.flow_shift=3.0"]  # fmt: skip
    _, _, (result,) = execute(tmp_path, *words(folders[False], "train_steps=1", *flow))
    assert result.state == "finished"


def test_bases_of_other_kinds_and_forms(
    folders: dict[bool, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, tmp_path, f"models.bases.sdxl.path={folders[False]}")
    for word in ("StableDiffusion3Pipeline", "an SDXL-type pipeline", "models.bases.sdxl.path="):
        assert word in message, message
    message = refused(capsys, tmp_path, *words(Path("embedded:weights/sdxl")))
    for word in ("StableDiffusionXLPipeline", "an SD 3-type pipeline", "a diffusers folder"):
        assert word in message, message
    message = refused(capsys, tmp_path, *words(Path("random:sd3")))
    assert "no such random weights" in message
    from safetensors.torch import save_file

    file = tmp_path / "sd3_medium.safetensors"
    save_file({"model.diffusion_model.joint_blocks.0.x": torch.zeros(1)}, file)
    message = refused(capsys, tmp_path, *words(file))
    assert "diffusers folders only" in message


def test_planning_does_not_import_torch() -> None:
    from helpers.small import loaded_after

    code = "import charsweep.models.families.sd3 as sd3; assert sd3.StableDiffusion3().is_flow"
    assert not {"torch", "diffusers", "transformers"} & loaded_after(code)
    assert resolve("charsweep.models.families.sd3.StableDiffusion3") is StableDiffusion3
