"""Words of the command line as they are meant, in Hydra's grammar.

That grammar has no É, no ~ and no apostrophe outside quotes, and reads `123e4` as a number. So what
is typed for a setting that is a text is put in quotes here, unless it is a text in the grammar too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override

from charsweep.config.schema import is_list, is_open, is_text, may_be_text
from charsweep.core.system.console import spell

KEYS = ("story.cell", "export.cell")
BARE_KEY = re.compile(r"[0-9a-f]{1,12}")  # a key, or the beginning of one
WORKERS = "runtime.workers"
SEVERAL = re.compile(r"\[?(\d+(?:, ?\d+)+)\]?")  # numbers of workers, for action=plan to compare
KEY_ACTIONS = ("action=show", "action=why")  # whose other words are keys
TOGETHER = {"[": "]", "{": "}", "(": ")"}


def with_keys(words: Sequence[str]) -> list[str]:
    """Bare keys, behind the actions that take any, in `store.keys`."""
    takes_keys = any(word.replace("'", "") in KEY_ACTIONS for word in words)
    bare = [word for word in words if takes_keys and BARE_KEY.fullmatch(word)]
    left = [word for word in words if word not in bare]
    return [*left, f"store.keys=[{','.join(map(spell, bare))}]"] if bare else left


def as_meant(words: Sequence[str]) -> list[str]:
    """Texts, and keys that look like numbers, in quotes; several numbers of workers as a list."""
    return [_quoted(word) for word in words]


def opened(word: str) -> str:
    """A word that gives something to an open mapping, with the signs by which Hydra adds it."""
    bare = word.lstrip("+")
    name, _, value = bare.partition("=")
    chooses = "." not in name and not value.startswith("{")  # a file of a group
    return f"++{bare}" if is_open(name) and not chooses else word


def parsed(word: str) -> Override | None:
    """A word as Hydra's grammar reads it; None where it cannot."""
    try:
        override: Override = OverridesParser.create().parse_override(word)
    except Exception:  # ANTLR's kinds, and Python's over numbers of thousands of digits
        return None
    return override


def _quoted(word: str) -> str:
    """A word with its value in quotes, where it is a text and would be read as something else."""
    start, _, value = word.partition("=")
    name = start.lstrip("+")
    if not value or start.startswith("~") or not _is_plain(value):
        return word
    if name == WORKERS and (numbers := SEVERAL.fullmatch(value)):
        return f"plan.workers=[{numbers[1]}]"
    if name in KEYS:
        return f"{start}={spell(value)}" if BARE_KEY.fullmatch(value) else word
    override = parsed(f"x={value}")
    if override is None:
        if may_be_text(name):
            return f"{start}={spell(_without_quotes(value))}"
        if (is_list(name) or name.startswith("axes.")) and value[0] == "[" and value[-1] == "]":
            return f"{start}=[{','.join(map(_element, elements(value[1:-1])))}]"
    elif is_text(name) and not _is_read_as_text(override, value):
        return f"{start}={spell(value)}"
    return word


def _is_plain(value: str) -> bool:
    """Whether it is text at all: letters, signs, spaces."""
    return all(char.isprintable() or char.isspace() for char in value)


def _is_read_as_text(override: Override, value: str) -> bool:
    """Whether a value is a text in the grammar too, or nothing, or is meant as several.

    `a, b` is prose; `a,b` may be either, and is asked about.
    """
    read = override.value()
    if isinstance(read, ChoiceSweep) and read.simple_form:
        return not re.search(r",\s", value)
    return read is None or isinstance(read, str) or override.is_sweep_override()


def _without_quotes(value: str) -> str:
    """What stands in quotes that the grammar could not make out: 'What's best?'."""
    quoted = len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]
    return value[1:-1] if quoted else value


def _element(text: str) -> str:
    """An element of a list: as it is where the grammar has it, else as a text."""
    override = parsed(f"x={text}") if text else None
    known = override is not None and not override.is_sweep_override()
    return text if known else spell(_without_quotes(text))


def elements(text: str) -> Iterator[str]:
    """The elements of a list, apart at commas outside brackets and quotes."""
    start, closing = 0, [""]
    for at, char in enumerate(text):
        begins = not text[start:at].strip()
        if char == closing[-1] and (char not in "'\"" or text[at - 1] != "\\"):
            closing.pop()
        elif closing[-1] in ("'", '"'):
            continue
        elif char in TOGETHER or (char in "'\"" and begins):
            closing.append(TOGETHER.get(char, char))
        elif char == "," and len(closing) == 1:
            yield text[start:at].strip()
            start = at + 1
    yield text[start:].strip()
