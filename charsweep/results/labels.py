"""Labels and number formats that readers see: of metrics, axes, values, costs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from charsweep.results.records import Value


@dataclass(frozen=True)
class MetricLabel:
    """How a metric is called in a column, on a plot's axis, and what it says in one sentence."""

    short: str
    long: str
    meaning: str
    higher_is_better: bool = True
    of_exam: bool = True  # whether the images that it reads are those of the exam itself


METRICS = {
    "score": MetricLabel(
        "score",
        "score (identity × prompt)",
        "is it the character, doing what was asked? 0 to 1; of two, the lowest of each and both",
    ),
    "identity": MetricLabel(
        "identity",
        "identity, 0 to 1",
        "how far from the untaught base (0) to the character's own drawings (1)",
    ),
    "prompt": MetricLabel(
        "prompt", "prompt, 0 to 1", "share of what the prompt names that the image shows"
    ),
    "leak": MetricLabel(
        "leak",
        "leak into the class",
        "how much of the character others of the class have got: 0 none, 1 all",
        False,
        of_exam=False,
    ),
    "drift": MetricLabel(
        "drift",
        "drift from the base",
        "how far unrelated pictures have moved from the base",
        False,
        of_exam=False,
    ),
    "flexibility": MetricLabel(
        "flexibility",
        "flexibility, 0 to 1",
        "share of other clothes and things that are shown when asked",
        of_exam=False,
    ),
    "together": MetricLabel(
        "together",
        "together, 0 to 1",
        "are both there, each as it is, where they were asked for?",
        of_exam=False,
    ),
    "both": MetricLabel(
        "both", "both there", "share of images with both, each where it should be", of_exam=False
    ),
    "swapped": MetricLabel(
        "swapped",
        "swapped",
        "share of images with each where the other should be",
        False,
        of_exam=False,
    ),
    "merged": MetricLabel(
        "merged",
        "merged",
        "share of images with one of them twice, or mixtures",
        False,
        of_exam=False,
    ),
    "missing": MetricLabel(
        "missing",
        "one missing",
        "share of images in which one of them is not there",
        False,
        of_exam=False,
    ),
    "nearest": MetricLabel(
        "nearest",
        "nearest to their own",
        "share of the two that are most like a drawing of theirs",
        of_exam=False,
    ),
    "first_score": MetricLabel(
        "first alone", "score of the first alone", "is it the first character, as asked?"
    ),
    "other_score": MetricLabel(
        "second alone",
        "score of the second alone",
        "is it the second one, as asked?",
        of_exam=False,
    ),
    "other_identity": MetricLabel(
        "2nd identity",
        "identity of the second",
        "how far it is the second one",
        of_exam=False,
    ),
    "other_prompt": MetricLabel(
        "2nd prompt",
        "prompt of the second",
        "share of what its prompts name that is shown",
        of_exam=False,
    ),
    "other_leak": MetricLabel(
        "2nd leak",
        "leak into the second's class",
        "how much of the second one others of its class have got",
        False,
        of_exam=False,
    ),
    "dino": MetricLabel("DINO", "likeness (DINO)", "looks like the drawings, self-supervised eye"),
    "clip_i": MetricLabel("CLIP-I", "likeness (CLIP-I)", "looks like the drawings, CLIP's eye"),
    "clip_t": MetricLabel("CLIP-T", "prompt (CLIP-T)", "shows what the prompt asks for"),
    "ccip": MetricLabel(
        "CCIP", "same character (CCIP)", "shows the character of the drawings, by 1 - difference"
    ),
    "dinov2": MetricLabel("DINOv2", "likeness (DINOv2)", "looks like the drawings, DINOv2's eye"),
    "dinov3": MetricLabel("DINOv3", "likeness (DINOv3)", "looks like the drawings, DINOv3's eye"),
    "diversity": MetricLabel(
        "diversity", "diversity between seeds", "how much pictures of one prompt differ"
    ),
    "copy": MetricLabel(
        "copy", "copy (nearest drawing)", "similarity to the nearest single drawing", False
    ),
    "quality_ratio": MetricLabel(
        "quality ratio",
        "quality ratio",
        "share of exam pictures that are the character and show all that the prompt names",
    ),
    "colour": MetricLabel(
        "colour",
        "colour (histogram overlap)",
        "how alike the colours of drawn and training images are (Bhattacharyya, 0 to 1)",
    ),
}
MADE_LABELS = {"steps": "training steps", "lr": "learning rate", "base": "base by its file",
               "other_trigger": "trigger of the second"}  # fmt: skip
ENCODERS = {"clip": "CLIP", "dino": "DINO", "dinov2": "DINOv2", "dinov3": "DINOv3",
            "siglip2": "SigLIP 2", "ccip": "CCIP"}  # fmt: skip
