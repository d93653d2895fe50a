"""Composition of the configuration from YAML and the command line, by Hydra.

A folder of `--config-dir` may be somebody else's. YAML is loaded as plain data, what Hydra itself
could be made to run (`hydra.callbacks`, launchers, logging factories) is composed and thrown away,
no file reads the environment, and none says where results go: `GUARDED`.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from omegaconf.resolvers.oc import env

from charsweep.config.axes import PLAIN_AXES, Axes, as_given, leaves
from charsweep.config.checks import check_raw
from charsweep.config.company import with_characters
from charsweep.config.mistyped import check_words, explain
from charsweep.config.settings import Settings
from charsweep.config.typed_words import as_meant, opened, with_keys
from charsweep.core.errors import CharsweepError, ConfigError, shown
from charsweep.core.plugins import CONF
from charsweep.core.system.console import spell

# What is taken from the command line alone when a folder of YAML files is given, and what it is
# otherwise: what is done, where is written, what is removed, and what leaves the machine.
GUARDED = {"action": "run", "root": ".", "study": None, "runtime.tracking_uri": None,
           "runtime.cluster": None, "runtime.scratch": None, "export.push": None, "merge": None,
           "store.remove": False, "store.repair": False}  # fmt: skip


def load_settings(words: Sequence[str]) -> Settings:
    """Compose and check the settings alone: enough where no cell is asked for."""
    with Composing():
        return check_raw(compose_words(with_search_path(words)))


def as_yaml(words: Sequence[str]) -> str:
    """The composed configuration, unchecked, as `--cfg job` shows it."""
    with Composing():
        return OmegaConf.to_yaml(OmegaConf.create(compose_words(with_search_path(words))))


def hydra_words(words: Sequence[str]) -> list[str]:
    """Checked words, as Hydra itself is to be given them."""
    return [opened(word) for word in with_search_path(words)]


def with_search_path(words: Sequence[str]) -> list[str]:
    """Turn `--config-dir FOLDER`, a person's own conf folder, into Hydra's search path."""
    left, folders = [], []
    rest = iter(words)
    for word in rest:
        if word.startswith("--config-dir"):
            given = word.partition("=")[2] or next(rest, "")
            folder = Path(given).expanduser()
            if not given or not folder.is_dir():
                raise ConfigError(f"--config-dir {given}: no such folder; give one with YAML files")
            folders.append(spell(str(folder.resolve())))
        else:
            left.append(word)
    typed = with_keys(left)
    meant = as_meant(typed)
    check_words(typed, meant)
    return [f"hydra.searchpath=[{','.join(folders)}]", *meant] if folders else meant


class Composing:
    """Hydra's global state, entered and left clean; meanwhile no file reads the environment."""

    def __enter__(self) -> None:
        GlobalHydra.instance().clear()
        OmegaConf.register_new_resolver("oc.env", refuse_environment, replace=True)
        initialize_config_dir(str(CONF), version_base="1.3", job_name="charsweep").__enter__()

    def __exit__(self, *error: object) -> None:
        GlobalHydra.instance().clear()
        OmegaConf.register_new_resolver("oc.env", env, replace=True)


def refuse_environment(name: str, *_: object) -> None:
    """OmegaConf's resolver `oc.env`, as ConfigError."""
    raise ConfigError(
        f"${{oc.env:{name}}}: a setting does not read the environment, whose secrets would end in "
        "records and reports; give the value itself"
    )


