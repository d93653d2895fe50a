"""Sides: which of two a prompt names, {subject} and {other}, whom it puts on the left, and what
each half of the picture is told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

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
    of them to the names behind them ("on the left {subject}, on the right {other}"). Columns say it
    by whom each of them names.
    """
    if columns := regional(prompt).columns:
        named = [asked_for(one) for one in columns if any(f"{{{name}}}" in one for name in NAMES)]
        return named[0] if set(named[:1]) | set(named[-1:]) == {*NAMES} else None
    marks = list(MARKS.finditer(prompt))
    for told in (marks, marks[::-1]):
        for name, side in _placed(told).items():
            return name if side == "left" else NAMES[name == NAMES[0]]
    return None


def in_halves(prompt: str, halves: Sequence[str] | None = None) -> str:
    """A prompt that asks for both, with words of its own for each half: these, from left to right,
    else all of it with the one who stands there in the place of both.

    The first is on the left where the prompt does not say. What has columns already keeps them, and
    what asks for one alone has none.
    """
    if regional(prompt).columns or asked_for(prompt) != BOTH:
        return prompt
    if not halves:
        first, other = (f"{{{name}}}" for name in NAMES)
        halves = prompt.replace(other, first), prompt.replace(first, other)
        halves = halves[::-1] if left_of(prompt) == NAMES[1] else halves
    return str(RegionalPrompt(prompt, tuple(halves)))


def check_halves(prompt: str, halves: Sequence[str]) -> None:
    """ValueError for halves that have not one of both each, or on other sides than the prompt, or
    beside columns."""
    words = " | ".join(halves)
    if any(regional(one).columns for one in (prompt, *halves)):
        raise ValueError(
            f"halves: '{words}' stands beside columns of '{prompt}'; give the ones or the others"
            if regional(prompt).columns
            else f"halves: '{words}' has columns in a half; write them into the prompt"
        )
    told = left_of(str(RegionalPrompt(prompt, tuple(halves))))
    if told is None:
        raise ValueError(f"halves: '{words}' is to have {{subject}} in one half, {{other}} in one")
    if left_of(prompt) not in (None, told):
        raise ValueError(f"halves: '{words}' has them the other way round than '{prompt}'; swap it")


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
