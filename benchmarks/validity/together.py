"""`python -m benchmarks.validity.together`: does the metric `together` tell what became of two?

Planted pictures of 96 × 64, every second one gone through the autoencoder, of which it is known
what they show, are judged by the metric as if a taught base had drawn them, with the DINO that
ships. Two strangers of the right species stand for the untaught base. The metric's numbers were
chosen on other pictures of the pairs in TUNED; those in CHECKED were looked at when they stood.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image

from benchmarks.validity.characters import CHARACTERS
from benchmarks.validity.judge import coded
from benchmarks.validity.pair_judge import draw_all
from benchmarks.validity.pair_truth import OUTCOMES, Asked, planted
from benchmarks.validity.pair_truth import Outcome as Planted
from charsweep.config import load_sweep
from charsweep.evaluate.encoders import Encoder, load_encoder
from charsweep.evaluate.metrics import Exam, Features, ImageFeatures
from charsweep.evaluate.metrics.outcomes import OUTCOMES as TOLD
from charsweep.evaluate.metrics.outcomes import Outcome
from charsweep.evaluate.metrics.together import Together
from charsweep.evaluate.windows import HALVES
from pretraining.data import Shown
from pretraining.drawing import draw
from pretraining.figure import THUNDER_BEAR, Figure, random_character
from pretraining.pair import random_company
from pretraining.world import DRAWINGS, in_scene

FIGURES = {one.name: one.figure for one in CHARACTERS} | {"thunder_bear": THUNDER_BEAR}
TUNED = (
    ("unicorn_girl", "thunder_bear"), ("cat", "robot"), ("bear", "boy"), ("bear", "thunder_bear"),
    ("robot", "unicorn_girl"), ("boy", "unicorn_girl"),
)  # fmt: skip
CHECKED = (
    ("bear", "cat"), ("boy", "robot"), ("cat", "thunder_bear"), ("bunny", "unicorn_girl"),
    ("frog", "thunder_bear"), ("bunny", "frog"),
)  # fmt: skip
MEANT: Mapping[Planted, Outcome] = {
    "both": "both", "swapped": "swapped", "clones": "merged", "mixed": "merged",
    "one missing": "missing", "nobody": "missing", "others": "missing",
}  # fmt: skip
STRANGERS = 16  # pictures that stand for the untaught base's


@dataclass(frozen=True)
class Judged:
    """What pictures of two show, and what the metric says of them, in one order."""

    planted: Sequence[Planted]
    told: Sequence[Outcome]

    def right(self, kind: Planted) -> float:
        """Share of the pictures of a kind that were told right."""
        pairs = zip(self.planted, self.told, strict=True)
        own = [told for shown, told in pairs if shown == kind]
        return float(np.mean([told == MEANT[kind] for told in own])) if own else float("nan")

    @property
    def agreement(self) -> float:
        """The mean over the metric's outcomes of how many pictures are told right."""
        pairs = [(MEANT[one], told) for one, told in zip(self.planted, self.told, strict=True)]
        return float(
            np.mean([np.mean([b == a for a, b in pairs if a == outcome]) for outcome in TOLD])
        )


def judged(one: str, other: str, count: int, encoder: Encoder) -> Judged:
    """As many pictures as asked of each planted outcome of two characters, by the metric."""
    first, second, seed = FIGURES[one], FIGURES[other], f"{one}-{other}"
    shown: list[Shown] = []
    kinds: list[Planted] = []
    left: list[str] = []
    for kind in OUTCOMES:
        for index in range(count):
            rng = Random(f"together-{seed}-{kind}-{index}")
            left.append(rng.choice(("subject", "other")))
            pair = (first, second) if left[-1] == "subject" else (second, first)
            shown.append(planted(kind, *pair, rng))
            kinds.append(Asked(*pair).truth_shown(shown[-1]).outcome)
    base = [strangers(first, second, seed, index) for index in range(STRANGERS)]
    exam = Exam(
        images=ImageFeatures({}, ()),
        references={"dino": _drawings(first, encoder)},
        prompts=None,
        untaught=None,
        windows=_windows(shown, encoder),
        untaught_windows=_windows(base, encoder),
        other={"dino": _drawings(second, encoder)},
        left=left,
    )
    return Judged(kinds, Together()(exam).details["outcomes"])


def strangers(first: Figure, second: Figure, seed: str, index: int) -> Shown:
    """Two of their species, the first one's on the left in every second picture."""
    rng = Random(f"strangers-{seed}-{index}")
    one, other = (
        replace(random_character(rng), species=own.species, hair=own.hair)
        for own in (first, second)
    )
    return random_company(one, other, rng) if index % 2 else random_company(other, one, rng)


def _drawings(who: Figure, encoder: Encoder) -> Features:
    return encoder.images([draw(in_scene(who, scene)) for _, scene in DRAWINGS])


def _windows(shown: Sequence[Shown], encoder: Encoder) -> ImageFeatures:
    """Of pictures of which every second one has gone through the autoencoder."""
    drawn = draw_all(shown)
    drawn[1::2] = coded(drawn[1::2])
    rows = encoder.images([one for each in drawn for one in HALVES.of(Image.fromarray(each))])
    prompt_of = tuple(range(len(shown)))
    return ImageFeatures({"dino": rows.reshape(len(shown), HALVES.count, -1)}, prompt_of)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validity.together")
    parser.add_argument("--count", type=int, default=100, help="pictures of each planted outcome")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    sweep = load_sweep([f"root={Path.cwd()}"])
    encoder = next(load_encoder(*one) for one in sweep.encoders.items() if one[0].name == "dino")
    print(f"{'agreement':>36}" + "".join(f"{kind:>13}" for kind in OUTCOMES))
    for name, pairs in (("chosen on", TUNED), ("checked on", CHECKED)):
        print(name)
        for one, other in pairs:
            found = judged(one, other, options.count, encoder)
            rights = "".join(f"{found.right(kind):13.2f}" for kind in OUTCOMES)
            print(f"  {one} + {other}".ljust(30) + f"{found.agreement:6.3f}{rights}")
            confused = Counter(zip(found.planted, found.told, strict=True))
            wrong = {pair: n for pair, n in confused.items() if MEANT[pair[0]] != pair[1]}
            print("   ", ", ".join(f"{a} told {b} {n}" for (a, b), n in sorted(wrong.items())))


if __name__ == "__main__":
    main()
