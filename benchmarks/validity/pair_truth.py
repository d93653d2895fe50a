"""The truth about a picture of two: who is where, and how much of each.

A half is somebody's if it has at least SAME of the traits in which the two that were asked for
differ; with as many from both together it is a mixture of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Literal

import numpy as np

from benchmarks.validity.characters import with_traits
from benchmarks.validity.judge import FIGURE, Judge, Reading, reading_of
from benchmarks.validity.pair_judge import (
    PAIR_HEADS,
    PAIR_TRAITS,
    SHIPPED,
    Readings,
    alone,
    anybody,
    coded_wide,
    draw_all,
    drawable,
    halves,
    read_pairs,
    shown_at,
)
from benchmarks.validity.truth import traits_right
from pretraining.data import Shown
from pretraining.figure import Figure
from pretraining.pair import random_company

Outcome = Literal["both", "swapped", "clones", "one missing", "nobody", "mixed", "others"]
OUTCOMES: tuple[Outcome, ...] = (
    "both", "swapped", "clones", "one missing", "nobody", "mixed", "others",
)  # fmt: skip
SAME = 0.6  # a trait in seven may be misread, or wrong, and it is still the same


@dataclass(frozen=True)
class PairTruth:
    """Of one picture: what it shows, and the share of the right traits of who was asked for on the
    left and on the right, 0 where nobody stands; the better way round if no sides were told."""

    outcome: Outcome
    identity: tuple[float, float]


def truth_of_pair(
    readings: Readings, left: Figure, right: Figure, sides_told: bool = True
) -> PairTruth:
    """Of a picture that was asked to show these two."""
    outcome = _outcome(readings, left, right)
    ways = [(left, right)] if sides_told else [(left, right), (right, left)]
    shares = [(_share(readings[0], a), _share(readings[1], b)) for a, b in ways]
    if outcome == "swapped" and not sides_told:
        outcome = "both"
    best = max(shares, key=sum)
    return PairTruth(outcome, best)


def _outcome(readings: Readings, left: Figure, right: Figure) -> Outcome:
    found = [_who(reading, left, right) for reading in readings]
    if "" in found:
        return "nobody" if found == ["", ""] else "one missing"
    if "mixed" in found:
        return "mixed"
    if "other" in found:
        return "others"
    if found[0] == found[1]:
        return "clones"
    return "both" if found == ["left", "right"] else "swapped"


def _who(reading: Reading, left: Figure, right: Figure) -> str:
    """ "left", "right", "mixed" or "other"; "" for nobody."""
    if reading[FIGURE] == "no":
        return ""
    rights = [traits_right(reading, who, PAIR_TRAITS, PAIR_HEADS) for who in (left, right)]
    # as each reads itself by the other's traits: only where they differ does a trait tell
    same = traits_right(reading_of(left, PAIR_HEADS), right, PAIR_TRAITS, PAIR_HEADS)
    telling = [trait for trait, alike in same.items() if not alike]
    shares = [sum(own[trait] for trait in telling) / max(1, len(telling)) for own in rights]
    for name, share in zip(("left", "right"), shares, strict=True):
        if share >= SAME:
            return name
    return "mixed" if min(shares) > 0 and sum(shares) >= SAME else "other"


def _share(reading: Reading, who: Figure) -> float:
    """Of the traits of somebody who is there."""
    if reading[FIGURE] == "no":
        return 0.0
    return float(np.mean(list(traits_right(reading, who, PAIR_TRAITS, PAIR_HEADS).values())))


# -- how well the judge tells


def planted(kind: Outcome, left: Figure, right: Figure, rng: Random) -> Shown:
    """A picture of which it is known what it shows of these two."""
    pair = random_company(left, right, rng)
    if kind == "swapped":
        return random_company(right, left, rng)
    if kind == "clones":
        who = rng.choice((left, right))
        return random_company(who, who, rng)
    if kind == "one missing":
        return alone(rng.choice(pair.both), rng)
    if kind == "nobody":
        return replace(pair.left, shift=(9.0, 0.0))
    if kind == "mixed":
        who, other = rng.sample((left, right), 2)
        mixture = drawable(with_traits(who, other, rng.sample(list(PAIR_TRAITS), 3), PAIR_TRAITS))
        return random_company(*rng.sample((mixture, other), 2), rng)
    if kind == "others":
        return random_company(*rng.sample((left, anybody(rng)), 2), rng)
    return pair


def known_truth(shown: Shown, left: Figure, right: Figure) -> Outcome:
    """What a faultless judge says."""
    nobody = {FIGURE: "no"}
    first, second = (reading_of(one, PAIR_HEADS) if one else nobody for one in halves(shown))
    return _outcome((first, second), left, right)


def outcome_accuracy(judge: Judge, count: int = 60) -> dict[str, dict[str, float]]:
    """Share of planted pictures, through the autoencoder, whose outcome the judge tells right.

    By outcome and together, of the two that ship and of any two.
    """
    found = {}
    for name, who in (("shipped", _shipped), ("anybody", _any_two)):
        asked = [
            (kind, *who(Random(f"told-{kind}-{i}"))) for kind in OUTCOMES for i in range(count)
        ]
        shown = [
            planted(kind, left, right, Random(f"planted-{name}-{i}"))
            for i, (kind, left, right) in enumerate(asked)
        ]
        readings = read_pairs(judge, coded_wide(draw_all(shown)))
        right_ones: dict[str, list[bool]] = {}
        for reading, one, (_, left, right) in zip(readings, shown, asked, strict=True):
            known = known_truth(one, left, right)
            told = truth_of_pair(reading, left, right).outcome
            right_ones.setdefault(known, []).append(told == known)
        everything = [hit for hits in right_ones.values() for hit in hits]
        found[name] = {kind: float(np.mean(hits)) for kind, hits in right_ones.items()}
        found[name]["all"] = float(np.mean(everything))
    return found


def attribute_accuracy(judge: Judge, count: int = 1_000) -> dict[str, float]:
    """Share of the halves of unseen pictures, through the autoencoder, read right by attribute."""
    shown = [shown_at("unseen", index) for index in range(count)]
    readings = read_pairs(judge, coded_wide(draw_all(shown)))
    pairs = [
        (reading, reading_of(figure, PAIR_HEADS))
        for both, one in zip(readings, shown, strict=True)
        for reading, figure in zip(both, halves(one), strict=True)
        if figure
    ]
    found = {h: float(np.mean([got[h] == true[h] for got, true in pairs])) for h in PAIR_HEADS}
    is_right = [
        (reading[FIGURE] == "yes") == (figure is not None)
        for both, one in zip(readings, shown, strict=True)
        for reading, figure in zip(both, halves(one), strict=True)
    ]
    return found | {FIGURE: float(np.mean(is_right))}


def _shipped(rng: Random) -> tuple[Figure, Figure]:
    left, right = rng.sample(SHIPPED, 2)
    return left, right


def _any_two(rng: Random) -> tuple[Figure, Figure]:
    return anybody(rng), anybody(rng)
