"""Where a search in stages starts: the values of what it looks over, and the kinds of its cells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from charsweep.config.settings import Settings
from charsweep.core.errors import ConfigError
from charsweep.core.methods import method_of, takes_strength

AXES = {  # by the words of `find.over`
    "lr": "lr",
    "steps": "train_steps",
    "inference_steps": "inference_steps",
    "strength": "strength",
    "rank": "method.rank",
    "prior": "method.prior_weight",
    "captions": "method.prompts",
    "method": "method",
}


def axes_over(settings: Settings) -> dict[str, tuple[Any, ...]]:
    """What varies; the values are found."""
    assert settings.find is not None
    axes = {axis: () for over, axis in AXES.items() if over in settings.find.over}
    return axes if _has_strength(settings) else {a: () for a in axes if a != AXES["strength"]}


def start_of(settings: Settings) -> dict[str, Any]:
    """The values that a search starts with, of all that shapes its cells; a strength where what
    the method teaches can be put on in part.

    ConfigError for what the method has no setting of.
    """
    assert settings.find is not None
    if not axes_over(settings):
        raise ConfigError(
            f"find.over: strength: what method={settings.method.name} teaches cannot be put on in "
            "part, and nothing else is looked over; name something, as in find.over=[lr]"
        )
    own = settings.method.model_extra or {}
    start: dict[str, Any] = {
        "method": settings.method.name,
        "lr": settings.lr,
        "train_steps": settings.train_steps,
        "inference_steps": settings.inference_steps,
    }
    if "strength" in settings.find.over and _has_strength(settings):
        start["strength"] = settings.strength
    for over, axis in AXES.items():
        group, _, name = axis.partition(".")
        if group != "method" or not name or over not in settings.find.over:
            continue
        if name not in own:
            raise ConfigError(
                f"find.over: {over}: method={settings.method.name} has no {axis}; leave it out, "
                f"as in find.over=[{_without(over, settings)}]"
            )
        start[axis] = own[name]
    return start


def _has_strength(settings: Settings) -> bool:
    return takes_strength(method_of(settings.method.plugin()))


def _without(over: str, settings: Settings) -> str:
    """What is looked over but for one; never nothing."""
    assert settings.find is not None
    return ",".join(one for one in settings.find.over if one != over) or "lr"


def kinds_of(settings: Settings) -> Iterator[dict[str, Any]]:
    """Values that stand for all that may be chosen: those of the start, and each other method."""
    assert settings.find is not None
    start = start_of(settings)
    longest = max([*settings.find.steps, settings.train_steps])
    yield {**start, "train_steps": longest}
    if "method" in settings.find.over:
        plain = {name: value for name, value in start.items() if "." not in name}
        for method in settings.find.methods:
            if method != settings.method.name:
                yield {**plain, "train_steps": longest, "method": method}
