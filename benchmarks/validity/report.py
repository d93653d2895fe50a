"""benchmarks/VALIDITY.md and its figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

from benchmarks.validity.measure import (
    WORSE,
    Pick,
    Row,
    Rule,
    agreement,
    calibration,
    highest,
    picks,
    power,
    regret,
    share_worse,
)
from benchmarks.validity.sweeps import RATES, STEPS, Measured

matplotlib.use("agg")
import matplotlib.pyplot as plt

SIZES = (3, 7, 21)  # cells of a sub-sweep
IMAGES = (2, 4, 8, 16)
FIGURES = Path(__file__).parent / "figures"
RECOMMENDED = "the recommendation"
HEAD = f"""# Do the scores agree with the truth?

What `python -m benchmarks.validity` measured, disappointing figures included. The embedded world
can draw any character in any position, so an independent judge can be taught to read from an image
what it shows. **Truth** of an image = share of the character's seven traits that are right × share
of what its prompt names that is shown; 0 where there is no figure. Characters: {{who}}. Those
marked *kept* were looked at for these figures alone. A pick is *worse* if its truth is {WORSE} or
more below the best there; *regret* is the mean loss of truth.

Every character: learning rates 1e-4 to 1e-1 × 200, 500 and 1,000 steps of `dreambooth_lora`,
8 prompts × 2 seeds, embedded models.
"""


def write(path: Path, found: Sequence[Measured], read: Mapping[str, Mapping[str, float]]) -> None:
    """Write the page and its figures; `read` is what share the judge reads right."""
    metrics = metrics_of(found)
    names = [shown_name(one) for one in found]
    parts = [HEAD.format(who=", ".join(names))]
    parts += ["## The judge\n", judge_table(read)]
    parts += ["## Planted sets\n", "Means over the characters.\n", planted_table(found, metrics)]
    parts += ["![Scores against the truth](validity/figures/planted.png)\n"]
    parts += ["## Rank agreement with the truth\n", agreement_table(found, metrics)]
    parts += ["## The cells\n", cells_table(found, metrics)]
    parts += ["![Truth by cell](validity/figures/cells.png)\n"]
    parts += ["## What a rule's picks are worth\n", recommended_table(found, metrics)]
    parts += picks_tables(found, metrics)
    parts += ["## How many images, how many training seeds\n", power_table(found, metrics)]
    FIGURES.mkdir(exist_ok=True)
    planted_figure(found, metrics)
    cells_figure(found)
    path.write_text("\n".join(parts), encoding="utf-8")


def shown_name(one: Measured) -> str:
    """A character's name, with a mark where it was kept for the final figures."""
    return f"{one.who.name}{' (*kept*)' if one.who.kept else ''}"


def metrics_of(found: Sequence[Measured]) -> list[str]:
    """Those that every character has, in the store's order."""
    rows = [row for one in found for row in (*one.planted, *one.cells[0])]
    return [m for m in rows[0].scores if all(m in row.scores for row in rows)]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; fractions with two decimals."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(map(text, line))} |\n" for line in lines)


def text(value: object) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.2f}".replace("0.", ".", 1)
    return str(value)


def judge_table(read: Mapping[str, Mapping[str, float]]) -> str:
    """Share read right, attribute by attribute."""
    heads = list(dict.fromkeys(head for shares in read.values() for head in shares))
    rows = [[head, *(shares.get(head, math.nan) for shares in read.values())] for head in heads]
    return table(["read right", *read], rows)


def planted_table(found: Sequence[Measured], metrics: Sequence[str]) -> str:
    rows = []
    for index, row in enumerate(found[0].planted):
        each = [one.planted[index] for one in found]
        built = float(np.mean([one.built[index] for one in found]))
        means = [float(np.mean([row.mean(metric) for row in each])) for metric in metrics]
        rows.append([row.name, built, float(np.mean([r.truth.mean() for r in each])), *means])
    return table(["set", "truth as made", "as judged", *metrics], rows)


def agreement_table(found: Sequence[Measured], metrics: Sequence[str]) -> str:
    """Spearman over planted sets, and over cells."""
    head = ["metric", *(f"planted, {m.who.name}" for m in found)]
    head += [f"cells, {m.who.name}" for m in found]
    rows = []
    for metric in metrics:
        planted = [agreement(one.planted, metric) for one in found]
        rows.append([metric, *planted, *(agreement(all_cells(one), metric) for one in found)])
    return table(head, rows)


def all_cells(one: Measured) -> list[Row]:
    return [row for rows in one.cells for row in rows]


def cells_table(found: Sequence[Measured], metrics: Sequence[str]) -> str:
    """Per character: the untaught base, what is truly best, what is recommended."""
    rows = []
    for one in found:
        cells = one.cells[0]
        best = cells[int(np.argmax([row.truth.mean() for row in cells]))]
        index, sure = one.recommended(cells)
        known = (("untaught base", one.untaught), ("truly best", best))
        for what, row in (*known, (f"recommended{', sure' if sure else ''}", cells[index])):
            means = [row.mean(metric) for metric in metrics]
            rows.append([f"{one.who.name}: {what}", float(row.truth.mean()), *means])
    return table(["cell", "truth", *metrics], rows)


