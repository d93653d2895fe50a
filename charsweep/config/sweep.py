"""The `Sweep`: what was asked, checked and frozen.

What is composed (`compose`) and checked (`checks`) is turned into specs. A cell whose axes name
another file of a config group (`method=lora`) or a field inside one (`method.rank=8`) is composed
anew with that override, once per combination; the plain numbers (lr, train_steps, inference_steps,
…) are filled in directly. A part of a sweep is composed as if its words had been typed.
Combinations whose models, character or exam are others make variants (`variants`).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from charsweep.character import Character, Drawings, drawings_of
from charsweep.config.adapters import Adapters
from charsweep.config.axes import PLAIN_AXES, Axes, axes_of, leaves, with_seeds
from charsweep.config.checks import check_raw
from charsweep.config.company_cells import from_elsewhere, strengths_of, trained
from charsweep.config.compose import Composing, combinations_of, compose_words, with_search_path
from charsweep.config.cut_texts import CutText, cut_texts
from charsweep.config.find import axes_over, kinds_of
from charsweep.config.locations import base_weights, encoders_of, store_of, teaching_file
from charsweep.config.meaning import meaning_of
from charsweep.config.pack_width import unmeasured
from charsweep.config.settings import Settings
from charsweep.config.settings.search import Range
from charsweep.config.variants import PART, VARIED, Variants
from charsweep.core.cells import Cell
from charsweep.core.errors import ConfigError, ModelsError, shown
from charsweep.core.keys import canonical_json
from charsweep.core.specs import ADAPTER, EncoderSpec, TrajectorySpec
from charsweep.core.system.console import command, spell
from charsweep.core.system.redact import redacted
from charsweep.models.adapter_source import AdapterFile
from charsweep.models.weights import BaseWeights, Weights

MOST_CELLS = 200_000  # of a grid: half of that is planned in about a minute
RACED_SEEDS = 8  # exam seeds that are proposed for a race
SETTING = re.compile(r"[a-z]\w*(\.[\w-]+)*", re.ASCII)


@dataclass(frozen=True)
class Part:
    """One question of a sweep: what varies in it, and the cells that answer it."""

    name: str
    question: str
    axes: Axes
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Sweep:
    """What was asked: the settings, the axes and the cells they span."""

    typed: tuple[str, ...]  # the words of the command line
    settings: Settings
    resolved: Mapping[str, Any]  # the composed configuration as plain data, for the record
    axes: Axes
    parts: tuple[Part, ...]  # () unless it is made of several
    variants: Variants  # one, unless models, character or exam vary
    cells: tuple[Cell, ...]  # (): an adaptive search chooses them
    examples: tuple[Cell, ...]  # the cells, or what those of a search will be like
    bases: Mapping[str, BaseWeights]  # by the key of their spec
    encoders: Mapping[EncoderSpec, Weights]
    adapters: Mapping[str, AdapterFile]  # from elsewhere, by the key of their spec
    cut: tuple[CutText, ...]  # captions and prompts of which the end is not read
    unmeasured: tuple[TrajectorySpec, ...]  # kinds whose width of packs is left to measurement
    meaning: Mapping[str, Any]  # what must stay the same for the study to go on
    stopped: tuple[Cell, ...] = ()  # that are worked on no further, and none of the cells
    teaching_adapters: Mapping[str, Path] = field(default_factory=dict)  # by digest

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def character(self) -> Character:
        """The character, or the first of several."""
        return self.variants.characters[0]

    @cached_property
    def drawings(self) -> Drawings:
        """The files of all characters."""
        return drawings_of(self.variants.characters, self.variants.companions)

    @cached_property
    def root(self) -> Path:
        """The folder that everything is written below, absolute."""
        return store_of(self.settings).root

    @property
    def folder(self) -> Path:
        """Where the sweep's own record lies; its results are in the store."""
        return self.root / "sweeps" / self.name

    @property
    def command(self) -> str:
        """The command as typed, quoted for a shell, without secrets."""
        return redacted(command(self.typed))

    def is_typed(self, name: str) -> bool:
        """Whether a setting stands on the command line, rather than in a file."""
        return any(word.lstrip("+").partition("=")[0] == name for word in self.typed)

    def cell_at(self, values: Mapping[str, Any]) -> Cell:
        """The one cell with these values of the axes."""
        with Composing():
            return _cell_at(self._words, values, self.settings, self.variants)

    @cached_property
    def _words(self) -> list[str]:
        return with_search_path(self.typed)


