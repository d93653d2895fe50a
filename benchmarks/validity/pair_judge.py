"""The judge of two: who is on the left of a wide picture and who on the right.

The network of the judge, which reads the left and the right square of the picture, each for the
figure that stands in that half; in the half of nobody it has to say so. It learns from drawings of
pairs and of single figures, a third of them as they are, a third gone through the autoencoder and a
third damaged, and from what shows nobody. A third of the pairs are of the characters that ship, of
clones of one of them, and of figures that have some traits of the one and some of the other, so
that it cannot guess one trait by the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks.validity.characters import TRAITS, Traits, with_traits
from benchmarks.validity.damage import damaged
from benchmarks.validity.judge import (
    BATCH,
    HEADS,
    NONE,
    SHARE_REJECTED,
    Autoencoder,
    Heads,
    Judge,
    Reading,
    any_figure,
    coded,
    disturbed,
    fit,
    kept,
    smooth_noise,
    targets_of,
)
from pretraining import checkpoint
from pretraining.data import SIDE, WIDTH, Shown, draw_wide, squares, to_tensor
from pretraining.figure import COLOURS, THUNDER_BEAR, UNICORN_GIRL, Figure
from pretraining.pair import Pair, random_company
from pretraining.progress import steps

PAIR_HEADS: Heads = {
    **HEADS,
    "emblem": (*HEADS["emblem"], "bolt"),
    "headgear": (*HEADS["headgear"], "goggles"),
    "scarf": (NONE, *COLOURS),
}
PAIR_TRAITS: Traits = {**TRAITS, "headgear": (*TRAITS["headgear"], "scarf")}
DRAWN, CODED = 24_000, 9_600  # pictures
STEPS = 3_000
SHIPPED = (UNICORN_GIRL, THUNDER_BEAR)
DEBRIS = 0.5  # share of the pictures without figures that are no empty places

Readings = tuple[Reading, Reading]  # of the left and of the right half


# -- what it learns from


def anybody(rng: Random) -> Figure:
    """A random figure, what only the shipped characters have among what it may have."""
    figure = any_figure(rng)
    if rng.random() < 0.12:
        figure = replace(figure, headgear="goggles")
    if rng.random() < 0.12:
        figure = replace(figure, emblem="bolt")
    if rng.random() < 0.12:
        figure = replace(figure, scarf=rng.choice(list(COLOURS)))
    return drawable(figure)


def near_shipped(rng: Random) -> Figure:
    """A shipped character, in half of the cases with some traits of the other or of anybody."""
    who, other = rng.sample(SHIPPED, 2)
    if rng.random() < 0.5:
        return who
    other = rng.choice((other, anybody(rng)))
    traits = rng.sample(list(PAIR_TRAITS), rng.randint(1, 5))
    return drawable(with_traits(who, other, traits, PAIR_TRAITS))


def drawable(figure: Figure) -> Figure:
    """The world cannot draw a dog's ears in all colours at once."""
    if figure.species == "dog" and figure.pattern == "rainbow":
        return replace(figure, species="bear")
    return figure


def shown_at(seed: str, index: int) -> Shown:
    """What the index-th picture of a seed shows: by turns two, two, two, one, none."""
    rng = Random(f"pair-judge-{seed}-{index}")
    who = near_shipped if rng.random() < 0.35 else anybody
    left = who(rng)
    right = left if rng.random() < 0.1 else who(rng)
    pair = random_company(left, right, rng)
    if index % 5 < 3:
        return pair
    if index % 5 == 3:
        return alone(pair.left, rng)
    return replace(pair.left, shift=(9.0, 0.0))  # out of sight


def alone(figure: Figure, rng: Random) -> Figure:
    """Anywhere in a wide picture, but not where it would be in both halves."""
    middle = rng.choice((rng.uniform(0.3, 0.68), rng.uniform(0.82, 1.2)))
    return replace(figure, shift=(middle - 0.5, figure.shift[1]))


def halves(shown: Shown) -> tuple[Figure | None, Figure | None]:
    """Who stands in the left half and who in the right."""
    if isinstance(shown, Pair):
        left, right = shown.placed()
        return left, right
    middle = 0.5 + shown.shift[0]
    if middle > WIDTH / SIDE:
        return None, None
    return (shown, None) if middle < WIDTH / SIDE / 2 else (None, shown)


