"""Checks of the composed data: each setting by itself, then what the settings mean together.

pydantic checks the fields; classes check their own settings; then it is asked whether what was
chosen fits together. All mistakes are collected and shown at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pydantic

from charsweep.config.axes import leaves
from charsweep.config.company import company_mistakes
from charsweep.config.judging import encoder_mistakes
from charsweep.config.mistyped import untaken
from charsweep.config.schema import shapes_images
from charsweep.config.settings import Settings
from charsweep.config.settings.groups import OF_TWO
from charsweep.config.settings.mistakes import mistakes
from charsweep.config.settings.plugins import ListedPlugin, PluginSettings
from charsweep.config.settings.search import FindSettings
from charsweep.config.typed_words import WORKERS
from charsweep.core.errors import CharsweepError, ConfigError, shown
from charsweep.core.methods import Method, method_of
from charsweep.core.words import holds


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
    listed: dict[str, Mapping[str, ListedPlugin]] = {}
    if settings:
        listed = {"models.bases": settings.models.bases, "encoder": settings.encoder}
    for group, plugins in listed.items():
        for name, one in plugins.items():
            problems += _plugin_mistakes(f"{group}.{name}", one.named(name))
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
