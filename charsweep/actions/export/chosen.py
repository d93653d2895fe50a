"""The cell that is exported, with all that its card says of it.

It is the recommended cell, or the one that is named, taken as it is stored, so `name=lr_grid` alone
is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from charsweep.actions.export.licences import APACHE, LICENCES, Licence
from charsweep.actions.stored_cell import AGAIN, base_as_it_was, saved_settings, stored_images
from charsweep.config import Sweep
from charsweep.config.settings.groups import ModelsSettings
from charsweep.core.errors import ConfigError, StoreError
from charsweep.core.methods import Method, method_of
from charsweep.core.specs import (
    ADAPTER,
    BESIDE,
    AdapterSpec,
    Added,
    BaseSpec,
    ComposedSpec,
    ImageSetSpec,
    Source,
    TrajectorySpec,
    revived,
    trained_in,
)
from charsweep.core.store import Store
from charsweep.core.store.files import inside, read_json
from charsweep.core.system.names import as_title
from charsweep.models.weights import BaseWeights
from charsweep.results import CellResult, read_results
from charsweep.results.cells import TOGETHER, named_cell
from charsweep.results.recommendation import recommended_cell

EMBEDDED = "embedded:"
STRENGTHS = ("strength", "other_strength")  # of the first and the second of two adapters
REMEDY = "Name a cell with export.cell=KEY; cells.csv lists their keys."


@dataclass(frozen=True)
class BaseModel:
    """The base that a cell teaches: its name among the models, and its weights."""

    name: str
    weights: BaseWeights

    @property
    def path(self) -> str:
        """Where it comes from, as it was typed."""
        return self.weights.pipeline.name

    @property
    def is_embedded(self) -> bool:
        return self.path.startswith(EMBEDDED)

    @property
    def hub_id(self) -> str | None:
        """OWNER/NAME, unless it is embedded or somebody's own folder or file."""
        return self.path.partition("@")[0] if self.weights.pipeline.source == "hub" else None

    @property
    def title(self) -> str:
        """What a reader calls it; of somebody's folder or file only its name."""
        if self.is_embedded:
            return f"charsweep's embedded {self.name}"
        return self.hub_id or Path(self.path).name

    @property
    def terms(self) -> Licence | None:
        """Its licence, where it is known."""
        return APACHE if self.is_embedded else LICENCES.get(self.hub_id or "")

    @property
    def licence(self) -> str | None:
        return self.terms.name if self.terms else None


@dataclass(frozen=True)
class Chosen:
    """The cell, its image set, the same point with other training seeds, the sweep's record."""

    sweep: str
    record: Mapping[str, Any]
    cell: CellResult
    seeds: tuple[CellResult, ...]  # the cell itself among them
    images: ImageSetSpec
    why: str
    base_model: BaseModel | None  # None: it starts from nothing
    drawing_model: BaseModel | None  # the base that draws: the same, unless another was chosen
    is_baked: bool = False  # whether its strength is scaled into the files
    called: str = ""  # of an adapter from elsewhere: what it is called
    both: ImageSetSpec | None = None  # its pictures of two characters in one, if it draws two

    @property
    def trajectory(self) -> TrajectorySpec:
        return self.images.snapshot.trajectory

    @property
    def adapter(self) -> str | None:
        """What an adapter from elsewhere is called; None for what was trained here, or composed."""
        is_one = isinstance(self.images.snapshot.source, AdapterSpec)
        return self.called if is_one else None

    @property
    def is_foreign(self) -> bool:
        """Whether its files were made elsewhere, one or two."""
        return isinstance(self.images.snapshot.source, Added) and not self.characters

    @property
    def shown(self) -> ImageSetSpec:
        """What its card shows: pictures of both, if it draws two."""
        return self.both or self.images

    @property
    def characters(self) -> tuple[str, ...]:
        """The identifiers of all characters that were taught here."""
        trained = trained_in(self.images.snapshot.source)
        return tuple(who.identifier for one in trained for who in one.characters)

    @property
    def is_trained(self) -> bool:
        """Whether its weights were taught here, by one training."""
        return isinstance(self.images.snapshot.source, TrajectorySpec)

    @property
    def is_composed(self) -> bool:
        """Whether it is of several adapters, put together."""
        return isinstance(self.images.snapshot.source, ComposedSpec)

    @property
    def drawn_apart(self) -> tuple[str, ...]:
        """What prompts call those by whose adapters draw apart; () where none do."""
        source = self.images.snapshot.source
        return source.called if isinstance(source, ComposedSpec) else ()

    @property
    def method(self) -> Method:
        return method_of(self.trajectory.method)

    @property
    def slug(self) -> str:
        baked = f"-at{self.images.strength:g}" if self.is_baked else ""
        if self.adapter is not None:
            return f"{as_title(self.adapter)}{baked}--{self.cell.cell}"
        if self.is_composed:
            scaled = "-baked" if self.is_baked else ""
            return f"{self.images.snapshot.source.slug}{scaled}--{self.cell.cell}"
        return f"{self.trajectory.slug}-step{self.images.snapshot.step}{baked}--{self.cell.cell}"

    @property
    def strength(self) -> float:
        """What others are to set when they load the files, to draw as the sweep did."""
        return 1.0 if self.is_baked else self.images.strength

    @property
    def is_prompted(self) -> bool:
        return any(self.images.prompts)


