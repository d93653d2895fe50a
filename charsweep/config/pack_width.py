"""The width of packs, how many trials share a forward pass: as set or, for `auto`, as measured.

A width belongs to a trajectory's spec, so a measured one is remembered in the store and kept: that
a later measurement might choose otherwise must not change keys. No torch: planning asks this too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from charsweep.config.settings import Settings
from charsweep.core.cells import Cell
from charsweep.core.errors import StoreError
from charsweep.core.methods import method_of
from charsweep.core.specs import TrajectorySpec
from charsweep.core.store import Store
from charsweep.core.store.files import read_json, write_json

FILE = "widths.json"
UNMEASURED = 1  # what `action=plan` reckons with until a run has measured


def with_width(spec: TrajectorySpec, settings: Settings, store: Store) -> TrajectorySpec:
    """The trajectory with its `pack` filled in; 1 for a method whose trials train alone."""
    if method_of(spec.method).pack_key is None:
        return replace(spec, pack=1)
    wanted = settings.pack or settings.models.pack
    width = known_widths(store).get(name_of(spec), UNMEASURED) if wanted == "auto" else wanted
    return replace(spec, pack=width)


def unmeasured(
    cells: Sequence[Cell], settings: Settings, store: Store
) -> tuple[TrajectorySpec, ...]:
    """One trajectory of every kind whose width must be measured before it can train."""
    if (settings.pack or settings.models.pack) != "auto":
        return ()
    known = known_widths(store)
    kinds = {
        name_of(cell.trajectory): cell.trajectory
        for cell in cells
        if cell.is_trained and method_of(cell.trajectory.method).pack_key is not None
    }
    return tuple(spec for name, spec in kinds.items() if name not in known)


def name_of(spec: TrajectorySpec) -> str:
    """All that the time and memory of a pass depend on, but the machine."""
    shape = f"{spec.resolution}px batch {spec.batch_size} {spec.precision}"
    base = f"{spec.base.name} {spec.base.digest}" if spec.base else "no base"
    wide = " wide" if spec.company and spec.company.is_wide else ""
    return f"{base} {shape} {method_of(spec.method).pack_key}{wide}"


def known_widths(store: Store) -> dict[str, int]:
    """Measured widths by `name_of`; StoreError where their file holds none."""
    path = store.folder / FILE
    entries = read_json(path) if path.exists() else {}
    try:
        return {name: int(entry["width"]) for name, entry in entries.items()}
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        raise StoreError(
            f"{path} holds no widths; delete that file: they are measured anew"
        ) from error


def remember_width(spec: TrajectorySpec, entry: dict[str, Any], store: Store) -> None:
    """Add a measurement: `width` and whatever else explains it."""
    path = store.folder / FILE
    known = read_json(path) if path.exists() else {}
    store.folder.mkdir(parents=True, exist_ok=True)
    write_json(path, {**known, name_of(spec): entry})
