"""The report's tables: every figure recomputed from the cells, blanks, ties, escaping."""

from __future__ import annotations

import csv
import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_sweep import EVIL, METRICS, FakeSweep, scored

from charsweep.results import advantages, cells_table, compare_methods, facts, judge, table
from charsweep.results.labels import cost_text, level_text

MINUS = "\N{MINUS SIGN}"


@pytest.fixture
def methods(tmp_path: Path) -> FakeSweep:
    """Two taught methods over rates and seeds, and a GAN that has neither rate nor base."""
    sweep = FakeSweep(tmp_path, {"method": ["lora", "dreambooth"], "lr": [0.01, 0.001]})
    sweep.axes["seed"] = [0, 1]
    for number, (method, lr, seed) in enumerate(itertools.product(*sweep.axes.values())):
        scores = scored(0.5 + number / 20, clip_t=0.30 + number / 500, quality_ratio=number / 10)
        cell = sweep.add(method=method, lr=lr, seed=seed, scores=scores | {"copy": -0.1 - seed})
        cell |= {"size_mb": 3.23 if method == "lora" else 4000.0, "energy_wh": 1.5 + number}
        cell |= {"train_seconds": 60.0 + number, "co2_g": 0.1 * number}
    nothing = dict.fromkeys(["score", "quality_ratio", "identity", "prompt", "clip_t"])
    gan = sweep.add(method="gan", scores=scored(0.45) | nothing)
    gan |= {"base": "", "gains": {}, "values": {"method": "gan", "seed": 0}, "size_mb": 8.1}
    return sweep