def load_sweep(overrides: Sequence[str]) -> Sweep:
    """Compose and check; ConfigError names everything that is wrong at once."""
    typed, words = tuple(overrides), with_search_path(overrides)
    with Composing():
        raw = compose_words(words)
        first = check_raw(raw)
        variants, adapters = Variants(), Adapters()
        try:
            parts = _told_apart(_parts(words, raw, first, variants, adapters), variants)
            adapters.check(first)
            whole = _union(first, parts)
            kinds = kinds_of(first) if first.find else _kinds(whole.axes)
            examples = whole.cells or tuple(
                _cell_at(words, values, first, variants) for values in kinds
            )
        except ModelsError as error:
            raise _with_encoders(error, first) from error
    bases = _bases_of(examples, variants)
    drawings = drawings_of(variants.characters, variants.companions)
    encoders = dict(
        pair for variant in variants.unlike for pair in encoders_of(variant.settings).values()
    )
    return Sweep(
        typed=typed,
        settings=first,
        resolved=raw,
        axes=whole.axes,
        parts=parts if first.parts else (),
        variants=variants,
        cells=whole.cells,
        examples=examples,
        bases=bases,
        encoders=encoders,
        adapters=adapters.files,
        cut=cut_texts(examples, drawings, bases, encoders),
        unmeasured=unmeasured(examples, first, store_of(first)),
        meaning=meaning_of(variants, examples, whole.axes),
        teaching_adapters=_teaching_adapters(variants),
    )


def _bases_of(cells: Sequence[Cell], variants: Variants) -> dict[str, BaseWeights]:
    """The weights of the bases that cells start from or draw with, by the key of their spec."""
    used = {base.key: base.name for cell in cells for base in (cell.base, cell.images.base) if base}
    found = {}
    for name in sorted(set(used.values())):
        for variant in variants.unlike:
            if name in variant.settings.models.bases:
                weights = base_weights(variant.settings, name)
                found[weights.spec.key] = weights
    return {key: weights for key, weights in found.items() if key in used}


def _teaching_adapters(variants: Variants) -> dict[str, Path]:
    """The files of adapters that are on bases while these are taught, by digest."""
    found = (
        teaching_file(variant.settings, name)
        for variant in variants.unlike
        for name in variant.settings.models.bases
    )
    return {digest: file for file, digest in filter(None, found)}


def _with_encoders(error: ModelsError, settings: Settings) -> ModelsError:
    """The error and what is wrong with the encoders too, so that all is fetched at one go."""
    try:
        encoders_of(settings)
    except ModelsError as other:
        problems = dict.fromkeys((*str(error).splitlines(), *str(other).splitlines()))
        return ModelsError("\n".join(problems))
    return error


# -- parts -----------------------------------------------------------------------------------------


