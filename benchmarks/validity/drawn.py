"""`python -m benchmarks.validity.drawn WORDS`: is what the score says of drawn pictures true?

Of a sweep of UnicornGirl and ThunderBear that has been run by `python -m charsweep WORDS`, the
pictures that show both, or should: what the metric `together` told of each (both, swapped, merged,
missing), beside what the judge of two reads there. The judge, taught if it is not there (minutes),
is wrong in some pictures itself: its own accuracy on planted ones is printed with it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from benchmarks.validity.judge import Judge
from benchmarks.validity.pair_judge import read_pairs, train_pair_judge
from benchmarks.validity.pair_truth import Asked, PairTruth, outcome_accuracy
from benchmarks.validity.together import MEANT
from charsweep.config import load_sweep
from charsweep.core.cells import Cell, ExamPart
from charsweep.core.store import Store
from charsweep.evaluate.metrics.outcomes import OUTCOMES, Outcome
from charsweep.results.cells import TOGETHER
from pretraining.figure import THUNDER_BEAR, UNICORN_GIRL

WAYS = {"subject": (UNICORN_GIRL, THUNDER_BEAR), "other": (THUNDER_BEAR, UNICORN_GIRL)}


class Drawn(NamedTuple):
    """A picture: what the metric told of it, with the lower identity, and what the judge read."""

    path: Path
    told: Outcome
    identity: float
    truth: PairTruth

    @property
    def true(self) -> Outcome:
        """What the judge read, in the metric's words."""
        return MEANT[self.truth.outcome]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validity.drawn")
    parser.add_argument("words", nargs="+", help="of the sweep's command, as +sweep=company")
    parser.add_argument("--judge", type=Path, default=Path("company-work/judge"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    judge = train_pair_judge(options.judge)
    sweep = load_sweep(options.words)
    store, everything = Store(sweep.root), list[Drawn]()
    print(f"{'told and true, by cell':72}{'right':>6}  both told, true   identity told, true")
    for cell in sweep.cells:
        drawn = list(drawn_of(cell, store, judge))
        everything += drawn
        if drawn:
            print(_line(cell, drawn))
    if not everything:
        parser.error("nothing is drawn: run the sweep first, python -m charsweep WORDS")
    print(f"\n{len(everything)} pictures, {_right(everything):.3f} told right")
    print("told, true".ljust(10) + "".join(f"{true:>10}" for true in OUTCOMES))
    confused = Counter((one.told, one.true) for one in everything)
    for told in OUTCOMES:
        print(f"{told:10}" + "".join(f"{confused[told, true]:10}" for true in OUTCOMES))
    for name, shares in outcome_accuracy(judge).items():
        print(f"the judge, {name}: " + ", ".join(f"{k} {share:.3f}" for k, share in shares.items()))


def drawn_of(cell: Cell, store: Store, judge: Judge) -> Iterator[Drawn]:
    """The pictures of both of a cell; none where they are not drawn and scored."""
    part = next((part for part in cell.parts if part.name == TOGETHER), None)
    if part is None:
        return
    spec = next(spec for spec in part.scores if spec.metric.name == TOGETHER)
    if not store.has_score(spec):
        return
    paths = sorted(store.images(part.images).glob("*.png"))
    details = store.read_score(spec)["details"]
    readings = read_pairs(judge, np.stack([np.asarray(Image.open(path)) for path in paths]))
    for path, told, identity, asked, reading in zip(
        paths, details["outcomes"], details["identity"], asked_of(part), readings, strict=True
    ):
        yield Drawn(path, told, min(identity), asked.truth_of(reading))


def asked_of(part: ExamPart) -> Iterator[Asked]:
    """Of each picture, prompt by prompt, who was to stand where."""
    for left in part.exam.left:
        for _ in part.images.seeds:
            yield Asked(*WAYS[left or "subject"], sides_told=left is not None)


def _right(drawn: Sequence[Drawn]) -> float:
    return float(np.mean([one.told == one.true for one in drawn]))


def _line(cell: Cell, drawn: Sequence[Drawn]) -> str:
    values = ", ".join(f"{axis}={value}" for axis, value in cell.values.items())
    both = [float(np.mean([one == "both" for one in what])) for what in (
        [one.told for one in drawn], [one.true for one in drawn])]  # fmt: skip
    identity = [one.identity for one in drawn], [min(one.truth.identity) for one in drawn]
    means = [float(np.mean(what)) for what in identity]
    return (
        f"{values[:72]:72}{_right(drawn):6.2f}  {both[0]:9.2f}{both[1]:6.2f}"
        f"   {means[0]:13.3f}{means[1]:6.3f}"
    )


if __name__ == "__main__":
    main()
