"""The variants of a sweep: settings whose models, character or exam are not those of its others.

Most sweeps have one. Cells of several may have no measure in common: `CellResult.judged_by` tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from charsweep.character import (
    Character,
    Companion,
    Pictures,
    cut_masks,
    load_character,
    load_class_images,
    load_held_out,
    load_joint_images,
    load_truth,
    without_drawings,
)
from charsweep.config.settings import Settings
from charsweep.config.settings.groups import CharacterSettings
from charsweep.core.cells import Cell
from charsweep.core.errors import ConfigError
from charsweep.core.specs import PLACE, CharacterSpec
from charsweep.models.weights import find_folder

VARIED = ("models", "character", "exam")  # the groups whose axes make variants
PART = "part"  # the axis that tells the parts of a sweep apart
OF_CELLS = (
    *VARIED,
    "characters",
    "attributes",
    "metric",
    "encoder",
    "references",
)  # settings in which they differ


@dataclass(frozen=True)
class Variant:
    """Settings, the values of the axes that they are for, and the character that they name."""

    values: Mapping[str, Any]
    settings: Settings
    character: Character

    @property
    def words(self) -> str:
        """The values as they are typed; empty for the only variant of a sweep."""
        return " ".join(f"{axis}={value}" for axis, value in self.values.items())

    def has(self, cell: Cell) -> bool:
        """Whether a cell is of this variant, as far as the values tell."""
        return self.values.items() <= cell.values.items()


@dataclass
class Variants:
    """Those of a sweep in their order; what their characters hold is read once."""

    known: dict[str, Variant] = field(default_factory=dict)
    _characters: dict[str, Character] = field(default_factory=dict)
    _truths: dict[str, Pictures | None] = field(default_factory=dict)
    _companions: dict[str, Companion] = field(default_factory=dict)

    def of(self, chosen: Mapping[str, Any], settings: Settings) -> Variant:
        """The variant of one combination of axes. Raises `CharacterError`, `ConfigError`."""
        values = {
            axis: value
            for axis, value in chosen.items()
            if axis == PART or axis.partition(".")[0] in VARIED
        }
        key = f"{values} {kind_of(settings)}"
        if key not in self.known:
            own = self._loaded(settings.character, settings.exam.prompts)
            self.known[key] = Variant(values, settings, own)
        return self.known[key]

    def __iter__(self) -> Iterator[Variant]:
        return iter(self.known.values())

    @property
    def unlike(self) -> list[Variant]:
        """One of each kind of settings."""
        return list({kind_of(one.settings): one for one in reversed(list(self))}.values())[::-1]

    @property
    def characters(self) -> list[Character]:
        return list(dict.fromkeys(one.character for one in self))

    @property
    def companions(self) -> list[Companion]:
        """Those that were asked for."""
        return list(self._companions.values())

    def companion(self, settings: Settings) -> Companion | None:
        """The other of two characters; None where there is one. Raises `CharacterError`."""
        if not settings.characters:
            return None
        one, other = settings.characters
        company = settings.company if settings.is_together and settings.train else None
        shown = (company.composes, company.joint_share and company.joint_images) if company else ()
        asked = settings.exam.of_second.prompts
        key = f"{one.model_dump_json()} {other.model_dump_json()} {asked} {shown}"
        if key not in self._companions:
            found = Companion(self._loaded(other, asked))
            if company and company.composes:
                both = (self._loaded(one, settings.exam.prompts), found.other)
                cut = [cut_masks(loaded) for loaded in both if loaded.spec.kind != PLACE]
                found = replace(found, cut=tuple(cut))
            elif company and company.joint_share and company.joint_images is not None:
                folder = find_folder(company.joint_images)
                joint = load_joint_images(folder, one.identifier, other.identifier)
                found = replace(found, joint=joint)
            self._companions[key] = found
        return self._companions[key]

    def _loaded(self, chosen: CharacterSettings, prompts: Sequence[str]) -> Character:
        """A character, with the true pictures of prompts."""
        own = chosen.model_dump_json()
        if own not in self._characters:
            self._characters[own] = load(chosen)
        asked = f"{chosen.truth} {prompts}"
        if asked not in self._truths:
            self._truths[asked] = true_pictures(chosen, prompts)
        return replace(self._characters[own], truth=self._truths[asked])


def kind_of(settings: Settings) -> str:
    """All in which variants may differ, as text."""
    return settings.model_dump_json(include=set(OF_CELLS))


def character_of(settings: Settings) -> Character:
    """The chosen character, loaded and checked. Raises `CharacterError`."""
    return Variants().of({}, settings).character


def load(chosen: CharacterSettings) -> Character:
    """A character without the true pictures, which belong to an exam."""
    words = (chosen.identifier, chosen.class_noun, chosen.instance_prompt, chosen.class_prompt)
    if chosen.images is None:
        loaded = without_drawings(CharacterSpec(chosen.name, (), (), *words))
    else:
        loaded = load_character(
            chosen.name, find_folder(chosen.images), *words, chosen.masks,
            held_out=chosen.held_out if isinstance(chosen.held_out, int) else 0,
        )  # fmt: skip
    loaded = replace(loaded, spec=replace(loaded.spec, kind=chosen.kind))
    if isinstance(chosen.held_out, str):
        loaded = replace(loaded, held_out=load_held_out(find_folder(chosen.held_out)))
    if chosen.class_images is not None:
        own = load_class_images(
            find_folder(chosen.class_images), chosen.class_prompt, chosen.identifier
        )
        loaded = replace(loaded, class_images=own)
    return loaded


def true_pictures(chosen: CharacterSettings, prompts: Sequence[str]) -> Pictures | None:
    """The true pictures of the exam's prompts; None without, or where they are of others."""
    if chosen.truth is None:
        return None
    folder = find_folder(chosen.truth)
    try:
        asked = (folder / "prompts.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"character.truth={chosen.truth}: cannot read its prompts.txt ({error}); "
            "write there the exam's prompts, one per line, or set character.truth=null"
        ) from error
    return load_truth(folder, len(asked)) if asked == list(prompts) else None
