"""Two in place of one: what `characters` stands for, and what `company` may ask of them.

The first is a character, the second another, or an object or a place.

An entry is the name of a file of conf/character/, or settings of that group, which are put upon
those of a folder. From here on both are whole characters, the first of them in the place of
`character`: whoever asks for one character sees that one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from hydra import compose
from omegaconf import OmegaConf

from charsweep.config.settings import Settings
from charsweep.config.settings.groups import ONE_ADAPTER, CharacterSettings
from charsweep.core.columns import COLUMN, are_columns_in
from charsweep.core.errors import ConfigError, shown
from charsweep.core.methods import method_of
from charsweep.core.sides import NAMES, left_column, left_of
from charsweep.core.specs import CHARACTER, OBJECT, PLACE
from charsweep.core.system.console import spell
from charsweep.core.words import holds, same
from charsweep.results.cells import TOGETHER

OTHER = NAMES[1]  # the part of the exam that is the second one's
OF_TOGETHER = ("joint_share", "joint_images")
EXAMPLE = "characters=[unicorn_girl,thunder_bear]"
OWN = "{name: mia, images: drawings, identifier: Mia, class_noun: girl}"


# -- composing -------------------------------------------------------------------------------------


def with_characters(raw: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Composed data in which both are whole characters; as it is where there are none.

    Within `Composing`. Raises `ConfigError`.
    """
    given = raw.get("characters")
    if not given or not isinstance(given, list):  # as the settings will say
        return dict(raw)
    told = f"characters=[{', '.join(_name_of(one) for one in given)}]"
    if len(given) != 2:
        one = " for one, character=NAME is enough;" if len(given) == 1 else ""
        raise ConfigError(
            f"{told}: pictures of both are of two, and these are {len(given)};{one} give two, as "
            f"in {EXAMPLE}"
        )
    for word in words:
        if word.lstrip("+~").partition("=")[0].partition(".")[0] == "character":
            raise ConfigError(
                f"{shown(word)}: {told} says who is taught; take it out, and say it there, as in "
                f"'characters=[{OWN},thunder_bear]'"
            )
    place = [word for word in words if word.startswith("hydra.searchpath=")]
    both = [_composed(one, place) for one in given]
    return {**raw, "character": both[0], "characters": both}


def _name_of(entry: Any) -> str:
    named = entry.get("name", entry.get("identifier")) if isinstance(entry, dict) else entry
    return shown(named)


def _composed(entry: Any, place: Sequence[str]) -> dict[str, Any]:
    """One of them with all settings of the group."""
    own = entry if isinstance(entry, dict) else None
    if not isinstance(entry, dict | str):
        raise ConfigError(
            f"characters: {shown(entry)} is no character; give a file of conf/character/ by its "
            f"name, or settings, as in {OWN}"
        )
    if unknown := [name for name in own or () if name not in CharacterSettings.model_fields]:
        raise ConfigError(
            f"characters: {_name_of(entry)}: there is no setting {shown(unknown[0])} of a "
            f"character; there is {', '.join(CharacterSettings.model_fields)}"
        )
    file = "folder" if own is not None else spell(entry)
    whole = compose("config", overrides=[*place, f"character={file}"])
    chosen = whole.character
    for name, value in (own or {}).items():
        chosen[name] = value
    if own and "name" not in own:
        chosen.name = own.get("identifier", chosen.name)
    if missing := sorted(OmegaConf.missing_keys(chosen)):
        lacking = missing[0].removeprefix("character.")
        raise ConfigError(
            f"characters: {_name_of(entry)}: {lacking} is not set; give it, as in {OWN}"
        )
    plain = OmegaConf.to_container(whole, resolve=True)
    assert isinstance(plain, dict)
    return dict(plain["character"])


# -- checking --------------------------------------------------------------------------------------


