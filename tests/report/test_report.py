"""The report of synthetic sweeps: its figures, its ties, its escaping, its swap into place."""

from __future__ import annotations

import csv
import html
import itertools
import math
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fake_sweep import (
    EVIL,
    METRICS,
    FakeSweep,
    image_scores,
    result,
    scored,
    without_pdf,
)
from helpers.small import loaded_after
from PIL import Image

from charsweep.core.errors import StoreError
from charsweep.core.store.files import machine
from charsweep.report import __main__, write_report
from charsweep.report.figures import lines
from charsweep.results import labels, points, records, verdict


@pytest.fixture
def lr_grid(tmp_path: Path) -> FakeSweep:
    """Four learning rates: one diverged, one failed, two finished."""
    sweep = FakeSweep(tmp_path, {"lr": [0.1, 0.01, 0.001, 0.0001]})
    sweep.add("diverged", lr=0.1)
    sweep.add("failed", lr=0.01)
    sweep.add(lr=0.001, scores=scored(0.8123456, prompt=0.9, clip_t=0.28))
    sweep.add(lr=0.0001, scores=scored(0.6012345, clip_t=0.32, diversity=None))
    return sweep


def judged(sweep: FakeSweep) -> verdict.Verdict:
    return verdict.judge(sweep.record())


