"""Adapters from elsewhere as cells: their files, checked, on the base of the sweep's method."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from charsweep.character import Character
from charsweep.config.axes import plain_values
from charsweep.config.cells import cell_of
from charsweep.config.drawing import check_drawing_base, check_sampler
from charsweep.config.exam import Other, parts_as_drawn
from charsweep.config.locations import base_weights, store_of
from charsweep.config.precision import precision_of
from charsweep.config.schema import shapes_images
from charsweep.config.settings import Settings
from charsweep.core.cells import Cell, is_of_base
from charsweep.core.errors import ConfigError, ModelsError
from charsweep.core.methods import method_of
from charsweep.core.specs import ADAPTER, AdapterSpec, SnapshotSpec
from charsweep.models.adapter_source import (
    AdapterFile,
    check_changes,
    find_adapters,
    is_made_for,
    layers_on,
    told_apart,
)
from charsweep.models.weights import BaseWeights


@dataclass
class Adapters:
    """Those of a sweep: read once, and what became of each."""

    files: dict[str, AdapterFile] = field(default_factory=dict)  # by the key of their spec
    _found: dict[str, list[AdapterFile]] = field(default_factory=dict)  # by what was typed
    _refused: dict[AdapterFile, dict[str, str]] = field(default_factory=dict)  # by base
    _fitting: dict[tuple[Path, str], str | None] = field(default_factory=dict)
    _asked: dict[AdapterFile, bool] = field(default_factory=dict)  # whether any base took it

    def cells(
        self,
        axes: Mapping[str, Any],
        chosen: Mapping[str, Any],
        settings: Settings,
        character: Character,
        files: Sequence[AdapterFile] | None = None,
        other: Other | None = None,
    ) -> Iterator[Cell]:
        """Those of one combination of axes; none for what does not belong on its base.

        Of some `files` alone; `other` is who exams of two characters ask for beside this one.
        """
        if not settings.adapters:
            return
        check_drawing_base(settings)
        name = settings.sampler.base or method_of(settings.method.plugin()).base
        for file in self._files(settings) if files is None else files:
            self._asked.setdefault(file, False)
            if name is None:
                continue
            weights = base_weights(settings, name)
            if self._problem(file, weights, settings) is None:
                self._asked[file] = True
                yield from self._cells_of(file, weights, axes, chosen, settings, character, other)

    def pair(self, settings: Settings) -> Sequence[AdapterFile]:
        """The adapters of two characters in the order given; ConfigError where they are not two."""
        files = self._files(settings)
        paths = [path for own in settings.adapters for path in find_adapters(own.path, "")]
        files = sorted(files, key=lambda file: paths.index(file.path))  # not by their steps
        if len(files) != 2:
            one, other = (own.identifier for own in settings.characters)
            raise ConfigError(
                f"adapters: {len(files)} are given, and {one} and {other} are drawn with two put "
                f"together; give two, first that of {one}, as in adapters=[ONE,OTHER]"
            )
        return files

    def check(self, settings: Settings) -> None:
        """Raise `ModelsError` that names all adapters that belong on no base of the sweep."""
        lines = [self._line(file, settings) for file, is_used in self._asked.items() if not is_used]
        if lines:
            raise ModelsError("\n".join(lines))

    def _files(self, settings: Settings) -> list[AdapterFile]:
        typed = repr(settings.adapters)
        if typed not in self._found:
            found, problems = [], []
            for own in settings.adapters:
                try:
                    paths = find_adapters(own.path, f"adapters={own.path}")
                except (ConfigError, ModelsError) as error:
                    problems.append(str(error))
                    continue
                found += [AdapterFile(one, own.name or "", own.trigger) for one in paths]
            if problems:
                raise ConfigError("\n".join(problems))
            self._found[typed] = told_apart(found)
        return self._found[typed]

    def _problem(self, file: AdapterFile, weights: BaseWeights, settings: Settings) -> str | None:
        """Why a file cannot be put on a base; None where it can, or the base is not here to say.

        Bases of two kinds may be alike in size: there its header counts.
        """
        place = file.path, weights.spec.key
        if place not in self._fitting:
            self._fitting[place] = None
            try:
                if layers := layers_on(file.path, weights):
                    check_changes(file.path, layers)
                if is_made_for(file.path, weights) is False:
                    others = [base_weights(settings, name) for name in settings.models.bases]
                    if told := [o.plugin.name for o in others if is_made_for(file.path, o)]:
                        raise ModelsError(
                            f"its header says that it was made for one like {told[0]}"
                        )
            except ModelsError as error:
                self._fitting[place] = str(error)
                self._refused.setdefault(file, {})[weights.plugin.name] = str(error)
        return self._fitting[place]

    def _line(self, file: AdapterFile, settings: Settings) -> str:
        """Why an adapter is on no base of the sweep, and which of the models it belongs on."""
        given = f"adapters={file.path}"
        if not (refused := self._refused.get(file)):
            bases = ", ".join(settings.models.bases)
            return (
                f"{given}: it needs a base to be put on, and method={settings.method.name} has "
                f"none; choose one of {bases}, as in method=lora method.base=NAME"
            )
        name, why = next(iter(refused.items()))
        others = [other for other in settings.models.bases if other not in refused]
        fits = [
            other for other in others
            if self._problem(file, base_weights(settings, other), settings) is None
        ]  # fmt: skip
        setting = "sampler.base" if settings.sampler.base else "method.base"
        remedy = (
            f"it belongs on {fits[0]}: set {setting}={fits[0]}, and compare adapters of another "
            "base in a sweep of their own, with another name=NAME"
            if fits
            else "take it out, or give the base that it was taught on, as in "
            f"models.bases.{name}.path=PATH"
        )
        return f"{given}: it cannot be put on {name}: {why}; {remedy}"

    def _cells_of(
        self, file: AdapterFile, weights: BaseWeights, axes: Mapping[str, Any],
        chosen: Mapping[str, Any], settings: Settings, character: Character, other: Other | None,
    ) -> Iterator[Cell]:  # fmt: skip
        spec = AdapterSpec(file.digest, weights.spec)
        self.files.setdefault(spec.key, file)
        check_sampler(weights, settings)
        own = settings.models.bases[weights.plugin.name]
        template = cell_of(
            settings, character, SnapshotSpec(spec, 0), settings.resolution or own.resolution,
            precision_of(settings, store_of(settings)), identifier=file.trigger or "", other=other,
        )  # fmt: skip
        name = {"method": ADAPTER, ADAPTER: file.name}
        steps = {} if file.run_steps is None else {"train_steps": file.run_steps}
        others = {axis: value for axis, value in chosen.items() if matters(axis, weights)}
        if "method" in axes:  # whose values may have bases of their own
            others.setdefault("method.base", weights.plugin.name)
        made = file.making | ({"trigger": file.trigger} if file.trigger else {})
        spans = (plain_values(name, axes, settings) for name in ("inference_steps", "strength"))
        for inference, strength in itertools.product(*spans):
            images = replace(template.images, inference_steps=inference, strength=strength)
            drawn = {"inference_steps": inference}
            drawn |= {"strength": strength} if strength != 1 or "strength" in axes else {}
            yield replace(
                template,
                values={**name, **steps, **drawn, **others},
                images=images,
                parts=parts_as_drawn(template.parts, images),
                made=made,
            )


def matters(axis: str, weights: BaseWeights) -> bool:
    """Whether a setting makes any difference to images that an adapter draws on a base."""
    if axis.startswith("models.bases."):
        return is_of_base(axis, weights.plugin.name)
    return shapes_images(axis)
