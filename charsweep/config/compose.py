"""Composition of the configuration from YAML and the command line, and its checks.

YAML is composed by Hydra and checked by pydantic; all mistakes are collected and shown together.

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

import pydantic
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from omegaconf.resolvers.oc import env

from charsweep.config.company import company_mistakes, with_characters
from charsweep.config.judging import encoder_mistakes
from charsweep.config.mistyped import check_words, explain, names, nearest, untaken
from charsweep.config.schema import can_vary, is_list, is_open, only_judges, shapes_images
from charsweep.config.settings import (
    OF_TWO,
    PLAIN_AXES,
    FindSettings,
    PluginSettings,
    Range,
    Settings,
    mistakes,
)
from charsweep.config.typed_words import WORKERS, as_meant, opened, with_keys
from charsweep.core.errors import CharsweepError, ConfigError, shown
from charsweep.core.methods import Method, method_of
from charsweep.core.plugins import CONF
from charsweep.core.system.console import spell
from charsweep.core.words import holds

# What is taken from the command line alone when a folder of YAML files is given, and what it is
# otherwise: what is done, where is written, what is removed, and what leaves the machine.
GUARDED = {"action": "run", "root": ".", "study": None, "runtime.tracking_uri": None,
           "runtime.cluster": None, "runtime.scratch": None, "export.push": None, "merge": None,
           "store.remove": False, "store.repair": False}  # fmt: skip

Axes = Mapping[str, tuple[Any, ...] | Range]  # ranges only where a search samples them


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


# -- composing -------------------------------------------------------------------------------------


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


# -- checking --------------------------------------------------------------------------------------


def check_raw(raw: Mapping[str, Any]) -> Settings:
    """Composed data as settings; ConfigError names all that is wrong with them."""
    problems: list[str] = []
    settings = None
    if (
        isinstance(find := raw.get("find"), dict)
        and not FindSettings.model_fields.keys() <= find.keys()
    ):
        raise ConfigError(
            "find: is for a search in stages, which brings what is missing of it; add search=find, "
            "or +sweep=find"
        )
    try:
        settings = Settings.model_validate(raw)
    except pydantic.ValidationError as error:
        problems += mistakes(error)
    for group in ("method", "schedule"):
        if isinstance(raw.get(group), dict):
            problems += _plugin_mistakes(group, raw[group])
    for name, base in (settings.models.bases if settings else {}).items():
        kind = {"name": name, "_target_": base.target, **(base.model_extra or {})}
        problems += _plugin_mistakes(f"models.bases.{name}", kind)
    for name, encoder in (settings.encoder if settings else {}).items():
        kind = {"name": name, "_target_": encoder.target, **(encoder.model_extra or {})}
        problems += _plugin_mistakes(f"encoder.{name}", kind)
    metrics = raw.get("metric")
    for name, plugin in (metrics if isinstance(metrics, dict) else {}).items():
        if not isinstance(plugin, dict):  # which the settings have said
            continue
        problems += _plugin_mistakes(f"metric.{name}", {"name": name, **plugin})
    problems += _untaken(settings) if settings else []
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


def _untaken(settings: Settings) -> list[str]:
    """Settings that the classes of others, which planning does not import, would not take."""
    optimizer, sampler, caption = settings.optimizer, settings.sampler, settings.caption
    chosen = {"sampler": settings.search.sampler, "pruner": settings.search.pruner}
    problems = [
        *untaken("optimizer", optimizer.target, optimizer.model_extra or {}),
        *untaken("caption", caption.target, caption.model_extra or {}),
        *(untaken("sampler.settings", sampler.target, sampler.settings) if sampler.target else ()),
    ]
    for name, own in chosen.items():
        problems += untaken(f"search.{name}", str(own["_target_"]), own) if own else []
    if "lr" in (optimizer.model_extra or {}):
        problems.append(
            f"optimizer.lr={shown((optimizer.model_extra or {})['lr'])}: the learning rate is lr; "
            "take it out, and set lr"
        )
    return problems


def _sense(settings: Settings) -> list[str]:
    """What each field alone cannot say."""
    problems = []
    base = method_of(settings.method.plugin()).base
    if base is not None and base not in settings.models.bases:
        ways = " or ".join(f"method.base={name}" for name in settings.models.bases)
        problems.append(
            f"method.base={base}: models={settings.models.name} has no such base; use {ways}"
        )
    problems += encoder_mistakes(settings)
    for metric in settings.objectives:
        if metric not in settings.metric:
            problems.append(
                f"objectives.{metric}: not among the metrics ({', '.join(settings.metric)}); "
                "add it to metric=[...] or choose another objective"
            )
    problems += [
        f"constraints.{metric}: not among the metrics ({', '.join(settings.metric)}); add it to "
        "metric=[...] or take the constraint out"
        for metric in settings.constraints
        if metric not in settings.metric
    ]
    wanted = [f"objectives.{name}" for name in settings.objectives]
    wanted += [f"constraints.{name}" for name in settings.constraints]
    for name in wanted:
        part = settings.unasked.get(name.partition(".")[2])
        if part in OF_TWO and not settings.characters:
            problems.append(
                f"{name}: is of two characters in one picture, and characters=[] has none; set "
                "characters=[ONE,OTHER] exam=company, or take it out"
            )
        elif part:
            problems.append(
                f"{name}: exam={settings.exam.name} has no part {part}, so it is never measured; "
                f"choose exam={'company' if part in OF_TWO else 'positions'} or take it out"
            )
    for prompt in settings.exam.prompts:
        if "{subject}" not in prompt:
            problems.append(
                f"exam.prompts: '{shown(prompt)}' lacks {{subject}}; write it where the character "
                "stands"
            )
        elif "{other}" in prompt:
            problems.append(
                f"exam.prompts: '{shown(prompt)}' asks for {{other}}, and the exam itself is of "
                "one character; write that prompt into exam.parts.together.prompts"
            )
    problems += _without_two(settings)
    for name, actions in {
        "keys": ("show", "why"), "repair": ("check",), "remove": ("gc",)
    }.items():  # fmt: skip
        if getattr(settings.store, name) and settings.action not in actions:
            problems.append(f"store.{name}: is for action={' and '.join(actions)}; take it out")
    problems += _untrained(settings)
    search = settings.search
    if numbers := settings.plan.workers:
        problems += _cannot_compare(settings, f"{WORKERS}={','.join(map(str, numbers))}")
    if settings.find:
        problems += _cannot_find(settings, method_of(settings.method.plugin()))
    if search.pruner is not None and len(settings.objectives) > 1:
        problems.append(
            f"objectives={', '.join(settings.objectives)}: search={search.name} prunes by one "
            "objective; name one, as in objectives=[score]"
        )
    if search.is_race and dict(settings.objectives) != {"score": "maximize"}:
        problems.append(
            f"objectives={', '.join(settings.objectives)}: search={search.name} is decided by the "
            "score; set objectives=[score], or search=grid"
        )
    if search.is_race and settings.constraints:
        problems.append(
            f"constraints: those who leave search={search.name} are not measured whole; take them "
            "out, or set search=grid"
        )
    if (
        search.rungs
        and "train_steps" not in settings.axes
        and min(search.rungs) >= settings.train_steps
    ):
        problems.append(
            f"search.rungs={search.rungs}: none is below train_steps={settings.train_steps}"
        )
    if settings.character.masks is None:
        named = {"references=subject": settings.references == "subject",
                 "axes.mask_background": "mask_background" in settings.axes}  # fmt: skip
        problems += [
            f"{name}: character.masks=null; set character.masks=file or alpha"
            for name, is_set in named.items()
            if is_set
        ]
    for name in ("seeds", "prompts"):
        values = getattr(settings.exam, name)
        if len(set(values)) < len(values):
            problems.append(f"exam.{name}: a value stands there twice; take one out")
    problems += company_mistakes(settings, [name for name, _ in leaves(settings.axes)])
    if not settings.characters and not holds(
        settings.character.instance_prompt, settings.character.identifier
    ):
        problems.append(
            f"character.instance_prompt='{settings.character.instance_prompt}': should contain "
            f"the identifier {settings.character.identifier}"
        )
    return problems


def _without_two(settings: Settings) -> Iterator[str]:
    """Prompts that ask for two characters and name one."""
    part = (settings.exam.parts or {}).get("together")
    for prompt in part.prompts if part else ():
        for name, who in (("{subject}", "first"), ("{other}", "second")):
            if name not in prompt:
                yield (
                    f"exam.parts.together.prompts: '{shown(prompt)}' lacks {name}; write it where "
                    f"the {who} character stands"
                )


def _untrained(settings: Settings) -> Iterator[str]:
    """What cannot be, where nothing is trained, or where adapters from elsewhere are cells."""
    character = settings.character
    if settings.adapters and not settings.is_grid:
        yield (
            f"adapters: search={settings.search.name} chooses its cells by itself; take them out, "
            "or set search=grid"
        )
    if character.images is None:
        needs = {"train=true": settings.train and not settings.characters,
                 "action=caption": settings.action == "caption",
                 "character.masks": character.masks is not None,
                 f"character.held_out={character.held_out}": isinstance(character.held_out, int),
                 }  # fmt: skip
        yield from (
            f"{name}: character={character.name} has no drawings for that (images=null); give "
            "them, as in character=folder character.images=PATH, or "
            + ("compare adapters alone, train=false" if name == "train=true" else "take it out")
            for name, is_asked in needs.items()
            if is_asked
        )
    if settings.train:
        return
    idle = [f"axes.{name}" for name, _ in leaves(settings.axes) if not shapes_images(name)]
    idle += [f"seeds={settings.seeds}"] if settings.seeds is not None else []
    yield from (
        f"{name}: nothing is trained (train=false), so that makes no difference; take it out"
        for name in idle
    )


def _cannot_compare(settings: Settings, given: str) -> list[str]:
    """Why several numbers of workers would not be compared."""
    if settings.action != "plan":
        return [f"{given}: several are compared by action=plan; give one of them"]
    if not (settings.is_grid or settings.find):
        return [
            f"{given}: search={settings.search.name} chooses its trials by how others have ended, "
            "so what they take is not known before; give one of them"
        ]
    return []


def _cannot_find(settings: Settings, method: Method) -> list[str]:
    """Why a search in stages would not know what is better, or where to look."""
    assert settings.find is not None
    problems = []
    if settings.find.is_money and settings.find.price is None:
        problems.append(
            f"find.budget={settings.find.budget}: of money, the price of an hour must be known "
            "too; give it, as in find.price=0.80, or a time, as in find.budget=2h"
        )
    if settings.search.sampler is not None:
        problems.append(
            f"find: is for search=find, not for search={settings.search.name}; leave one out"
        )
    if settings.objectives != {"score": "maximize"}:
        problems.append(
            f"objectives={', '.join(settings.objectives)}: search=find goes by the score, as the "
            "recommendation does; leave objectives out, or set objectives=[score]"
        )
    if method.base is None:
        problems.append(
            f"method={settings.method.name}: search=find goes by the score, which needs a base and "
            "prompts; choose method=dreambooth_lora or another that has a base"
        )
    if len(settings.exam.prompts) * len(settings.exam.seeds) < 2:
        problems.append(
            "exam: one image a cell says nothing of chance, which search=find tells cells apart "
            "by; give more exam.prompts or exam.seeds"
        )
    return problems


def axes_of(settings: Settings, config: Mapping[str, Any]) -> dict[str, tuple[Any, ...] | Range]:
    """Flatten `axes` to dotted names; each value a non-empty list without repeats, or a range."""
    axes: dict[str, tuple[Any, ...] | Range] = {}
    problems = []
    for name, values in leaves(settings.axes):
        top = name.partition(".")[0]
        if isinstance(values, dict):
            try:
                axes[name] = span = Range.model_validate(values)
                if name in PLAIN_AXES:
                    PLAIN_AXES[name].validate_python((span.low, span.high))
            except pydantic.ValidationError as error:
                problems += mistakes(error, f"axes.{name}")
            if settings.is_grid:
                problems.append(
                    f"axes.{name}: a grid has no ranges; list its values, or choose search=tpe"
                )
        elif not isinstance(values, list):
            problems.append(
                f"axes.{name}={shown(values)}: should be a list, as in axes.{name}=[1,2]"
            )
        elif not values:
            problems.append(
                f"axes.{name}=[]: is empty; give values, or leave it out (~axes.{name} takes out "
                "one that a sweep has)"
            )
        elif any(isinstance(v, dict if may_be_list(name) else dict | list) for v in values):
            problems.append(f"axes.{name}={shown(values)}: should list numbers or words")
        elif len({str(value) for value in values}) < len(values):
            problems.append(
                f"axes.{name}={shown(values)}: a value stands there twice; take one out"
            )
        elif only_judges(name):
            problems.append(
                f"axes.{name}={shown(values)}: draws the same images and only judges them "
                f"otherwise; run each value as a sweep of its own, as in name=NAME {name}=VALUE: "
                "what is drawn is not drawn again"
            )
        elif top not in config or not can_vary(name):
            near = [one for one in nearest(name, list(names(config))) if can_vary(one)]
            ours = f"should it be axes.{near[0]}? There" if near else "there"
            possible = ", ".join(axis for axis in config if can_vary(axis))
            problems.append(f"axes.{name}: nothing of that name can vary; {ours} is {possible}")
        else:
            axes[name] = tuple(as_text(v) if isinstance(v, list) else v for v in values)
    if problems:
        raise ConfigError("\n".join(problems))
    return axes


def with_seeds(
    axes: dict[str, tuple[Any, ...] | Range], settings: Settings
) -> dict[str, tuple[Any, ...] | Range]:
    """`seeds=5` is the axis seed=[0,1,2,3,4], varied innermost."""
    if settings.seeds is None:
        return axes
    if not settings.is_grid:
        raise ConfigError(
            f"seeds={settings.seeds}: a trial of search={settings.search.name} has one seed; leave "
            "it out, and run the best cell again with seeds"
        )
    if "seed" in axes:
        raise ConfigError(f"seeds={settings.seeds}: axes.seed is given too; leave one out")
    return {**axes, "seed": tuple(range(settings.seeds))}


def leaves(raw: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of nested mappings; a range stays whole."""
    for name, value in raw.items():
        if isinstance(value, dict) and not value.keys() & {"low", "high"}:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


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


def may_be_list(name: str) -> bool:
    """Whether a setting takes a list; what a class of torch's or diffusers' takes is not known."""
    return is_list(name) or is_open(name)


def as_text(values: Sequence[Any]) -> str:
    """A list as one value of an axis, which studies, tables and plots can hold: [to_q,to_k]."""
    plain = (str(v) if re.fullmatch(r"[\w.+-]+", str(v)) else spell(v) for v in values)
    return f"[{','.join(plain)}]"


def as_given(name: str, value: Any) -> Any:
    """The value of a setting that a value of its axis stands for: see `as_text`."""
    if isinstance(value, str) and value.startswith("[") and may_be_list(name):
        return OmegaConf.to_container(OmegaConf.create(value))
    return value


def _typed(values: Mapping[str, Any]) -> list[str]:
    """Values as they would be typed."""
    return [f"{name}={spell(as_given(name, value))}" for name, value in values.items()]


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