def company_mistakes(settings: Settings, axes: Collection[str]) -> Iterator[str]:
    """A line for each thing that two characters, or one, cannot be asked; `axes` by their names.

    What an axis of company decides is no mistake in the cells where it says nothing.
    """
    yield from _idle(settings, axes)
    yield from _misplaced(settings)
    yield from _of_kinds(settings)
    if not settings.characters:
        return
    yield from _untold(settings)
    if settings.train:
        yield from (
            f"characters: {one.name} has no drawings (images=null), and both are taught; give "
            f"them, as in {OWN}, or compare adapters alone, train=false"
            for one in settings.characters
            if one.images is None
        )
    for name in axes:
        if name.partition(".")[0] == "character":
            yield f"axes.{name}: characters says who is taught, and is no axis; take this out"
    if settings.is_together and settings.search.is_race:
        yield (
            f"search={settings.search.name}: cells leave by the score of their first images, and "
            "that of two characters is the worst of three, which only whole cells have; set "
            "search=grid"
        )
    if not settings.is_together and (not settings.is_grid or settings.search.is_race):
        otherwise = "" if settings.search.is_race else ", or company=together"
        yield (
            f"company=separate: search={settings.search.name} chooses by results, and two adapters "
            f"are put together when both are there; set search=grid{otherwise}"
        )
    if settings.is_together and method_of(settings.method.plugin()).base is None:
        yield (
            f"company=together: method={settings.method.name} starts from nothing and reads no "
            "prompts, so nobody could ask it for one of the two; choose one that has a base, as "
            "method=dreambooth_lora"
        )


def _idle(settings: Settings, axes: Collection[str]) -> Iterator[str]:
    """Settings that would make no difference."""
    company, two = settings.company, bool(settings.characters)
    if company.name == ONE_ADAPTER and not two:
        yield f"company=together: is of two characters, and characters=[] has none; set {EXAMPLE}"
    if settings.sampler.regional and not two:
        yield (
            "sampler.regional=true: is for pictures of two characters, and characters=[] has none; "
            f"set {EXAMPLE}, or take it out"
        )
    asked = {name: getattr(company, name) for name in OF_TOGETHER}
    if company.name != ONE_ADAPTER and "company" not in axes:
        idle = [f"axes.company.{name}" for name in asked if f"company.{name}" in axes]
        idle += [f"company.{name}={shown(own)}" for name, own in asked.items() if own is not None]
        yield from (
            f"{one}: is for two characters in one adapter; add company=together, or take it out"
            for one in idle
        )
    varied = "other_strength" in axes
    if settings.other_strength == 1 and not varied:
        return
    told = "axes.other_strength" if varied else f"other_strength={settings.other_strength:g}"
    if not two:
        yield (
            f"{told}: is of the second character's adapter, and characters=[] has none; set "
            f"{EXAMPLE}, or take it out"
        )
    elif company.name == ONE_ADAPTER and "company" not in axes:
        yield (
            f"{told}: company=together has one adapter for both; set strength, or "
            "company=separate, which has one for each"
        )


def _misplaced(settings: Settings) -> Iterator[str]:
    """Prompts of the exam that say more than what they are drawn for: the second character, or
    columns."""
    parts = settings.exam.parts or {}
    listed = {"exam.prompts": settings.exam.prompts}
    listed |= {f"exam.parts.{name}.prompts": part.prompts for name, part in parts.items()}
    yield from (
        f"exam.parts.{name}.size: pictures of one alone are square; take it out, or set "
        f"exam.parts.{TOGETHER}.size, of pictures of both"
        for name, part in parts.items()
        if name == OTHER and part.size
    )
    for where, prompts in listed.items():
        is_of_two = where == f"exam.parts.{TOGETHER}.prompts"
        if where == f"exam.parts.{OTHER}.prompts":
            yield from _not_of_second(where, prompts)
        elif not is_of_two and where != "exam.prompts":
            yield from (
                f"{where}: '{shown(prompt)}' asks for {{other}}, and that part is of the first "
                f"character; write it into exam.parts.{TOGETHER}.prompts"
                for prompt in prompts
                if "{other}" in prompt
            )
        if not is_of_two and are_columns_in(prompts):
            yield (
                f"{where}: {COLUMN} gives columns of a picture words of their own, which are for "
                f"pictures of two; write them into exam.parts.{TOGETHER}.prompts"
            )
        yield from (
            f"{where}: '{shown(prompt)}' has one on the left in the whole and the other in the "
            "columns; swap these"
            for prompt in prompts
            if len({left_of(prompt), left_column(prompt)} - {None}) > 1
        )


