"""`python -m benchmarks.validity.drawn WORDS`: is what the score says of drawn pictures true?

Of a sweep of UnicornGirl and ThunderBear that has been run by `python -m charsweep WORDS`, the
pictures that show both, or should: what the metric `together` told of each (both, swapped, merged,
missing), beside what two judges read there. These, taught if they are not there (half an hour),
differ in their seed alone; where they do not read the same nobody knows what is true, and no metric
can agree with both. Their accuracy on planted pictures, clean and damaged, is printed too.
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

SEEDS = (0, 1)  # of the judges
WAYS = {"subject": (UNICORN_GIRL, THUNDER_BEAR), "other": (THUNDER_BEAR, UNICORN_GIRL)}


class Drawn(NamedTuple):
    """A picture: what the metric told of it, with the lower identity, and what each judge read."""

    path: Path
    told: Outcome
    identity: float
    truths: tuple[PairTruth, ...]

    @property
    def read(self) -> tuple[Outcome, ...]:
        """What each judge read, in the metric's words."""
        return tuple(MEANT[truth.outcome] for truth in self.truths)

    @property
    def is_sure(self) -> bool:
        """Whether they read the same."""
        return len(set(self.read)) == 1


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validity.drawn")
    parser.add_argument("words", nargs="+", help="of the sweep's command, as +sweep=company")
    parser.add_argument("--judge", type=Path, default=Path("company-work/judge-of-two"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    judges = [train_pair_judge(options.judge, seed) for seed in SEEDS]
    sweep = load_sweep(options.words)
    store, everything = Store(sweep.root), list[Drawn]()
    print(f"{'by cell':72}  sure  right   both told, read      identity told, read")
    for cell in sweep.cells:
        drawn = list(drawn_of(cell, store, judges))
        everything += drawn
        if drawn:
            print(_line(cell, drawn))
    if not everything:
        parser.error("nothing is drawn: run the sweep first, python -m charsweep WORDS")
    sure = [one for one in everything if one.is_sure]
    print(f"\n{len(everything)} pictures, told as the judges read them: {_alike(everything)}")
    print(f"of the {len(sure)} that they read alike ({len(sure) / len(everything):.3f}): "
          f"{_alike(sure)}")  # fmt: skip
    print("told, read".ljust(10) + "".join(f"{true:>10}" for true in OUTCOMES))
    confused = Counter((one.told, one.read[0]) for one in sure)
    for told in OUTCOMES:
        print(f"{told:10}" + "".join(f"{confused[told, true]:10}" for true in OUTCOMES))
    for seed, judge in zip(SEEDS, judges, strict=True):
        for name, shares in outcome_accuracy(judge).items():
            known = ", ".join(f"{kind} {share:.3f}" for kind, share in shares.items())
            print(f"judge {seed}, {name}: {known}")


def drawn_of(cell: Cell, store: Store, judges: Sequence[Judge]) -> Iterator[Drawn]:
    """The pictures of both of a cell; none where they are not drawn and scored."""
    part = next((part for part in cell.parts if part.name == TOGETHER), None)
    if part is None:
        return
    spec = next(spec for spec in part.scores if spec.metric.name == TOGETHER)
    if not store.has_score(spec):
        return
    paths = sorted(store.images(part.images).glob("*.png"))
    details = store.read_score(spec)["details"]
    images = np.stack([np.asarray(Image.open(path)) for path in paths])
    readings = zip(*(read_pairs(judge, images) for judge in judges), strict=True)
    for path, told, identity, asked, read in zip(
        paths, details["outcomes"], details["identity"], asked_of(part), readings, strict=True
    ):
        yield Drawn(path, told, min(identity), tuple(asked.truth_of(one) for one in read))


def asked_of(part: ExamPart) -> Iterator[Asked]:
    """Of each picture, prompt by prompt, who was to stand where."""
    for left in part.exam.left:
        for _ in part.images.seeds:
            yield Asked(*WAYS[left or "subject"], sides_told=left is not None)


def _alike(drawn: Sequence[Drawn]) -> str:
    """How often each judge read what was told, and whether it is both or not."""
    told = np.array([one.told for one in drawn])[:, None]
    read = np.array([one.read for one in drawn])
    is_both = (told == "both") == (read == "both")
    outcomes, both = (", ".join(map(_two, each.mean(axis=0))) for each in (told == read, is_both))
    return f"{outcomes}; both or not: {both}"


def _line(cell: Cell, drawn: Sequence[Drawn]) -> str:
    values = ", ".join(f"{axis}={value}" for axis, value in cell.values.items())
    sure = [one for one in drawn if one.is_sure]
    right = np.mean([one.told == one.read[0] for one in sure]) if sure else np.nan
    told = np.mean([one.told == "both" for one in drawn])
    read = np.mean([[outcome == "both" for outcome in one.read] for one in drawn], axis=0)
    identity = np.mean([[one.identity, *(min(t.identity) for t in one.truths)] for one in drawn], 0)
    known = f"{len(sure) / len(drawn):6.2f}{right:7.2f}{told:8.2f}, {', '.join(map(_two, read))}"
    return f"{values[:72]:72}{known}   {', '.join(map(_two, identity))}"


def _two(share: float) -> str:
    return f"{share:.2f}"


if __name__ == "__main__":
    main()
