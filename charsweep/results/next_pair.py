"""The next pair to vote on: the two images whose comparison tells most about which setting is best.

Of every two settings in question, the mutual information between the answer and which one is best
(bits that the answer is worth; Houlsby et al. 2011, equation 2, with the best in the place of the
parameters), by samples of the strengths that the votes so far leave possible.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from charsweep.results.preference import Candidate, Floats, Posterior, posterior
from charsweep.results.votes import Vote

REPEATS = 1 / 20  # of the pairs are an earlier one with its sides swapped
CHECKS = 1 / 10  # of the pairs set one that the scores rule out beside the likely best
MOST = 40  # settings that are weighed against each other
DRAWS = 500  # samples of the strengths
ABOUT = 0.9  # pairs worth at least so much of the best are as good; one of them is asked
RECENT = 5  # votes that are too fresh to be repeated


@dataclass(frozen=True)
class Pair:
    """Two images to compare: of two image sets, of one prompt and exam seed."""

    left: str
    right: str
    prompt: int
    seed: int
    repeat: bool = False  # whether this voter has seen it before


def next_pair(
    votes: Sequence[Vote],
    candidates: Sequence[Candidate],
    prompts: int,
    seeds: Sequence[int],
    random: Random,
    voter: str = "",
) -> Pair | None:
    """What to ask next of an exam with so many prompts and these seeds; None where that is nothing:
    of fewer than two settings, or of no prompt."""
    if len(candidates) < 2 or not prompts or not seeds:
        return None
    if random.random() < REPEATS and (seen := repeatable(votes, candidates, voter)):
        vote = random.choice(seen)
        return Pair(vote.right, vote.left, vote.prompt, vote.seed, repeat=True)
    two = list(next_settings(votes, candidates, random))
    random.shuffle(two)
    left, right = training_seed(two[0], two[1], random)
    return Pair(left, right, *place(votes, left, right, prompts, seeds, random))


def repeatable(votes: Sequence[Vote], candidates: Sequence[Candidate], voter: str) -> list[Vote]:
    """This voter's votes on a pair of images that was asked once, but the last few."""
    known = {key for one in candidates for key in one.sets}
    own = [vote for vote in votes if vote.voter == voter and vote.answer != "skip"]
    asked = Counter(vote.shown for vote in own)
    return [
        vote for vote in own[:-RECENT]
        if asked[vote.shown] == 1 and vote.left in known and vote.right in known
    ]  # fmt: skip


def next_settings(
    votes: Sequence[Vote], candidates: Sequence[Candidate], random: Random
) -> tuple[Candidate, Candidate]:
    """The two settings whose comparison tells most; at times one that the scores rule out."""
    found = posterior(votes, candidates)
    rivals = weighed(found, random)
    likely = {found.candidates[at].sets for at in found.in_question}
    others = [one for one in candidates if one.sets not in likely]
    if others and (len(rivals) < 2 or random.random() < CHECKS):
        leader = found.candidates[rivals[0]] if len(rivals) else random.choice(others)
        return leader, random.choice([one for one in others if one.sets != leader.sets])
    worth = information_about_best(found.samples[:DRAWS][:, rivals])
    best = np.argwhere(worth >= ABOUT * worth.max())
    left, right = best[random.randrange(len(best))]
    return found.candidates[rivals[left]], found.candidates[rivals[right]]


def weighed(found: Posterior, random: Random) -> list[int]:
    """Places of settings in question, likely first; of very many, some of them by chance."""
    order = [int(found.in_question[at]) for at in np.argsort(-found.chances, kind="stable")]
    if len(order) <= MOST:
        return order
    return [*order[: MOST // 2], *random.sample(order[MOST // 2 :], MOST - MOST // 2)]


def information_about_best(samples: Floats) -> Floats:
    """Nats (n, n) that a vote on two settings tells of which is best, by strengths (draws, n).

    Above the diagonal; the rest is -inf.
    """
    count = samples.shape[1]
    left, right = np.triu_indices(count, 1)
    chance = 1 / (1 + np.exp(samples[:, right] - samples[:, left]))  # (draws, pairs)
    is_best = np.eye(count)[samples.argmax(axis=1)]  # (draws, count)
    shares = is_best.mean(axis=0)
    given_best = chance.T @ is_best / np.maximum(is_best.sum(axis=0), 1)  # (pairs, count)
    told = entropy(chance.mean(axis=0)) - entropy(given_best) @ shares
    worth = np.full((count, count), -np.inf)
    worth[left, right] = told.clip(0)
    return worth


def entropy(chance: Floats) -> Floats:
    """Of an answer with this probability, in nats."""
    inside = chance.clip(1e-12, 1 - 1e-12)
    return np.asarray(-inside * np.log(inside) - (1 - inside) * np.log1p(-inside))


def training_seed(left: Candidate, right: Candidate, random: Random) -> tuple[str, str]:
    """An image set of each: of the same training seed, where both have as many."""
    at = random.randrange(len(left.sets))
    same = len(left.sets) == len(right.sets)
    return left.sets[at], right.sets[at] if same else random.choice(right.sets)


def place(
    votes: Sequence[Vote], left: str, right: str, prompts: int, seeds: Sequence[int], random: Random
) -> tuple[int, int]:
    """The prompt and exam seed that were asked least, of this pair and then of all."""
    pair = frozenset((left, right))
    own = Counter((vote.prompt, vote.seed) for vote in votes if vote.shown[0] == pair)
    by_prompt = Counter(vote.prompt for vote in votes)
    both = Counter((vote.prompt, vote.seed) for vote in votes)
    places = [(prompt, seed) for prompt in range(prompts) for seed in seeds]
    random.shuffle(places)
    return min(places, key=lambda at: (own[at], by_prompt[at[0]], both[at]))
