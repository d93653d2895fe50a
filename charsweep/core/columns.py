"""Regional prompts: what stands in a column of a picture has words of its own.

Written in the prompt as Regional Prompter (for A1111) has it: `the whole ADDBASE the left column
ADDCOL the right one`, with as many columns as there are, all of one width. What is said before
`ADDCOMM` is read in each of them: `on the beach ADDCOMM a girl ADDCOL a bear`. The words of the
whole are what a picture is judged by; where there are none, they are those of all columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from charsweep.core.words import holds

WHOLE, COMMON, COLUMN = "ADDBASE", "ADDCOMM", "ADDCOL"


class RegionalPrompt(NamedTuple):
    """The words of a whole picture, and those of its columns from left to right; () without any."""

    whole: str
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.columns:
            return self.whole
        return f"{self.whole} {WHOLE} {f' {COLUMN} '.join(self.columns)}"

    @property
    def texts(self) -> tuple[str, ...]:
        """All that is read by itself."""
        return self.columns or (self.whole,)


class Column(NamedTuple):
    """A column of a picture: what is drawn there, and which of several adapters draws it."""

    words: str
    drawer: int


class Pass(NamedTuple):
    """One pass over a batch of pictures: by which adapter, for pictures in how many columns, and of
    each the words that it is told, and the column that it is for; None: it is for none."""

    drawer: int
    of: int
    words: tuple[str, ...]
    columns: tuple[int | None, ...]


def regional(prompt: str) -> RegionalPrompt:
    """A prompt in its parts."""
    whole, has_whole, rest = prompt.rpartition(WHOLE)
    common, has_common, columns = rest.rpartition(COMMON)
    told = [part.strip() for part in columns.split(COLUMN)]
    if not (has_whole or has_common or len(told) > 1):
        return RegionalPrompt(prompt)
    shared = [common.strip()] if has_common else []
    each = tuple(", ".join([*shared, one]) for one in told)
    return RegionalPrompt(whole.strip() if has_whole else ", ".join([*shared, *told]), each)


def are_columns_in(prompts: Sequence[str]) -> bool:
    """Whether any of the prompts gives columns words of their own."""
    return any(regional(prompt).columns for prompt in prompts)


def columns_of(prompt: str, called: Sequence[str] = (), whose: int = 0) -> tuple[Column, ...]:
    """The columns of a picture; one, the whole of it, where nothing tells them apart.

    Of adapters that draw apart, each draws what names whom it is `called` by, and the adapter
    `whose` picture it is draws what names none of them, or several. A whole picture that names
    several has a column for each, which is told all of it.
    """
    parts = regional(prompt)
    if not parts.columns and len(named := _named(prompt, called)) > 1:
        return tuple(Column(prompt, drawer) for drawer in named)
    each = ((words, _named(words, called)) for words in parts.texts)
    return tuple(Column(words, named[0] if len(named) == 1 else whose) for words, named in each)


def passes(prompts: Sequence[str], called: Sequence[str] = (), whose: int = 0) -> list[Pass]:
    """The fewest passes in which all columns of a batch of pictures are drawn, each by its own
    adapter.

    What is drawn of a picture does not depend on those beside it.
    """
    pictures = [columns_of(prompt, called, whose) for prompt in prompts]
    most: Counter[tuple[int, int]] = Counter()
    for columns in pictures:
        most |= Counter((column.drawer, len(columns)) for column in columns)
    return [_pass(pictures, *key, turn) for key in sorted(most) for turn in range(most[key])]


def _pass(pictures: Sequence[Sequence[Column]], drawer: int, of: int, turn: int) -> Pass:
    """In which an adapter draws its first, second, … column of each picture of so many."""
    words, places = [], list[int | None]()
    for columns in pictures:
        own = [place for place, column in enumerate(columns) if column.drawer == drawer]
        place = own[turn] if len(columns) == of and turn < len(own) else None
        words.append(columns[place or 0].words)
        places.append(place)
    return Pass(drawer, of, tuple(words), tuple(places))


def _named(text: str, called: Sequence[str]) -> list[int]:
    """The places of those whom a text names."""
    return [place for place, name in enumerate(called) if holds(text, name)]
