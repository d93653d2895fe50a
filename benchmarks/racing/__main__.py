"""`python -m benchmarks.racing sweeps/NAME …`: what races of finished grids would have saved.

Each grid is raced in random orders of its exam's seeds: the share of its images that are drawn, and
in how many orders the recommendation is the grid's, or one that the grid cannot tell from it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.racing.simulate import order_of, race
from charsweep.results.cells import SCORE
from charsweep.results.read import load_cells


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.racing", description=__doc__)
    add = made.add_argument
    add("sweeps", nargs="+", type=Path, help="folders of finished grids")
    add("--looks", default="", help="exam seeds after which it looks, as in 2,4,6; default: all")
    add("--errors", type=float, default=3.0, help="search.errors")
    add("--orders", type=int, default=100)
    return made


def main(arguments: list[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    print("| grid | cells | images each | looks | images drawn | same | same or as good |")
    print("| --- | ---: | ---: | --- | ---: | ---: | ---: |")
    for folder in options.sweeps:
        record = load_cells(folder, folder.parent / "store")
        shapes = Counter(np.shape(c.per_image[SCORE]) for c in record.cells if SCORE in c.per_image)
        (prompts, seeds), cells = shapes.most_common(1)[0]
        looks = [int(look) for look in options.looks.split(",") if look] or list(range(1, seeds))
        looks = [look for look in looks if look < seeds]
        chance = np.random.default_rng(0)
        orders = (order_of(chance, prompts, seeds) for _ in range(options.orders))
        raced = [race(record, order, looks, options.errors) for order in orders]
        told = [
            folder.name, str(cells), str(prompts * seeds),
            ", ".join(str(prompts * look) for look in looks),
            f"{np.mean([one.share for one in raced]):.0%}",
            f"{sum(one.same for one in raced)} of {len(raced)}",
            f"{sum(one.alike for one in raced)} of {len(raced)}",
        ]  # fmt: skip
        print("| " + " | ".join(told) + " |", flush=True)


if __name__ == "__main__":
    main()
