"""What a base predicts: every place where files say so, one message where they do not agree."""

from __future__ import annotations

import inspect
import json
import re
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from helpers.single_file import write_single_file
from helpers.small import EXAM, family
from helpers.variants import FAMILIES
from safetensors.torch import load_file, save_file

from charsweep.__main__ import main
from charsweep.core.errors import ConfigError, ModelsError
from charsweep.core.specs import Plugin
from charsweep.models import architectures, embedded
from charsweep.models.load import load_base
from charsweep.models.prediction import TO_ZERO_SNR, prediction_of, scheduler_class
from charsweep.models.samplers import check_fits
from charsweep.models.weights import BaseWeights, find_base

WEIGHTS = embedded.FOLDER / "weights"
EPSILON, V, ZERO = "epsilon", "v_prediction", "v_prediction_zero_snr"
SGM = """
model:
  target: sgm.models.diffusion.DiffusionEngine
  params:
    denoiser_config:
      target: sgm.modules.diffusionmodules.denoiser.DiscreteDenoiser
      params:
        scaling_config:
          target: sgm.modules.diffusionmodules.denoiser_scaling.{}
"""

# Tensors, metadata and the .yaml beside a file; what it predicts, or part of the refusal.
SAID: list[tuple[tuple[str, ...], dict[str, str], str, str]] = [
    ((), {}, "", EPSILON),
    (("v_pred",), {}, "", V),
    (("v_pred", "ztsnr"), {}, "", ZERO),
    ((), {"modelspec.prediction_type": "v"}, "", V),
    ((), {"modelspec.prediction_type": "epsilon"}, "", EPSILON),
    ((), {"modelspec.prediction_type": "v-prediction", "ztsnr": "true"}, "", ZERO),
    ((), {"modelspec.predict_key": "v"}, "", V),
    (("ztsnr",), {"modelspec.predict_key": "v"}, "", ZERO),
    ((), {"ss_v_parameterization": "True", "ss_zero_terminal_snr": "True"}, "", ZERO),
    ((), {"v_parameterization": "true"}, "", V),
    ((), {"ss_v_parameterization": "None", "ss_zero_terminal_snr": "False"}, "", EPSILON),
    ((), {"ss_v2": "False", "ss_base_model_version": "sd_v1_v"}, "", V),
    ((), {"ss_base_model_version": "sdxl_base_v1-0"}, "", EPSILON),
    ((), {}, "model: {params: {parameterization: v}}", V),
    ((), {}, "model: {params: {parameterization: v, zero_terminal_snr: true}}", ZERO),
    ((), {}, "model: {params: {linear_start: 0.00085}}", EPSILON),
    ((), {}, SGM.format("VScaling"), V),
    ((), {}, SGM.format("EpsScaling"), EPSILON),
    (("v_pred",), {}, SGM.format("VScaling"), V),
    ((), {}, SGM.format("VScalingWithEDMcNoise"), "predicts VScalingWithEDMcNoise"),
    ((), {"modelspec.prediction_type": "sample"}, "", "predicts sample, says its metadata"),
    (("v_pred",), {"modelspec.prediction_type": "epsilon"}, "", "its tensor v_pred, and noise"),
    (("ztsnr",), {}, "", "zero terminal SNR, says its tensor ztsnr, and nothing says"),
    (("ztsnr",), {"modelspec.predict_key": "epsilon"}, "", "zero terminal SNR"),
    ((), {"modelspec.predict_key": "epsilon"}, "model: {params: {parameterization: v}}", "beside"),
    ((), {}, "model: [", "mend it, or move it away"),
    ((), {}, "model: !!python/object/apply:os.system [ls]", "mend it, or move it away"),
]  # fmt: skip


