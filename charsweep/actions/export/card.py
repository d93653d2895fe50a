"""The model card of an export: README.md, with the metadata that the hub reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

import charsweep
from charsweep.actions.export.chosen import Chosen
from charsweep.actions.export.formats import WrittenWeights
from charsweep.core.keys import short_number
from charsweep.core.store.files import write_text
from charsweep.core.system.templates import fill
from charsweep.results.labels import METRICS
from charsweep.results.points import Point
from charsweep.results.records import METRIC_ORDER
from charsweep.results.unlike import fits

SHEET = "contact_sheet.png"


def write_card(
    chosen: Chosen, weights: WrittenWeights, code: str | None, licence: str | None,
    samples: Sequence[tuple[str, str]], folder: Path,
) -> None:  # fmt: skip
    """Fill card_template.md; `samples` are names of sample images in the folder, and prompts."""
    base_model, drawing_model = chosen.base_model, chosen.drawing_model
    words = {
        "chosen": chosen,
        "images": chosen.images,
        "character": chosen.trajectory.character,
        "other": company.other if (company := chosen.trajectory.company) else None,
        "base": base_model,
        "base_title": base_model.title if base_model else "a network that knew nothing",
        "drawing_title": drawing_model.title if drawing_model else "",
        "strength": f"{chosen.strength:g}",
        "cells": chosen.record.get("plan", {}).get("cells"),
        "question": chosen.record.get("question", ""),
        "text": cell_text,
        "sheet": SHEET,
        "header": header(chosen, weights, licence, samples),
        "files": sizes(folder),
        "weights": weights,
        "kohya_name": Path(weights.kohya or "").stem,
        "elsewhere": chosen.method.elsewhere(chosen.trajectory),
        "code": code,
        "training": list(training(chosen)),
        "scores": list(scores(chosen)),
        "licence_note": licence_note(chosen, licence),
        "version": charsweep.__version__,
    }
    text = fill(Path(__file__).with_name("card_template.md"), words)
    write_text(folder / "README.md", "\n".join(without_gaps(text.splitlines())) + "\n")


def header(
    chosen: Chosen, weights: WrittenWeights, licence: str | None, samples: Sequence[tuple[str, str]]
) -> str:
    """The hub's metadata, as YAML."""
    fields: dict[str, Any] = {"tags": tags(chosen), **licence_fields(chosen, licence)}
    if chosen.base_model and chosen.base_model.hub_id:
        fields["base_model"] = chosen.base_model.hub_id
    if chosen.is_prompted:
        fields["pipeline_tag"] = "text-to-image"
        fields["instance_prompt"] = chosen.trajectory.character.instance_prompt
        fields["widget"] = [{"text": text, "output": {"url": name}} for name, text in samples]
    if weights.is_pipeline or chosen.base_model is not None:
        fields["library_name"] = "diffusers"
    return str(ModelCardData(**fields).to_yaml(line_break="\n")).rstrip()


def licence_fields(chosen: Chosen, licence: str | None) -> dict[str, str]:
    """The licence as the hub names it; without one that of the base."""
    terms = chosen.base_model.terms if chosen.base_model else None
    if terms and licence == terms.name and not terms.is_known:
        return {"license": "other", "license_name": licence}
    if licence:
        return {"license": licence}
    if chosen.base_model is None:
        return {}
    return {"license": "other", "license_name": "that-of-the-base"}


def tags(chosen: Chosen) -> list[str]:
    """Words by which the hub finds and shows such models."""
    found = ["charsweep", "character"]
    if chosen.is_prompted:
        found += ["text-to-image"]
    if chosen.base_model is not None:
        found += chosen.base_model.weights.family.tags
    return [*found, *chosen.method.tags]


def training(chosen: Chosen) -> Iterator[tuple[str, str]]:
    """What shaped the weights, and what it cost."""
    taught, cell = chosen.trajectory, chosen.cell
    yield "method", taught.method.name
    if chosen.base_model and chosen.drawing_model != chosen.base_model:
        yield "taught on", chosen.base_model.title
    if taught.teaching_adapter:
        yield "taught with", "a teaching adapter on the base, which is not among these files"
    yield "learning rate", short_number(taught.learning_rate)
    yield "training steps", str(chosen.images.snapshot.step)
    yield "batch, resolution", f"{taught.batch_size}, {taught.resolution} pixels"
    yield "optimizer, schedule", f"{taught.optimizer.name}, {taught.schedule.name}"
    yield "training seed, precision", f"{taught.seed}, {taught.precision}"
    left_out = {"base", *chosen.method.unused}
    for name, value in taught.method.settings.items():
        if name not in left_out and value is not None:
            yield name.replace("_", " "), listed(value)
    if cell.train_seconds is not None:
        yield "time of training alone", f"{cell.train_seconds:,.1f} s"
    if cell.energy_wh is not None:
        yield "energy paid here", f"{cell.energy_wh:.3g} Wh"


def listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def scores(chosen: Chosen) -> Iterator[dict[str, str]]:
    """One row per metric that applies: this cell's, the mean over training seeds, the base's."""
    exams = (one for one in chosen.record.get("exams") or ()
             if fits(chosen.cell.judged_by, [one["judged_by"]]))  # fmt: skip
    bases = next(exams, chosen.record).get("references", {}).get("base", {})
    untaught = bases.get(chosen.cell.base, {}).get("scores", {})
    known = {name: value for name, value in chosen.cell.scores.items() if value is not None}
    for name in sorted(known, key=[*METRIC_ORDER, *known].index):
        value = known[name]
        seeds = Point({}, tuple(chosen.seeds))
        span = seeds.interval(name)
        label = METRICS.get(name)
        yield {
            "name": label.short if label else name,
            "value": f"{value:.3f}",
            "mean": f"{seeds.mean(name):.3f}",
            "interval": f"{span[0]:.3f} to {span[1]:.3f}" if span else "",
            "base": "" if untaught.get(name) is None else f"{untaught[name]:.3f}",
            "meaning": label.meaning if label else "",
        }


def licence_note(chosen: Chosen, licence: str | None) -> str:
    base_model = chosen.base_model
    terms = base_model.terms if base_model else None
    if licence:
        also = ", as their base is" if terms and terms.name == licence else ""
        demands = f" {terms.demands}" if terms and terms.demands else ""
        return f"The weights are given under {licence}{also}.{demands}"
    if base_model is None:
        return "No licence has been chosen for these weights."
    return "The weights come under the licence of their base; look it up before you share them."


def sizes(folder: Path) -> list[tuple[str, int]]:
    """The files of weights and their settings, by name."""
    files = (path for path in sorted(folder.rglob("*")) if path.suffix in (".safetensors", ".json"))
    return [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]


def cell_text(text: str) -> str:
    """Text that cannot break a table or a heading, and holds no HTML."""
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace("|", r"\|").split())


def without_gaps(lines: Sequence[str]) -> Iterator[str]:
    """The lines with no more than one empty one at a time."""
    for number, line in enumerate(lines):
        if line.strip() or (number and lines[number - 1].strip()):
            yield line.rstrip()
