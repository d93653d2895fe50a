"""Writing `sweeps/<name>/export/<slug>/`: weights, card and sample images; whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charsweep.actions.export.adapter import check_licence, write_adapter, write_adapter_card
from charsweep.actions.export.card import SHEET, write_card
from charsweep.actions.export.chosen import Chosen, find_chosen
from charsweep.actions.export.composed import write_composed
from charsweep.actions.export.formats import write_weights
from charsweep.actions.export.push import open_hub, push
from charsweep.actions.export.usage import HERE, python_code
from charsweep.config import Sweep
from charsweep.core.columns import regional
from charsweep.core.store import Store
from charsweep.core.store.files import new_folder
from charsweep.core.store.store import image_manifest
from charsweep.core.system.console import out
from charsweep.report.figures.contact_sheets import ContactSheet, Tile
from charsweep.report.figures.sheet_png import draw_sheet

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MOST_SAMPLES = 8
MOST_ROWS, MOST_COLUMNS = 12, 6  # of the contact sheet
TILE = 160  # pixels


def export(sweep: Sweep, hub: HfApi | None = None) -> Path:
    """Write `sweeps/<name>/export/<slug>/`, push it where that is asked for, return the folder.

    `hub` stands in for the Hugging Face hub in tests. Raises `CharsweepError`: no such sweep, no
    such cell, nothing to push with.
    """
    settings, store = sweep.settings.export, Store(sweep.root)
    if settings.push and hub is None:
        hub = open_hub(settings.push)  # before anything is written
    chosen = find_chosen(sweep, store)
    final = sweep.folder / "export" / chosen.slug
    record = record_of(chosen)
    if chosen.is_foreign:
        check_licence(chosen, settings.push, settings.license)
    with new_folder(final, "export.json", record) as folder:
        samples = write_samples(chosen, store, folder)
        if chosen.adapter is not None:
            name = write_adapter(chosen, store, folder)
            write_adapter_card(chosen, name, settings.license, samples, folder)
        elif chosen.is_composed:
            write_composed(
                chosen, store, samples, licence_of(chosen, settings.license), folder,
                settings.push or HERE,
            )  # fmt: skip
        else:
            record |= write_trained(chosen, store, samples, sweep, folder)
    out(f"cell     {chosen.cell.cell}, {chosen.why}")
    terms = chosen.base_model.terms if chosen.base_model else None
    if terms and terms.demands:
        out(f"licence  {terms.demands}")
    if why := record.get("kohya_refused"):
        out(f"kohya    none: {why}")
    out(f"export   {final}")
    if settings.push and hub is not None:
        of = chosen.called or " and ".join(chosen.characters)
        pushed = push(final, settings.push, settings.private, f"{of}: {chosen.slug}", hub)
        out(f"pushed   {pushed}")
    return final


def write_trained(
    chosen: Chosen, store: Store, samples: Sequence[tuple[str, str]], sweep: Sweep, folder: Path
) -> dict[str, Any]:
    """What was trained here, with its card; what export.json says of kohya's file."""
    settings = sweep.settings.export
    licence = licence_of(chosen, settings.license)
    weights = write_weights(chosen, store, folder, licence)
    code = python_code(chosen, weights, store, settings.push or HERE)
    write_card(chosen, weights, code, licence, samples, folder)
    return {"kohya": weights.kohya, "kohya_refused": weights.refusal}


def licence_of(chosen: Chosen, asked: str | None) -> str | None:
    """The licence that was asked for, else, of what was taught here, that of the base."""
    if asked or chosen.is_foreign or chosen.base_model is None:
        return asked
    return chosen.base_model.licence


def exported(sweep: Sweep) -> Path | None:
    """Where the chosen cell has been exported to, if it has."""
    final = sweep.folder / "export" / find_chosen(sweep, Store(sweep.root)).slug
    return final if (final / "export.json").exists() else None


def write_samples(chosen: Chosen, store: Store, folder: Path) -> list[tuple[str, str]]:
    """Each prompt's first image, and a contact sheet; returns names and prompts of the former."""
    images, source = chosen.shown, store.images(chosen.shown)
    prompts = tuple(regional(prompt).whole for prompt in images.prompts)
    files = [entry["file"] for entry in image_manifest(images, 0.0)["files"]]
    width = len(images.seeds)
    (folder / "images").mkdir()
    samples = []
    for number, prompt in enumerate(prompts[:MOST_SAMPLES]):
        name = f"images/{number + 1:02d}.png"
        shutil.copyfile(source / files[number * width], folder / name)
        samples.append((name, prompt))
    sheet = ContactSheet(
        name="contact", title="", columns=tuple(f"seed {s}" for s in images.seeds[:MOST_COLUMNS]),
        rows=prompts[:MOST_ROWS],
        tiles=tuple(
            tuple(Tile(source / name) for name in files[first : first + width][:MOST_COLUMNS])
            for first in range(0, len(files), width)
        ),
    )  # fmt: skip
    draw_sheet(sheet, TILE, title=False).save(folder / SHEET)
    return samples


def record_of(chosen: Chosen) -> dict[str, Any]:
    """What export.json says."""
    return {
        "sweep": chosen.sweep,
        "cell": chosen.cell.cell,
        "why": chosen.why,
        "values": dict(chosen.cell.values),
        "scores": dict(chosen.cell.scores),
        "base": chosen.base_model.title if chosen.base_model else None,
    }
