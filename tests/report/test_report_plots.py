"""The report's plots and grids of pictures: what is drawn from which cells, and when nothing is."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from helpers.fake_sweep import FakeSweep, scored

from charsweep.core.store.losses import read_losses
from charsweep.report.figures import (
    heatmap,
    label_placing,
    lines,
    losses,
    pareto,
    picture_grids,
    style,
    tuning,
)
from charsweep.report.figures.contact_sheets import ContactSheet
from charsweep.results import Record, verdict
from charsweep.results.records import Objective, evenly


def grid_of(root: Path, **axes: list[object]) -> FakeSweep:
    """Every combination once; the score rises along each axis."""
    sweep = FakeSweep(root, dict(axes))
    for combination in itertools.product(*axes.values()):
        values = dict(zip(axes, combination, strict=True))
        places = [axes[name].index(value) for name, value in values.items()]
        sweep.add(**values, scores=scored(0.3 + 0.05 * sum(places)))
    return sweep


def test_a_heat_map_for_two_axes(tmp_path: Path) -> None:
    sweep = grid_of(tmp_path, lr=[1e-4, 1e-3], train_steps=[10, 20, 40])
    record = sweep.record()
    (grid,) = heatmap.grids_of(record)
    assert (grid.rows, grid.columns) == ("lr", "train_steps")
    assert len(grid.points) == 6
    with style.style():
        plots = heatmap.draw_heat_maps(record, tmp_path)
    assert [plot.file.name for plot in plots] == ["heat-score"]


@pytest.mark.parametrize(
    ("axes", "facets"),
    [
        ({"lr": [1e-4, 1e-3]}, []),
        ({"lr": [1e-4, 1e-3], "seed": [0, 1]}, []),
        ({"method": ["a", "b"], "lr": [1e-4, 1e-3], "train_steps": [10, 20]}, ["a", "b"]),
        ({"lr": [1, 2], "train_steps": [10, 20], "inference_steps": [10, 20]}, []),
        ({"lr": [1e-4, 1e-3], "train_steps": list(range(1, 26))}, []),
    ],
)
def test_when_there_is_a_heat_map(
    tmp_path: Path, axes: dict[str, list[object]], facets: list[str]
) -> None:
    assert [one.facet for one in heatmap.grids_of(grid_of(tmp_path, **axes).record())] == facets


def test_a_grid_of_pictures_holds_the_rest_at_the_best(tmp_path: Path) -> None:
    sweep = grid_of(tmp_path, lr=[1e-4, 1e-3], train_steps=[10, 20, 40], seed=[0, 1])
    made = sheets_of(sweep.record())
    assert [sheet.name for sheet in made] == [
        "grid-train_steps-lr",
        "grid-lr-seed",
        "grid-train_steps-seed",
    ]
    first = made[0]
    assert first.rows == ("10", "20", "40")
    assert first.columns == ("lr 1e-4", "lr 1e-3")
    best = {c["values"]["seed"]: c for c in sweep.cells if c["values"]["lr"] == 1e-3}[0]
    assert best is not None
    for row, steps in enumerate((10, 20, 40)):
        for column, lr in enumerate((1e-4, 1e-3)):
            cell = next(
                c
                for c in sweep.cells
                if (c["values"]["train_steps"], c["values"]["lr"]) == (steps, lr)
                and f"seed = {c['values']['seed']}" in first.caption
            )
            assert first.tiles[row][column].path == sweep.store / cell["images"] / "000.png"


def sheets_of(record: Record) -> tuple[ContactSheet, ...]:
    return picture_grids.picture_grids(record, verdict.judge(record))


def test_one_axis_stands_against_the_exams_seeds(tmp_path: Path) -> None:
    sweep = grid_of(tmp_path, lr=[1e-4, 1e-3, 1e-2])
    (sheet,) = sheets_of(sweep.record())
    assert sheet.rows == ("exam seed 0", "exam seed 1")
    assert sheet.tiles[1][2].path == sweep.store / sweep.cells[2]["images"] / "001.png"


def test_a_cell_that_was_not_tried_is_said(tmp_path: Path) -> None:
    sweep = grid_of(tmp_path, lr=[1e-4, 1e-3], train_steps=[10, 20])
    del sweep.cells[1]
    sweep.cells[0]["state"] = "diverged"
    sweep.cells[0]["images"] = None
    (sheet,) = sheets_of(sweep.record())
    notes = {tile.note for row in sheet.tiles for tile in row if tile.path is None}
    assert notes == {"not tried", "diverged"}


def test_large_grids_are_thinned_and_keep_the_best() -> None:
    kept = evenly(tuple(range(100)), 10, 42)
    assert len(kept) == 10
    assert {0, 42, 99} <= set(kept)
    assert list(kept) == sorted(kept)


def test_fronts_against_costs(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"lr": [1, 2, 3]})
    for lr, score, seconds in ((1, 0.8, 100.0), (2, 0.7, 10.0), (3, 0.6, 50.0)):
        scores = scored(score, prompt=1.2 - score)
        sweep.add(lr=lr, scores=scores)["train_seconds"] = seconds
    record = sweep.record()
    plane = pareto.plane_of(record, Objective("score", True), Objective("train_seconds", False))
    assert [point.values["lr"] for point in plane.front] == [1, 2]
    with style.style():
        fronts = pareto.draw_fronts(record, tmp_path)
    assert [front.plot is not None for front in fronts] == [True, True, False]
    assert fronts[2].note == "All points have the same size (0.31 MB), so there is no front."


def test_losses_of_several_networks_are_lines_of_their_own(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"seed": [0, 1]})
    for seed in (0, 1):
        cell = sweep.add(seed=seed)
        rows = ["step,loss,lr,grad_norm,seconds,loss_discriminator,loss_generator"]
        rows += [f"{step},1.0,0.1,1.0,0.02,{-0.5 - step},{step}" for step in range(1, 41)]
        (sweep.store / cell["trajectory"] / "loss.csv").write_text("\n".join(rows) + "\n")
    curve = sweep.record().curves[0]
    assert list(curve.shares) == ["discriminator", "generator"]
    assert curve.shares["generator"] == tuple(float(step) for step in range(1, 41))
    low, high = losses.loss_limits([curve])
    assert low < -40 < 40 < high  # not on a log scale
    assert len(losses.shown_losses(curve)) == 2
    assert "Loss per step" in sweep.report(plots=True)


def test_extra_columns_are_cut_with_the_steps(tmp_path: Path) -> None:
    path = tmp_path / "loss.csv"
    path.write_text("step,loss,lr,grad_norm,seconds,loss_d\n1,1,1,1,1,5\n2,1,1,1,1,6\n3,1,1")
    first, second = read_losses(path)
    assert (first.step, first.loss, first.parts) == (1, 1.0, {"loss_d": 5.0})
    assert (second.step, second.parts) == (2, {"loss_d": 6.0})
    assert read_losses(path, 1) == [first]


def test_a_method_without_the_other_axis_keeps_its_line(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"train_steps": [10, 20], "inference_steps": [10, 20]})
    for steps, inference in itertools.product((10, 20), (10, 20)):
        sweep.add(train_steps=steps, inference_steps=inference, scores=scored(0.5))
    for steps in (10, 20):
        cell = sweep.add(train_steps=steps, scores=scored(0.4))
        del cell["values"]["inference_steps"]
    record = sweep.record()
    plan = lines.plan_lines(record, "train_steps")
    assert [label for label, _, _ in plan.groups] == ["none", "10", "20"]
    shown = sum(len(lines.marks_of(plan, cells, "score")) for _, _, cells in plan.groups)
    assert shown == 6
    assert sweep.report(plots=True)


@pytest.mark.slow
def test_importance_is_drawn_when_it_is_known(tmp_path: Path) -> None:
    sweep = grid_of(tmp_path, lr=[1e-4, 1e-3])
    sweep.sweep["importance"] = {"score": {"lr": 0.7, "method.rank": 0.3}, "prompt": {"lr": None}}
    assert "Which axis matters" in sweep.report(plots=True)
    assert sweep.record().sweep.importance == {"score": {"lr": 0.7, "method.rank": 0.3}}
    sweep.sweep["importance"] = {}
    assert "Which axis matters" not in sweep.report(plots=True)
    assert not (sweep.folder / "report" / "plots" / "importance.png").exists()


def test_labels_keep_off_lines_points_and_each_other() -> None:
    _, (axes,) = style.Layout(4, 3).new_figure()
    (line,) = axes.plot([0, 1], [0.5, 0.5])
    points = [(0.2, 0.5), (0.5, 0.52), (0.9, 0.5)]
    label_placing.write_labels(axes, [(f"label {x}", x, y, "black") for x, y in points], points)
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) > 1
    path = line.get_path().transformed(line.get_transform())
    assert not any(path.intersects_bbox(box) for box in boxes)
    for at, box in enumerate(boxes):
        assert not box.count_overlaps(boxes[:at])
        assert not box.count_contains(axes.transData.transform(points))


def test_names_of_scores_that_lie_close_stay_on_the_paper(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"lr": [1e-4, 1e-3]})
    for lr, score in ((1e-4, 0.4868), (1e-3, 0.4731)):  # ticks of four decimals
        sweep.add(lr=lr, scores={"mine": score})["per_image"] = {}  # no bands, which are wider
    setting = tuning.setting_of(sweep.record(), "lr")
    with style.style():
        figure, (axes,) = style.Layout(4.3, 2.9, setting.margins).new_figure()
        tuning.draw_panel(axes, setting, "mine")
        figure.canvas.draw()
    assert max(len(tick.get_text()) for tick in axes.get_yticklabels()) == 6
    assert axes.yaxis.label.get_window_extent().x0 >= 0