def rows_of(sweep: FakeSweep, name: str) -> list[dict[str, str]]:
    with (sweep.folder / "report" / "tables" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def text_of(sweep: FakeSweep, file: str) -> str:
    return (sweep.folder / "report" / "tables" / file).read_text("utf-8")


def mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


def best_cells(sweep: FakeSweep, method: str) -> list[dict[str, Any]]:
    """By hand: the cells of a method at the rate whose mean over seeds is highest."""
    own = [cell for cell in sweep.cells if cell["values"]["method"] == method]
    rates = {cell["values"].get("lr") for cell in own}
    by_rate = {rate: [c for c in own if c["values"].get("lr") == rate] for rate in rates}
    return max(by_rate.values(), key=lambda cells: mean([c["scores"]["dino"] for c in cells]))


def test_comparison_has_each_method_at_its_own_best(methods: FakeSweep) -> None:
    methods.report()
    rows = rows_of(methods, "comparison")
    assert [row["method"] for row in rows] == ["lora", "dreambooth", "gan"]
    for row in rows:
        own = best_cells(methods, row["method"])
        assert row["seeds"] == str(len(own))
        for name in ("size_mb", "train_seconds", "seconds_per_step", "energy_wh", "co2_g"):
            known = [cell[name] for cell in own if name in cell]
            assert row[name] == ("" if not known else repr(mean(known)))
        for metric in METRICS:
            known = [c["scores"][metric] for c in own if c["scores"][metric] is not None]
            assert row[metric] == ("" if not known else repr(mean(known)))


def test_the_best_of_the_methods_is_bold(methods: FakeSweep) -> None:
    methods.report()
    best = max(float(row["score"]) for row in rows_of(methods, "comparison") if row["score"])
    assert rf"\textbf{{{best:.3f}" in text_of(methods, "comparison.tex")
    assert f"**{best:.3f}" in text_of(methods, "comparison.md")


def test_what_does_not_apply_is_blank_and_never_zero(methods: FakeSweep) -> None:
    page = methods.report()
    gan = rows_of(methods, "comparison")[2]
    blank = ["base", "lr", "score", "identity", "prompt", "clip_t", "quality_ratio"]
    blank += ["visual_quality", "energy_wh", "dino_gain"]
    assert [gan[name] for name in blank] == [""] * len(blank)
    cell = rows_of(methods, "cells")[-1]
    assert [cell[name] for name in ("base", "lr", "score", "score_gain")] == [""] * 4
    line = next(ln for ln in text_of(methods, "comparison.md").splitlines() if "gan" in ln)
    assert "0.000" not in line
    assert "gan" in page


def test_every_number_of_every_table_comes_from_the_cells(methods: FakeSweep) -> None:
    page = methods.report()
    shown = {(float(a), b) for a, b in re.findall(r'<data value="([^"]+)">([^<]*)</data>', page)}
    wanted = set()
    for cell in methods.cells:
        wanted |= {(s, read(s)) for s in cell["scores"].values() if s is not None}
        costs = ("size_mb", "train_seconds", "paid_seconds", "seconds_per_step", "energy_wh")
        wanted |= {(cell[n], cost_text(n, cell[n])) for n in costs if n in cell}
    common = wanted - shown  # the same for all cells: said in a line above the table
    (line,) = re.findall(r"The same for all: (.*time paid.*)\.</p>", page)
    assert {value for value, _ in common} == {0.025, 12.5}
    assert all(text in line for _, text in common)
    markdown, latex = text_of(methods, "cells.md"), text_of(methods, "cells.tex")
    for cell in methods.cells:
        for score in cell["scores"].values():
            if score is not None:
                assert read(score) in markdown
                assert read(score).replace(MINUS, "$-$") in latex
    # Nothing is shown that is not a figure of a cell, a reference, or a mean over seeds.
    allowed = {value for value, _ in wanted} | all_means(methods) | reference_scores(methods)
    assert all(any(math.isclose(value, one) for one in allowed) for value, _ in shown)


def read(score: float) -> str:
    return f"{score:.3f}".replace("-", MINUS)


def all_means(sweep: FakeSweep) -> set[float]:
    """Means over the seeds of each point, of every score and cost; and how many seeds those are."""
    points: dict[str, list[dict[str, Any]]] = {}
    for cell in sweep.cells:
        point = {name: value for name, value in cell["values"].items() if name != "seed"}
        points.setdefault(json.dumps(point), []).append(cell)
    found = {float(len(cells)) for cells in points.values()}
    for cells in points.values():
        for name in METRICS:
            known = [c["scores"][name] for c in cells if c["scores"][name] is not None]
            found |= {mean(known)} if known else set()
        for name, value in cells[0].items():
            if isinstance(value, int | float):
                found.add(mean([cell[name] for cell in cells]))
    return found


def reference_scores(sweep: FakeSweep) -> set[float]:
    references = sweep.sweep["references"]
    known = [
        references["real"],
        references["truth"]["scores"],
        references["base"]["sdxl"]["scores"],
    ]
    return {score for scores in known for score in scores.values()}


def test_seeds_table_holds_means_and_their_ends(methods: FakeSweep) -> None:
    methods.report()
    for row in rows_of(methods, "seeds"):
        own = [
            cell
            for cell in methods.cells
            if cell["values"]["method"] == row["method"]
            and str(cell["values"].get("lr", "")) == row["lr"]
        ]
        scores = [cell["scores"]["dino"] for cell in own]
        assert float(row["dino"]) == pytest.approx(mean(scores))
        assert row["finished"] == f"{len(own)} of {len(own)}"
        # Over training seeds, of one or two; and over prompts.
        error = math.sqrt(((max(scores) - min(scores)) / 2) ** 2 + 0.02**2)
        assert float(row["dino_low"]) == pytest.approx(mean(scores) - 2 * error)
        assert float(row["dino_high"]) == pytest.approx(mean(scores) + 2 * error)


def test_cells_csv_agrees_with_the_runs_own(methods: FakeSweep) -> None:
    methods.report()
    by_key = {row["cell"]: row for row in rows_of(methods, "cells")}
    for cell in methods.cells:
        row = by_key[cell["cell"]]
        assert row["state"] == cell["state"]
        assert row["visual_quality"] == level_text(cell["scores"]["quality_ratio"])
        for name in ("size_mb", "train_seconds", "paid_seconds", "peak_memory_mb"):
            assert float(row[name]) == cell[name]


def test_advantages_are_read_off_the_comparison(methods: FakeSweep) -> None:
    methods.report()
    found = {row["measure"]: row for row in rows_of(methods, "advantages")}
    assert found["size_mb"]["who"] == "lora"
    assert found["size_mb"]["next"] == "gan"
    assert found["score"]["who"] == "dreambooth"
    assert found["train_seconds"]["who"] == "gan"  # 25 s
    sentences = [one.sentence for one in advantages.advantages(methods.record())]
    assert "Lightest: lora, 3.23 MB; next gan, 8.1 MB." in sentences


@pytest.mark.parametrize(("second", "tied"), [(104.9, True), (105.1, False)])
def test_costs_that_tie_are_said(tmp_path: Path, second: float, tied: bool) -> None:
    sweep = FakeSweep(tmp_path, {"method": ["a", "b", "c"]})
    for method, seconds in (("a", 100.0), ("b", second), ("c", 300.0)):
        sweep.add(method=method, scores=scored(0.5))["train_seconds"] = seconds
    found = next(o for o in advantages.advantages(sweep.record()) if o.aspect.is_cost)
    assert ("tied with b" in found.sentence) is tied
    alike = advantages.advantages(sweep.record())[0].sentence
    assert alike == "Highest score: no difference to speak of (score 0.500)."


def test_a_method_without_a_finished_cell_is_listed(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"method": ["lora", "dreambooth"]})
    sweep.add(method="lora", scores=scored(0.7))
    sweep.add("failed", method="dreambooth")
    assert "no finished cell" in sweep.report()
    assert [one.point is None for one in compare_methods.contenders(sweep.record())] == [
        False,
        True,
    ]


