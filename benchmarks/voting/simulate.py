"""A voter whose tastes are known, a sweep of cells, and the votes until enough is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import numpy as np
from numpy.typing import NDArray

from charsweep.results.next_pair import Pair, next_pair
from charsweep.results.preference import Candidate, Preferences, preferences
from charsweep.results.votes import Answer, Vote

RATES, STEPS = 7, 5  # of the grid: 35 cells
PROMPTS, SEEDS = 8, (0, 1)
ERRORS = 0.2  # of the answers are the other way round
SCORE_ERROR = 0.35  # standard error of a score, in standard deviations of the tastes
IMAGE_ERROR = 0.3  # the same of how much one image of a cell is liked more than another
LEAST_RIVALS = 6

Ask = Callable[[list[Vote], tuple[Candidate, ...], Random], Pair | None]


@dataclass(frozen=True)
class Person:
    """Somebody who votes on a sweep: how much each cell, and each image of it, is liked."""

    tastes: NDArray[np.float64]  # (cells,), of mean 0 and standard deviation 1
    images: NDArray[np.float64]  # (cells, prompts, seeds)
    scores: NDArray[np.float64]  # (cells,): what the machine thinks
    errors: float

    def answer(self, pair: Pair, random: Random) -> Answer:
        at = [int(key, 16) for key in (pair.left, pair.right)]
        left, right = (self.images[cell, pair.prompt, SEEDS.index(pair.seed)] for cell in at)
        return "left" if (left > right) != (random.random() < self.errors) else "right"


def person(seed: int, by_image: bool = False, errors: float = ERRORS) -> Person:
    """Tastes that fall off from a best rate and number of steps, more or less steeply, with some
    of each cell's own; `by_image` with some of each image's own too."""
    chance = np.random.default_rng([17, seed])
    rate, step = np.meshgrid(np.linspace(-1, 1, RATES), np.linspace(-1, 1, STEPS), indexing="ij")
    top_rate, top_step = chance.uniform(-0.7, 0.7, 2)
    steep, tilt = chance.uniform(0.8, 3), chance.uniform(-0.8, 0.8)
    away = rate - top_rate + tilt * (step - top_step)
    raw = -steep * away**2 - (step - top_step) ** 2 + chance.normal(0, 0.12, rate.shape)
    tastes = ((raw - raw.mean()) / raw.std()).ravel()
    spread = IMAGE_ERROR if by_image else 0.0
    images = tastes[:, None, None] + chance.normal(0, spread, (tastes.size, PROMPTS, len(SEEDS)))
    return Person(tastes, images, tastes + chance.normal(0, SCORE_ERROR, tastes.size), errors)


def candidates(voter: Person, scored: bool) -> tuple[Candidate, ...]:
    """The cells; in question all, or those whose score is not told from the highest."""
    scores = voter.scores
    order = np.argsort(-scores)
    gap = 2 * 2**0.5 * SCORE_ERROR
    rivals = {*order[scores[order] >= scores.max() - gap], *order[:LEAST_RIVALS]}
    return tuple(
        Candidate((f"{at:012x}",), f"cell {at}", (at % STEPS, 0.0, 0.0), not scored or at in rivals)
        for at in range(len(scores))
    )


def most_telling(votes: list[Vote], cells: tuple[Candidate, ...], random: Random) -> Pair | None:
    """As the voting page asks."""
    return next_pair(votes, cells, PROMPTS, SEEDS, random, "simulated")


def any_pair(votes: list[Vote], cells: tuple[Candidate, ...], random: Random) -> Pair | None:
    """Any two cells."""
    left, right = random.sample(cells, 2)
    return Pair(left.sets[0], right.sets[0], random.randrange(PROMPTS), random.choice(SEEDS))


def any_rivals(votes: list[Vote], cells: tuple[Candidate, ...], random: Random) -> Pair | None:
    """Any two that the scores leave in question."""
    return any_pair(votes, tuple(one for one in cells if one.is_rival), random)


@dataclass(frozen=True)
class Ended:
    """How voting ended: what was said last, and the truth about the cell that was named."""

    said: Preferences
    rank: int  # of the named cell by how much its images are liked, from 1; 0 where there is none
    lost: float = math.nan  # how much less it is liked than the best

    @property
    def votes(self) -> int:
        return self.said.votes


def vote(voter: Person, cells: tuple[Candidate, ...], ask: Ask, most: int, seed: int) -> Ended:
    """Votes until they are decisive, or so many; of pairs by chance, it looks at every fifth."""
    random, votes = Random(seed), list[Vote]()
    look = 1 if ask is most_telling else 5
    said = preferences((), cells)
    while not said.decisive and len(votes) < most:
        pair = ask(votes, cells, random)
        assert pair is not None
        votes.append(
            Vote(
                f"{len(votes):08x}", pair.left, pair.right, pair.prompt, pair.seed,
                voter.answer(pair, random), 2.0, "simulated", "2026-01-01T00:00:00+00:00",
            )
        )  # fmt: skip
        if len(votes) % look == 0:
            said = preferences(votes, cells)
    if said.taken is None:
        return Ended(said, 0)
    liked, named = voter.images.mean(axis=(1, 2)), int(said.taken.sets[0], 16)
    return Ended(said, 1 + int((liked > liked[named]).sum()), float(liked.max() - liked[named]))


def guesser(seed: int) -> Person:
    """A voter who flips coins, on a sweep like the others."""
    return replace(person(seed), errors=0.5)
