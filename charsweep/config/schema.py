"""What a setting may be, by its dotted name, before anything is composed: a text, or a list.

From pydantic's schema of the settings, and of the classes that the files of a group name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import pydantic

from charsweep.config.settings import Settings
from charsweep.core.plugins import CONF, resolve

NAMED_LISTS = ("metric", "encoder", "objectives")  # typed as lists of names, kept as mappings
# Mappings that have no names, or not all, before somebody gives them.
OPEN = ("axes", "parts", "constraints", "attributes", "exam.attributes", "story.keep",
        "optimizer", "sampler.settings", "search.sampler", "search.pruner")  # fmt: skip

NOT_AXES = ("action", "name", "question", "root", "study", "runtime", "axes", "objectives",
            "constraints", "seeds", "parts", "adapters", "train", "characters", "search", "find",
            "story", "export", "caption", "plan", "report", "choose", "merge", "store")  # fmt: skip
# What makes images others, whatever drew them.
DRAWS = ("inference_steps", "strength", "other_strength", "sampler", "models", "exam", "character",
         "resolution", "precision", "method.base")  # fmt: skip
# What judges images that are the same whatever it is: a cell is what was drawn.
JUDGES = ("attributes", "metric", "encoder", "identity_encoder", "prompt_encoder", "references",
          "models.encoders", "character.truth", "exam.parts", "exam.attributes")  # fmt: skip


def is_text(name: str) -> bool:
    """Whether a setting is a text, whatever is typed: not one of several words, nor a number."""
    kinds = {node.get("type") for node in schemas_of(name) if not _is_choice(node)}
    return "string" in kinds and kinds <= {"string", "null"}


def may_be_text(name: str) -> bool:
    """Whether a setting is a text, or may be one: `held_out` is a number or a folder."""
    return any(node.get("type") == "string" and not _is_choice(node) for node in schemas_of(name))


def is_list(name: str) -> bool:
    """Whether a setting is a list."""
    return name in NAMED_LISTS or any(node.get("type") == "array" for node in schemas_of(name))


def is_open(name: str) -> bool:
    """Whether a setting is, or lies in, a mapping to which any name may be given."""
    return _is_in(name, OPEN)


def can_vary(name: str) -> bool:
    """Whether a setting can be an axis."""
    return not _is_in(name, NOT_AXES) and not only_judges(name)


def shapes_images(name: str) -> bool:
    """Whether a setting makes a difference to images of weights that are there already."""
    return _is_in(name, DRAWS)


def only_judges(name: str) -> bool:
    """Whether another value of a setting draws the same images and only judges them otherwise."""
    return _is_in(name, JUDGES)


def _is_in(name: str, places: Sequence[str]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def schemas_of(name: str) -> list[dict[str, Any]]:
    """The ways in which a setting may be given; none for one that is not known."""
    whole = _settings()
    found, known = [whole], whole["$defs"]
    parts = name.split(".")
    for depth, part in enumerate(parts):
        inner = [schema for node in found for schema in _within(node, part)]
        for schema in [] if inner else _of_plugins(parts[:depth]):
            inner += _within(schema, part)
            known = {**known, **schema.get("$defs", {})}
        found = [node for schema in inner for node in alternatives(schema, known)]
    return found


def alternatives(schema: Mapping[str, Any], known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A schema's ways, with references followed."""
    if "$ref" in schema:
        return alternatives(known.get(schema["$ref"].rpartition("/")[2], {}), known)
    if "anyOf" in schema:
        return [node for one in schema["anyOf"] for node in alternatives(one, known)]
    return [dict(schema)]


def _within(schema: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """The schemas of what has that name in a mapping."""
    if name in schema.get("properties", {}):
        yield schema["properties"][name]
        return
    others = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
    yield from (other for other in others if isinstance(other, dict))


def _is_choice(schema: Mapping[str, Any]) -> bool:
    return "enum" in schema or "const" in schema


@cache
def _settings() -> dict[str, Any]:
    return Settings.model_json_schema()


def _of_plugins(place: list[str]) -> Iterator[dict[str, Any]]:
    """The schemas of charsweep's own classes that the files of a group name."""
    if len(place) == 1 and place[0] in ("method", "schedule", "caption"):
        yield from _of_group(place[0])


@cache
def _of_group(group: str) -> tuple[dict[str, Any], ...]:
    texts = [path.read_text(encoding="utf-8") for path in (CONF / group).glob("*.yaml")]
    targets = {
        found for text in texts for found in re.findall(r"_target_: (charsweep[.\w]+)", text)
    }
    return tuple(pydantic.TypeAdapter(resolve(target)).json_schema() for target in sorted(targets))
