"""Preference: what votes say of settings, by the Bradley–Terry model (Bradley & Terry 1952).

A setting of strength θᵢ is preferred to one of θⱼ with the probability 1 / (1 + exp(θⱼ - θᵢ)).
A tie counts as half a vote for either. Strengths are fitted by choix's iterative Luce spectral
ranking (Maystre & Grossglauser 2015), their covariance is the inverse of the Fisher information
there (Laplace's approximation). choix's expectation propagation gives nearly the same, but takes a
hundred times as long for 200 votes and knows no half ones. Before any vote each setting has tied
`PRIOR` times with the others. None of these numbers was fitted to the voters of benchmarks/voting.

Whether votes say anything is told by a Bayes factor: how much better the model foretells them than
coin flips do. It exceeds k for a voter who flips coins, whenever one looks, in at most one of k
cases (Ville 1939), and whichever pairs were asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from charsweep.results.labels import listing
from charsweep.results.votes import Vote

Floats = NDArray[np.float64]

PRIOR = 4.0  # ties of each setting with all others together, before any vote
SURE = 0.9  # chance from which votes are decisive: of being the best, or one of several as good
AS_GOOD = 0.6  # that one is as good as the best means: it is preferred in at most 60 % of pairs
TELLING = 20.0  # Bayes factor from which votes are not taken for coin flips
SAMPLES = 2000  # of the strengths, by which chances are counted; always the same random numbers


@dataclass(frozen=True)
class Candidate:
    """A setting that can be voted for: a point of the grid with its training seeds."""

    sets: tuple[str, ...]  # keys of their image sets, which are those of its cells
    label: str
    price: tuple[float, float, float]
    is_rival: bool  # whether the scores leave it in question


@dataclass(frozen=True)
class Strength:
    """The probability to be preferred to an average setting of those voted on, in [0, 1], and
    where it lies with 95 %."""

    value: float
    low: float
    high: float

    @property
    def fields(self) -> dict[str, float]:
        """As columns of a table, or metrics of a run."""
        return {
            "preference": self.value,
            "preference_low": self.low,
            "preference_high": self.high,
        }


@dataclass(frozen=True)
class Constancy:
    """How many of the pairs that a voter saw again were answered as before."""

    same: int
    repeats: int


@dataclass(frozen=True)
class Preferences:
    """What the votes on some settings say."""

    votes: int  # that count: on two of these settings, not skipped
    strengths: Mapping[str, Strength]  # by image set, of the settings that were voted on
    chances: tuple[
        tuple[Candidate, float], ...
    ]  # of those in question to be the best, likely first
    taken: Candidate | None  # the one to take, once the votes are decisive
    alike: tuple[Candidate, ...]  # as good as that one; before there is one: that may be the best
    as_good: float  # how likely the one to take is the best, or as good
    nothing: bool  # whether a voter who flips coins could have voted so
    constancy: Constancy

    @property
    def decisive(self) -> bool:
        """Whether there is a setting to take, and more votes would hardly find a better one."""
        return self.taken is not None

    @property
    def best(self) -> Candidate | None:
        """The one that is most likely the best; None without votes."""
        return self.chances[0][0] if self.votes else None

    @property
    def chance(self) -> float:
        """How likely that one is the best of those in question."""
        return self.chances[0][1] if self.votes else 0.0

    @property
    def says(self) -> str:
        """All of it in a sentence."""
        if self.best is None:
            return "There are no votes yet."
        after = f"{self.votes} vote{'s' if self.votes > 1 else ''}"
        if self.nothing:
            same, repeats = self.constancy.same, self.constancy.repeats
            told = f", and {same} of {repeats} repeated pairs were answered alike" * (repeats > 0)
            return f"These votes say nothing yet: {after} could be coin flips{told}."
        labels = listing([one.label for one in self.alike], most=3) if self.alike else ""
        if self.taken is None:
            leads = f"{self.best.label} leads with {self.chance:.0%} after {after}"
            return f"{leads}; {labels} may be better."
        if not self.alike:
            return f"{self.taken.label} is {self.how_good} after {after}."
        both = listing([self.taken.label, *(one.label for one in self.alike)], most=4)
        take = f"take {self.taken.label}, it {self.why_taken}"
        return f"{both} cannot be told apart after {after}: {take}."

    @property
    def how_good(self) -> str:
        """ "best with 93%", of the one to take."""
        if self.chance >= SURE:
            return f"best with {self.chance:.0%}"
        return f"best, or as good as the best, with {self.as_good:.0%}"

    @property
    def why_taken(self) -> str:
        """Of some that are alike, what is said of the one to take."""
        assert self.taken is not None
        own, cheapest = self.taken.price, min(one.price for one in self.alike)
        if own > cheapest:
            return "is likelier the best"
        return "is cheaper" if own < cheapest else "costs no more"


@dataclass(frozen=True, eq=False)
class Posterior:
    """The strengths of n settings, as the votes leave them: about normal."""

    candidates: tuple[Candidate, ...]  # the rivals, and whatever else was voted on
    wins: Floats  # (n, n): votes that preferred the one of the row; of a tie, half
    mean: Floats  # (n,)
    covariance: Floats  # (n, n)
    bayes_factor: float  # natural logarithm; against coin flips

    @cached_property
    def samples(self) -> Floats:
        """Strengths (SAMPLES, n)."""
        drawn = np.random.default_rng(0).standard_normal((SAMPLES, len(self.mean)))
        values, vectors = np.linalg.eigh(self.covariance)
        return np.asarray(self.mean + (drawn * np.sqrt(values.clip(0))) @ vectors.T)

    @cached_property
    def in_question(self) -> NDArray[np.intp]:
        """Places of those that may be the best: rivals, and others that win as often as lose."""
        wins, losses = self.wins.sum(axis=1), self.wins.sum(axis=0)
        rivals = np.array([one.is_rival for one in self.candidates], dtype=bool)
        return np.flatnonzero(rivals | (wins >= losses))

    @cached_property
    def chances(self) -> Floats:
        """Of each in question to be the best of them."""
        if not len(self.in_question):
            return np.zeros(0)
        best = self.samples[:, self.in_question].argmax(axis=1)
        return np.bincount(best, minlength=len(self.in_question)) / SAMPLES


def preferences(votes: Sequence[Vote], candidates: Sequence[Candidate]) -> Preferences:
    """What these votes say of these settings; votes on other image sets do not count."""
    return _preferences(tuple(votes), tuple(candidates))


def posterior(votes: Sequence[Vote], candidates: Sequence[Candidate]) -> Posterior:
    """The strengths of the settings that are rivals or were voted on."""
    return _posterior(tuple(votes), tuple(candidates))


@lru_cache(maxsize=8)  # a report asks at several places
def _preferences(votes: tuple[Vote, ...], candidates: tuple[Candidate, ...]) -> Preferences:
    found = _posterior(votes, candidates)
    count, nothing = round(found.wins.sum()), found.bayes_factor < math.log(TELLING)
    order = np.argsort(-found.chances, kind="stable")
    chances = tuple(
        (found.candidates[found.in_question[at]], float(found.chances[at])) for at in order
    )
    few = int(np.searchsorted(found.chances[order].cumsum(), SURE)) + 1 if len(order) else 0
    likely = [one for one, _ in chances[:few]]
    taken, alike = decided(found, likely) if count and not nothing else (None, likely[1:])
    return Preferences(
        votes=count,
        strengths=strengths(found),
        chances=chances,
        taken=taken,
        alike=tuple(alike),
        as_good=chance_as_good(found, taken) if taken else 0.0,
        nothing=nothing,
        constancy=constancy(votes),
    )


@lru_cache(maxsize=8)
def _posterior(votes: tuple[Vote, ...], candidates: tuple[Candidate, ...]) -> Posterior:
    owner = {key: one for one in candidates for key in one.sets}
    counted = [
        vote for vote in votes
        if vote.answer != "skip" and vote.left in owner and vote.right in owner
        and owner[vote.left] is not owner[vote.right]
    ]  # fmt: skip
    voted = {id(owner[key]) for vote in counted for key in (vote.left, vote.right)}
    own = tuple(one for one in candidates if one.is_rival or id(one) in voted)
    place = {key: at for at, one in enumerate(own) for key in one.sets}
    wins = np.zeros((len(own), len(own)))
    for vote in counted:
        left, right = place[vote.left], place[vote.right]
        wins[left, right] += {"left": 1.0, "tie": 0.5, "right": 0.0}[vote.answer]
        wins[right, left] += {"left": 0.0, "tie": 0.5, "right": 1.0}[vote.answer]
    return Posterior(own, wins, *fitted(wins))


# -- the model -------------------------------------------------------------------------------------


def fitted(wins: Floats) -> tuple[Floats, Floats, float]:
    """Strengths by votes (n, n), their covariance, and the logarithm of the Bayes factor."""
    count = len(wins)
    if count < 2 or not wins.any():
        prior = np.eye(count) - 1 / max(count, 1)
        return np.zeros(count), prior / precision(count), 0.0
    from choix import ilsr_pairwise_dense

    before = (1 - np.eye(count)) * PRIOR / 2 / (count - 1)
    strengths = ilsr_pairwise_dense(wins + before, max_iter=1000, tol=1e-6)
    strengths = np.asarray(strengths - strengths.mean())
    level = np.full((count, count), 1 / count)  # strengths are known up to a constant
    after = information(wins + before, strengths) + level
    chance = preferred(strengths)
    told = ((wins + before) * np.log(chance)).sum() - before.sum() * math.log(0.5)
    widths = np.linalg.slogdet(information(before, np.zeros(count)) + level)[1]
    gain = told - wins.sum() * math.log(0.5) + (widths - np.linalg.slogdet(after)[1]) / 2
    return strengths, np.linalg.inv(after) - level, float(gain)


def precision(count: int) -> float:
    """Of a strength about the others' mean, before any vote."""
    return PRIOR / 4 * count / max(count - 1, 1)


