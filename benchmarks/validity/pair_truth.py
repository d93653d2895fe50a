"""The truth about a picture of two: who is where, and how much of each.

A half is somebody's if it has at least HALF of the traits in which the two that were asked for
differ, and AHEAD more of them than of the other's; with as many from both together it is a mixture
of them. Where a caption told looks, rather than a name that stands for all of them, only those
traits count that it told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.validity.characters import Traits, with_traits
from benchmarks.validity.damage import damaged
from benchmarks.validity.judge import FIGURE, Judge, Reading, coded, reading_of
from benchmarks.validity.pair_judge import (
    PAIR_HEADS,
    PAIR_TRAITS,
    SHIPPED,
    Readings,
    alone,
    anybody,
    draw_all,
    drawable,
    halves,
    read_pairs,
    shown_at,
)
from benchmarks.validity.truth import traits_right
from pretraining.data import Shown
from pretraining.figure import Figure, random_character
from pretraining.pair import random_company

Through = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
Outcome = Literal["both", "swapped", "clones", "one missing", "nobody", "mixed", "others"]
OUTCOMES: tuple[Outcome, ...] = (
    "both", "swapped", "clones", "one missing", "nobody", "mixed", "others",
)  # fmt: skip
HALF, AHEAD = 0.5, 0.4  # one trait in four may be misread or wrong; 4 of 7 beside 3 is a mixture
TOLD: Traits = {  # by a caption, of what is read best
    "species": ("species",),
    "first colour": ("first colour",),
    "clothes": ("clothes",),
    "clothes colour": ("clothes_colour",),
}


@dataclass(frozen=True)
class PairTruth:
    """Of one picture: what it shows, and the share of the right traits of who was asked for on the
    left and on the right, 0 where nobody stands; the better way round if no sides were told."""

    outcome: Outcome
    identity: tuple[float, float]


@dataclass(frozen=True)
class Asked:
    """The two that were asked for, and what of their looks was: all of it, or TOLD."""

    left: Figure
    right: Figure
    sides_told: bool = True
    traits: Traits = field(default_factory=lambda: PAIR_TRAITS)

    def truth_of(self, readings: Readings) -> PairTruth:
        """What is true of a picture that was drawn for them."""
        outcome = self._outcome(readings)
        ways = [(self.left, self.right), (self.right, self.left)][: 1 if self.sides_told else 2]
        shares = [
            (self._identity(readings[0], one), self._identity(readings[1], other))
            for one, other in ways
        ]
        if outcome == "swapped" and not self.sides_told:
            outcome = "both"
        return PairTruth(outcome, max(shares, key=sum))

    def truth_shown(self, shown: Shown) -> PairTruth:
        """The same of a drawing of which it is known what it shows."""
        left, right = (
            reading_of(one, PAIR_HEADS) if one else {FIGURE: "no"} for one in halves(shown)
        )
        return self.truth_of((left, right))

    def _outcome(self, readings: Readings) -> Outcome:
        found = [self._who(reading) for reading in readings]
        if "" in found:
            return "nobody" if found == ["", ""] else "one missing"
        if "mixed" in found:
            return "mixed"
        if "other" in found:
            return "others"
        if found[0] == found[1]:
            return "clones"
        return "both" if found == ["left", "right"] else "swapped"

    def _who(self, reading: Reading) -> str:
        """Who stands in a half: "left", "right", "mixed", "other"; "" for nobody."""
        if reading[FIGURE] == "no":
            return ""
        left, right = (self._right(reading, one) for one in (self.left, self.right))
        common = self._right(reading_of(self.left, PAIR_HEADS), self.right)
        telling = [trait for trait, alike in common.items() if not alike]
        shares = {
            name: sum(own[trait] for trait in telling) / len(telling)
            for name, own in (("left", left), ("right", right))
        }
        less, more = sorted(shares, key=lambda name: shares[name])
        if shares[more] >= HALF and shares[more] - shares[less] >= AHEAD:
            return more
        return "mixed" if shares[less] and sum(shares.values()) >= HALF else "other"

    def _right(self, reading: Reading, who: Figure) -> dict[str, bool]:
        return traits_right(reading, who, self.traits, PAIR_HEADS)

    def _identity(self, reading: Reading, who: Figure) -> float:
        """Share of the traits of somebody who is there."""
        if reading[FIGURE] == "no":
            return 0.0
        return float(np.mean(list(self._right(reading, who).values())))


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
        first, second = rng.sample((mixture, other), 2)
        return random_company(first, second, rng)
    if kind == "others":
        first, second = rng.sample((left, anybody(rng)), 2)
        return random_company(first, second, rng)
    return pair


def damaged_otherwise(drawn: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Damaged in ways that no judge has learned from."""
    return damaged(drawn, first=1_000_000)


def outcome_accuracy(judge: Judge, count: int = 60) -> dict[str, dict[str, float]]:
    """Share of planted pictures, through the autoencoder, whose outcome the judge tells right.

    By outcome and together: of the two that ship, of these damaged, and of any two by the looks
    that captions tell.
    """
    return {
        "shipped": _accuracy(judge, "shipped", _shipped, count, coded),
        "shipped, damaged": _accuracy(judge, "shipped", _shipped, count, damaged_otherwise),
        "anybody": _accuracy(judge, "anybody", _any_two, count, coded),
    }


def _accuracy(
    judge: Judge, name: str, two: Callable[[Random], Asked], count: int, through: Through
) -> dict[str, float]:
    asked, shown = [], []
    for kind in OUTCOMES:
        for index in range(count):
            rng = Random(f"planted-{name}-{kind}-{index}")
            asked.append(two(rng))
            shown.append(planted(kind, asked[-1].left, asked[-1].right, rng))
    readings = read_pairs(judge, through(draw_all(shown)))
    right: dict[str, list[bool]] = {}
    for reading, one, both in zip(readings, shown, asked, strict=True):
        known = both.truth_shown(one).outcome
        right.setdefault(known, []).append(both.truth_of(reading).outcome == known)
    everything = [hit for hits in right.values() for hit in hits]
    return {kind: float(np.mean(hits)) for kind, hits in right.items()} | {
        "all": float(np.mean(everything))
    }


def attribute_accuracy(judge: Judge, count: int = 1_000) -> dict[str, float]:
    """Share of the halves of unseen pictures, through the autoencoder, read right by attribute."""
    shown = [shown_at("unseen", index) for index in range(count)]
    readings = read_pairs(judge, coded(draw_all(shown)))
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


def _shipped(rng: Random) -> Asked:
    left, right = rng.sample(SHIPPED, 2)
    return Asked(left, right)


def _any_two(rng: Random) -> Asked:
    left, right = random_character(rng), random_character(rng)
    while any(getattr(left, what) == getattr(right, what) for what in ("species", "colours")):
        right = random_character(rng)
    return Asked(left, right, traits=TOLD)
