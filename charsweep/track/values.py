"""Name, parameters, metrics and tags of a cell's MLflow run."""

from __future__ import annotations

import colorsys
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, RunTag

from charsweep.core.keys import canonical_json
from charsweep.core.specs import ADAPTER
from charsweep.core.store.files import read_json
from charsweep.core.store.losses import LossRow
from charsweep.results import CellResult
from charsweep.results.cells import COSTS, TOGETHER
from charsweep.results.labels import value_text
from charsweep.results.table import escape_markdown

LAYOUT = 3  # of what a run holds; runs of another layout are logged anew
RESULT = ("state", "trial", "values", "base", "trajectory", "step", "images", "scores", "gains")
EMPTY = '""'  # the text of no letters, which would show as nothing
CURVES = ("loss", "lr", "grad_norm")
CURVE_POINTS = 200  # of lr and grad_norm: every step would treble the database (245 B a row)
PARAM_LENGTH = 500
TAG_LENGTH = 5000
NAME_LENGTH = 200
IN_WORDS = {
    "method": "{}",
    "train_steps": "{:,} steps",
    "inference_steps": "{} inference steps",
    "seed": "seed {}",
}


def run_name(result: CellResult, axes: Sequence[str]) -> str:
    """`lr=1e-3`, `gan, 2,000 steps`, `lora, seed 1`: what varies; if nothing does, what it is."""
    values = result.values
    own = [*axes, *(["train_steps"] if ADAPTER in values else [])]  # of a run
    named = [name for name in dict.fromkeys(own) if name in values]
    named = named or [name for name in ("method", "lr", "train_steps") if name in values]
    return ", ".join(_in_words(name, values[name]) for name in named)[:NAME_LENGTH]


def _in_words(name: str, value: Any) -> str:
    if name in IN_WORDS:
        return IN_WORDS[name].format(value)
    return f"{name}={value_text(name, value)}"


def curves(losses: Sequence[LossRow], start: int) -> list[Metric]:
    """The losses of every step; `lr` and `grad_norm` at up to `CURVE_POINTS` and the last."""
    metrics, elapsed = [], 0.0
    thin = -(-len(losses) // CURVE_POINTS)
    for index, row in enumerate(losses):
        elapsed += row.seconds
        named = {"loss": row.loss, **row.parts}
        if index % thin == 0 or index == len(losses) - 1:
            named |= {"lr": row.lr, "grad_norm": row.grad_norm}
        at = start + int(elapsed * 1000)
        metrics += [Metric(name, _finite(value), at, row.step) for name, value in named.items()]
    return metrics


def numbers(result: CellResult, at: int) -> list[Metric]:
    """Scores under their names, their gains over the untaught base, sizes, times and energy."""
    named = {name: result.cost(name) for name in COSTS}
    named |= result.scores
    named |= {f"{name}_gain": value for name, value in result.gains.items()}
    return [
        Metric(name, float(value), at, result.step)
        for name, value in named.items()
        if value is not None
    ]


def params(result: CellResult, trajectory: Path, images: Path | None) -> list[Param]:
    """The cell's values, the base, and the plain settings of its trajectory and image set."""
    made = {f"made.{name}": value for name, value in result.made.items()}
    named = {**result.values, **made, "base": result.base or None}
    manifests = [(trajectory / "spec.json", "base")]
    manifests += [(images / "images.json", "snapshot")] if images else []
    for path, parent in manifests:
        spec = read_json(path).get("spec", {}) if path.exists() else {}
        for name, value in _flat(spec, parent):
            named.setdefault(name, value)
    return [
        Param(name, _plain(value)[:PARAM_LENGTH])
        for name, value in named.items()
        if value is not None
    ]


def _flat(spec: Mapping[str, Any], without: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`method.settings.rank` as `method.rank`; no lists, and not the field named `without`."""
    for name, value in spec.items():
        if isinstance(value, dict):
            below = prefix if name == "settings" else f"{prefix}{name}."
            yield from () if name == without else _flat(value, without, below)
        elif not isinstance(value, list) and name not in ("learning_rate", "identity"):
            yield f"{prefix}{name}", value


def links(result: CellResult) -> dict[str, Any]:
    """Tags that lead from the run to the Optuna trial and the store."""
    names = ("state", "trial", "trajectory", "images", "diverged_at", "error")
    tags = {f"charsweep.{name}": getattr(result, name) for name in names}
    note = {
        "left": f"{result.left.capitalize()}: worse than another beyond doubt.",
        "diverged": f"Diverged: the loss was not finite at step {result.diverged_at}.",
        "stopped": f"{str(result.error).capitalize()}.",
        "failed": f"Failed: {escape_markdown(str(result.error))}",
    }
    colour = None if result.trial is None else run_colour(result.trial)
    return {**tags, "mlflow.note.content": note.get(result.state), "mlflow.runColor": colour}


def run_colour(trial: int) -> str:
    """`#rrggbb` of a trial; MLflow draws by chance from few, and two of seven runs look alike."""
    hue = trial * 0.618034 % 1  # the golden section: far from its neighbours, however many come
    rgb = colorsys.hls_to_rgb(hue, (0.35, 0.5, 0.6)[trial % 3], 0.7)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)


def as_tags(named: Mapping[str, Any]) -> list[RunTag]:
    return [
        RunTag(name, str(value)[:TAG_LENGTH]) for name, value in named.items() if value is not None
    ]


def digest(result: CellResult) -> str:
    """Tells whether a run shows this result; what the cell cost is no part of it."""
    shown = {name: getattr(result, name) for name in RESULT}
    if TOGETHER in result.parts:  # whose pictures a run holds too
        shown[TOGETHER] = result.parts[TOGETHER]
    text = canonical_json({"layout": LAYOUT, **shown})
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def parts_of(losses: Sequence[LossRow]) -> str | None:
    """The names of the losses beside the loss, for a tag."""
    return json.dumps(list(losses[0].parts)) if losses and losses[0].parts else None


def _finite(value: float) -> float:
    """MLflow keeps NaN; infinity it would show as 1.8e308, which ruins every plot."""
    return float("nan") if value in (float("inf"), float("-inf")) else value


def _plain(value: Any) -> str:
    """Plain decimals, so that MLflow's axes stay numeric: `0.00001`, not `1e-05`."""
    if not isinstance(value, float):
        return str(value) or EMPTY
    return f"{value:.12f}".rstrip("0").rstrip(".") if 1e-6 <= abs(value) < 1e6 else f"{value:g}"
