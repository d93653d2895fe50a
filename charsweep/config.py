"""Overrides in, a checked and frozen `Sweep` out; the only file that knows Hydra.

YAML is composed by Hydra, checked by pydantic (all mistakes are collected and shown together) and
turned into specs. A cell whose axes name another file of a config group (`method=lora`) or a field
inside one (`method.rank=8`) is composed anew with that override, once per combination; the four
plain numbers (lr, train_steps, inference_steps, seed) are filled in directly. A part of a sweep is
composed as if its words had been typed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pydantic
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from charsweep.cells import (
    base_names,
    base_weights,
    cells_of,
    character_of,
    encoders_of,
    meaning_of,
    truth_of,
)
from charsweep.character import Character
from charsweep.errors import CharsweepError, ConfigError
from charsweep.settings import PLAIN_AXES, PluginSettings, Range, Settings, mistakes
from charsweep.specs import Cell, EncoderSpec, ImageSetSpec, TrajectorySpec, examined
from charsweep.store import Store
from charsweep.weights import BaseWeights, Weights
from charsweep.widths import unmeasured

CONF = next(
    folder
    for folder in (Path(__file__).parents[1] / "conf", Path(__file__).parent / "conf")
    if (folder / "config.yaml").exists()
)
NOT_AXES = ("action", "name", "question", "root", "runtime", "axes", "objectives", "models",
            "character", "exam", "metric", "seeds", "parts", "search", "story",
            "export", "together", "source")  # fmt: skip


Axes = Mapping[str, tuple[Any, ...] | Range]  # ranges only where a search samples them


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
    character: Character
    cells: tuple[Cell, ...]  # (): an adaptive search chooses them
    examples: tuple[Cell, ...]  # the cells, or what those of a search will be like
    truth: ImageSetSpec | None
    truth_folder: Path | None
    bases: Mapping[str, BaseWeights]
    encoders: Mapping[str, tuple[EncoderSpec, Weights]]
    unmeasured: tuple[TrajectorySpec, ...]  # kinds whose width of packs is left to measurement
    meaning: Mapping[str, Any]  # what must stay the same for the study to go on

    @property
    def name(self) -> str:
        return self.settings.name

    @cached_property
    def root(self) -> Path:
        return Path(self.settings.root).expanduser().resolve()

    @property
    def folder(self) -> Path:
        return self.root / "sweeps" / self.name

    @property
    def command(self) -> str:
        return " ".join(["python -m charsweep", *self.typed])

    def cell_at(self, values: Mapping[str, Any]) -> Cell:
        """The one cell with these values of the axes."""
        with _Composing():
            return _cell_at(_with_search_path(self.typed), values, self.settings, self.character)


def load_sweep(overrides: Sequence[str]) -> Sweep:
    """Compose and check; ConfigError names everything that is wrong at once."""
    typed, words = tuple(overrides), _with_search_path(overrides)
    with _Composing():
        raw = _compose(words)
        first = _check(raw)
        character = character_of(first)
        parts = _parts(words, raw, first, character)
        whole = _union(first, parts)
        examples = whole.cells or tuple(
            _cell_at(words, values, first, character) for values in _kinds(whole.axes)
        )
    truth, truth_folder = truth_of(first, examined(examples), character)
    return Sweep(
        typed=typed,
        settings=first,
        resolved=raw,
        axes=whole.axes,
        parts=parts if first.parts else (),
        character=character,
        cells=whole.cells,
        examples=examples,
        truth=truth,
        truth_folder=truth_folder,
        bases={name: base_weights(first, name) for name in base_names(examples)},
        encoders=encoders_of(first),
        unmeasured=unmeasured(examples, first, Store(Path(first.root).expanduser().resolve())),
        meaning=meaning_of(first, examples, whole.axes),
    )


def load_settings(overrides: Sequence[str]) -> Settings:
    """Compose and check the settings alone: enough where no cell is asked for."""
    with _Composing():
        return _check(_compose(_with_search_path(overrides)))


# -- parts -----------------------------------------------------------------------------------------


def _parts(
    words: Sequence[str], raw: Mapping[str, Any], settings: Settings, character: Character
) -> tuple[Part, ...]:
    """The parts of a composed sweep; an ordinary one is its own only part."""
    if not settings.parts:
        axes = _with_seeds(_axes(settings, raw), settings)
        cells: tuple[Cell, ...] = ()
        if settings.search.is_grid:
            combinations = _combinations(words, axes, settings)
            cells = tuple(itertools.chain(*(cells_of(axes, *c, character) for c in combinations)))
        return (Part(settings.name, settings.question, axes, _distinct(cells)),)
    parts = []
    for name, own in settings.parts.items():
        # a part that is a sweep of its own takes the place of this one; any other adds to it
        alone = "sweep" in own
        left = [word for word in words if not _is_for_whole(word, alone)]
        inner = [*_words_of(own), *left]
        composed = _compose(inner)
        part = _check(composed)
        if not alone:
            part = part.model_copy(update={"parts": {}})
        _agree(name, part, settings)
        whole = _union(part, _parts(inner, composed, part, character))
        parts.append(replace(whole, name=name))
    return tuple(parts)


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


def _distinct(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    found: dict[str, Cell] = {}
    for cell in cells:
        found.setdefault(cell.key, cell)
    return tuple(found.values())


def _words_of(part: Mapping[str, Any]) -> list[str]:
    """A part as it would be typed: {sweep: lr_grid, axes: {lr: [1]}} -> +sweep=lr_grid …"""
    words = []
    for name, value in _leaves(part):
        plus = "+" if name == "sweep" else "++" if name.startswith("axes.") else ""
        words.append(f"{plus}{name}={_spell(value)}")
    return words


def _agree(name: str, part: Settings, whole: Settings) -> None:
    """Parts are judged alike, or they could not be compared; and each is a grid."""
    for group in ("models", "character", "exam", "metric", "objectives", "runtime", "root"):
        if getattr(part, group) != getattr(whole, group):
            raise ConfigError(
                f"parts.{name}: sets another {group} than the sweep; set it for the whole sweep"
            )
    if not part.search.is_grid or not whole.search.is_grid:
        raise ConfigError(
            f"parts.{name}: search={part.search.name} in a sweep of parts; run it by itself"
        )


def _kinds(axes: Axes) -> Iterator[dict[str, Any]]:
    """Values that stand for all that a search may choose: each file of a group, else the first."""
    spans = {name: axis.values if isinstance(axis, Range) else axis for name, axis in axes.items()}
    firsts = {
        name: span if "." not in name and name not in PLAIN_AXES else span[:1]
        for name, span in spans.items()
    }
    for values in itertools.product(*firsts.values()):
        yield dict(zip(firsts, values, strict=True))


def _cell_at(
    words: Sequence[str], values: Mapping[str, Any], first: Settings, character: Character
) -> Cell:
    axes = {name: (value,) for name, value in values.items()}
    ((chosen, settings),) = _combinations(words, axes, first)
    (cell,) = cells_of(axes, chosen, settings, character)
    return cell


# -- composing -------------------------------------------------------------------------------------


def _with_search_path(words: Sequence[str]) -> list[str]:
    """Turn `--config-dir FOLDER`, a person's own conf folder, into Hydra's search path."""
    left, folders = [], []
    rest = iter(words)
    for word in rest:
        if word.startswith("--config-dir"):
            folder = word.partition("=")[2] or next(rest, "")
            if not Path(folder).is_dir():
                raise ConfigError(
                    f"--config-dir {folder}: no such folder; give one with YAML files"
                )
            folders.append(_spell(f"file://{Path(folder).resolve()}"))
        else:
            left.append(word)
    return [f"hydra.searchpath=[{','.join(folders)}]", *left] if folders else left


class _Composing:
    """Hydra's global state, entered and left clean."""

    def __enter__(self) -> None:
        GlobalHydra.instance().clear()
        initialize_config_dir(str(CONF), version_base="1.3", job_name="charsweep").__enter__()

    def __exit__(self, *error: object) -> None:
        GlobalHydra.instance().clear()