def preferred(strengths: Floats) -> Floats:
    """Probabilities (..., n, n) that the one of the row is preferred to that of the column."""
    return np.asarray(1 / (1 + np.exp(strengths[..., None, :] - strengths[..., :, None])))


def information(wins: Floats, strengths: Floats) -> Floats:
    """Fisher information (n, n) of votes about strengths."""
    chance = preferred(strengths)
    weights = (wins + wins.T) * chance * (1 - chance)
    return np.asarray(np.diag(weights.sum(axis=1)) - weights)


def decided(
    found: Posterior, likely: Sequence[Candidate]
) -> tuple[Candidate | None, Sequence[Candidate]]:
    """The setting to take and those as good, of those that are the best with `SURE`; None, and the
    others that may be the best, where more votes would tell."""
    good = {id(one): chance_as_good(found, one) for one in likely}
    sure = [one for one in likely if good[id(one)] >= SURE]
    if not sure:
        return None, likely[1:]
    taken = min(sure, key=lambda one: one.price)
    return taken, [one for one in likely if one is not taken and good[id(one)] >= 0.5]


def chance_as_good(found: Posterior, one: Candidate) -> float:
    """How likely this one is the best, or as good."""
    own = found.samples[:, found.candidates.index(one)]
    highest = found.samples[:, found.in_question].max(axis=1)
    return float(np.mean(1 / (1 + np.exp(own - highest)) <= AS_GOOD))


def strengths(found: Posterior) -> dict[str, Strength]:
    """By image set, of the settings that were voted on."""
    voted = np.flatnonzero((found.wins + found.wins.T).any(axis=1))
    if not len(voted):
        return {}
    samples = found.samples[:, voted]
    shares = 1 / (1 + np.exp(samples.mean(axis=1, keepdims=True) - samples))
    low, high = np.quantile(shares, [0.025, 0.975], axis=0)
    return {
        key: Strength(*map(float, ends))
        for at, *ends in zip(voted, shares.mean(axis=0), low, high, strict=True)
        for key in found.candidates[at].sets
    }


def constancy(votes: Sequence[Vote]) -> Constancy:
    """Of pairs of images that a voter saw more than once, the answers after the first."""
    first: dict[tuple[object, ...], str | None] = {}
    again = []
    for vote in votes:
        if vote.answer == "skip":
            continue
        seen = (vote.voter, *vote.shown)
        if seen in first:
            again.append(first[seen] == vote.winner)
        first.setdefault(seen, vote.winner)
    return Constancy(sum(again), len(again))
