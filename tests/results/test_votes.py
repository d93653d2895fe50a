"""votes.jsonl: nothing written is lost or changed, and nothing that is no vote counts."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from helpers.voting import vote

from charsweep.core.errors import ConfigError, StoreError
from charsweep.results.votes import LONGEST, Votes

A, B = "a" * 12, "b" * 12


@pytest.fixture
def votes(tmp_path: Path) -> Votes:
    return Votes(tmp_path / "votes.jsonl")


def test_votes_come_back_in_order(votes: Votes) -> None:
    cast = [vote(A, B, answer, voter="Zoë") for answer in ("left", "right", "tie", "skip")]
    assert votes.read() == ()
    for one in cast:
        votes.add(one)
    assert votes.read() == tuple(cast)
    assert [one.winner for one in cast] == [A, B, None, None]
    assert [one.loser for one in cast] == [B, A, None, None]


def test_a_vote_that_was_taken_back_does_not_count_and_stays_in_the_file(votes: Votes) -> None:
    first, second = vote(A, B), vote(B, A)
    votes.add(first)
    votes.add(second)
    assert votes.undo(first.id)
    assert not votes.undo(first.id)
    assert not votes.undo("0123456789")
    assert votes.read() == (second,)
    assert len(votes.path.read_text().splitlines()) == 3


@pytest.mark.parametrize("cut", [1, 20, 150])
def test_a_torn_last_line_is_passed_over_and_the_next_vote_begins_anew(
    votes: Votes, cut: int
) -> None:
    whole, torn, later = vote(A, B), vote(A, B), vote(B, A)
    votes.add(whole)
    votes.add(torn)
    os.truncate(votes.path, votes.path.stat().st_size - cut)
    assert votes.read() == (whole,)
    before = votes.path.read_bytes()
    votes.add(later)
    assert votes.path.read_bytes().startswith(before)
    assert later in votes.read()
    assert set(votes.read()) <= {whole, torn, later}


HOSTILE: list[Any] = [
    {"left": "../../etc/passwd"},
    {"left": B},  # beside itself
    {"left": 12},
    {"answer": "both"},
    {"answer": ["left"]},
    {"prompt": -1},
    {"prompt": 1.5},
    {"prompt": True},
    {"seed": 1e300},
    {"seed": "0"},
    {"seconds": None},
    {"seed": 10**4000},
    {"voter": "\ud800"},
    {"voter": "ann\n"},
    {"voter": "x" * 101},
    {"voter": {"name": "ann"}},
    {"at": "yesterday"},
    {"at": "2026-11-29"},
    {"id": "<script>"},
    {"id": None},
    {"undo": 7, "id": ""},
]


@pytest.mark.parametrize("wrong", HOSTILE, ids=lambda wrong: str(wrong)[:40])
def test_what_is_no_vote_does_not_count(votes: Votes, wrong: dict[str, Any]) -> None:
    good = vote(A, B)
    votes.path.write_text(json.dumps({**asdict(vote(A, B)), **wrong}) + "\n")
    votes.add(good)
    assert votes.read() == (good,)


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\x00", b"null", b"[]", b"3", b"{}", b"{", b"[" * 4000, b'{"seconds": NaN}',
        b"x" * (3 * LONGEST), b'{"undo": "' + b"0" * 2 * LONGEST + b'"}',
    ],
)  # fmt: skip
def test_lines_of_anything_are_passed_over(votes: Votes, line: bytes) -> None:
    first, last = vote(A, B), vote(B, A)
    votes.add(first)
    with votes.path.open("ab") as file:
        file.write(line + b"\n")
    votes.add(last)
    assert votes.read() == (first, last)


def test_fields_of_a_later_version_stay_in_the_file(votes: Votes) -> None:
    one = vote(A, B)
    votes.path.write_text(json.dumps({**asdict(one), "device": "phone"}) + "\n")
    assert votes.read() == (one,)
    votes.add(vote(A, B))
    assert '"device": "phone"' in votes.path.read_text()


def test_merging_counts_every_vote_once(votes: Votes, tmp_path: Path) -> None:
    other = Votes(tmp_path / "theirs.jsonl")
    both, ours, theirs = vote(A, B), vote(A, B), vote(B, A, voter="bob")
    for file, cast in ((votes, (both, ours)), (other, (both, theirs))):
        for one in cast:
            file.add(one)
    assert votes.merge(other.path) == 1
    assert votes.read() == (both, ours, theirs)
    before = votes.path.read_bytes()
    assert votes.merge(other.path) == 0
    assert votes.path.read_bytes() == before
    assert votes.merge(votes.path) == 0


def test_merging_takes_back_what_was_taken_back_there(votes: Votes, tmp_path: Path) -> None:
    other = Votes(tmp_path / "theirs.jsonl")
    both, theirs = vote(A, B), vote(B, A)
    votes.add(both)
    for one in (both, theirs):
        other.add(one)
        other.undo(one.id)
    assert votes.merge(other.path) == 0
    assert votes.read() == ()


def test_what_cannot_be_merged_is_said(votes: Votes, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no .*gone"):
        votes.merge(tmp_path / "gone.jsonl")
    with pytest.raises(ConfigError, match="cannot be read"):
        votes.merge(tmp_path)
    empty = tmp_path / "cells.jsonl"
    empty.write_text('{"cell": "3f9ac1"}\n')
    with pytest.raises(ConfigError, match="holds no vote"):
        votes.merge(empty)
    assert not votes.path.exists()


def test_a_disk_that_takes_nothing_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot write"):
        Votes(tmp_path / "gone" / "votes.jsonl").add(vote(A, B))