def with_debris(drawn: NDArray[np.uint8], shown: Sequence[Shown]) -> NDArray[np.uint8]:
    """The pictures; of those of nobody, half become noise and drowned figures."""
    autoencoder, result = Autoencoder(), drawn.copy()
    for index, one in enumerate(shown):
        rng = np.random.default_rng(index)
        if any(halves(one)) or rng.random() > DEBRIS:
            continue
        other = drawn[rng.integers(len(drawn))][None]
        latents = autoencoder.encode(other)
        grain = int(rng.choice([2, 4, 8]))
        noise = smooth_noise((1, latents.shape[1]), grain, latents.shape[-1], rng)
        mixed = (
            rng.uniform(0, 0.4) * latents
            + rng.uniform(0.5, 1.5) * noise[..., : latents.shape[2], :]
        )
        result[index] = autoencoder.decode(mixed)[0]
    return result


@dataclass(frozen=True)
class PairLessons:
    """Wide pictures, the first of them coded and damaged too, and their squares: of figures, with
    what is to be read, and of nobody. A square is numbered 2 i or 2 i + 1: of picture i the left or
    the right."""

    drawn: NDArray[np.uint8]
    coded: NDArray[np.uint8]
    damaged: NDArray[np.uint8]
    figures: Tensor
    targets: Tensor  # (figures, heads)
    nobody: Tensor
    seed: int = 0

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Squares NCHW, targets of those that show a figure, which come first, and whether."""
        source = checkpoint.generator(self.seed, "pair-judge", step)
        n_figures = BATCH - round(SHARE_REJECTED * BATCH)
        of = torch.randint(3, (BATCH,), generator=source)  # drawn, coded, damaged
        chosen = self._any_of(self.figures, of[:n_figures], source)
        empty = self._any_of(self.nobody, of[n_figures:], source)
        numbers = torch.cat([self.figures[chosen], self.nobody[empty]])
        images = np.stack(list(map(self._square, numbers.tolist(), of.tolist())))
        shown = (torch.arange(BATCH) < n_figures).long()
        return disturbed(to_tensor(images), source), self.targets[chosen], shown

    def _any_of(self, numbers: Tensor, of: Tensor, source: torch.Generator) -> Tensor:
        """Places among ascending numbers of squares; what is not only drawn is of the first."""
        there = int((numbers < 2 * len(self.coded)).sum())
        ends = torch.where(of == 0, len(numbers), there)
        return (torch.rand(len(of), generator=source) * ends).long()

    def _square(self, number: int, of: int) -> NDArray[np.uint8]:
        index, side = divmod(number, 2)
        picture = (self.drawn, self.coded, self.damaged)[of][index]
        square: NDArray[np.uint8] = squares(picture[None])[side, 0]
        return square


def lessons(folder: Path, seed: int) -> PairLessons:
    """Drawn on the first call, then read from the folder."""
    shown = [shown_at("taught", index) for index in range(DRAWN)]
    drawn = kept(folder / "drawn.npy", lambda: with_debris(draw_all(shown), shown))
    passed = kept(folder / "coded.npy", lambda: coded(drawn[:CODED]))
    spoiled = kept(folder / "damaged.npy", lambda: damaged(drawn[:CODED]))
    sides = [figure for one in shown for figure in halves(one)]
    return PairLessons(
        drawn,
        passed,
        spoiled,
        torch.tensor([number for number, figure in enumerate(sides) if figure]),
        targets_of([figure for figure in sides if figure], PAIR_HEADS),
        torch.tensor([number for number, figure in enumerate(sides) if not figure]),
        seed,
    )


def draw_all(shown: Sequence[Shown]) -> NDArray[np.uint8]:
    """N x 64 x 96 x 3."""
    drawn = np.empty((len(shown), SIDE, WIDTH, 3), dtype=np.uint8)
    for index in steps("drawing", 0, len(shown)):
        drawn[index] = draw_wide(shown[index])
    return drawn


# -- the judge


def train_pair_judge(folder: Path, seed: int = 0) -> Judge:
    """The judge of two of a folder, trained if it is not there; goes on where it was stopped.

    Another seed makes another judge of the same lessons: what the two read alike can be relied on.
    """
    own = folder / f"seed-{seed}" if seed else folder
    own.mkdir(parents=True, exist_ok=True)
    return fit(own, PAIR_HEADS, lambda: lessons(folder, seed).batch, STEPS, seed)


def read_pairs(judge: Judge, images: NDArray[np.uint8]) -> list[Readings]:
    """What each wide image, N x 64 x 96 x 3, shows on the left and on the right."""
    left, right = (judge.read([Image.fromarray(one) for one in part]) for part in squares(images))
    return list(zip(left, right, strict=True))
