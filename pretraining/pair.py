"""Pairs: two figures in one picture, which of them stands where, and how they are together.

*On the left and on the right are the picture's*; left and right arms stay the figures' own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from pretraining.figure import ARMS, Figure, Point, random_character, random_scene

TOGETHER = ("beside", "holding hands", "left in front", "right in front")
TALLER = ("", "left", "right")
MIRRORED = {
    "left": "right",
    "right": "left",
    "left in front": "right in front",
    "right in front": "left in front",
    "left up": "right up",
    "right up": "left up",
}
HELD_ARMS = (("down", "right up"), ("down", "left up"))  # what the free arm may do: left, right

MIDDLE = 0.75  # of the picture, whose height is 1
APART = {"beside": 0.33, "holding hands": 0.265, "in front": 0.20}  # centres, from the middle
SHORT = 0.70  # beside one that is a head taller
BEHIND, BEHIND_SCALE = -0.045, 0.86  # who stands behind stands higher up, and is smaller


@dataclass(frozen=True)
class Pair:
    """Two figures in one place, that of the left one. `shift` and `scale` of each move it a little
    from where it belongs."""

    left: Figure
    right: Figure
    together: str = "beside"
    taller: str = ""  # "left", "right": a head taller than the other

    @property
    def place(self) -> str:
        return self.left.place

    @property
    def both(self) -> tuple[Figure, Figure]:
        return self.left, self.right

    @property
    def swapped(self) -> Pair:
        """Both with all that is theirs, each where the other was; a free arm stays the free one."""
        left, right = replace(self.right, place=self.place), self.left
        if self.together == "holding hands":
            left, right = (
                replace(one, arms=MIRRORED.get(one.arms, "down")) for one in (left, right)
            )
        return Pair(
            left,
            right,
            MIRRORED.get(self.together, self.together),
            MIRRORED.get(self.taller, ""),
        )

    def placed(self) -> tuple[Figure, Figure]:
        """The figures where they are drawn, in the place of both."""
        return self._placed(self.left, "left", -1), self._placed(self.right, "right", 1)

    def _placed(self, figure: Figure, name: str, side: int) -> Figure:
        apart = APART.get(self.together, APART["in front"])
        shift: Point = (MIDDLE + side * apart - 0.5 + figure.shift[0], figure.shift[1])
        scale = figure.scale * (SHORT if self.taller and self.taller != name else 1.0)
        if self.together == f"{MIRRORED[name]} in front":
            shift, scale = (shift[0], shift[1] + BEHIND), scale * BEHIND_SCALE
        return replace(figure, shift=shift, scale=scale, place=self.place)


def random_pair(rng: Random) -> Pair:
    """Two random characters in random positions; never one that ships."""
    return random_company(random_character(rng), random_character(rng), rng)


def random_company(left: Figure, right: Figure, rng: Random) -> Pair:
    """These two characters together, each in a position and mood of its own."""
    together = rng.choices(TOGETHER, weights=(10, 6, 2, 2))[0]
    taller = rng.choices(TALLER, weights=(3, 1, 1))[0] if "front" not in together else ""
    left, right = random_scene(left, rng), random_scene(right, rng)
    right = replace(right, place=left.place)
    if rng.random() < 0.4:
        right = replace(right, legs=left.legs)
    if together == "holding hands":
        left, right = (_holding(one, side, rng) for side, one in enumerate((left, right)))
    return Pair(left, right, together, taller)


def _holding(figure: Figure, side: int, rng: Random) -> Figure:
    """With one hand held: nothing but the other arm is free."""
    arms = figure.arms if figure.arms in HELD_ARMS[side] else rng.choice(HELD_ARMS[side])
    assert arms in ARMS
    return replace(figure, arms=arms)
