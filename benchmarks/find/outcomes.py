"""What searches came to beside grids: kept as JSON from one run to the next, shown as a page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.validity.characters import CHARACTERS
from charsweep.core.system.console import span

RATES = "1e-4,3e-4,5e-4,1e-3,2e-3,3e-3,5e-3,1e-2,3e-2"
STEPS = "125,250,375,500,750,1000"
STRENGTHS = "0.8,1,1.2"
CLOSE = 0.03  # of truth: what a search may lose
KEPT = {who.name for who in CHARACTERS if who.kept}
BY_HAND = "## By the clock"  # from here on the page is not written by this package


@dataclass(frozen=True)
class Raced:
    """A race over the cells of the grid, and what the grid said of its pick."""

    images: tuple[int, int]  # drawn, and of the whole exams
    found: str
    grid_found: str
    alike: bool  # the grid's pick, or one that the grid cannot tell from it


@dataclass(frozen=True)
class Outcome:
    """What one search came to, and the best of the grid."""

    who: str
    seed: int
    found: str
    truth: float
    best: str
    best_truth: float
    cells: int
    images: tuple[int, int] = (0, 0)  # drawn, and what whole exams would take
    seconds: float | None = None  # None: simulated
    grid_seconds: float | None = None  # on the same trainer
    alone_seconds: float | None = None  # each cell of the grid by itself
    raced: Raced | None = None
    by_score: str = ""  # what the grid itself recommends, which is not always its truest
    by_score_truth: float | None = None

    @property
    def lost(self) -> float:
        return self.best_truth - self.truth

    @property
    def simulated(self) -> bool:
        return self.seconds is None


def read(path: Path) -> list[Outcome]:
    """What is kept; nothing where there is no file."""
    if not path.exists():
        return []
    return [_outcome(row) for row in json.loads(path.read_text(encoding="utf-8"))]


def _outcome(row: dict[str, Any]) -> Outcome:
    raced = row["raced"]
    if raced:
        raced = Raced(**raced | {"images": tuple(raced["images"])})
    return Outcome(**row | {"images": tuple(row["images"]), "raced": raced})


def keep(path: Path, outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Put outcomes in the place of older ones of the same runs; all that are kept now."""
    known = {(one.who, one.seed, one.simulated): one for one in [*read(path), *outcomes]}
    order = [who.name for who in CHARACTERS]
    kept = sorted(known.values(), key=lambda one: (order.index(one.who), one.seed))
    path.write_text(json.dumps([asdict(one) for one in kept], indent=1) + "\n", encoding="utf-8")
    return kept


# -- the page --------------------------------------------------------------------------------------

INTRODUCTION = f"""# Does `+sweep=find` find what a grid finds?

What `python -m benchmarks.find` measured, disappointing figures included.
*Lost* is truth against the best cell of the grid; close is {CLOSE:g} or less.
*Images* are those drawn, of what the whole exams of its cells have.
Characters marked *kept* were not looked at when the rule was made.
"""
ABOUT_GRIDS = f"""## Searches, and grids of 9 rates × 6 numbers of steps × 3 strengths

Rates {RATES}; steps {STEPS}; strengths {STRENGTHS}; 10 inference steps.
What was found, and in 20 inference steps what the whole grid recommends (*by score*) and its three
truest cells, were drawn with eight further exam seeds and judged by those 64 images: by the images
that it was chosen for, the truest of so many cells looks better than it is. The grid's time is
reckoned from the speeds measured in its store. Other work ran beside these searches, which their
times include.
"""


def page(outcomes: Sequence[Outcome], by_hand: str = "") -> str:
    """The page, with what was written by hand at its end."""
    real = [one for one in outcomes if not one.simulated]
    simulated = [one for one in outcomes if one.simulated]
    lines = [INTRODUCTION]
    if real:
        lines += [ABOUT_GRIDS, *table(real), ""]
    if races := [one for one in real if one.raced]:
        lines += ["## Races over these grids, 8 exam seeds", "", *races_table(races), ""]
    if simulated:
        lines += ["## The rule on stored sweeps of 7 rates × 200, 500 and 1,000 steps", ""]
        lines += [*table(simulated), ""]
    return "\n".join(lines).rstrip() + "\n" + (f"\n{by_hand.rstrip()}\n" if by_hand else "")


def by_hand(path: Path) -> str:
    """What a page has that was written by hand."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return text[text.index(BY_HAND) :] if BY_HAND in text else ""


def table(outcomes: Sequence[Outcome]) -> list[str]:
    heads = ["character", "seed", "found", "truth", "best of the grid", "truth", "lost", "cells"]
    heads.append("images")
    timed = not outcomes[0].simulated
    heads += ["time", "of the grid's", "of its cells' one by one"] if timed else []
    heads += ["by score", "truth"] if timed else []
    lines = heading(heads)
    for one in outcomes:
        row = [named(one), str(one.seed), one.found, f"{one.truth:.2f}", one.best]
        row += [f"{one.best_truth:.2f}", f"{one.lost:.3f}", str(one.cells), share(one.images)]
        if one.seconds is not None and one.grid_seconds and one.alone_seconds:
            row += [span(one.seconds), f"{one.seconds / one.grid_seconds:.0%}"]
            row += [f"{one.seconds / one.alone_seconds:.1%}"]
        if one.by_score_truth is not None:
            row += [one.by_score, f"{one.by_score_truth:.2f}"]
        lines.append(f"| {' | '.join(row)} |")
    close = sum(one.lost <= CLOSE for one in outcomes)
    mean = np.mean([one.lost for one in outcomes])
    told = [f"{close} of {len(outcomes)} are close; the mean loss is {mean:.3f}."]
    return [*lines, "", *told, *beside_the_pick(outcomes)]


def beside_the_pick(outcomes: Sequence[Outcome]) -> list[str]:
    """What is lost by choosing with the score, though from all of the grid."""
    known = [(one, one.by_score_truth) for one in outcomes if one.by_score_truth is not None]
    if not known:
        return []
    lost = np.array([one.best_truth - truth for one, truth in known])
    behind = np.array([truth - one.truth for one, truth in known])
    return [
        f"The grid's own picks: {(lost <= CLOSE).sum()} of {len(lost)} are close, the mean loss is"
        f" {lost.mean():.3f};",
        f"{(behind <= CLOSE).sum()} of {len(behind)} searches are as close to these, on average"
        f" {abs(behind.mean()):.3f} {'behind' if behind.mean() > 0 else 'ahead'}.",
    ]


def races_table(outcomes: Sequence[Outcome]) -> list[str]:
    lines = heading(["character", "seed", "images", "share", "named", "the grid names", "as good"])
    for one in outcomes:
        if raced := one.raced:
            drawn, whole = raced.images
            row = [named(one), str(one.seed), share(raced.images), f"{drawn / whole:.0%}"]
            row += [raced.found, raced.grid_found, "yes" if raced.alike else "no"]
            lines.append(f"| {' | '.join(row)} |")
    return lines


def heading(heads: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(heads)} |", "|---" * 2 + "|---:" * (len(heads) - 2) + "|"]


def named(one: Outcome) -> str:
    return f"{one.who} *kept*" if one.who in KEPT else one.who


def share(images: tuple[int, int]) -> str:
    drawn, whole = images
    return f"{drawn:,} of {whole:,}" if drawn < whole else f"{drawn:,}"
