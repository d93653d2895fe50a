"""An exported adapter from elsewhere: its file as it came, and a card of how it did here."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

import charsweep
from charsweep.actions.export.card import SHEET, cell_text, scores, without_gaps
from charsweep.actions.export.chosen import Chosen
from charsweep.core.errors import ConfigError
from charsweep.core.store import Store
from charsweep.core.store.files import write_text
from charsweep.core.system.names import as_title
from charsweep.core.system.templates import fill
from charsweep.models.adapter_file import ADAPTER_FILE
from charsweep.models.foreign_adapter import CONFIG, FILES
from charsweep.models.scale_adapter import scale_adapter
from charsweep.results.labels import made_label, value_text


def write_adapter(chosen: Chosen, store: Store, folder: Path) -> str:
    """Copy the file that the sweep drew with, scaled where that is asked for; its name.

    With peft's settings beside it, it keeps peft's name, by which they are found.
    """
    snapshot = store.snapshot(chosen.images.snapshot)
    has_settings = (snapshot / CONFIG).exists()
    name = FILES[2] if has_settings else f"{as_title(str(chosen.adapter))}.safetensors"
    shutil.copyfile(snapshot / ADAPTER_FILE, folder / name)
    if has_settings:
        shutil.copyfile(snapshot / CONFIG, folder / CONFIG)
    if chosen.is_baked:
        scale_adapter(folder / name, chosen.images.strength)
    return name


def write_adapter_card(
    chosen: Chosen, name: str, licence: str | None, samples: Sequence[tuple[str, str]], folder: Path
) -> None:
    """Fill adapter_card_template.md; `samples` are names of sample images, and prompts."""
    assert chosen.base_model is not None
    fields: dict[str, Any] = {
        "tags": ["charsweep", "character", "text-to-image", *chosen.base_model.weights.family.tags],
        "pipeline_tag": "text-to-image",
        "widget": [{"text": text, "output": {"url": image}} for image, text in samples],
        **({"license": licence} if licence else {}),
        **({"base_model": chosen.base_model.hub_id} if chosen.base_model.hub_id else {}),
    }
    words = {
        "chosen": chosen,
        "images": chosen.images,
        "name": name,
        "stem": Path(name).stem,
        "adapter": chosen.adapter,
        "base_title": chosen.base_model.title,
        "trigger": chosen.cell.made.get("trigger"),
        "made": [(made_label(key), value_text(key, own)) for key, own in chosen.cell.made.items()],
        "cells": chosen.record.get("plan", {}).get("cells"),
        "question": chosen.record.get("question", ""),
        "scores": list(scores(chosen)),
        "text": cell_text,
        "sheet": SHEET,
        "header": str(ModelCardData(**fields).to_yaml(line_break="\n")).rstrip(),
        "licence": licence,
        "version": charsweep.__version__,
    }
    text = fill(Path(__file__).with_name("adapter_card_template.md"), words)
    write_text(folder / "README.md", "\n".join(without_gaps(text.splitlines())) + "\n")


def check_licence(chosen: Chosen, push: str | None, licence: str | None) -> None:
    """ConfigError before somebody else's adapter is published under no licence."""
    if push and licence is None:
        raise ConfigError(
            f"export.push={push}: {chosen.called} was made elsewhere; see under which licence, "
            "and set export.license= to that, or leave export.push out"
        )
