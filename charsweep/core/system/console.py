"""Output on the console: lines of the answer, durations in words, values and commands to paste."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any


def span(seconds: float) -> str:
    """A duration in words: "42 s", "3 min 05 s", "2 h 10 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def out(text: str = "") -> None:
    """A line of the answer itself, on standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def spell(value: Any) -> str:
    """A value as it is typed behind NAME=, so that Hydra's grammar reads it back."""
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(map(spell, value)) + "]"
    # of backslashes, those before a quotation mark are halved when they are read
    text = re.sub(r"(\\*)('|$)", lambda at: at[1] * 2 + (at[2] and "\\'"), str(value))
    return f"'{text}'"


def quoted(words: Sequence[str]) -> str:
    """Words as a shell reads them back, whichever it is; double quotes where single ones stand."""
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    if not word.isprintable():  # a line's end too, so that a command is one line
        plain = word.replace("\\", "\\\\").replace("'", "\\'")
        escaped = (char if char.isprintable() else ascii(char)[1:-1] for char in plain)
        return f"$'{''.join(escaped)}'"
    if "'" in word and not re.search(r'["$`\\!]', word):
        return f'"{word}"'
    return shlex.quote(word)


def command(words: Sequence[str]) -> str:
    """The command line of these words, to be pasted into a shell."""
    return quoted(["python", "-m", "charsweep", *words])


def wrapped(typed: str, width: int) -> list[str]:
    """A command as lines of at most so many letters, where no word is longer; a shell joins them.

    Broken between words alone: within quotes, a backslash joins nothing.
    """
    lines: list[str] = []
    for word in re.findall(r"""(?:\$'(?:\\.|[^'])*'|'[^']*'|"(?:\\.|[^"])*"|\\.|\S)+""", typed):
        if lines and len(lines[-1]) + len(word) + 3 <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]