def _compose(overrides: Sequence[str]) -> dict[str, Any]:
    try:
        composed = compose("config", overrides=list(overrides))
        missing = sorted(OmegaConf.missing_keys(composed))
        if missing:
            raise ConfigError(
                "\n".join(f"{name} is not set; give it as {name}=VALUE" for name in missing)
            )
        plain = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, overrides)) from error
    assert isinstance(plain, dict)
    return {str(name): value for name, value in plain.items()}


def _explain(error: Exception, overrides: Sequence[str]) -> str:
    """Hydra's message in one paragraph, with the words that were typed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(line for line in lines if not line.startswith(("full_key:", "object_type=")))
    text = re.sub(r"(Available options in '[^']+':) *", r"\1 ", text)
    text = re.sub(r"Config search path:.*", "", text)
    if sweep := next((o for o in overrides if o.startswith("sweep=")), None):
        return f"{sweep}: a sweep is added with a plus sign; type +{sweep}"
    return f"{text.strip()} (given: {' '.join(overrides) or 'nothing'})"


# -- checking --------------------------------------------------------------------------------------


def _check(raw: Mapping[str, Any]) -> Settings:
    problems: list[str] = []
    settings = None
    try:
        settings = Settings.model_validate(raw)
    except pydantic.ValidationError as error:
        problems += mistakes(error)
    for group in ("method", "schedule"):
        if isinstance(raw.get(group), dict):
            problems += _plugin_mistakes(group, raw[group])
    metrics = raw.get("metric")
    for name, plugin in (metrics if isinstance(metrics, dict) else {}).items():
        problems += _plugin_mistakes(f"metric.{name}", {"name": name, **(plugin or {})})
    if settings is not None and not problems:
        problems += _sense(settings)
    if problems or settings is None:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return settings


def _plugin_mistakes(where: str, raw: Mapping[str, Any]) -> list[str]:
    try:
        PluginSettings.model_validate(raw).plugin()
    except pydantic.ValidationError as error:
        return mistakes(error, where)
    except CharsweepError as error:
        return [f"{where}: {error}"]
    except (TypeError, ValueError, AttributeError) as error:
        return [f"{where}: {error}; see the file in conf/{where.partition('.')[0]}/"]
    return []


def _sense(settings: Settings) -> list[str]:
    """What each field alone cannot say."""
    problems = []
    base = settings.method.plugin().settings.get("base")
    if base is not None and base not in settings.models.bases:
        known = ", ".join(settings.models.bases)
        problems.append(f"method.base={base}: models={settings.models.name} has {known}")
    for metric in settings.objectives:
        if metric not in settings.metric:
            problems.append(
                f"objectives.{metric}: not among the metrics ({', '.join(settings.metric)}); "
                "add it to metric=[...] or choose another objective"
            )
    for prompt in settings.exam.prompts:
        if "{subject}" not in prompt:
            problems.append(f"exam.prompts: '{prompt}' lacks {{subject}}, the character's place")
    search = settings.search
    if search.pruner is not None and len(settings.objectives) > 1:
        problems.append(
            f"objectives={', '.join(settings.objectives)}: search={search.name} prunes by one "
            "objective; name one, as in objectives=[dino]"
        )
    if (
        search.rungs
        and "train_steps" not in settings.axes
        and min(search.rungs) >= settings.train_steps
    ):
        problems.append(
            f"search.rungs={search.rungs}: none is below train_steps={settings.train_steps}"
        )
    for name in ("seeds", "prompts"):
        values = getattr(settings.exam, name)
        if len(set(values)) < len(values):
            problems.append(f"exam.{name}: a value stands there twice; take one out")
    if settings.character.identifier not in settings.character.instance_prompt:
        problems.append(
            f"character.instance_prompt='{settings.character.instance_prompt}': should contain "
            f"the identifier {settings.character.identifier}"
        )
    return problems


def _axes(settings: Settings, config: Mapping[str, Any]) -> dict[str, tuple[Any, ...] | Range]:
    """Flatten `axes` to dotted names; each value a non-empty list without repeats, or a range."""
    axes: dict[str, tuple[Any, ...] | Range] = {}
    problems = []
    for name, values in _leaves(settings.axes):
        top = name.partition(".")[0]
        if isinstance(values, dict):
            try:
                axes[name] = Range.model_validate(values)
            except pydantic.ValidationError as error:
                problems += mistakes(error, f"axes.{name}")
            if settings.search.is_grid:
                problems.append(
                    f"axes.{name}: a grid has no ranges; list its values, or choose search=tpe"
                )
        elif not isinstance(values, list):
            problems.append(f"axes.{name}={values}: should be a list, as in axes.{name}=[1,2]")
        elif not values:
            problems.append(f"axes.{name}=[]: is empty; give values or take the axis out (~axes)")
        elif any(isinstance(value, dict | list) for value in values):
            problems.append(f"axes.{name}={values}: should list numbers or words")
        elif len({str(value) for value in values}) < len(values):
            problems.append(f"axes.{name}={values}: a value stands there twice; take one out")
        elif top not in config or top in NOT_AXES:
            possible = ", ".join(axis for axis in config if axis not in NOT_AXES)
            problems.append(f"axes.{name}: nothing of that name can vary; there is {possible}")
        else:
            axes[name] = tuple(values)
    if problems:
        raise ConfigError("\n".join(problems))
    return axes


def _with_seeds(
    axes: dict[str, tuple[Any, ...] | Range], settings: Settings
) -> dict[str, tuple[Any, ...] | Range]:
    """`seeds=5` is the axis seed=[0,1,2,3,4], varied innermost."""
    if settings.seeds is None:
        return axes
    if not settings.search.is_grid:
        raise ConfigError(
            f"seeds={settings.seeds}: a trial of search={settings.search.name} has one seed; leave "
            "it out, and run the best cell again with seeds"
        )
    if "seed" in axes:
        raise ConfigError(f"seeds={settings.seeds}: axes.seed is given too; leave one out")
    return {**axes, "seed": tuple(range(settings.seeds))}


def _leaves(raw: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in raw.items():
        if isinstance(value, dict) and not value.keys() & {"low", "high"}:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _combinations(
    overrides: Sequence[str], axes: Axes, first: Settings
) -> Iterator[tuple[dict[str, Any], Settings]]:
    """Each combination of the axes that need composing, with its settings."""
    names = [name for name in axes if name not in PLAIN_AXES]
    names.sort(key=lambda name: "." in name)  # a group is chosen before its fields are set
    for values in itertools.product(*(axes[name] for name in names)):
        chosen = dict(zip(names, values, strict=True))
        if not chosen:
            yield chosen, first
            continue
        typed = [f"{name}={_spell(value)}" for name, value in chosen.items()]
        yield chosen, _check(_compose([*overrides, *typed]))


def _spell(value: Any) -> str:
    """A value as Hydra's override grammar reads it back."""
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(map(_spell, value)) + "]"
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"
