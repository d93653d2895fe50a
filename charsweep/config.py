"""Overrides in, a checked and frozen `Sweep` out; the only file that knows Hydra.

YAML is composed by Hydra, checked by pydantic (all mistakes are collected and shown together) and
turned into specs. A cell whose axes name another file of a config group (`method=lora`) or a field
inside one (`method.rank=8`) is composed anew with that override, once per combination; the four
plain numbers (lr, train_steps, inference_steps, seed) are filled in directly.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pydantic
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from charsweep.cells import base_names, cells_of, character_of, encoders_of, meaning_of, truth_of
from charsweep.character import Character
from charsweep.errors import CharsweepError, ConfigError
from charsweep.settings import PLAIN_AXES, PluginSettings, Settings, mistakes
from charsweep.specs import Cell, EncoderSpec, ImageSetSpec, TrajectorySpec, examined
from charsweep.store import Store
from charsweep.weights import find_folder
from charsweep.widths import unmeasured

CONF = next(
    folder
    for folder in (Path(__file__).parents[1] / "conf", Path(__file__).parent / "conf")
    if (folder / "config.yaml").exists()
)
NOT_AXES = ("action", "name", "question", "root", "runtime", "axes", "objectives", "models",
            "character", "exam", "metric", "seeds", "story")  # fmt: skip


@dataclass(frozen=True)
class Sweep:
    """What was asked: the settings, the axes and the cells they span."""

    typed: tuple[str, ...]  # the words of the command line
    settings: Settings
    resolved: Mapping[str, Any]  # the composed configuration as plain data, for the record
    axes: Mapping[str, tuple[Any, ...]]
    character: Character
    cells: tuple[Cell, ...]
    truth: ImageSetSpec | None
    truth_folder: Path | None
    bases: Mapping[str, Path]
    encoders: Mapping[str, tuple[EncoderSpec, Path]]
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


def load_sweep(overrides: Sequence[str]) -> Sweep:
    """Compose and check; ConfigError names everything that is wrong at once."""
    typed, overrides = tuple(overrides), _with_search_path(overrides)
    with _Composing():
        raw = _compose(overrides)
        first = _check(raw)
        axes = _with_seeds(_axes(first.axes, raw), first)
        combinations = list(_combinations(overrides, axes, first))
    character = character_of(first)
    cells = tuple(itertools.chain(*(cells_of(axes, *one, character) for one in combinations)))
    truth, truth_folder = truth_of(first, examined(cells), character)
    return Sweep(
        typed=typed,
        settings=first,
        resolved=raw,
        axes=axes,
        character=character,
        cells=cells,
        truth=truth,
        truth_folder=truth_folder,
        bases={name: find_folder(first.models.bases[name].path) for name in base_names(cells)},
        encoders=encoders_of(first),
        unmeasured=unmeasured(cells, first, Store(Path(first.root).expanduser().resolve())),
        meaning=meaning_of(first, cells, axes),
    )


def load_settings(overrides: Sequence[str]) -> Settings:
    """Compose and check the settings alone: enough where no cell is asked for."""
    with _Composing():
        return _check(_compose(_with_search_path(overrides)))


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


def _axes(raw: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Flatten `axes` to dotted names; each value a non-empty list without repeats."""
    axes: dict[str, tuple[Any, ...]] = {}
    problems = []
    for name, values in _leaves(raw):
        top = name.partition(".")[0]
        if not isinstance(values, list):
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


def _with_seeds(axes: dict[str, tuple[Any, ...]], settings: Settings) -> dict[str, tuple[Any, ...]]:
    """`seeds=5` is the axis seed=[0,1,2,3,4], varied innermost."""
    if settings.seeds is None:
        return axes
    if "seed" in axes:
        raise ConfigError(
            f"seeds={settings.seeds}: axes.seed={list(axes['seed'])} is given too; leave one out"
        )
    return {**axes, "seed": tuple(range(settings.seeds))}


def _leaves(raw: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in raw.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _combinations(
    overrides: Sequence[str], axes: Mapping[str, tuple[Any, ...]], first: Settings
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
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"
