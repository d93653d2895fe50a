"""A sweep and the store in, what `sweep.json` says out: asked, compared with, planned, run on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from charsweep.config import Axes, Part, Range, Sweep
from charsweep.config.settings import ALWAYS
from charsweep.core.keys import canonical, canonical_json
from charsweep.core.specs import Cell, ImageSetSpec, examined
from charsweep.core.store import Store
from charsweep.core.store.files import read_json
from charsweep.core.system.redact import redacted_all
from charsweep.results import CellResult
from charsweep.results.cells import judged_by, stored_scores, values_of


def new_record(sweep: Sweep, store: Store, plan: Mapping[str, Any]) -> dict[str, Any]:
    """What is known before anything is run."""
    settings, example = sweep.settings, examined(sweep.examples)
    search = settings.search
    return {
        "name": sweep.name,
        "question": settings.question,
        "command": sweep.command,
        "started": now(),
        "finished": None,
        "stopped": None,  # when, and how much was finished, if it was not whole
        "reported": None,  # the time of `finished` that the report is of
        "axes": _plain(sweep.axes),
        "fixed": _fixed(sweep.axes, sweep.examples),
        "parts": {part.name: _part(part) for part in sweep.parts},
        "search": None if settings.is_grid else canonical(search.model_dump()),
        "settings": redacted_all(canonical(sweep.resolved)),
        "objectives": [
            {"metric": metric, "direction": direction}
            for metric, direction in settings.objectives.items()
        ],
        "metrics": list(settings.metric),
        "character": {
            "name": sweep.character.spec.name,
            "identifier": sweep.character.spec.identifier,
            "class_noun": sweep.character.spec.class_noun,
            "images": [str(path) for path in sweep.character.paths],
            "captions": list(sweep.character.spec.captions),
        },
        "exam": {
            "prompts": list(example.images.prompts),
            "seeds": list(example.images.seeds),
        },
        "judged_by": _distinct(judged_by(cell) for cell in sweep.examples),
        "references": references(
            sweep, store, known_record(sweep).get("references", {}).get("real")
        ),
        "needs": needs(sweep),
        "plan": dict(plan),
        "importance": {},
        "energy": None,
        "environment": {},
    }


def _distinct(known: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    return list({canonical_json(one): one for one in known}.values())


def _plain(axes: Axes) -> dict[str, Any]:
    return {
        name: axis.model_dump() if isinstance(axis, Range) else list(axis)
        for name, axis in axes.items()
    }


def _fixed(axes: Axes, cells: Sequence[Cell]) -> dict[str, Any]:
    first = cells[0].values
    return {name: first[name] for name in ALWAYS if name in first and name not in axes}


def _part(part: Part) -> dict[str, Any]:
    return {
        "question": part.question,
        "axes": _plain(part.axes),
        "fixed": _fixed(part.axes, part.cells),
        "cells": [cell.key for cell in part.cells],
    }


def needs(sweep: Sweep) -> dict[str, list[str]]:
    """The keys of all that the store has, or will have, for this sweep; a search adds to them."""
    images = [one for cell in sweep.examples for one in cell.image_sets]
    if sweep.settings.search.is_race:
        images += [begun for cell in sweep.examples for begun in cell.images.beginnings]
    images += [sweep.truth] if sweep.truth else []
    return {
        "sources": sorted({one.snapshot.source.key for one in images}),
        "images": sorted({one.key for one in images}),
    }


def references(sweep: Sweep, store: Store, real: dict[str, float] | None) -> dict[str, Any]:
    """Scores of the untaught bases, of the true pictures, and of the training images themselves."""
    bases: dict[str, Any] = {}
    for cell in sweep.examples:
        name = cell.trajectory.base_name
        if cell.untaught_set and name not in bases and store.has_images(cell.untaught_set):
            bases[name] = _scored(cell, cell.untaught_set, store)
    truth = None
    if sweep.truth is not None and store.has_images(sweep.truth):
        truth = _scored(examined(sweep.examples), sweep.truth, store)
    return {"base": bases, "truth": truth, "real": real or {}}


def _scored(cell: Cell, images: ImageSetSpec, store: Store) -> dict[str, Any]:
    """Scores of a reference set, and what its identity and its prompts were measured by."""
    found = stored_scores(cell, images, store)
    return {
        "scores": values_of(found),
        "measured": {
            name: found.get(name, {}).get("details", {}) for name in ("identity", "prompt")
        },
        "images": store.relative(store.images(images)),
    }


def known_record(sweep: Sweep) -> dict[str, Any]:
    """What an earlier command wrote to sweep.json; empty if there was none."""
    path = sweep.folder / "sweep.json"
    known: dict[str, Any] = read_json(path) if path.exists() else {}
    return known


def in_order(sweep: Sweep, results: Mapping[str, CellResult]) -> list[CellResult]:
    """A grid's cells as asked for, then those of earlier commands; a search's by trial."""
    if not sweep.cells:
        return sorted(results.values(), key=lambda one: (one.trial or 0, one.step))
    asked = [results[cell.key] for cell in sweep.cells if cell.key in results]
    places = {canonical_json(cell.values) for cell in sweep.cells}
    # A cell of another key in the same place is what an earlier version made of it.
    others = (one for one in results.values() if canonical_json(one.values) not in places)
    return [*asked, *others]


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