def test_latex_and_markdown_are_escaped(tmp_path: Path) -> None:
    name = f"lo_ra & 50% $x$ #1 | {EVIL} [a] \\"
    sweep = FakeSweep(tmp_path, {"method": [name, "plain"]})
    sweep.add(method=name, scores=scored(0.7))
    sweep.add(method="plain", scores=scored(0.6))
    sweep.report()
    latex = text_of(sweep, "comparison.tex")
    wanted = r"lo\_ra \& 50\% \$x\$ \#1 \textbar{} \textless{}script\textgreater{}"
    assert wanted in latex
    assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == 1
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", latex)
    assert columns is not None
    bodies = [ln.replace(r"\&", "") for ln in latex.splitlines() if ln.endswith(r" \\")]
    assert {body.count("&") + 1 for body in bodies} == {len(columns[1])}
    markdown = text_of(sweep, "comparison.md")
    assert "<script" not in markdown
    rows = [ln for ln in markdown.splitlines() if ln.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", ln)) for ln in rows} == {len(columns[1]) + 1}


def test_a_long_table_goes_over_several_pages_of_a_paper(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"train_steps": list(range(1, 51))})
    for steps in sweep.axes["train_steps"]:
        sweep.add(train_steps=steps, scores=scored(steps / 100))
    sweep.report()
    assert r"\begin{longtable}" in text_of(sweep, "cells.tex")
    assert [int(row["train_steps"]) for row in rows_of(sweep, "cells")] == list(range(1, 51))
    first = text_of(sweep, "cells.md").splitlines()[5]  # head, rule, three references
    assert first.startswith("| 50 |")  # shown best first, but listed in the grid's order


def test_energy_says_when_it_is_an_estimate(lr_pair: FakeSweep) -> None:
    lr_pair.sweep["energy"] = {
        "kwh": 0.0123, "co2_kg": 0.0007, "watts": 65.0, "measured": False, "country": "FRA",
        "source": f"TDP {EVIL}", "saved_kwh": 1.5,
    }  # fmt: skip
    page = lr_pair.report()
    lines = dict(facts.how_it_ran(lr_pair.record()))
    assert lines["energy"].startswith("estimated: 12.3 Wh, 0.7 g CO₂ (grid of FRA), at 65 W")
    assert lines["energy saved"].startswith("estimated: 1.5 kWh")
    assert "<script" not in page
    lr_pair.sweep["energy"]["measured"] = True
    assert dict(facts.how_it_ran(lr_pair.record()))["energy"].startswith("measured")