@pytest.mark.parametrize(("tensors", "metadata", "beside", "wanted"), SAID)
def test_every_place_that_says_it(
    tensors: tuple[str, ...], metadata: dict[str, str], beside: str, wanted: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.v1.safetensors"
    save_file({name: torch.zeros(0) for name in (*tensors, "a")}, file, metadata)
    if beside:
        (tmp_path / "mine.v1.yaml").write_text(beside)
    configs = architectures.folder_of("sdxl")
    if wanted in (EPSILON, V, ZERO):
        assert prediction_of(file, configs, None, "setting") == wanted
        return
    with pytest.raises(ModelsError, match=re.escape(wanted)) as refused:
        prediction_of(file, configs, None, "setting")
    if "move it away" not in wanted:
        choices = str(refused.value).rpartition("setting= one of ")[2].split(", ")
        assert [prediction_of(file, configs, one, "setting") for one in choices] == choices


def schedule(last: float, kind: torch.dtype = torch.float32) -> torch.Tensor:
    """What of the signal is left at each step, as ldm's files hold it."""
    return torch.linspace(0.99915, last, 1000).to(kind)


@pytest.mark.parametrize(
    ("tensors", "wanted"),
    [
        ({"alphas_cumprod": schedule(0.0047)}, EPSILON),
        ({"alphas_cumprod": schedule(0.0047, torch.bfloat16), "v_pred": torch.zeros(0)}, V),
        ({"alphas_cumprod": schedule(0.0), "v_pred": torch.zeros(0)}, ZERO),
        ({"alphas_cumprod": schedule(4.9e-8, torch.float16), "v_pred": torch.zeros(0)}, ZERO),
        ({"alphas_cumprod": schedule(4.9e-8, torch.bfloat16), "v_pred": torch.zeros(0)}, ZERO),
        ({"betas": torch.tensor([0.001, 0.5, 1.0]), "v_pred": torch.zeros(0)}, ZERO),
        ({"betas": torch.tensor([0.001, 0.5, 0.9]), "v_pred": torch.zeros(0)}, V),
        ({"alphas_cumprod": torch.zeros(1000), "v_pred": torch.zeros(0)}, V),  # no schedule
        ({"alphas_cumprod": torch.ones(1000)}, EPSILON),
        ({"alphas_cumprod": torch.zeros(10, 10)}, EPSILON),
        (
            {"alphas_cumprod": schedule(0.0)},
            "says the end of its tensor alphas_cumprod, and",
        ),
    ],
)
def test_the_schedule_in_a_file_says_where_its_noise_ends(
    tensors: dict[str, torch.Tensor], wanted: str, tmp_path: Path
) -> None:
    file, configs = tmp_path / "mine.safetensors", architectures.folder_of("sd15")
    save_file(tensors | {"a": torch.zeros(1)}, file)
    if wanted in (EPSILON, V, ZERO):
        assert prediction_of(file, configs, None, "setting") == wanted
        return
    with pytest.raises(ModelsError, match=wanted):
        prediction_of(file, configs, None, "setting")
    assert prediction_of(file, configs, V, "setting") == V  # the remedy


def test_schedulers_that_know_zero_terminal_snr_are_those_of_the_library() -> None:
    for name in dir(diffusers):
        kind = getattr(diffusers, name) if name.endswith("Scheduler") else None
        if isinstance(kind, type) and not name.startswith(("CogVideo", "DDIMInverse")):
            takes = "rescale_betas_zero_snr" in inspect.signature(kind.__init__).parameters
            assert takes == (name in TO_ZERO_SNR), name
    assert scheduler_class(ZERO, "PNDMScheduler") == "DDIMScheduler"
    assert scheduler_class(V, "PNDMScheduler") == "PNDMScheduler"


# -- a base is taught and drawn so -----------------------------------------------------------------


def found(path: Path, name: str, **more: Any) -> BaseWeights:
    return find_base(str(path), path.parent, family(name), **more)


def single(name: str, folder: Path, metadata: dict[str, str], *marks: str) -> Path:
    """A shrunk base as a single file that says so."""
    whole = find_base(f"random:{name}", folder, family(name))
    pipeline = load_base(whole.spec, whole, torch.device("cpu")).pipeline
    file = write_single_file(pipeline, folder / "mine.safetensors")
    save_file(load_file(file) | {mark: torch.zeros(0) for mark in marks}, file, metadata)
    return file


@pytest.mark.usefixtures("shrunk")
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("way", ["tensors", "metadata", "yaml", "setting"])
def test_a_file_is_taught_and_drawn_as_it_says(name: str, way: str, tmp_path: Path) -> None:
    metadata = {"modelspec.prediction_type": "v", "ss_zero_terminal_snr": "True"}
    file = single(
        name, tmp_path, metadata if way == "metadata" else {},
        *(("v_pred", "ztsnr") if way == "tensors" else ()),
    )  # fmt: skip
    if way == "yaml":
        text = "model: {params: {parameterization: v, zero_terminal_snr: true}}"
        file.with_suffix(".yaml").write_text(text)
    weights = found(file, name, prediction=ZERO if way == "setting" else None)
    assert weights.prediction == ZERO
    base = load_base(weights.spec, weights, torch.device("cpu"))
    scheduler = base.pipeline.scheduler
    assert scheduler.config.prediction_type == V
    assert scheduler.config.timestep_spacing == "trailing"
    assert type(scheduler).__name__ in TO_ZERO_SNR
    scheduler.set_timesteps(4)
    assert scheduler.timesteps[0] == 999
    noising = base.family.noising(base.pipeline)
    assert noising.alphas[-1] == 0
    latents, noise, last = torch.ones(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), torch.tensor([999])
    torch.testing.assert_close(noising.target(latents, noise, last), -latents)
    plain = found(file, name, prediction=EPSILON)
    assert plain.digest != weights.digest
    assert plain.scheduler[1] == {}


@pytest.mark.usefixtures("shrunk")
def test_what_the_weights_say_themselves_is_in_their_digest_already(tmp_path: Path) -> None:
    file = single("sdxl", tmp_path, {}, "v_pred", "ztsnr")
    weights = found(file, "sdxl")
    assert weights.digest == weights.pipeline.digest
    assert found(file, "sdxl", prediction=V).digest != weights.digest
    assert found(file, "sdxl", prediction=ZERO).digest == weights.digest


def folder_with(folder: Path, **config: Any) -> Path:
    """The embedded SDXL-type base with another scheduler's config."""
    shutil.copytree(WEIGHTS / "sdxl", folder)
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


def test_a_folder_may_be_told_what_it_predicts(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "base")
    weights = found(folder, "sdxl", prediction=V)
    base = load_base(weights.spec, weights, torch.device("cpu"))
    assert base.pipeline.scheduler.config.prediction_type == V
    assert weights.digest != found(folder, "sdxl").digest
    said = folder_with(tmp_path / "said", prediction_type=V, rescale_betas_zero_snr=True)
    weights = found(said, "sdxl")
    assert (weights.prediction, weights.scheduler[1]) == (ZERO, {})
    assert weights.digest == weights.pipeline.digest


@pytest.mark.parametrize("config", [
    {"rescale_betas_zero_snr": True}, {"prediction_type": "sample"},
])  # fmt: skip
def test_a_folder_that_cannot_be_taught_is_one_message(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_with(tmp_path / "base", **config)
    words = [f"models.bases.sdxl.path={folder}", f"root={tmp_path}", "action=plan", *EXAM]
    assert main(words) == 2
    (message,) = capsys.readouterr().err.splitlines()
    found = re.search(r"(models\.bases\.sdxl\.prediction=) one of (.+)$", message)
    assert found, message
    assert message.startswith("ModelsError: ")
    for choice in found[2].split(", "):
        assert main([*words, f"{found[1]}{choice}"]) == 0
        plan = capsys.readouterr().out
        assert ("base          sdxl predicts velocity" in plan) == (choice != EPSILON)
        assert ("with zero terminal SNR" in plan) == (choice == ZERO)


def test_a_word_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models.bases.sdxl.prediction=v", "action=plan"]) == 2
    assert "v_prediction_zero_snr" in capsys.readouterr().err


def test_a_flow_predicts_one_thing_only(tmp_path: Path) -> None:
    from helpers.tiny_sd3 import write_sd3

    from charsweep.models.families.sd3 import StableDiffusion3

    folder = write_sd3(tmp_path / "sd3", t5=False)
    plugin = Plugin("sd3", "StableDiffusion3", StableDiffusion3.version, {})
    with pytest.raises(ModelsError, match=r"models.bases.sd3.prediction=epsilon: .* leave it null"):
        find_base(str(folder), tmp_path, plugin, prediction=EPSILON)
    assert find_base(str(folder), tmp_path, plugin).prediction is None


def test_a_sampler_that_knows_no_zero_terminal_snr_is_refused() -> None:
    weights = find_base(str(WEIGHTS / "sdxl"), WEIGHTS, family("sdxl"), prediction=ZERO)
    other = Plugin("heun", "diffusers.HeunDiscreteScheduler", 1, {})
    with pytest.raises(ConfigError, match=r"sampler=heun: .* use sampler=base, ddim, dpm or euler"):
        check_fits(other, weights)
    check_fits(Plugin("dpm", "diffusers.DPMSolverMultistepScheduler", 1, {}), weights)
    check_fits(other, find_base(str(WEIGHTS / "sdxl"), WEIGHTS, family("sdxl"), prediction=V))