def compose_words(overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration of these words as plain data; within `Composing`."""
    return _compose(overrides)[0]


def combinations_of(
    overrides: Sequence[str], axes: Axes, first: Settings
) -> Iterator[tuple[dict[str, Any], Settings]]:
    """Each combination of the axes that need composing, with its settings.

    Hydra chooses the files of groups; their fields are set in what it composes, as it would.
    """
    names = [name for name in axes if name not in PLAIN_AXES]
    if not names:
        yield {}, first
        return
    groups = [name for name in names if "." not in name]
    fields = [name for name in names if "." in name]
    for values in itertools.product(*(axes[name] for name in groups)):
        group = dict(zip(groups, values, strict=True))
        words = [*overrides, *_typed(group)]
        composed, used = _compose(words)
        is_alone = used.isdisjoint(part for name in fields for part in name.split("."))
        for others in itertools.product(*(axes[name] for name in fields)):
            field = dict(zip(fields, others, strict=True))
            raw = with_fields(composed, field) if is_alone else None
            yield group | field, check_raw(raw or compose_words([*words, *_typed(field)]))


def with_fields(raw: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Composed data with other values in fields that it has; None where it lacks one."""
    changed = copy.deepcopy(dict(raw))
    for name, value in values.items():
        *parents, last = name.split(".")
        place: Any = changed
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place:
            return None
        place[last] = as_given(name, value)
    return changed


def _typed(values: Mapping[str, Any]) -> list[str]:
    """Values as they would be typed."""
    return [f"{name}={spell(as_given(name, value))}" for name, value in values.items()]


def _compose(overrides: Sequence[str]) -> tuple[dict[str, Any], frozenset[str]]:
    """The configuration as plain data, and the names that other values are made of, by ${}."""
    try:
        composed = compose("config", overrides=[opened(word) for word in overrides])
        missing = sorted(OmegaConf.missing_keys(composed))
        if missing and OmegaConf.is_dict(composed.axes):  # an axis gives a value too
            axes: Any = OmegaConf.to_container(composed.axes)
            firsts = {name: own[0] for name, own in leaves(axes) if isinstance(own, list) and own}
            for name in firsts.keys() & set(missing):
                OmegaConf.update(composed, name, firsts[name])
            missing = sorted(OmegaConf.missing_keys(composed))
        if missing:
            raise ConfigError("\n".join(_unset(name, composed.axes or {}) for name in missing))
        named = _named(OmegaConf.to_container(composed, resolve=True))
        assert isinstance(named, dict)
        named = with_characters(named, overrides)
    except CharsweepError:
        raise
    except Exception as error:  # Hydra's, OmegaConf's and YAML's, and Python's within them
        raise ConfigError(explain(error, overrides)) from error
    if any(word.lstrip("+").startswith("hydra.searchpath=") for word in overrides):
        refuse_guarded(named, overrides)
    used = frozenset(re.findall(r"\w+", " ".join(re.findall(r"\$\{([^}]*)", str(composed)))))
    if not any(word.lstrip("+~").startswith("method.base=") for word in overrides):
        named = with_base_of_models(named)
    return with_batches_by_seed(named) if "find" in named else named, used


def _unset(name: str, axes: Any) -> str:
    """That a setting has no value, and how it gets one."""
    group = name.partition(".")[0]
    if group in axes:  # as a word of its own it would be for all files of the group
        return (
            f"{name} is not set in each of axes.{group}; give each a file of its own in a folder "
            f"of --config-dir, or vary that setting alone, as in '+axes.{name}=[A,B]'"
        )
    return f"{name} is not set; give it as {name}=VALUE"


def _named(plain: Any) -> Any:
    """Plain data whose names are texts: YAML reads those of inf, 2024 or true as something else."""
    if isinstance(plain, dict):
        return {
            name if isinstance(name, str) else shown(name): _named(value)
            for name, value in plain.items()
        }
    return [_named(value) for value in plain] if isinstance(plain, list) else plain


def refuse_guarded(plain: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """ConfigError for what a file of `--config-dir` may not say; typed, it may be said."""
    typed = {word.lstrip("+~").partition("=")[0] for word in overrides}
    for name, usual in GUARDED.items():
        value: Any = plain
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if name not in typed and value != usual:
            raise ConfigError(
                f"{name}={value}: a file of --config-dir says so, which is for the command line "
                f"alone; if you want it, type {name}={value}"
            )


def with_batches_by_seed(raw: dict[str, Any]) -> dict[str, Any]:
    """Composed data of a search in stages, drawn at most one image of each prompt at once, unless
    `sampler.batch_width` is set: so each exam seed ends a batch, after which a cell may leave."""
    try:
        if raw["sampler"]["batch_width"] is None:
            width = min(raw["models"]["batch_width"], len(raw["exam"]["prompts"]))
            return {**raw, "sampler": {**raw["sampler"], "batch_width": width}}
    except (KeyError, TypeError):  # as the settings will say
        pass
    return raw


def with_base_of_models(raw: dict[str, Any]) -> dict[str, Any]:
    """Composed data in which the first of the models' bases is taught, where they have none of the
    name that the method's file says."""
    try:
        bases, base = list(raw["models"]["bases"]), raw["method"]["base"]
    except (KeyError, TypeError):  # as the settings will say
        return raw
    if base is None or base in bases or not bases:
        return raw
    return {**raw, "method": {**raw["method"], "base": bases[0]}}
