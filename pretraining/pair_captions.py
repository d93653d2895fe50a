"""Captions of pairs: who, where and how two figures are together, in plain English.

Two in three say who is on the left and who on the right ("a girl with short pink hair on the left
and a bear wearing a red coat on the right, on the beach"); the others leave that open, and name the
two in any order. Names are invented as in captions of one. What both wear and do is left out until
the caption fits into a prompt of the embedded models.
"""

from __future__ import annotations

from random import Random

from pretraining.captions import (
    ARM_WORDS,
    EYE_WORDS,
    LEG_WORDS,
    MOUTH_WORDS,
    PLACE_WORDS,
    PREFIXES,
    clothes_of,
    coated,
    described,
    subject_of,
)
from pretraining.figure import Figure
from pretraining.pair import Pair

LONGEST = 43  # pieces of a caption as `_pieces` reckons them; a prompt has room for 46
# What the embedded tokenizer, which learned from captions of one, makes of words it had not met.
PIECES = {
    "holding": 4, "behind": 4, "beside": 3, "next": 3, "front": 3, "taller": 4, "one": 3, "of": 2,
}  # fmt: skip
PLACED = 0.67  # share of captions that say who is on the left
NEXT_TO = ("{} and {}", "{} and {}", "{} and {}", "{} next to {}", "{} beside {}")
HOLDING = ("{} holding hands with {}", "{} and {} holding hands")
FULL_TOGETHER = {
    "beside": "",
    "holding hands": "holding hands",
    "left in front": "the left one in front",
    "right in front": "the right one in front",
}
IN_FRONT = ("{0} in front of {1}", "{1} behind {0}")


def pair_caption(
    pair: Pair, rng: Random, omit: float = 0.3, named: float = 0.25, placed: float = PLACED
) -> str:
    """One caption; `placed` is the chance that it says who is on the left, the rest as for one."""
    says_where = rng.random() < placed
    for share in (omit, 0.5, 0.75, 1.0):
        text = _caption(pair, rng, share, named, says_where)
        if _pieces(text) <= LONGEST:
            break
    return text


def full_pair_caption(pair: Pair, pose: bool = False) -> str:
    """The caption that is always the same: looks, sides, how they are together, and the place.

    Of hair or fur and clothes; with `pose`, positions take the place of the clothes.
    """
    for wears, prefix in ((True, "a picture of "), (False, "a picture of "), (False, "")):
        left, right = (_full(figure, wears, pose) for figure in pair.both)
        parts = [
            f"{prefix}{left} on the left and {right} on the right",
            FULL_TOGETHER[pair.together],
            f"the {pair.taller} one taller" if pair.taller else "",
            PLACE_WORDS[pair.place][0],
        ]
        text = " ".join(part for part in parts if part)
        if _pieces(text) <= LONGEST:
            break
    return text


def _pieces(text: str) -> int:
    """About how many tokens a caption has; names are spelled, in pieces of two letters."""
    words = text.replace(",", " ,").split()
    return sum(len(w) // 2 + 1 if w.istitle() and len(w) > 1 else PIECES.get(w, 1) for w in words)


def _full(figure: Figure, wears: bool, pose: bool) -> str:
    parts = [coated(figure)]
    if wears and pose:
        parts += [LEG_WORDS[figure.legs][0], ARM_WORDS[figure.arms][0]]
    elif wears:
        parts.append(f"wearing {clothes_of(figure)}")
    return " ".join(part for part in parts if part)


def _caption(pair: Pair, rng: Random, omit: float, named: float, says_where: bool) -> str:
    """One caption of any length."""
    left, right = (_named(pair, figure, rng, omit, named) for figure in pair.both)
    if says_where:
        left, right = f"{left} on the left", f"{right} on the right"
    if pair.together in ("left in front", "right in front"):
        front, back = (left, right) if pair.together == "left in front" else (right, left)
        both = rng.choice(IN_FRONT).format(front, back)
    else:
        first, second = (left, right) if rng.random() < 0.6 else (right, left)
        ways = HOLDING if pair.together == "holding hands" else NEXT_TO
        both = rng.choice(ways).format(first, second)
    taller = _taller(pair, says_where) if rng.random() >= omit else ""
    place = rng.choice(PLACE_WORDS[pair.place])
    if rng.random() < 0.08:
        return " ".join(part for part in (f"{place},", both, taller) if part)
    text = " ".join(part for part in (rng.choice(PREFIXES) + both, taller) if part)
    return f"{text}{',' if rng.random() < 0.3 else ''} {place}"


def _named(pair: Pair, figure: Figure, rng: Random, omit: float, named: float) -> str:
    """One of them: who, with the position and the mood as far as they are kept."""
    if rng.random() < named:
        who = subject_of(figure, rng, omit, named=1.0)
    else:
        who = described(figure, rng, omit)
    arms = "" if pair.together == "holding hands" and figure.arms == "down" else (
        rng.choice(ARM_WORDS[figure.arms])
    )  # fmt: skip
    legs = rng.choice(LEG_WORDS[figure.legs])
    mood = [rng.choice(EYE_WORDS[figure.eyes]), rng.choice(MOUTH_WORDS[figure.mouth])]
    parts = [part for part in (legs, arms) if rng.random() >= omit + 0.2]
    parts += [part for part in mood if rng.random() >= omit + 0.4]
    return " ".join(part for part in (who, *parts) if part)


def _taller(pair: Pair, says_where: bool) -> str:
    """Which of both is taller, where a caption has a word for that one."""
    if not pair.taller:
        return ""
    if says_where:
        return f"the {pair.taller} one taller"
    tall = pair.left if pair.taller == "left" else pair.right
    return f"the {tall.species} taller" if pair.left.species != pair.right.species else ""
