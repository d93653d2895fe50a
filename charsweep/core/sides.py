"""Sides: which of two a prompt names, {subject} and {other}, whom it puts on the left, and what
each half of the picture is told."""

from __future__ import annotations

import re
from collections.abc import Iterable

from charsweep.core.columns import RegionalPrompt, regional

NAMES = ("subject", "other")
BOTH = "both"
MARKS = re.compile(  # a hand on the left arm is on no side of the picture
    r"\{(?P<name>subject|other)\}"
    r"|\b(?:on|to|at) the (?P<side>left|right)\b(?! (?:arm|hand|leg|foot|eye|ear|shoulder)\b)"
)


def asked_for(prompt: str) -> str:
    """Whom a prompt that names anybody asks for: "subject", "other" or "both"."""
    found = [name for name in NAMES if f"{{{name}}}" in prompt]
    return found[0] if len(found) == 1 else BOTH


def left_of(prompt: str) -> str | None:
    """Who is to stand on the left, "subject" or "other"; None where the prompt does not say.

    A side belongs to the name before it ("{subject} on the left and {other} on the right"), or all
    of them to the names behind them ("on the left {subject}, on the right {other}"). Where the
    words of the whole do not name both, columns say it by whom each of them names.
    """
    whole, columns = regional(prompt)
    if columns and not all(f"{{{name}}}" in whole for name in NAMES):
        return left_column(prompt)
    marks = list(MARKS.finditer(whole))
    for told in (marks, marks[::-1]):
        for name, side in _placed(told).items():
            return name if side == "left" else NAMES[name == NAMES[0]]
    return None


def left_column(prompt: str) -> str | None:
    """Whom the leftmost of the columns names that name anybody, if the rightmost names the other;
    else None."""
    columns = regional(prompt).columns
    named = [asked_for(one) for one in columns if any(f"{{{name}}}" in one for name in NAMES)]
    return named[0] if set(named[:1]) | set(named[-1:]) == {*NAMES} else None


def in_halves(prompt: str) -> str:
    """A prompt that asks for both, with words of its own for each half: all of it, with the one who
    stands there in the place of both.

    The first is on the left where the prompt does not say. What has columns already keeps them, and
    what asks for one alone has none.
    """
    if regional(prompt).columns or asked_for(prompt) != BOTH:
        return prompt
    first, other = (f"{{{name}}}" for name in NAMES)
    halves = prompt.replace(other, first), prompt.replace(first, other)
    return str(RegionalPrompt(prompt, halves[::-1] if left_of(prompt) == NAMES[1] else halves))


def _placed(marks: Iterable[re.Match[str]]) -> dict[str, str]:
    """The sides by the names told before them; {} where that leaves a side to nobody, or gives one
    name two, or both one."""
    sides: dict[str, str] = {}
    name = ""
    for mark in marks:
        if mark["name"]:
            name = mark["name"]
        elif not name or sides.setdefault(name, mark["side"]) != mark["side"]:
            return {}
    return sides if len(set(sides.values())) == len(sides) else {}