AXES = {
    "lr": "learning rate",
    "train_steps": "training steps",
    "inference_steps": "inference steps",
    "seed": "training seed",
    "other_strength": "strength of the second",
    "sampler.regional": "each half drawn by itself",
    "company.joint_share": "share of steps with both",
}
COUNTED = ("train_steps", "inference_steps")  # read as "400 training steps"
COST_LABELS = {
    "size_mb": "weights, MB",
    "train_seconds": "time alone, s",
    "paid_seconds": "time paid, s",
    "seconds_per_step": "s per step",
    "sample_seconds": "drawing, s",
    "peak_memory_mb": "peak memory, MB",
    "energy_wh": "energy, Wh",
    "co2_g": "CO₂, g",
}
COST_WORDS = {  # on a plot's axis
    "train_seconds": "training time of the cell alone, s",
    "size_mb": "size of the taught weights, MB",
}

# The low / medium / high of the study's table, read off the quality ratio in thirds. By hand.
MEDIUM_FROM, HIGH_FROM = 1 / 3, 2 / 3
RUNS_ON = re.compile(r'[,;·="\n]| and ')  # in a text: looks like the end of a value
LEVELS = "low below 1/3, medium from 1/3, high from 2/3 of the exam pictures"


def metric_label(metric: str) -> MetricLabel:
    """The label of a metric; a plug-in this file does not know is called by its name."""
    return METRICS.get(metric) or MetricLabel(metric, metric.replace("_", " "), "")


def encoder_label(name: str) -> str:
    """What an encoder is called; a plug-in this file does not know, by its name."""
    return ENCODERS.get(name, name)


def cost_label(name: str) -> str:
    """The heading of a size, a time or an energy, with its unit."""
    return COST_LABELS.get(name) or name.replace("_", " ")


def made_label(name: str) -> str:
    """What is called so that an adapter from elsewhere says of its making."""
    return MADE_LABELS.get(name, name)


def axis_label(axis: str) -> str:
    """`lr` -> "learning rate"; a dotted axis keeps its name."""
    return AXES.get(axis, axis)


def value_text(axis: str, value: Value) -> str:
    """One value of an axis as a person types it: learning rates as 1e-3, none as "none"."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) or (axis == "lr" and isinstance(value, int)):
        return scientific(value) if axis == "lr" or 0 < abs(value) < 1e-2 else f"{value:g}"
    return in_quotes(str(value))


def in_quotes(text: str) -> str:
    """A text among others: in quotes where it is empty, or would run into what stands beside it."""
    plain = text.strip() and text == text.strip() and not RUNS_ON.search(text)
    return text if plain or is_list(text) else json.dumps(text, ensure_ascii=False)


def is_list(text: str) -> bool:
    """Whether a value is a list, which records hold as JSON."""
    return text.startswith("[") and text.endswith("]")


def scientific(value: float) -> str:
    """5e-05 -> "5e-5", 0.1 -> "1e-1", 0.0035 -> "3.5e-3"."""
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def point_text(values: Mapping[str, Value], axes: Sequence[str]) -> str:
    """A point of the grid in words: "lr = 1e-3", or "lora · lr 1e-3 · seed 1"."""
    known = {axis: value_text(axis, values[axis]) for axis in axes if axis in values}
    if len(known) == 1:
        return " = ".join(next(iter(known.items())))
    parts = [text if axis == "method" else f"{axis} {text}" for axis, text in known.items()]
    return " · ".join(parts) or "the one cell"


def score_text(value: float | None) -> str:
    """A score with three decimals; blank where it does not apply."""
    if value is None:
        return ""
    return f"{value:.3f}".replace("-0.000", "0.000").replace("-", "\N{MINUS SIGN}")


def error_text(interval: tuple[float, float] | None) -> str:
    """ " ± 0.064", half the width of an interval; blank without one."""
    return f" ± {score_text((interval[1] - interval[0]) / 2)}" if interval else ""


def gain_text(value: float | None) -> str:
    """A difference with its sign and a true minus."""
    if value is None:
        return ""
    return f"{value:+.3f}".replace("-0.000", "+0.000").replace("-", "\N{MINUS SIGN}")


def cost_text(name: str, value: float | None) -> str:
    """Megabytes and seconds with about three figures."""
    if value is None:
        return ""
    if name == "seconds_per_step":
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def level_text(quality_ratio: float | None) -> str:
    """low, medium or high visual quality; blank without a quality ratio."""
    if quality_ratio is None:
        return ""
    if quality_ratio >= HIGH_FROM:
        return "high"
    return "medium" if quality_ratio >= MEDIUM_FROM else "low"


def listing(items: Sequence[str], most: int = 4) -> str:
    """ "a, b and c"; past `most`, "a, b, c, d and 9 more"."""
    if len(items) > most:
        items = [*items[:most], f"{len(items) - most} more"]
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def bytes_text(size: float) -> str:
    """Bytes as MB or GB (powers of ten)."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
