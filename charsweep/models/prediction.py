"""What a base predicts, noise or velocity, and whether its noise ends at zero signal; no torch.

A diffusers folder says so in its scheduler's config. A single file may say so by a tensor's name
(`v_pred`, `ztsnr`: ComfyUI and A1111 go by them), in its metadata (ModelSpec's and sd-scripts'
words, and ComfyUI's `predict_key`), or in a .yaml of its name beside it (A1111). A file of ldm's
holds the schedule that it was trained with (A1111 draws SD 1.5's by it, sd-scripts and ComfyUI do
not read it): one that ends without a signal is of zero terminal SNR. A file that says nothing
predicts noise. Noise cannot be predicted where nothing else is left (Lin et al. 2023,
arXiv 2305.08891), so zero terminal SNR goes with velocity alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import yaml

from charsweep.core.errors import ModelsError
from charsweep.core.store.files import read_json
from charsweep.models.safetensors_file import metadata_of, numbers_in, tensor_shapes

Prediction = Literal["epsilon", "v_prediction", "v_prediction_zero_snr"]
EPSILON, VELOCITY, VELOCITY_ZERO_SNR = get_args(Prediction)
ZERO_SNR = "zero_snr"  # said of the noise, beside what is predicted
# Words for them, of whoever writes them, in lower case.
TYPES = {
    **dict.fromkeys(("epsilon", "eps", "noise", "epsscaling"), EPSILON),
    **dict.fromkeys(("v", "v_pred", "vpred", "v_prediction", "velocity", "vscaling"), VELOCITY),
}
TYPE_KEYS = ("prediction_type", "predict_key", "parameterization")
VELOCITY_KEYS = ("v_parameterization", "v_pred", "v_prediction")
ZERO_SNR_KEYS = ("ztsnr", "zsnr", "zero_terminal_snr", "rescale_betas_zero_snr")
VERSION_KEYS = ("base_model_version", "architecture")  # `sd_v2_v`, `stable-diffusion-v2-768-v`
TRUE, FALSE, UNSAID = ("true", "1", "yes"), ("false", "0", "no"), ("", "none", "null")
LONGEST_YAML = 1 << 20  # bytes
# Of the signal's variance: at the first step nearly all is left, at SD 1.5's last one .0047; A1111
# and ComfyUI write 4.9e-8 for none.
HALF, NO_SIGNAL = 0.5, 1e-6
# Schedulers of diffusers that take `rescale_betas_zero_snr`; the others draw as if it were not so.
TO_ZERO_SNR = (
    "DDIMScheduler", "DDIMParallelScheduler", "DDPMScheduler", "DDPMParallelScheduler",
    "DPMSolverMultistepScheduler", "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler",
    "LCMScheduler", "TCDScheduler", "UniPCMultistepScheduler",
)  # fmt: skip
INSTEAD = "DDIMScheduler"  # of a base whose own is none of them


class Statement(NamedTuple):
    """What is said of a base: a prediction, or `zero_snr`, or an unknown word; and where."""

    what: str
    where: str


def prediction_of(path: Path, configs: Path, wanted: Prediction | None, setting: str) -> Prediction:
    """What the base at `path` predicts: as `wanted`, else as its files say.

    Raises `ModelsError`, which names the `setting`, where they contradict each other or say what
    cannot be taught.
    """
    if wanted is not None:
        return wanted
    said = list(statements(path, configs))
    remedy = f"say what is right with {setting}= one of {', '.join(get_args(Prediction))}"
    for what, where in said:
        if what not in (EPSILON, VELOCITY, ZERO_SNR):
            raise ModelsError(
                f"{path} predicts {what}, says {where}, and noise or velocity is what is taught: "
                f"give another base or, if that is not so, {remedy}"
            )
    by = dict(reversed(said))
    if EPSILON in by and VELOCITY in by:
        raise ModelsError(
            f"{path} predicts velocity, says {by[VELOCITY]}, and noise, says {by[EPSILON]}: "
            f"{remedy}"
        )
    if ZERO_SNR in by and VELOCITY not in by:
        raise ModelsError(
            f"{path} was made for zero terminal SNR, says {by[ZERO_SNR]}, and nothing says that it "
            f"predicts velocity, without which nothing can be drawn from noise alone: {remedy}"
        )
    return _together({*by})


def in_content(path: Path, configs: Path) -> Prediction:
    """What the names of its tensors say, or its scheduler's config, which a digest covers."""
    said = of_tensors(path) if path.is_file() else of_scheduler(configs)
    return _together({statement.what for statement in said})


def _together(said: set[str]) -> Prediction:
    if VELOCITY not in said:
        return "epsilon"
    return "v_prediction_zero_snr" if ZERO_SNR in said else "v_prediction"