def rules_of(one: Measured, metrics: Sequence[str]) -> dict[str, Rule]:
    return {RECOMMENDED: one.recommended} | {metric: highest(metric) for metric in metrics}


def recommended_table(found: Sequence[Measured], metrics: Sequence[str]) -> str:
    """Of the recommendation's picks by character and size of the sweep: share worse, regret."""
    head = [RECOMMENDED, *(f"{what}, {n} cells" for what in ("worse", "regret") for n in SIZES)]
    rows = []
    for one in found:
        rule = rules_of(one, metrics)[RECOMMENDED]
        sizes = [[p for cells in one.cells for p in picks(cells, rule, n)] for n in SIZES]
        rows.append([shown_name(one), *map(share_worse, sizes), *map(regret, sizes)])
    return table(head, rows)


def picks_tables(found: Sequence[Measured], metrics: Sequence[str]) -> list[str]:
    """By rule and size of the sweep: share worse and regret; then what "sure" is worth."""
    texts = []
    for kept in (False, True):
        chosen = [one for one in found if one.who.kept == kept]
        if not chosen:
            continue
        of_rule: dict[str, list[list[Pick]]] = {
            rule: [
                [
                    pick
                    for one in chosen
                    for rows in one.cells
                    for pick in picks(rows, rules_of(one, metrics)[rule], size)
                ]
                for size in SIZES
            ]
            for rule in (RECOMMENDED, *metrics)
        }
        head = ["kept characters" if kept else "other characters"]
        head += [f"{what}, {size} cells" for what in ("worse", "regret") for size in SIZES]
        rows = [
            [rule, *map(share_worse, sizes), *map(regret, sizes)] for rule, sizes in of_rule.items()
        ]
        sure = [
            [f"{size} cells", name, str(count), share]
            for size, group in zip(SIZES, of_rule[RECOMMENDED], strict=True)
            for name, (count, share) in calibration(group).items()
        ]
        texts += [table(head, rows), table([RECOMMENDED, "says", "picks", "not worse"], sure)]
    return texts


def power_table(found: Sequence[Measured], metrics: Sequence[str]) -> str:
    """Share of picks not worse by the highest mean of so many images and training seeds."""
    seeded = [one for one in found if len(one.cells) > 1] or found[:1]
    rows = []
    for one in seeded:
        size = one.cells[0][0].truth.size
        for metric in metrics:
            if all(row.scores[metric].size == size for row in all_cells(one)):
                shares = [
                    power(one.cells, metric, images, seeds)
                    for seeds in range(1, len(one.cells) + 1)
                    for images in IMAGES
                ]
                rows.append([f"{one.who.name}: {metric}", *shares])
    counts = range(1, max(len(one.cells) for one in seeded) + 1)
    return table(["rule", *(f"{i} images × {s} seeds" for s in counts for i in IMAGES)], rows)


# -- figures


def planted_figure(found: Sequence[Measured], metrics: Sequence[str]) -> None:
    """A panel per metric: planted sets and cells, score against truth."""
    columns = min(4, len(metrics))
    lines = -(-len(metrics) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(3 * columns, 2.6 * lines), squeeze=False, layout="constrained"
    )
    for panel, metric in zip(axes.flat, metrics, strict=False):
        for what, mark in (("planted", "x"), ("cells", ".")):
            rows = [r for m in found for r in (m.planted if what == "planted" else all_cells(m))]
            truths = [row.truth.mean() for row in rows]
            panel.plot(truths, [row.mean(metric) for row in rows], mark, label=what, alpha=0.6)
        panel.set(title=metric, xlabel="truth")
    for panel in axes.flat[len(metrics) :]:
        panel.axis("off")
    axes.flat[0].legend()
    figure.savefig(FIGURES / "planted.png", dpi=110)
    plt.close(figure)


def cells_figure(found: Sequence[Measured]) -> None:
    """Truth of every cell of the first training seed; the recommended one ringed."""
    figure, panel = plt.subplots(figsize=(9, 0.6 * len(found) + 1.2), layout="constrained")
    truths = [[row.truth.mean() for row in one.cells[0]] for one in found]
    panel.imshow(truths, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    panel.set_yticks(range(len(found)), [one.who.name for one in found])
    panel.set_xticks(range(1, 3 * len(RATES.split(",")), 3), RATES.split(","))
    panel.set_xlabel(f"learning rate, each at {STEPS} training steps; ring: recommended")
    for line, one in enumerate(found):
        for column, truth in enumerate(truths[line]):
            colour = "white" if truth < 0.6 else "black"
            panel.text(column, line, f"{truth:.2f}", ha="center", va="center", c=colour, size=7)
        panel.plot(one.recommended(one.cells[0])[0], line, "o", ms=26, mfc="none", mec="red")
    figure.savefig(FIGURES / "cells.png", dpi=110)
    plt.close(figure)