def _not_of_second(where: str, prompts: Sequence[str]) -> Iterator[str]:
    """Prompts that do not ask for the second alone."""
    for prompt in prompts:
        if "{subject}" in prompt:
            yield (
                f"{where}: '{shown(prompt)}' asks for {{subject}} too, and that part is of "
                f"{{other}} alone; write it into exam.parts.{TOGETHER}.prompts"
            )
        elif "{other}" not in prompt:
            yield (
                f"{where}: '{shown(prompt)}' lacks {{other}}; write it where the second one stands"
            )


def a_kind(kind: str) -> str:
    """ "a place", "an object"."""
    return f"an {kind}" if kind == OBJECT else f"a {kind}"


def _of_kinds(settings: Settings) -> Iterator[str]:
    """No character where one is taught first, and an exam or a way of drawing that is of others."""
    exam, first = settings.exam, settings.character
    if exam.kind != CHARACTER and OTHER not in (exam.parts or {}):
        yield (
            f"exam={exam.name}: kind={exam.kind}, and the prompts of a character say nothing of "
            f"{a_kind(exam.kind)}; give it some of its own, exam.parts.{OTHER}, as conf/exam/"
            f"{exam.kind}.yaml has them"
        )
    if first.kind != CHARACTER:
        given = [one.name for one in settings.characters]
        told = f"characters=[{','.join(given)}]" if given else f"character={first.name}"
        others = [one.name for one in settings.characters if one.kind == CHARACTER]
        remedy = "swap them" if others else "teach it beside one"
        yield (
            f"{told}: {first.identifier} is {a_kind(first.kind)}, and whom an exam asks for first "
            f"is a character; {remedy}, as in characters=[{(others or ['unicorn_girl'])[0]},"
            f"{first.name}] exam={first.kind}"
        )
        return
    if not settings.characters:
        return
    second = settings.characters[1]
    if second.kind != exam.kind:
        fits = {CHARACTER: "company"}.get(second.kind, second.kind)
        yield (
            f"exam={exam.name}: asks for {a_kind(exam.kind)} beside {first.identifier}, and "
            f"{second.identifier} is {a_kind(second.kind)}; set exam={fits}"
        )
    if second.kind == PLACE and settings.sampler.regional:
        yield (
            "sampler.regional=true: draws each half of a picture by itself, and "
            f"{second.identifier} is a place, which has no half; set it to null"
        )


def _untold(settings: Settings) -> Iterator[str]:
    """Why prompts would not tell them apart."""
    one, other = settings.characters
    first, second = one.identifier, other.identifier
    if same(first).casefold() == same(second).casefold():
        yield (
            f"characters: both have the identifier {first}, so no prompt could tell them apart; "
            "give one of them another"
        )
        return
    for short, long in ((first, second), (second, first)):
        if holds(long, short):
            yield (
                f"characters: the identifier {short} stands within {long}, so whatever names "
                f"{long} names both; give one of them another"
            )
    for own, name in ((one, second), (other, first)):
        yield from (
            f"characters: {own.identifier}: class_prompt='{shown(own.class_prompt)}' names {name}, "
            "who is one of the two; say there what class it is of"
            for _ in range(holds(own.class_prompt, name))
        )
        if not holds(own.instance_prompt, own.identifier):
            yield (
                f"characters: {own.identifier}: instance_prompt='{shown(own.instance_prompt)}' "
                f"should contain the identifier {own.identifier}"
            )
