"""Votes: what people answered when shown two images, as lines of votes.jsonl that are only added.

A vote lies under the keys of the two image sets, so it counts in every sweep that holds both, and
goes on counting when a sweep grows. Each line is one JSON object: a vote, or `{"undo": ID}`. A line
is written at once and waited for, so a kill loses none; one that a power failure tore is passed
over, and so is whatever is not a vote: what is written in the file is never changed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from charsweep.core.errors import ConfigError, StoreError
from charsweep.core.store.files import unwritable

FILE = "votes.jsonl"  # of a sweep's folder, beside cells.csv
Answer = Literal["left", "right", "tie", "skip"]
LONGEST = 4096  # bytes of a line; a vote has about 250
ID, KEY = re.compile(r"[0-9a-f]{8,64}"), re.compile(r"[0-9a-f]{1,64}")
MOST_LETTERS = 100  # of a voter's name


@dataclass(frozen=True)
class Vote:
    """One answer: which of two images of one prompt and exam seed is better.

    ValueError for what no vote can be.
    """

    id: str  # random hex
    left: str  # key of the image set that was shown there
    right: str
    prompt: int  # its place in the exam, from 0
    seed: int  # of the exam
    answer: Answer
    seconds: float  # that the answer took
    voter: str
    at: str  # ISO 8601, UTC

    def __post_init__(self) -> None:
        texts = (self.id, self.left, self.right, self.answer, self.voter, self.at)
        numbers = (self.prompt, self.seed, self.seconds)
        if not all(isinstance(text, str) for text in texts) or not all(map(is_number, numbers)):
            raise ValueError("a field is not of its type")
        if not ID.fullmatch(self.id) or not all(map(KEY.fullmatch, (self.left, self.right))):
            raise ValueError("an id or a key is not hexadecimal")
        if self.left == self.right or self.answer not in get_args(Answer):
            raise ValueError("it is no answer on two image sets")
        if not all(isinstance(number, int) for number in (self.prompt, self.seed)):
            raise ValueError("prompt and seed are whole numbers")
        is_name = self.voter.isprintable() and len(self.voter) <= MOST_LETTERS
        if not is_name or datetime.fromisoformat(self.at).tzinfo is None:
            raise ValueError("its voter or its time is not written as it should be")

    @cached_property
    def shown(self) -> tuple[frozenset[str], int, int]:
        """The two images, whichever stood where."""
        return frozenset((self.left, self.right)), self.prompt, self.seed

    @property
    def winner(self) -> str | None:
        """The key of the preferred image set; None of a tie or a skip."""
        return {"left": self.left, "right": self.right}.get(self.answer)

    @property
    def loser(self) -> str | None:
        """The key of the other one."""
        return {"left": self.right, "right": self.left}.get(self.answer)

    @property
    def line(self) -> str:
        """As it is written."""
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False)


def is_number(value: Any) -> bool:
    """Whether it is a number that a vote may have: finite, not negative, no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**63


NAMES = tuple(field.name for field in fields(Vote))


class Votes:
    """The file of a sweep's votes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[Vote, ...]:
        """The votes that count, in order, each id once; none without a file."""
        votes, undone = self._all()
        return tuple(vote for vote in votes if vote.id not in undone)

    def add(self, vote: Vote) -> None:
        """Write a vote; StoreError if the disk does not take it."""
        self._append([vote.line])

    def undo(self, id: str) -> bool:
        """Take a vote back; whether there was one that counted."""
        found = any(vote.id == id for vote in self.read())
        if found:
            self._append([undo_line(id)])
        return found

    def merge(self, path: Path) -> int:
        """Add another file's votes, and take back those that were taken back there.

        Returns how many are new here. ConfigError where it cannot be read or holds no vote.
        """
        known, undone = self._all()
        theirs, taken_back = Votes(path)._all(must_be_there=True)
        if not theirs:
            raise ConfigError(
                f"{path} holds no vote: give the {FILE} of the same sweep, as another person's "
                "copy has it"
            )
        ours = {vote.id for vote in known}
        new = [vote for vote in theirs if vote.id not in ours | taken_back]
        back = [vote.id for vote in known if vote.id in taken_back - undone]
        self._append([*(vote.line for vote in new), *map(undo_line, back)])
        return len(new)

    def _all(self, must_be_there: bool = False) -> tuple[list[Vote], set[str]]:
        """Every vote of the file, each id once, and the ids that were taken back."""
        votes: dict[str, Vote] = {}
        undone = set()
        try:
            for line in lines_of(self.path):
                if isinstance(found := parsed(line), Vote):
                    votes.setdefault(found.id, found)
                elif found is not None:
                    undone.add(found)
        except FileNotFoundError as error:
            if must_be_there:
                raise ConfigError(f"there is no {self.path}; give a file of votes") from error
        except OSError as error:
            text = f"{self.path} cannot be read ({error.strerror})"
            if must_be_there:
                raise ConfigError(f"{text}; give a file of votes") from error
            raise StoreError(f"{text}; check its permissions") from error
        return list(votes.values()), undone

    def _append(self, lines: Sequence[str]) -> None:
        """Write lines in one piece, and wait until the disk has them; never into a torn one."""
        if not lines:
            return
        text = "".join(f"{line}\n" for line in lines).encode()
        try:
            file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                size = os.fstat(file).st_size
                torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
                whole = b"\n" + text if torn else text
                while whole:
                    whole = whole[os.write(file, whole) :]
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise unwritable(self.path, error) from error


def undo_line(id: str) -> str:
    return json.dumps({"undo": id})


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a file that may be ones of ours, however long its others are."""
    with path.open("rb") as file:
        is_start = True
        while piece := file.readline(LONGEST):
            is_end = piece.endswith(b"\n")
            if is_start and is_end:
                yield piece
            is_start = is_end


def parsed(line: bytes) -> Vote | str | None:
    """A vote, the id of one that is taken back, or None for anything else."""
    try:
        found = json.loads(line)
        if not isinstance(found, dict):
            return None
        if isinstance(undone := found.get("undo"), str):
            return undone
        return Vote(**{name: found[name] for name in NAMES})
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
