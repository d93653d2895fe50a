"""An export of what was composed: each adapter in a folder of its own, and a card for both."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

import charsweep
from charsweep.actions.export.card import SHEET, cell_text, scores, sizes, without_gaps
from charsweep.actions.export.chosen import Chosen
from charsweep.actions.export.formats import write_weights
from charsweep.actions.export.usage import base_lines, drawn, in_order
from charsweep.core.specs import ADAPTER, BESIDE, ComposedSpec
from charsweep.core.store import Store
from charsweep.core.store.files import write_text
from charsweep.core.system.names import as_title
from charsweep.core.system.templates import fill
from charsweep.models.composition import files_in


def alone(chosen: Chosen) -> list[Chosen]:
    """Each of the adapters, as if it had been chosen by itself, at its own strength."""
    source = chosen.images.snapshot.source
    assert isinstance(source, ComposedSpec)
    return [
        replace(
            chosen,
            images=replace(chosen.images, snapshot=one.snapshot, strength=one.strength),
            is_baked=False,
        )
        for one in source.components
    ]


def write_composed(
    chosen: Chosen, store: Store, samples: Sequence[tuple[str, str]], licence: str | None,
    folder: Path,
) -> None:  # fmt: skip
    """Write both adapters and README.md, which says how they are put together."""
    named = dict(zip(names_of(chosen), alone(chosen), strict=True))
    for name, one in named.items():
        (folder / name).mkdir()
        if one.is_trained:
            write_weights(one, store, folder / name, licence)
        else:
            snapshot = store.snapshot(one.images.snapshot)
            for file in files_in(snapshot):
                shutil.copyfile(file, folder / name / file.name)
    assert chosen.base_model is not None
    family = chosen.base_model.weights.family
    fields: dict[str, Any] = {
        "tags": ["charsweep", "character", "text-to-image", *family.tags],
        "pipeline_tag": "text-to-image",
        "library_name": "diffusers",
        "widget": [{"text": text, "output": {"url": image}} for image, text in samples],
        "license": licence or "other",
        **({"base_model": chosen.base_model.hub_id} if chosen.base_model.hub_id else {}),
    }
    words = {
        "chosen": chosen,
        "images": chosen.images,
        "adapters": [(name, f"{one.images.strength:g}") for name, one in named.items()],
        "base_title": chosen.base_model.title,
        "code": code(chosen, named),
        "files": sizes(folder),
        "scores": list(scores(chosen)),
        "text": cell_text,
        "sheet": SHEET,
        "header": str(ModelCardData(**fields).to_yaml(line_break="\n")).rstrip(),
        "licence": licence,
        "version": charsweep.__version__,
    }
    text = fill(Path(__file__).with_name("composed_card_template.md"), words)
    write_text(folder / "README.md", "\n".join(without_gaps(text.splitlines())) + "\n")


def names_of(chosen: Chosen) -> list[str]:
    """The folders of the adapters in the export: by whom they draw, or as they were called."""
    if ADAPTER in chosen.cell.values:
        return [as_title(name) for name in str(chosen.cell.values[ADAPTER]).split(BESIDE)]
    return [as_title(name) for name in chosen.characters]


def code(chosen: Chosen, named: dict[str, Chosen]) -> str:
    """Python that draws with both; the last line assigns `image`."""
    assert chosen.drawing_model is not None
    imports, base = base_lines(chosen.drawing_model)
    loads = [f'pipeline.load_lora_weights("{name}", adapter_name="{name}")' for name in named]
    strengths = [float(f"{one.images.strength:g}") for one in named.values()]
    put_on = f"pipeline.set_adapters({list(named)}, {strengths})"
    prompt = chosen.images.prompts[0]
    return "\n".join([*in_order(imports), "", *base, *loads, put_on, drawn(chosen, prompt)])