def find_chosen(sweep: Sweep, store: Store) -> Chosen:
    """The cell that `export.cell` names, else the recommended one."""
    path = sweep.folder / "sweep.json"
    if not path.exists():
        raise StoreError(
            f"there is no sweep {sweep.name} in {sweep.folder}; run it first, or give another "
            "name= or root="
        )
    record = read_json(path)
    results = read_results(sweep.folder / "cells.jsonl")
    wanted = sweep.settings.export.cell
    if wanted is not None:
        cell, why = named_cell(results, wanted, sweep.name, "export.cell"), "named by export.cell"
    else:
        cell, why = recommended_cell(sweep.folder, results, REMEDY)
    images = stored_images(cell, store)
    if not images.strength:
        raise ConfigError(
            f"cell {cell.cell} is drawn at strength 0, by the untaught base, of which there is "
            "nothing to export; name another with export.cell=KEY"
        )
    saved, source = saved_settings(record, cell), images.snapshot.source
    assert isinstance(source, TrajectorySpec | Added)
    taught, drawing = (
        base_model_of(base, sweep, saved, path) for base in (source.base, images.drawing_base)
    )
    is_whole = isinstance(source, TrajectorySpec) and method_of(source.method).low_rank is None
    parts = source.components if isinstance(source, ComposedSpec) else (images,)
    in_part = any(one.strength != 1 for one in parts)
    return Chosen(
        sweep.name, record, cell, same_point(cell, results), images, why, taught, drawing,
        is_baked=in_part and (is_whole or sweep.settings.export.strength == "bake"),
        called=called(cell), both=pictures_of_both(cell, source, store),
    )  # fmt: skip


def called(cell: CellResult) -> str:
    """What the adapter from elsewhere is called that a cell draws with; "" for none. One of two may
    draw alone: the other's strength is 0 then."""
    names = str(cell.values.get(ADAPTER, "")).split(BESIDE)
    if len(names) == 2 and 0 in (pair := [cell.values.get(one, 1) for one in STRENGTHS]):
        return names[not pair[0]]
    return BESIDE.join(names)


def pictures_of_both(cell: CellResult, source: Source, store: Store) -> ImageSetSpec | None:
    """The image set of two in one picture, of a cell that draws two; None for any other."""
    draws_two = isinstance(source, ComposedSpec) or (
        isinstance(source, TrajectorySpec) and source.company is not None
    )
    if not draws_two or TOGETHER not in cell.parts:
        return None
    path = inside(store.folder, cell.parts[TOGETHER][0]) / "images.json"
    if not path.exists():
        return None
    found: ImageSetSpec = revived(ImageSetSpec, read_json(path, "spec")["spec"])
    return found


def same_point(cell: CellResult, results: Mapping[str, CellResult]) -> tuple[CellResult, ...]:
    """The finished cells that differ from this one in nothing but their training seed."""

    def point(result: CellResult) -> dict[str, Any]:
        return {name: value for name, value in result.values.items() if name != "seed"}

    finished = (result for result in results.values() if result.state == "finished")
    return tuple(result for result in finished if point(result) == point(cell))


def base_model_of(
    base: BaseSpec | None, sweep: Sweep, saved: Mapping[str, Any], path: Path
) -> BaseModel | None:
    """A base as the sweep was made with it; `ModelsError` if its weights are others now."""
    if base is None:
        return None
    try:
        models = ModelsSettings.model_validate(saved["models"])
    except (KeyError, pydantic.ValidationError) as error:
        raise StoreError(f"{path} was written by another version; {AGAIN}") from error
    settings = sweep.settings.model_copy(update={"models": models})
    return BaseModel(base.name, base_as_it_was(settings, base))
