"""A sweep and the store in, what `sweep.json` says out: asked, compared with, planned, run on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from charsweep.config import Axes, Part, Range, Sweep
from charsweep.config.axes import ALWAYS
from charsweep.config.variants import PART, VARIED
from charsweep.core.cells import Cell, examined, with_truth
from charsweep.core.keys import canonical, canonical_json
from charsweep.core.specs import CharacterSpec, ExamSpec, ImageSetSpec
from charsweep.core.store import Store
from charsweep.core.store.files import read_json
from charsweep.core.system.redact import redacted_all
from charsweep.results import CellResult
from charsweep.results.cells import judged_by, stored_scores, values_of
from charsweep.results.labels import listing, value_text
from charsweep.results.unlike import fits, groups


def new_record(sweep: Sweep, store: Store, plan: Mapping[str, Any]) -> dict[str, Any]:
    """What is known before anything is run."""
    settings, example = sweep.settings, examined(sweep.examples)
    search, known = settings.search, known_record(sweep)
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
        "metrics": list(settings.reported),
        **_asked(example, [*(cell.character for cell in sweep.examples), *_others(sweep)], sweep),
        "judged_by": [own for own, _ in _by_measure(sweep)],
        "variants": _variants(sweep),
        **compared_with(sweep, store, lambda at, _: _real(known, at)),
        "needs": needs(sweep, known.get("needs") or {}),
        "plan": dict(plan),
        "importance": {},
        "energy": None,
        "environment": {},
    }


def _by_measure(sweep: Sweep) -> list[tuple[dict[str, str], list[Cell]]]:
    """The different things that cells are judged by, and the cells."""
    of_exams: dict[int, list[Cell]] = {}  # one for all cells of a combination of axes
    for cell in sweep.examples:
        of_exams.setdefault(id(cell.exam), []).append(cell)
    found: dict[str, tuple[dict[str, str], list[Cell]]] = {}
    for cells in of_exams.values():
        own = judged_by(cells[0])
        found.setdefault(canonical_json(own), (own, []))[1].extend(cells)
    return list(found.values())


def _asked(example: Cell, taught: Iterable[CharacterSpec], sweep: Sweep) -> dict[str, Any]:
    """Whom the drawings show, and what the exam asks of them."""
    specs = list(dict.fromkeys(taught))
    known = (*sweep.variants.characters, *(one.other for one in sweep.variants.companions))
    files = {one.spec: one.paths for one in known}
    drawn = {
        str(path): caption
        for spec in specs
        for path, caption in zip(files[spec], spec.captions, strict=True)
    }
    names = list(dict.fromkeys(spec.identifier for spec in specs))
    nouns = list(dict.fromkeys(spec.class_noun for spec in specs))
    return {
        "character": {
            "name": specs[0].name,
            "identifier": listing(names),
            "class_noun": nouns[0] if len(nouns) == 1 else "",
            "images": list(drawn),
            "captions": list(drawn.values()),
        },
        "exam": {
            "prompts": list(example.images.prompts),
            "seeds": list(example.images.seeds),
        },
    }


def _others(sweep: Sweep) -> Iterator[CharacterSpec]:
    """Those who are taught beside the characters that cells are examined in."""
    return (companion.other.spec for companion in sweep.variants.companions)


def _variants(sweep: Sweep) -> list[dict[str, Any]]:
    """Settings by the values of the axes that they are for; none where all cells have the same."""
    if len(sweep.variants.unlike) < 2:
        return []
    groups = ("models", "character", "characters", "references")
    return [
        {
            "values": dict(variant.values),
            **{name: redacted_all(canonical(variant.settings.model_dump(by_alias=True)[name]))
               for name in groups},
        }
        for variant in sweep.variants
    ]  # fmt: skip


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


def needs(sweep: Sweep, known: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The keys of all that the store has, or will have, for this sweep; a search adds the sources
    that it comes to work on to what is `known`."""
    images = [one for cell in sweep.examples for one in cell.image_sets]
    if sweep.settings.search.is_race:
        images += [begun for cell in sweep.examples for begun in cell.images.beginnings]
    images += [truth for _, truth in with_truth(sweep.examples)]
    begun = () if sweep.cells else known.get("sources", ())
    return {
        "sources": sorted({one.snapshot.source.key for one in images}.union(begun)),
        "images": sorted({one.key for one in images}),
    }


Real = Callable[[int, ExamSpec], Mapping[str, float]]  # of an exam, by its place and itself


def compared_with(sweep: Sweep, store: Store, real: Real) -> dict[str, Any]:
    """The references of the cells; where not all compare, each exam with its character and its own
    references. `real` says how training images score among themselves."""
    measures = _by_measure(sweep)
    found = groups(own for own, _ in measures)
    cells_of = [
        [cell for own, cells in measures if fits(own, [one]) for cell in cells] for one in found
    ]
    names = _names(cells_of)
    exams = []
    for at, (one, name, cells) in enumerate(zip(found, names, cells_of, strict=True)):
        example = examined(cells)
        exams.append({
            "name": name,
            "judged_by": one,
            **_asked(example, [cell.character for cell in cells], sweep),
            "references": _references(cells, store, real(at, example.exam)),
        })  # fmt: skip
    if len(exams) == 1:
        return {"references": exams[0]["references"], "exams": []}
    return {"references": {"base": {}, "truth": None, "real": {}}, "exams": exams}


def _real(known: Mapping[str, Any], at: int) -> Mapping[str, float]:
    """What an earlier command knew of the training images of an exam."""
    exams = known.get("exams") or [known]
    references = exams[at].get("references") or {} if at < len(exams) else {}
    return references.get("real") or {}


def _names(cells_of: Sequence[Sequence[Cell]]) -> list[str]:
    """What cells that compare have in common and others have not, as far as axes tell."""
    told: list[dict[str, list[Any]]] = []
    for cells in cells_of:
        values: dict[str, dict[Any, None]] = {}
        for cell in cells:
            for axis, value in cell.values.items():
                if axis == PART or axis.partition(".")[0] in VARIED:
                    values.setdefault(axis, {})[value] = None
        told.append({axis: list(own) for axis, own in values.items()})
    names = []
    for at, own in enumerate(told, start=1):
        differing = {axis: v for axis, v in own.items() if any(o.get(axis) != v for o in told)}
        texts = [f"{axis} {listing([value_text(axis, one) for one in v])}"
                 for axis, v in differing.items()]  # fmt: skip
        names.append(" · ".join(texts) or f"exam {at}")
    return names


def _references(cells: Sequence[Cell], store: Store, real: Mapping[str, float]) -> dict[str, Any]:
    """Scores of the untaught bases, of the true pictures, and of the training images themselves."""
    bases: dict[str, Any] = {}
    for cell in cells:
        name = cell.base_label
        if cell.untaught_set and name not in bases and store.has_images(cell.untaught_set):
            bases[name] = _scored(cell, cell.untaught_set, store)
    truths = [
        _scored(cell, truth, store) for cell, truth in with_truth(cells) if store.has_images(truth)
    ]
    return {"base": bases, "truth": truths[0] if truths else None, "real": dict(real)}


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
