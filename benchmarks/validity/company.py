"""`python -m benchmarks.validity.company before WEIGHTS`: what weights know of one and of two.

Teaches the judge of two if it is missing (half an hour), measures the weights of a folder and adds
them to `company.json` in the work folder under the name given, which is measured once; prints all
that has been measured there. One figure: what the model card measures, and samples judged by the
shipped CLIP whatever the weights. Two: captions with sides exchanged, a character found again
beside a companion, and what the bases draw for captions of pairs, by the judge.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from benchmarks.validity.judge import Judge
from benchmarks.validity.pair_judge import read_pairs, train_pair_judge
from benchmarks.validity.pair_truth import (
    OUTCOMES,
    TOLD,
    Asked,
    attribute_accuracy,
    outcome_accuracy,
)
from charsweep.models.embedded import WEIGHTS
from pretraining import data, measure
from pretraining.captions import full_caption
from pretraining.card import save_sheet
from pretraining.pair_captions import full_pair_caption

PAIRS, ONES = 96, 63  # samples of each base


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validity.company")
    parser.add_argument("name", help="under which the figures are kept: before, after, …")
    parser.add_argument("weights", type=Path, help="a folder as charsweep/models/embedded/weights")
    parser.add_argument("--work", type=Path, default=Path("company-work"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    path = options.work / "company.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if options.name not in found:
        judge = train_pair_judge(options.work / "judge-of-two")
        if "judge" not in found:
            by_kind = outcome_accuracy(judge)
            found["judge"] = {
                f"{name}: {kind}": share
                for name, shares in {"halves": attribute_accuracy(judge), **by_kind}.items()
                for kind, share in shares.items()
            }
        sheets = options.work / f"sheets-{options.name}"
        found[options.name] = figures_of(options.weights, judge, sheets)
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(table(found))


def figures_of(weights: Path, judge: Judge, sheets: Path) -> dict[str, float]:
    """Every figure by name; writes what the bases drew as sheets."""
    sheets.mkdir(parents=True, exist_ok=True)
    pairs = measure.held_out_pairs(PAIRS)
    found = measure.reconstruction(weights) | measure.retrieval(weights) | measure.identity(weights)
    wide = measure.restored(weights, data.to_tensor(measure.drawn_wide(pairs)))
    found |= {f"wide_{name}": value for name, value in wide.items()}
    found |= measure.order_read(weights) | measure.identity_in_company(weights)
    ones, clip = measure.asked_figures(ONES), measure.Clip(WEIGHTS)
    for kind in ("sd15", "sdxl"):
        loaded = measure.pipeline(weights, kind)
        drawn = measure.sample(loaded, [full_caption(figure) for figure in ones])
        shares = measure.recognised(clip, data.to_tensor(drawn), ones)
        found |= {f"{kind}_{name}": share for name, share in shares.items()}
        save_sheet(drawn, 9, sheets / f"{kind}-one.png")
        drawn = measure.sample(
            loaded, [full_pair_caption(pair) for pair in pairs], width=data.WIDTH
        )
        save_sheet(drawn, 8, sheets / f"{kind}-two.png")
        truths = [
            Asked(pair.left, pair.right, traits=TOLD).truth_of(readings)
            for readings, pair in zip(read_pairs(judge, drawn), pairs, strict=True)
        ]
        counts = Counter(truth.outcome for truth in truths)
        found |= {f"{kind}_two_{name}": counts[name] / len(truths) for name in OUTCOMES}
        found[f"{kind}_two_identity"] = float(np.mean([truth.identity for truth in truths]))
    return found


def table(found: dict[str, dict[str, float]]) -> str:
    """What was measured, a column for each name; the judge's own figures below."""
    names = [name for name in found if name != "judge"]
    lines = [" " * 36 + "".join(f"{name:>12}" for name in names)]
    for what in found[names[0]]:
        lines.append(f"{what:36}" + "".join(f"{found[name][what]:12.3f}" for name in names))
    return "\n".join([*lines, "", *(f"{w:36}{s:12.3f}" for w, s in found["judge"].items())])


if __name__ == "__main__":
    main()