class Requests(HTMLParser):
    """Every target that a browser would load or a reader could follow, and every tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.targets += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]


def test_figures_equal_the_cells(lr_grid: FakeSweep) -> None:
    page = lr_grid.report()
    values = re.findall(r'<data value="([^"]+)">([^<]*)</data>', page)
    for cell in lr_grid.cells[2:]:
        for metric in METRICS:
            score = cell["scores"][metric]
            if score is not None:
                assert (repr(score), f"{score:.3f}") in values
        assert ("25.125", "25.1") in values
    with (lr_grid.folder / "report" / "tables" / "cells.csv").open(
        newline="", encoding="utf-8"
    ) as file:
        rows = list(csv.DictReader(file))
    assert [row["cell"] for row in rows] == [cell["cell"] for cell in reversed(lr_grid.cells)]
    for row, cell in zip(reversed(rows), lr_grid.cells, strict=True):
        assert float(row["lr"]) == cell["values"]["lr"]
        assert row["state"] == cell["state"]
        for metric in METRICS:
            score = cell["scores"].get(metric)
            assert row[metric] == ("" if score is None else repr(score))
            gain = cell["gains"].get(metric)
            assert row[f"{metric}_gain"] == ("" if gain is None else repr(gain))


def test_everything_from_outside_is_escaped(lr_grid: FakeSweep) -> None:
    lr_grid.axes["method"] = [f"lora {EVIL}"]
    for cell in lr_grid.cells:
        cell["values"]["method"] = f"lora $x {EVIL}" if cell["trial"] else "lora"
    lr_grid.sweep["question"] = EVIL
    lr_grid.cells[1]["error"] += "\u2028 a line separator"
    page = lr_grid.report(plots=True)
    assert "<script" not in page
    assert html.escape(EVIL) in page
    assert "<b>sitting</b>" not in page
    assert "script" not in Requests(page).tags


def test_nothing_is_requested_from_outside(lr_grid: FakeSweep) -> None:
    page = lr_grid.report(plots=True)
    seen = Requests(page)
    anchors = [target for target in seen.targets if target.startswith("#")]
    assert all(f'id="{anchor[1:]}"' in page for anchor in anchors)
    assert not seen.tags & {"script", "link", "iframe", "object"}
    assert all(not re.match(r"(?i)(https?:)?//", target) for target in seen.targets)
    files = [target for target in seen.targets if not target.startswith(("data:", "#"))]
    report = lr_grid.folder / "report"
    assert {Path(file).name for file in files} >= {"cells.csv", "report.pdf", "verdicts.md"}
    assert all((report / file).exists() for file in files)


def test_states_are_told_apart(lr_grid: FakeSweep) -> None:
    page = lr_grid.report(plots=True)
    text = " ".join(judged(lr_grid).sentences)
    assert "1 diverged: lr = 1e-1" in text
    assert "1 failed: lr = 1e-2" in text
    assert "the loss stopped being finite at step 23" in page
    assert "out of memory" in page
    assert '<b class="bad">diverged</b> at step 23' in page


def test_verdict_names_the_best_what_to_try_and_how_much_worse_the_next_is(
    lr_grid: FakeSweep,
) -> None:
    found = judged(lr_grid)
    best, following, doubt, rest = found.sentences
    assert best == (
        "lr = 1e-3 is recommended: sure, the other is worse by more than chance would do (score "
        "0.812 ± 0.040; 50% of its images are the character and show all that was asked)."
    )
    assert following == (
        "The best learning rate lies at 1e-3, and nothing else between 1e-4 and 1e-2 was tried: "
        "2e-4, 5e-4, 2e-3 and 5e-3 may do better."
    )
    assert doubt == "The next, lr = 1e-4, scores 0.211 less."
    assert rest.startswith("2 of 4 cells finished (1 diverged: ")
    assert found.remarks[0].endswith(
        "highest DINO has lr = 1e-3 (0.812) and highest CLIP-T has lr = 1e-4 (0.320). Copies of "
        "the drawings have the highest DINO, and the untaught base already follows prompts."
    )
    marks = [found.marks(cell) for cell in lr_grid.record().cells]
    assert marks == [(), ("recommended", "highest score"), (), ()]


def test_several_objectives_have_leaders_and_a_pareto_set(lr_grid: FakeSweep) -> None:
    lr_grid.sweep["objectives"] = [{"metric": name} for name in ("identity", "prompt")]
    found = judged(lr_grid)
    assert found.recommendation.label == "lr = 1e-3"  # by the score, whatever is searched for
    assert "nothing beats lr = 1e-4 and lr = 1e-3 (the Pareto set)" in found.sentences[-1]
    marks = [found.marks(cell) for cell in lr_grid.record().cells]
    assert marks[0] == ("highest prompt", "Pareto")
    assert marks[1] == ("recommended", "highest identity", "Pareto")
    assert marks[2:] == [(), ()]


def test_what_to_try_next_is_a_command_on_the_page(lr_grid: FakeSweep) -> None:
    command = "python -m charsweep +sweep=fake &#39;++axes.lr=[2e-4,5e-4,2e-3,5e-3]&#39;"
    assert f'<pre class="command">{command}</pre>' in lr_grid.report()
    beside = (lr_grid.folder / "report" / "verdicts.md").read_text("utf-8")
    assert html.unescape(command) in beside


def test_images_that_repeat_a_drawing_are_counted(lr_grid: FakeSweep) -> None:
    lr_grid.cells[2]["repeats"] = {"3": 2, "1": 1}
    sentence = "Copies: 3 of 4 images of lr = 1e-3 repeat drawings 1 and 3."
    assert sentence in judged(lr_grid).remarks
    assert sentence in lr_grid.report()


def test_what_else_teaching_did_is_shown_beside_the_untaught_base(lr_grid: FakeSweep) -> None:
    taught, untaught = lr_grid.draw("taught/leak", "red"), lr_grid.draw("base/leak", "blue")
    lr_grid.cells[2]["parts"] = {"others": [taught, untaught], "changes": ["gone", "gone too"]}
    page = lr_grid.report()
    assert "What else teaching did" in page
    sheet = lr_grid.folder / "report" / "contact_sheets" / "sheet-side-effects.png"
    with Image.open(sheet) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert {(255, 0, 0), (0, 0, 255)} <= colours


def test_all_diverged(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"lr": [0.1, 0.01]})
    sweep.add("diverged", lr=0.1)
    sweep.add("diverged", lr=0.01)
    assert "All 2 cells diverged" in sweep.report(plots=True)


def test_what_failed_is_said_in_few_words(tmp_path: Path) -> None:
    axes: dict[str, list[Any]] = {"lr": [0.1, 0.01], "train_steps": [10, 20, 40]}
    sweep = FakeSweep(tmp_path, axes)
    for lr, steps in itertools.product(*axes.values()):
        sweep.add("diverged" if lr == 0.1 else "finished", lr=lr, train_steps=steps)
    assert "3 of 6 cells finished (3 diverged: all with lr = 1e-1)" in judged(sweep).rest


def test_one_cell(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"lr": [0.001]})
    sweep.add(lr=0.001, scores=scored(0.8))
    page = sweep.report(plots=True)
    assert "the one setting that has a score (score 0.800 ± 0.040" in page
    assert "Nothing stands beside it" in page


def test_two_axes_with_seeds(tmp_path: Path) -> None:
    axes: dict[str, list[Any]] = {
        "method": ["lora", "dreambooth_lora"],
        "train_steps": [10, 20, 40],
        "seed": [0, 1],
    }
    sweep = FakeSweep(tmp_path, axes)
    for method, steps, seed in itertools.product(*axes.values()):
        score = 0.5 + steps / 200 + seed / 10 + (method == "lora") / 20
        sweep.add(method=method, train_steps=steps, seed=seed, scores=scored(score))
    page = sweep.report()
    found = judged(sweep)
    best = found.recommendation.point
    assert best is not None
    assert best.values == {"method": "lora", "train_steps": 40}
    assert found.sentences[0].startswith("lora · train_steps 40 is recommended: ")
    assert "(score 0.800 ± 0.108; " in found.sentences[0]
    assert found.sentences[0].endswith(", over 2 training seeds).")
    assert found.recommendation.cell is not None
    assert found.recommendation.cell.values["seed"] == 1  # whose weights are better
    assert "0.692 to 0.908" in page
    assert "Methods, each as recommended" in page
    record = sweep.record()
    plan = lines.plan_lines(record, "train_steps")
    assert [label for label, _, _ in plan.groups] == ["lora", "dreambooth_lora"]
    mark = lines.marks_of(plan, plan.groups[0][2], "score")[0]
    error = math.sqrt(0.05**2 + 0.02**2)  # over training seeds, over prompts
    assert (mark.x, mark.mean) == (10, pytest.approx(0.65))
    assert (mark.low, mark.high) == pytest.approx((0.65 - 2 * error, 0.65 + 2 * error))


def test_intervals_are_two_standard_errors_and_ties_are_found_pair_by_pair(tmp_path: Path) -> None:
    wide = (0.50, 0.62, 0.55, 0.70, 0.58)
    cells = [
        result(scores={"score": score}, per_image={"score": image_scores(score)}) for score in wide
    ]
    error = math.sqrt(np.var(wide, ddof=1) / len(wide) + 0.02**2)
    known = points.interval(cells, "score")
    assert known == pytest.approx((0.59 - 2 * error, 0.59 + 2 * error))
    assert points.interval([result(scores={"score": 0.4})], "score") is None

    others = {
        "now better, now worse": (0.52, 0.58, 0.56, 0.66, 0.57),
        "always a bit worse": tuple(score - 0.01 for score in wide),  # though intervals overlap
    }
    for name, ties in (("now better, now worse", 1), ("always a bit worse", 0)):
        scores = {"wide": wide, name: others[name]}
        sweep = FakeSweep(tmp_path / name, {"method": list(scores), "seed": [0, 1, 2, 3, 4]})
        for method, seed in itertools.product(scores, range(5)):
            sweep.add(method=method, seed=seed, scores=scored(scores[method][seed]))
        page = sweep.report()
        found = judged(sweep).recommendation
        assert (found.label, len(found.alike)) == ("method = wide", ties)
        assert found.sure is not bool(ties)
        assert ("no handful of training seeds would tell more" in page) is bool(ties)


def test_partial_data_still_gives_a_report(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"lr": [0.01, 0.001]}, finished=None, references={})
    sweep.add(lr=0.01)
    sweep.add(lr=0.001)
    for cell in sweep.cells:
        cell["images"], cell["gains"] = None, {}
        (sweep.store / cell["trajectory"] / "loss.csv").unlink()
    page = sweep.report(plots=True)
    assert "No loss curve for" in page
    assert "not found" in page
    (sweep.folder / "cells.jsonl").unlink()
    sweep.folder.joinpath("sweep.json").write_text('{"name": "fake"}')
    assert "nothing to recommend" in write_report(sweep.folder, sweep.store).read_text("utf-8")


def test_a_line_cut_short_by_a_kill(lr_grid: FakeSweep) -> None:
    page = lr_grid.report(plots=True)
    with (lr_grid.folder / "cells.jsonl").open("a") as file:
        file.write('{"cell": "abc", "sta')
    with without_pdf():
        again = write_report(lr_grid.folder, lr_grid.store)
    assert again.read_text("utf-8") == page


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sweep.json", "{"),
        ("sweep.json", "[]"),
        ("sweep.json", '{"name": "x", "axes": 3}'),
        ("cells.jsonl", "{}\n{}\n"),
    ],
)
def test_broken_files_are_named(
    lr_grid: FakeSweep, name: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lr_grid.report()
    (lr_grid.folder / name).write_text(text)
    with pytest.raises(StoreError, match=re.escape(name)):
        write_report(lr_grid.folder, lr_grid.store)
    assert __main__.main([str(lr_grid.folder)]) == 2
    assert "again" in capsys.readouterr().err


def test_a_missing_sweep_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"holds no sweep\.json"):
        write_report(tmp_path, tmp_path)


def test_an_interrupted_report_leaves_the_old_one(
    lr_grid: FakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lr_grid.report()

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("charsweep.report.content.draw_sheet", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_report(lr_grid.folder, lr_grid.store)
    assert (lr_grid.folder / "report" / "index.html").read_text("utf-8") == before
    assert {path.name for path in lr_grid.folder.iterdir()} == {
        "report",
        "sweep.json",
        "cells.jsonl",
    }


def test_a_full_disk_is_said(lr_grid: FakeSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    before = lr_grid.report()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("charsweep.report.content.draw_losses", full)
    with pytest.raises(StoreError, match=r"No space left.*python -m charsweep\.report"):
        write_report(lr_grid.folder, lr_grid.store)
    assert (lr_grid.folder / "report" / "index.html").read_text("utf-8") == before


def test_leftovers_of_a_kill_are_removed(lr_grid: FakeSweep) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    here = "-".join(machine())
    names = (f".report.{dead.pid}-{here}.tmp", f".report.1-{here}.tmp")
    old, other = (lr_grid.folder / name for name in names)
    old.mkdir()
    other.mkdir()
    lr_grid.report()
    assert not old.exists()
    assert other.exists()  # of a process that lives


def test_files_beside_the_page(lr_grid: FakeSweep) -> None:
    lr_grid.report(plots=True)
    report = lr_grid.folder / "report"
    plots = {path.name for path in (report / "plots").iterdir()}
    assert plots == {
        *(f"{name}.{kind}" for name in ("loss", "pareto") for kind in ("png", "svg")),
        "tuning-lr.png",
        *(f"tuning-lr-{metric}.svg" for metric in METRICS),
    }
    with Image.open(report / "contact_sheets" / "sheet-lr.png") as sheet:
        assert sheet.width > 6 * 128  # truth, base and four learning rates
    names = {path.name for path in (report / "contact_sheets").glob("cell-*.png")}
    assert names == {f"cell-{cell['cell']}.png" for cell in lr_grid.cells[2:]}


def test_the_same_files_give_the_same_report(lr_grid: FakeSweep) -> None:
    assert lr_grid.report(plots=True) == lr_grid.report(plots=True)


def test_many_columns_are_split(tmp_path: Path) -> None:
    steps = list(range(10, 260, 10))
    sweep = FakeSweep(tmp_path, {"train_steps": steps})
    for step in steps:
        sweep.add(train_steps=step)
    page = sweep.report(plots=True)
    assert "(3 of 3)" in page
    assert (sweep.folder / "report" / "contact_sheets" / "sheet-train_steps-3.png").exists()
    curves = sweep.record().curves
    assert len(curves) == 1
    assert curves[0].steps[-1] == 250
    assert "1 of these 25 sheets are files" in page


def test_no_torch() -> None:
    loaded = loaded_after("import charsweep.report.write, charsweep.report.__main__")
    assert "matplotlib" in loaded
    assert not {"torch", "diffusers", "mlflow"} & loaded


def test_importing_the_package_is_light() -> None:
    loaded = loaded_after("import charsweep.report")
    assert "charsweep" in loaded
    assert "matplotlib" not in loaded


@pytest.mark.parametrize(
    ("axis", "value", "text"),
    [
        ("lr", 5e-05, "5e-5"),
        ("lr", 0.1, "1e-1"),
        ("lr", 0.0035, "3.5e-3"),
        ("train_steps", 1000, "1000"),
        ("method.alpha", 0.5, "0.5"),
        ("method.bias", True, "yes"),
        ("method.rank", None, "none"),
    ],
)
def test_values_read_as_typed(axis: str, value: records.Value, text: str) -> None:
    assert labels.value_text(axis, value) == text


@pytest.mark.parametrize(
    ("ratio", "level"),
    [(None, ""), (0.0, "low"), (0.33, "low"), (0.34, "medium"), (0.66, "medium"), (0.67, "high")],
)
def test_quality_levels(ratio: float | None, level: str) -> None:
    assert labels.level_text(ratio) == level


def test_pareto_keeps_equal_points(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"lr": [0.1, 0.01, 0.001]})
    for lr in sweep.axes["lr"]:
        sweep.add(lr=lr, scores=scored(0.7 if lr > 0.005 else 0.6))
    sweep.report()
    record = sweep.record()
    front = points.pareto(points.points_of(record), verdict.TRADE_OFF)
    assert [point.values["lr"] for point in front] == [0.01, 0.1]