def test_without_energy_no_word_of_it(lr_pair: FakeSweep) -> None:
    assert "energy" not in lr_pair.report()
    assert "energy_wh" not in rows_of(lr_pair, "comparison")[0]


@pytest.fixture
def lr_pair(tmp_path: Path) -> FakeSweep:
    sweep = FakeSweep(tmp_path, {"lr": [0.01, 0.001]})
    sweep.add(lr=0.01, scores=scored(0.8, colour=0.75))
    sweep.add(lr=0.001, scores=scored(0.6, colour=0.5))
    return sweep


def test_a_new_metric_gets_its_column(lr_pair: FakeSweep) -> None:
    page = lr_pair.report()
    assert [row["colour"] for row in rows_of(lr_pair, "cells")] == ["0.5", "0.75"]
    assert "Bhattacharyya" in page


@pytest.mark.parametrize("text", ["", "a|b", "x\ny", "*a* _b_", "[l](http://a)", "<i>", "`c`"])
def test_markdown_stays_in_its_cell(text: str) -> None:
    escaped = table.escape_markdown(text)
    assert "\n" not in escaped
    assert not re.search(r"(?<!\\)[|*_`\[\]]", escaped)
    assert "<" not in escaped


def test_what_reads_no_prompts_wins_nothing_that_it_was_not_asked_for(methods: FakeSweep) -> None:
    """The GAN copies one drawing: the highest DINO of all, and no prompt to follow."""
    methods.cells[-1]["scores"] |= {"dino": 0.99, "diversity": 0.01}
    methods.report()
    page = (methods.folder / "report" / "verdicts.md").read_text("utf-8")
    verdict = page.partition("## Verdict")[2].partition("##")[0]
    assert "gan" not in next(line for line in verdict.splitlines() if "is recommended" in line)
    assert (
        "gan is not ranked: a score needs a base and prompts. It reaches DINO 0.990 with "
        "diversity 0.010" in verdict
    )
    found = {row["advantage"]: row for row in rows_of(methods, "advantages")}
    for name in ("Highest score", "Highest identity"):
        assert found[name]["who"] == "dreambooth"
    assert found["Lightest"]["next"] == "gan"  # costs are for all


def test_a_method_stands_at_what_is_recommended_of_its_own(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"method": ["lora", "dreambooth"], "lr": [0.01, 0.001, 0.0001]})
    for method, lr, identity, prompt in [
        ("lora", 0.01, 0.9, 0.2),  # over-trained
        ("lora", 0.001, 0.8, 0.9),
        ("lora", 0.0001, 0.5, 1.0),
        ("dreambooth", 0.01, 0.6, 0.9),
        ("dreambooth", 0.001, 0.5, 0.8),
        ("dreambooth", 0.0001, 0.4, 1.0),
    ]:
        scores = scored(identity * prompt, identity=identity, prompt=prompt)
        sweep.add(method=method, lr=lr, scores=scores)
    sweep.report()
    rates = {row["method"]: float(row["lr"]) for row in rows_of(sweep, "comparison")[:2]}
    assert rates == {"lora": 0.001, "dreambooth": 0.01}


def test_a_column_that_says_the_same_in_every_row_is_one_line_above(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"lr": [0.01, 0.001]})
    for lr in (0.01, 0.001):
        sweep.add(lr=lr, scores=scored(lr * 50, quality_ratio=0.0))
    sweep.sweep["references"]["truth"]["scores"] |= {"copy": 0.1}
    made = cells_table.cells_table(sweep.record(), judge(sweep.record()))
    titles = [column.title for column in made.shown]
    assert "weights, MB" not in titles  # 0.31 for both
    assert "quality ratio" not in titles  # 0 for both, and no reference has one
    assert "CLIP-I" in titles  # 0.700 for both, but the references differ
    assert made.common.startswith("The same for all: quality ratio 0.000; visual quality low; ")
    assert "weights 0.31 MB" in made.common
    assert made.common in made.notes
    costs = [column.title for column in made.without("score").shown]
    assert costs == ["learning rate", "state"]
