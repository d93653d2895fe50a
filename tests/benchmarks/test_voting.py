"""Simulated voters: few telling pairs find one of the best cells, and guessing finds nothing."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest

from benchmarks.voting import __main__ as command
from benchmarks.voting.simulate import (
    SEEDS,
    any_pair,
    any_rivals,
    candidates,
    guesser,
    most_telling,
    person,
    vote,
)

FIRST = 500  # seeds of their own: the page reports others


def test_telling_pairs_find_one_of_the_best_with_half_the_votes() -> None:
    found = []
    for seed in range(FIRST, FIRST + 5):
        voter = person(seed)
        cells = candidates(voter, scored=True)
        told = vote(voter, cells, most_telling, 250, seed)
        by_chance = vote(voter, cells, any_pair, 2 * told.votes + 50, seed)
        found.append((told, by_chance))
    assert sum(1 <= told.rank <= 3 for told, _ in found) >= 4
    median = np.median([told.votes for told, _ in found])
    assert median <= 120
    assert np.median([by_chance.votes for _, by_chance in found]) >= 2 * median


def test_who_flips_coins_is_told_that_it_says_nothing() -> None:
    said = []
    for seed in range(FIRST, FIRST + 4):
        voter = guesser(seed)
        said.append(vote(voter, candidates(voter, scored=True), most_telling, 60, seed).said)
    assert [one.nothing for one in said] == [True] * 4
    assert [one.decisive for one in said] == [False] * 4


def test_a_voter_is_as_constant_as_she_is_said_to_be() -> None:
    voter, random = person(FIRST), Random(0)
    pair = any_pair([], candidates(voter, scored=False), random)
    assert pair is not None
    answers = [voter.answer(pair, random) for _ in range(400)]
    cells = [int(key, 16) for key in (pair.left, pair.right)]
    left, right = (voter.images[cell, pair.prompt, SEEDS.index(pair.seed)] for cell in cells)
    right_ones = sum((answer == "left") == (left > right) for answer in answers)
    assert right_ones == pytest.approx(320, abs=30)


def test_scores_leave_the_best_in_question() -> None:
    for seed in range(FIRST, FIRST + 20):
        voter = person(seed)
        cells = candidates(voter, scored=True)
        rivals = [one for one in cells if one.is_rival]
        assert 6 <= len(rivals) < len(cells)
        assert cells[int(voter.tastes.argmax())] in rivals
        pair = any_rivals([], cells, Random(seed))
        assert pair is not None
        assert {pair.left, pair.right} <= {one.sets[0] for one in rivals}


def test_its_command_writes_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "TRIALS", command.TRIALS[:1])
    monkeypatch.setattr(command, "MOST", 6)
    monkeypatch.setattr(command, "GUESSES", 6)
    command.main(["--runs", "2", "--first", str(FIRST), "--out", str(tmp_path / "VOTING.md")])
    text = (tmp_path / "VOTING.md").read_text(encoding="utf-8")
    assert "| by cell | scores known | most telling | 2 | 6 | 6 to 6 | 0 | 0 | 0 | – |" in text
    assert text.count("is told that the votes say nothing in 2 of 2 runs") == 2
    assert capsys.readouterr().out.splitlines()[0] in text
