"""What an adapter file says of its making: trainer, steps, rate, rank, base, trigger; no torch.

From the headers that sd-scripts and musubi-tuner (`ss_*`), ai-toolkit (`software`,
`training_info`), OneTrainer (`ot_*`), ModelSpec (`modelspec.*`) and peft write, from the shapes of
the tensors, and, of steps alone, from the file's name. It is somebody's word: shown, and in no key.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from charsweep.core.errors import shown
from charsweep.models.foreign_adapter import peft_settings, split
from charsweep.models.safetensors_file import metadata_of, tensor_shapes

LONGEST = 60  # characters of a text that is shown
# A checkpoint's name: of ai-toolkit, of sd-scripts, by many hands, of OneTrainer, of diffusers and
# SimpleTuner, whose folder has it. The run's name, then the training steps.
STEPS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(.+)_(\d{9})", r"(.+?)[-_.]steps?[-_.]?(\d+)", r"(.+?)[-_.](\d+)[-_.]?steps?",
        r"(.+)-save-(\d+)-\d+-\d+", r"(.*)checkpoint-(\d+)",
    )
)  # fmt: skip
EPOCH = re.compile(r"(.+)-\d{6}")  # of sd-scripts, whose header has the steps
WHOLE, RATE = ("steps", "rank"), ("lr", "alpha")
RANKED = {"down": 0, "hada_w1_b": 0, "lokr_w1_b": 0, "lokr_w2_b": 0}  # a part's side of that size


def making_of(file: Path) -> dict[str, Any]:
    """By name, what is known: kind, trainer, rank, alpha, lr, steps, base and trigger.

    Raises `ModelsError` where the file cannot be read.
    """
    told = metadata_of(file)
    known: dict[str, Any] = {
        "kind": _kind(file),
        "trainer": _trainer(told),
        "rank": _rank(file) or told.get("ss_network_dim"),
        "alpha": told.get("ss_network_alpha") or _alpha(file),
        "lr": _first(told, "ss_unet_lr", "ss_learning_rate")
        or _inside(told, "ot_config", "learning_rate"),
        "steps": told.get("ss_steps")
        or _inside(told, "training_info", "step")
        or steps_in(file.stem)[1]
        or steps_in(file.parent.name)[1],
        "base": _first(told, "ss_sd_model_name", "ss_base_model_version", "modelspec.architecture")
        or _first(peft_settings(file).get("", {}), "base_model_name_or_path"),
        "trigger": _first(told, "modelspec.trigger_phrase", "ss_trigger_words"),
    }
    read = {name: _read(name, value) for name, value in known.items()}
    return {name: value for name, value in read.items() if value not in (None, "")}


def steps_in(name: str) -> tuple[str, str]:
    """The name of a run and the training steps that a checkpoint is called by; "" for none."""
    found = next((match for one in STEPS if (match := one.fullmatch(name))), None)
    if found:
        return found[1].rstrip("-_."), found[2]
    epoch = EPOCH.fullmatch(name)
    return (epoch[1] if epoch else name), ""


def _read(name: str, value: Any) -> Any:
    """A number, or a short line of text; None for what is neither."""
    if name in WHOLE or name in RATE:
        try:
            number = float(value)
        except (TypeError, ValueError):
            return None
        if not math.isfinite(number) or number <= 0:
            return None
        return int(number) if name in WHOLE or number.is_integer() else number
    text = " ".join(str(value or "").split())
    if name == "base":  # perhaps a path of somebody's machine
        text = re.split(r"[/\\]", text)[-1]
    return shown(text, LONGEST) if text and text.isprintable() else None


def _first(told: Mapping[str, Any], *names: str) -> Any:
    return next((told[name] for name in names if told.get(name) not in (None, "", "None")), None)


def _inside(told: Mapping[str, str], name: str, field: str) -> Any:
    """A field of a value that is JSON; None where it is none."""
    try:
        found = json.loads(told.get(name, "{}"))
    except (ValueError, TypeError, RecursionError):
        return None
    return found.get(field) if isinstance(found, dict) else None


def _trainer(told: Mapping[str, str]) -> str | None:
    if software := _inside(told, "software", "name"):
        return str(software)
    if "ot_revision" in told or "ot_config" in told:
        return "OneTrainer"
    comment = str(told.get("ss_training_comment", ""))
    if comment.startswith("charsweep "):
        return comment.partition(":")[0]
    if any(name.startswith("ss_") for name in told if name != "ss_base_model_version"):
        lycoris = str(told.get("ss_network_module", "")).startswith("lycoris")
        return "sd-scripts, LyCORIS" if lycoris else "sd-scripts"
    return None


def _parts(file: Path) -> Iterator[tuple[str, list[int]]]:
    for name, shape in tensor_shapes(file).items():
        _, part = split(name)
        yield part, shape


def _kind(file: Path) -> str:
    """What people call the kind of most of its layers."""
    parts = {part for part, _ in _parts(file)}
    if any(part.startswith("hada") for part in parts):
        return "LoHa"
    if any(part.startswith("lokr") for part in parts):
        return "LoKr"
    if "down" not in parts:
        return "difference"
    return "DoRA" if parts & {"dora_scale", "magnitude"} else "LoRA"


def _rank(file: Path) -> int | None:
    """That of most layers; None where the factors are whole."""
    ranks = Counter(
        shape[RANKED[part]] for part, shape in _parts(file) if part in RANKED and len(shape) > 1
    )
    return ranks.most_common(1)[0][0] if ranks else None


def _alpha(file: Path) -> Any:
    """As peft says; None where tensors of the layers say it."""
    for own in peft_settings(file).values():
        return own.get("lora_alpha", own.get("alpha"))
    return None