def _parts(
    words: Sequence[str], raw: Mapping[str, Any], settings: Settings, variants: Variants,
    adapters: Adapters, place: str = "",
) -> tuple[Part, ...]:  # fmt: skip
    """The parts of a composed sweep; an ordinary one is its own only part. `place` is the part of
    the whole that it belongs to."""
    if not settings.parts:
        axes = with_seeds(axes_of(settings, raw), settings)
        _check_size(axes, settings)
        axes |= axes_over(settings) if settings.find else {}
        cells: tuple[Cell, ...] = ()
        if settings.is_grid:
            of_part = {PART: place} if place else {}
            if not (settings.train or settings.adapters):
                raise ConfigError(
                    "adapters=[]: nothing is trained (train=false), so there is nothing to "
                    "compare; give files, folders or patterns, as in "
                    "'adapters=[mine.safetensors,runs/*.safetensors]'"
                )
            made: list[Cell] = []
            for chosen, one in combinations_of(words, axes, settings):
                character = variants.of({**of_part, **chosen}, one).character
                companion = variants.companion(one)
                made += trained(axes, chosen, one, character, companion) if one.train else ()
                made += from_elsewhere(adapters, axes, chosen, one, character, companion)
            cells = tuple(made)
            axes |= _names_of(cells) | strengths_of(cells)
            if settings.search.is_race and cells:
                _check_race(cells)
        return (Part(settings.name, settings.question, axes, _distinct(cells)),)
    parts = []
    for name, own in settings.parts.items():
        # a part that is a sweep of its own takes the place of this one; any other adds to it
        alone = "sweep" in own
        left = [word for word in words if not _is_for_whole(word, alone)]
        inner = [*_words_of(own), *left]
        composed = compose_words(inner)
        part = check_raw(composed)
        if not alone:
            part = part.model_copy(update={"parts": {}})
        _agree(name, part, settings)
        whole = _union(part, _parts(inner, composed, part, variants, adapters, place or name))
        parts.append(replace(whole, name=name))
    return tuple(parts)


def _names_of(cells: Sequence[Cell]) -> dict[str, tuple[Any, ...]]:
    """Adapters from elsewhere, as an axis; none without any."""
    names = dict.fromkeys(cell.values[ADAPTER] for cell in cells if ADAPTER in cell.values)
    return {ADAPTER: tuple(names)} if names else {}


def _check_size(axes: Axes, settings: Settings) -> None:
    """ConfigError for a grid that nobody can pay for, and for a search of nothing."""
    if settings.find:
        if axes:
            raise ConfigError(
                f"axes.{next(iter(axes))}: search=find chooses what varies by itself (find.over); "
                "take the axis out, or choose another search, as in search=grid"
            )
        return
    if not settings.is_grid:
        if not axes:
            raise ConfigError(
                f"search={settings.search.name}: there are no axes to search; give some, as in "
                "+axes='{lr:{low:1e-5,high:1e-2,log:true}}'"
            )
        return
    count = math.prod(len(axis) for axis in axes.values() if not isinstance(axis, Range))
    if count > MOST_CELLS:
        sizes = ", ".join(
            f"{name} {len(axis)}" for name, axis in axes.items() if not isinstance(axis, Range)
        )
        raise ConfigError(
            f"axes: {count:,} cells ({sizes}) are more than {MOST_CELLS:,}; take values out, or "
            "choose an adaptive search, as in search=tpe"
        )


def _check_race(cells: Sequence[Cell]) -> None:
    """ConfigError where no cell could leave a race before its exam is drawn whole."""
    if any(cell.images.beginnings for cell in cells):
        return
    images = cells[0].images
    fill = images.batch_width // math.gcd(images.batch_width, len(images.prompts))
    number = fill * max(math.ceil(RACED_SEEDS / fill), 2)
    others = (seed for seed in itertools.count() if seed not in images.seeds)
    seeds = [*images.seeds, *itertools.islice(others, max(number - len(images.seeds), 0))]
    raise ConfigError(
        f"exam.seeds={spell(list(images.seeds))}: in a race cells leave after some of the seeds, "
        f"where a batch of {images.batch_width} images ends, and none ends before the last of "
        f"these; give more, as in exam.seeds={spell(seeds)}"
    )


def _is_for_whole(word: str, alone: bool) -> bool:
    """Whether a typed word is not for the parts of a sweep."""
    name = word.lstrip("+~").partition("=")[0]
    return name.partition(".")[0] in ("parts", "question") or (alone and name == "sweep")


def _union(settings: Settings, parts: Sequence[Part]) -> Part:
    """Parts as one: the cells of all, each once; its axes are whatever varies among them."""
    if len(parts) == 1:
        return parts[0]
    cells = _distinct([cell for part in parts for cell in part.cells])
    names = dict.fromkeys(name for cell in cells for name in cell.values)
    values = {
        name: tuple(dict.fromkeys(cell.values[name] for cell in cells if name in cell.values))
        for name in names
    }
    axes = {name: found for name, found in values.items() if len(found) > 1}
    return Part(settings.name, settings.question, axes, cells)


