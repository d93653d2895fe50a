"""Checks of the composed data: each setting by itself, then what the settings mean together.

pydantic checks the fields; classes check their own settings; then it is asked whether what was
chosen fits together. All mistakes are collected and shown at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pydantic

from charsweep.config.axes import leaves
from charsweep.config.company import a_kind, company_mistakes
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
from charsweep.core.specs import PLACE
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
    method = method_of(settings.method.plugin())
    return [
        *_base(settings, method),
        *encoder_mistakes(settings),
        *_scores(settings),
        *_prompts(settings),
        *_store_tools(settings),
        *_untrained(settings),
        *_workers(settings),
        *(_find(settings, method) if settings.find else ()),
        *_search(settings),
        *_masks(settings),
        *_repeats(settings),
        *company_mistakes(settings, [name for name, _ in leaves(settings.axes)]),
        *_identifier(settings),
    ]


def _base(settings: Settings, method: Method) -> Iterator[str]:
    """A base that the models have not."""
    if method.base is not None and method.base not in settings.models.bases:
        ways = " or ".join(f"method.base={name}" for name in settings.models.bases)
        yield (
            f"method.base={method.base}: models={settings.models.name} has no such base; use {ways}"
        )


def _scores(settings: Settings) -> Iterator[str]:
    """Objectives and constraints that are not measured."""
    known = f"not among the metrics ({', '.join(settings.metric)})"
    yield from (
        f"objectives.{metric}: {known}; add it to metric=[...] or choose another objective"
        for metric in settings.objectives
        if metric not in settings.metric
    )
    yield from (
        f"constraints.{metric}: {known}; add it to metric=[...] or take the constraint out"
        for metric in settings.constraints
        if metric not in settings.metric
    )
    wanted = [f"objectives.{name}" for name in settings.objectives]
    wanted += [f"constraints.{name}" for name in settings.constraints]
    for name in wanted:
        metric = name.partition(".")[2]
        if metric in settings.metric and not settings.has_sense(settings.metric_plugin(metric)):
            yield (
                f"{name}: says nothing of a character with {a_kind(settings.exam.kind)}; choose "
                "another, as together, or take it out"
            )
        part = settings.unasked.get(metric)
        if part in OF_TWO and not settings.characters:
            yield (
                f"{name}: is of two characters in one picture, and characters=[] has none; set "
                "characters=[ONE,OTHER] exam=company, or take it out"
            )
        elif part:
            yield (
                f"{name}: exam={settings.exam.name} has no part {part}, so it is never measured; "
                f"choose exam={'company' if part in OF_TWO else 'positions'} or take it out"
            )


def _prompts(settings: Settings) -> Iterator[str]:
    """Prompts of the exam that ask for nobody, or for somebody else."""
    for prompt in settings.exam.prompts:
        if "{subject}" not in prompt:
            yield (
                f"exam.prompts: '{shown(prompt)}' lacks {{subject}}; write it where the character "
                "stands"
            )
        elif "{other}" in prompt:
            yield (
                f"exam.prompts: '{shown(prompt)}' asks for {{other}}, and the exam itself is of "
                "one character; write that prompt into exam.parts.together.prompts"
            )
    part = (settings.exam.parts or {}).get("together")
    for prompt in part.prompts if part else ():
        for name, who in (("{subject}", "first"), ("{other}", "second")):
            if name not in prompt:
                yield (
                    f"exam.parts.together.prompts: '{shown(prompt)}' lacks {name}; write it where "
                    f"the {who} character stands"
                )


def _store_tools(settings: Settings) -> Iterator[str]:
    """What is asked of the store by an action that does not read it."""
    heeded = {"keys": ("show", "why"), "repair": ("check",), "remove": ("gc",)}
    for name, actions in heeded.items():
        if getattr(settings.store, name) and settings.action not in actions:
            yield f"store.{name}: is for action={' and '.join(actions)}; take it out"


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


def _workers(settings: Settings) -> Iterator[str]:
    """Why several numbers of workers would not be compared."""
    if not settings.plan.workers:
        return
    given = f"{WORKERS}={','.join(map(str, settings.plan.workers))}"
    if settings.action != "plan":
        yield f"{given}: several are compared by action=plan; give one of them"
    elif not (settings.is_grid or settings.find):
        yield (
            f"{given}: search={settings.search.name} chooses its trials by how others have ended, "
            "so what they take is not known before; give one of them"
        )


def _find(settings: Settings, method: Method) -> Iterator[str]:
    """Why a search in stages would not know what is better, or where to look."""
    assert settings.find is not None
    if settings.find.is_money and settings.find.price is None:
        yield (
            f"find.budget={settings.find.budget}: of money, the price of an hour must be known "
            "too; give it, as in find.price=0.80, or a time, as in find.budget=2h"
        )
    if settings.search.sampler is not None:
        yield f"find: is for search=find, not for search={settings.search.name}; leave one out"
    if settings.objectives != {"score": "maximize"}:
        yield (
            f"objectives={', '.join(settings.objectives)}: search=find goes by the score, as the "
            "recommendation does; leave objectives out, or set objectives=[score]"
        )
    if method.base is None:
        yield (
            f"method={settings.method.name}: search=find goes by the score, which needs a base and "
            "prompts; choose method=dreambooth_lora or another that has a base"
        )
    if len(settings.exam.prompts) * len(settings.exam.seeds) < 2:
        yield (
            "exam: one image a cell says nothing of chance, which search=find tells cells apart "
            "by; give more exam.prompts or exam.seeds"
        )


def _search(settings: Settings) -> Iterator[str]:
    """What a pruner or a race could not go by."""
    search = settings.search
    objectives = f"objectives={', '.join(settings.objectives)}"
    if search.pruner is not None and len(settings.objectives) > 1:
        yield (
            f"{objectives}: search={search.name} prunes by one objective; name one, as in "
            "objectives=[score]"
        )
    if search.is_race and dict(settings.objectives) != {"score": "maximize"}:
        yield (
            f"{objectives}: search={search.name} is decided by the score; set objectives=[score], "
            "or search=grid"
        )
    if search.is_race and settings.constraints:
        yield (
            f"constraints: those who leave search={search.name} are not measured whole; take them "
            "out, or set search=grid"
        )
    if (
        search.rungs
        and "train_steps" not in settings.axes
        and min(search.rungs) >= settings.train_steps
    ):
        yield f"search.rungs={search.rungs}: none is below train_steps={settings.train_steps}"


def _masks(settings: Settings) -> Iterator[str]:
    """What needs masks, where there are none: the references of each that is no place, and any for
    what the background counts."""
    every = [one for one in settings.characters or [settings.character] if one.kind != PLACE]
    lacking = [one.identifier for one in every if one.masks is None]
    if not lacking:
        return
    where = "character.masks=null; set character.masks=file or alpha"
    if settings.characters:
        where = f"{' and '.join(lacking)}: masks=null; set masks: file or alpha in characters"
    needs = {"references=subject": settings.references == "subject",
             "axes.mask_background": "mask_background" in settings.axes
             and len(lacking) == len(every)}  # fmt: skip
    yield from (f"{name}: {where}" for name, is_set in needs.items() if is_set)


def _repeats(settings: Settings) -> Iterator[str]:
    """Prompts or seeds of the exam that are drawn twice."""
    for name in ("seeds", "prompts"):
        values = getattr(settings.exam, name)
        if len(set(values)) < len(values):
            yield f"exam.{name}: a value stands there twice; take one out"


def _identifier(settings: Settings) -> Iterator[str]:
    """An identifier that nothing would be tied to; `company_mistakes` has those of two."""
    own = settings.character
    if not settings.characters and not holds(own.instance_prompt, own.identifier):
        yield (
            f"character.instance_prompt='{own.instance_prompt}': should contain the identifier "
            f"{own.identifier}"
        )
