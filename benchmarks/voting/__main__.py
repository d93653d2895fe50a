"""`python -m benchmarks.voting`: how many votes find the best cell, and what a guesser is told.

Writes benchmarks/VOTING.md. Half an hour of one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.voting.simulate import (
    ERRORS,
    IMAGE_ERROR,
    SCORE_ERROR,
    Ask,
    Ended,
    any_pair,
    any_rivals,
    candidates,
    guesser,
    most_telling,
    person,
    vote,
)

MOST = 400  # votes; a voter who has not found out by then stops
GUESSES = 120  # of a voter who flips coins
HEAD = f"""\
# How many votes does it take?

What `python -m benchmarks.voting` measured. A simulated voter knows how much she likes each of 35
cells (7 learning rates × 5 numbers of steps; tastes fall off from a best place, more or less
steeply, with some of each cell's own; mean 0, standard deviation 1) and answers {ERRORS:.0%} of the
pairs the other way round. She votes until the votes are decisive, at most {MOST} times. *By image*:
besides, one image of a cell is liked more than another, by {IMAGE_ERROR:g}. *Scores known*: the
cells have a score, which errs by {SCORE_ERROR:g}, and in question are those that it cannot tell
from the best; otherwise all 35 are. *Most telling* pairs are those that the voting page asks.
*Top 3* and *best*: whether the named cell truly is that; *lost*: how much less than the best cell
the named one is liked, on average.

| voter | in question | pairs | runs | median votes | quarters | decided | top 3 | best | lost |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""


@dataclass(frozen=True)
class Trial:
    """One kind of voting."""

    by_image: bool
    scored: bool
    pairs: str
    ask: Ask

    @property
    def label(self) -> str:
        taste = "by image" if self.by_image else "by cell"
        return f"{taste} | {'scores known' if self.scored else 'all 35'} | {self.pairs}"


TRIALS = (
    Trial(False, True, "most telling", most_telling),
    Trial(False, True, "any two in question", any_rivals),
    Trial(False, True, "any two", any_pair),
    Trial(True, True, "most telling", most_telling),
    Trial(True, True, "any two in question", any_rivals),
    Trial(False, False, "most telling", most_telling),
    Trial(False, False, "any two", any_pair),
)


def tried(trial: Trial, seed: int) -> Ended:
    """One voter."""
    voter = person(seed, trial.by_image)
    return vote(voter, candidates(voter, trial.scored), trial.ask, MOST, seed)


def guessed(scored: bool, seed: int) -> Ended:
    """One who flips coins."""
    voter = guesser(seed)
    return vote(voter, candidates(voter, scored), most_telling, GUESSES, seed)


def row(trial: Trial, ended: Sequence[Ended]) -> str:
    votes = [one.votes for one in ended]
    low, middle, high = np.percentile(votes, [25, 50, 75])
    decided = sum(one.said.decisive for one in ended)
    top, best = sum(1 <= one.rank <= 3 for one in ended), sum(one.rank == 1 for one in ended)
    known = [f"{middle:.0f}", f"{low:.0f} to {high:.0f}", *map(str, (decided, top, best))]
    known.append(f"{np.nanmean([one.lost for one in ended]):.2f}" if decided else "–")
    return f"| {trial.label} | {len(ended)} | {' | '.join(known)} |"


def guess_line(scored: bool, ended: Sequence[Ended]) -> str:
    told = sum(one.said.nothing for one in ended)
    where = "the scores are known" if scored else "all 35 are in question"
    return (
        f"A voter who flips coins {GUESSES} times is told that the votes say nothing in {told} of "
        f"{len(ended)} runs where {where}."
    )


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.voting", description=__doc__)
    add = made.add_argument
    add("--runs", type=int, default=50)
    add("--first", type=int, default=0, help="seed of the first run")
    add("--processes", type=int, default=1)
    add("--out", type=Path, default=Path(__file__).parents[1] / "VOTING.md", help="the page")
    return made


def lines(runs: Sequence[int], processes: int) -> Iterable[str]:
    """The table, then what guessers are told."""
    with ProcessPoolExecutor(processes) as pool:
        for trial in TRIALS:
            yield row(trial, list(pool.map(partial(tried, trial), runs)))
        yield ""
        for scored in (True, False):
            yield guess_line(scored, list(pool.map(partial(guessed, scored), runs)))


def main(arguments: list[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    text = HEAD
    for line in lines(range(options.first, options.first + options.runs), options.processes):
        print(line, flush=True)
        text += f"{line}\n"
    options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