def _told_apart(parts: tuple[Part, ...], variants: Variants) -> tuple[Part, ...]:
    """Parts whose cells have their part as one more value, where another does not tell them apart:
    they are of another character or exam, or something else is held at another value."""
    if len(parts) < 2:
        return parts
    cells = {cell.key: cell for part in parts for cell in part.cells}
    places = {canonical_json(cell.values) for cell in cells.values()}
    if len(variants.unlike) < 2 and len(places) == len(cells):
        return parts
    return tuple(
        replace(
            part,
            cells=tuple(
                replace(cell, values={PART: part.name, **cell.values}) for cell in part.cells
            ),
        )
        for part in parts
    )


def _distinct(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Each cell once. ConfigError for two that are judged otherwise: their images are the same."""
    found: dict[str, Cell] = {}
    for cell in cells:
        other = found.setdefault(cell.key, cell)
        if other is not cell and _measure(other) != _measure(cell):
            values = {axis: value for axis, value in cell.values.items()
                      if value != other.values.get(axis)}  # fmt: skip
            where = ", ".join(f"{axis}={shown(str(value))}" for axis, value in values.items())
            raise ConfigError(
                f"{where or 'a cell'}: draws the same images as another and is only judged "
                "otherwise, and a cell is what is drawn; run it as a sweep of its own, with "
                "another name=NAME: what is drawn is not drawn again"
            )
    return tuple(found.values())


def _measure(cell: Cell) -> tuple[Any, ...]:
    parts = [(part.images.key, part.exam, part.metrics) for part in cell.parts]
    return cell.exam, cell.metrics, parts


def _words_of(part: Mapping[str, Any]) -> list[str]:
    """A part as it would be typed: {sweep: lr_grid, axes: {lr: [1]}} -> +sweep=lr_grid …"""
    words = []
    for name, value in leaves(part):
        if not SETTING.fullmatch(name) or name.startswith("hydra"):  # no settings of ours
            raise ConfigError(f"parts: {name}: there is no such setting; take it out")
        plus = "+" if name == "sweep" else ""
        words.append(f"{plus}{name}={spell(value)}")
    return words


def _agree(name: str, part: Settings, whole: Settings) -> None:
    """Parts are of one study, and each is a grid."""
    for group in ("objectives", "constraints", "runtime", "root"):
        if getattr(part, group) != getattr(whole, group):
            raise ConfigError(
                f"parts.{name}: sets another {group} than the sweep; set it for the whole sweep"
            )
    if not all(one.is_grid and not one.search.is_race for one in (part, whole)):
        raise ConfigError(
            f"parts.{name}: search={part.search.name} in a sweep of parts; run it by itself"
        )


def _kinds(axes: Axes) -> Iterator[dict[str, Any]]:
    """Values that stand for all that a search may choose: each file of a group, else the first."""
    spans = {name: _span(name, axis) for name, axis in axes.items()}
    for values in itertools.product(*spans.values()):
        yield dict(zip(spans, values, strict=True))


def _span(name: str, axis: tuple[Any, ...] | Range) -> tuple[Any, ...]:
    is_varied = name.partition(".")[0] in VARIED
    if name.partition(".")[0] == "company":  # by which pictures of both are read, or none
        return (axis.low, axis.high) if isinstance(axis, Range) else axis
    if isinstance(axis, Range):
        if is_varied and axis.whole and axis.step is None:
            return tuple(range(int(axis.low), int(axis.high) + 1))
        axis = axis.values
    return axis if is_varied or ("." not in name and name not in PLAIN_AXES) else axis[:1]


def _cell_at(
    words: Sequence[str], values: Mapping[str, Any], first: Settings, variants: Variants
) -> Cell:
    axes = {name: (value,) for name, value in values.items()}
    ((chosen, settings),) = combinations_of(words, axes, first)
    character, companion = variants.of(chosen, settings).character, variants.companion(settings)
    (cell,) = trained(axes, chosen, settings, character, companion)
    return cell