def statements(path: Path, configs: Path) -> Iterator[Statement]:
    """All that a folder's config, or a single file and what lies beside it, say."""
    if not path.is_file():
        yield from of_scheduler(configs)
        return
    yield from of_tensors(path)
    yield from of_schedule(path)
    for name, value in metadata_of(path).items():
        yield from _said(name, value, f"its metadata's {name}={value}")
    beside = path.with_suffix(".yaml")
    if beside.is_file():
        yield from of_yaml(beside)


def of_scheduler(configs: Path) -> Iterator[Statement]:
    """What a pipeline's scheduler is configured for."""
    file = configs / "scheduler" / "scheduler_config.json"
    config = read_json(file) if file.exists() else {}
    for name in ("prediction_type", "rescale_betas_zero_snr"):
        if name in config:
            yield from _said(name, config[name], f"{name} in its scheduler/scheduler_config.json")


def of_tensors(file: Path) -> Iterator[Statement]:
    """`v_pred` and `ztsnr`, which hold nothing."""
    names = tensor_shapes(file)
    for name, what in (("v_pred", VELOCITY), ("ztsnr", ZERO_SNR)):
        if name in names:
            yield Statement(what, f"its tensor {name}")


def of_schedule(file: Path) -> Iterator[Statement]:
    """`alphas_cumprod`, or else `betas`, that leave no signal at the last step: a digest covers
    them, but keys were made before they were read."""
    name, alphas = "alphas_cumprod", numbers_in(file, "alphas_cumprod")
    if alphas is None and (betas := numbers_in(file, "betas")) is not None:
        name, alphas = "betas", np.asarray(np.cumprod(1 - betas), np.float64)
    # one that begins without a signal is no schedule: what merging has made of it
    if alphas is not None and len(alphas) and alphas[0] > HALF and 0 <= alphas[-1] < NO_SIGNAL:
        yield Statement(ZERO_SNR, f"the end of its tensor {name}")


def of_yaml(file: Path) -> Iterator[Statement]:
    """What the configuration beside a checkpoint says of its `model:`."""
    try:
        if file.stat().st_size > LONGEST_YAML:
            raise ValueError("larger than any configuration")
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelsError(
            f"{file} lies beside a checkpoint as its configuration and cannot be read ({reason}); "
            "mend it, or move it away"
        ) from error
    model = content.get("model") if isinstance(content, Mapping) else None
    for name, value in _leaves(model, set()):
        if name == "target":  # sgm names the class that scales the denoiser's output
            found = re.search(r"\.(\w*Scaling\w*)$", str(value))
            name, value = "parameterization", found[1] if found else ""
        yield from _said(name, value, f"{name}: {value} in {file.name} beside it")


def _leaves(value: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Names and values in nested mappings; what an anchor repeats counts once."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from (
                _leaves(item, seen) if isinstance(item, Mapping | list) else ([(str(name), item)])
            )
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, seen)


def _said(name: str, value: Any, where: str) -> Iterator[Statement]:
    """What one setting, by whoever's name, says of a prediction; most say nothing."""
    key = name.rpartition(".")[2].lower().removeprefix("ss_")
    word = str(value).strip().lower().replace("-", "_")
    if word in UNSAID:
        return
    if key in TYPE_KEYS:
        yield Statement(TYPES.get(word, str(value).strip()), where)
    elif key in VELOCITY_KEYS and word in (*TRUE, *FALSE):
        yield Statement(VELOCITY if word in TRUE else EPSILON, where)
    elif key in ZERO_SNR_KEYS and word in TRUE:
        yield Statement(ZERO_SNR, where)
    elif key in VERSION_KEYS and word.endswith("_v"):
        yield Statement(VELOCITY, where)


# -- the scheduler ---------------------------------------------------------------------------------


def scheduler_changes(prediction: Prediction, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a scheduler with this config must be told to be that of such a base."""
    is_zero = prediction == VELOCITY_ZERO_SNR
    wanted = {
        "prediction_type": EPSILON if prediction == EPSILON else VELOCITY,
        "rescale_betas_zero_snr": is_zero,
    }
    known = {"prediction_type": EPSILON, "rescale_betas_zero_snr": False, **config}
    changes = {name: value for name, value in wanted.items() if known[name] != value}
    if is_zero and changes:  # the last timestep, which has no signal, must be drawn too
        changes["timestep_spacing"] = "trailing"
    return changes


def scheduler_class(prediction: Prediction, own: str) -> str:
    """Name of the class in diffusers that can draw with such a base: its own, if that can."""
    return INSTEAD if prediction == VELOCITY_ZERO_SNR and own not in TO_ZERO_SNR else own
