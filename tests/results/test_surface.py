"""The response surface: what it makes of scores, when there is one, what the rule does with it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fake_sweep import FakeSweep, result
from scipy.stats import multivariate_normal

from charsweep.results import judge
from charsweep.results.cells_table import cells_table
from charsweep.results.choice import chosen
from charsweep.results.points import SAME, Point
from charsweep.results.reasons import reason_for
from charsweep.results.surface import FLAT, NEAR, SHRINKING, quadratic, smoothed, surfaces

Values = Mapping[str, Any]
GRID = {
    "lr": [3e-4, 1e-3, 3e-3, 1e-2],
    "train_steps": [250, 500, 1000],
    "strength": [0.8, 1.0, 1.2],
}


def grid(axes: Mapping[str, Sequence[Any]] = GRID) -> list[Values]:
    return [dict(zip(axes, own, strict=True)) for own in itertools.product(*axes.values())]


def hill(values: Values) -> float:
    """Smooth, with its peak inside the grid: a rate of 2e-3, the longest training, strength 1."""
    away = np.log10(values["lr"] / 2e-3), np.log2(values["train_steps"] / 900)
    return float(
        0.85 - 0.15 * away[0] ** 2 - 0.05 * away[1] ** 2 - (values["strength"] - 1.05) ** 2
    )


def points(
    score: Callable[[Values], float], some: Iterable[Values], noise: float = 0.0, seed: int = 0
) -> list[Point]:
    """Settings with a score of 8 prompts, one image each, whose identity says nothing."""
    chance = np.random.default_rng(seed)
    found = []
    for values in some:
        rows = (
            score(values) + chance.normal(0, noise, (8, 1))
            if noise
            else np.full((8, 1), score(values))
        )
        images = {"score": rows.tolist(), "identity": [[0.5]] * 8}
        found.append(
            Point(
                values,
                (
                    result(
                        cell=str(values), values=dict(values), base="sdxl",
                        step=values.get("train_steps", 1), size_mb=1.0, per_image=images,
                        scores={"score": float(rows.mean()), "identity": 0.5},
                    ),
                ),
            )
        )  # fmt: skip
    return found


def test_it_is_the_ridge_regression_of_the_highest_marginal_likelihood() -> None:
    chance = np.random.default_rng(0)
    rows = np.array([[v["lr"], v["train_steps"], v["strength"]] for v in grid()])
    terms = quadratic(rows)
    assert terms.shape == (36, 9)
    assert np.allclose(terms.mean(axis=0), 0)
    assert np.allclose(terms.std(axis=0), 1)
    scores = np.array([hill(values) for values in grid()]) + chance.normal(0, 0.03, 36)

    def likelihood(ratio: float) -> float:
        """Of contrasts of the scores, with the noise that makes it highest."""
        contrasts = np.linalg.svd(np.ones((1, 36)))[2][1:]
        cov = contrasts @ (np.eye(36) + terms @ terms.T / ratio) @ contrasts.T
        own = contrasts @ scores
        return float(
            multivariate_normal(cov=cov * (own @ np.linalg.solve(cov, own)) / 35).logpdf(own)
        )

    best = max(SHRINKING, key=likelihood)
    inner = np.linalg.solve(terms.T @ terms + best * np.eye(9), terms.T @ (scores - scores.mean()))
    assert np.allclose(smoothed(terms, scores), scores.mean() + terms @ inner)


def test_scores_without_noise_are_their_own_surface() -> None:
    """But for what a quadratic is not, and a little shrinking."""
    some = [values for values in grid() if hill(values) > 0.7]
    (surface,) = surfaces(points(hill, some))
    assert np.abs(surface.scores - [hill(values) for values in some]).max() < 0.005


def test_of_many_noisy_settings_it_names_a_better_one_than_the_highest_score() -> None:
    best = max(hill(values) for values in grid())
    lost: dict[str, list[float]] = {"highest": [], "named": []}
    for seed in range(40):
        known = points(hill, grid(), noise=0.12, seed=seed)
        highest = max(known, key=lambda point: point.mean("score") or 0.0)
        lost["highest"].append(best - hill(highest.values))
        lost["named"].append(best - hill(chosen(known).best.values))
    assert np.mean(lost["named"]) < 0.5 * np.mean(lost["highest"])


def test_few_settings_have_none() -> None:
    """Ten terms of three axes want fifteen settings near the best."""
    near = [values for values in grid() if hill(values) > 0.65]
    assert len(surfaces(points(hill, near[:15]))) == 1
    assert surfaces(points(hill, near[:14])) == ()
    assert surfaces([]) == ()
    assert surfaces(points(lambda values: 0.0, grid())) == ()


def test_settings_far_below_the_best_do_not_bend_it() -> None:
    cliff = [{"lr": rate, "train_steps": steps, "strength": 1.0}
             for rate in (0.1, 1.0) for steps in GRID["train_steps"]]  # fmt: skip
    known = points(lambda values: hill(values) if values["lr"] < 0.1 else 0.01, [*grid(), *cliff])
    (surface,) = surfaces(known)
    (alone,) = surfaces(points(hill, grid()))
    assert np.array_equal(surface.scores, alone.scores)
    assert all(point.values["lr"] < 0.1 for point in surface.points)
    assert surface.score(known[-1]) is None


def test_what_differs_in_more_than_numbers_has_a_surface_of_its_own() -> None:
    methods = {"method": ["lora", "dreambooth"], **GRID}
    found = surfaces(points(hill, grid(methods)))
    assert [{point.values["method"] for point in one.points} for one in found] == [
        {"lora"}, {"dreambooth"},
    ]  # fmt: skip


def test_an_axis_that_was_tried_at_one_setting_alone_is_not_one_of_its() -> None:
    """What was tried there is compared with the best on it, picture by picture."""
    more = [{**grid()[20], "inference_steps": steps} for steps in (10, 40)]
    known = points(hill, [*({**values, "inference_steps": 20} for values in grid()), *more])
    (surface,) = surfaces(known)
    assert {point.values["inference_steps"] for point in surface.points} == {20}
    best = chosen(known).best
    again = [{**best.values, "inference_steps": 10}, {**best.values, "inference_steps": 40}]
    known = points(hill, [*(point.values for point in known[:36]), *again])
    assert chosen(known).best.values == again[0]  # as good, and cheaper


@pytest.mark.parametrize("strengths", [[0.0, 0.5, 1.0, 1.5], [-1.0, 0.0, 1.0, 2.0]])
def test_numbers_that_have_no_logarithm_are_taken_as_they_are(strengths: list[float]) -> None:
    axes = {"lr": GRID["lr"], "strength": strengths}
    known = points(lambda values: 0.8 - 0.1 * values["strength"] ** 2 / 4, grid(axes))
    (surface,) = surfaces(known)
    assert np.isfinite(surface.scores).all()
    assert chosen(known).best.values["strength"] == 0.0


def test_what_its_own_images_tell_from_the_highest_is_not_named() -> None:
    """However high the surface is there."""
    known = points(hill, grid())
    named = chosen(known).best
    at = known.index(named)
    rows = np.full((8, 1), hill(named.values) - 0.05).tolist()
    cell = named.cells[0]
    worse = result(
        cell="worse", values=cell.values, base="sdxl", step=cell.step, size_mb=1.0,
        scores={"score": rows[0][0], "identity": 0.5},
        per_image={"score": rows, "identity": [[0.5]] * 8},
    )  # fmt: skip
    known[at] = Point(named.values, (worse,))
    assert chosen(known).best is not known[at]


FINE = {
    "lr": [1e-4, 3e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 3e-2],
    "train_steps": [125, 250, 375, 500, 750, 1000],
    "strength": [0.8, 1.0, 1.2],
}


@pytest.mark.parametrize("seed", range(8))
def test_a_flat_surface_names_nothing(seed: int) -> None:
    """It would leave to the price what the images tell."""
    choice = chosen(points(lambda values: 0.8, grid(FINE), noise=0.1, seed=seed))
    assert all(np.ptp(one.scores) > FLAT for one in choice.surfaces)
    some = [values for values in grid(FINE) if values["strength"] == 1 and values["lr"] == 1e-3]
    assert chosen(points(lambda values: 0.8, some, noise=0.1, seed=seed)).surface is None


@pytest.mark.parametrize("seed", range(8))
def test_what_is_far_below_the_best_does_not_win_by_its_price(seed: int) -> None:
    """However little its images tell."""
    known = points(lambda v: max(0.02, hill(v) - 0.25), grid(FINE), noise=0.25, seed=seed)
    highest = max(point.mean("score") or 0.0 for point in known)
    assert (chosen(known).best.mean("score") or 0.0) >= NEAR * highest


def test_training_seeds_that_did_not_finish_have_no_fitted_score() -> None:
    known = points(hill, grid())
    gone = result(cell="gone", state="diverged", values=dict(known[20].values), base="sdxl")
    known[20] = Point(known[20].values, (*known[20].cells, gone))
    choice = chosen(known)
    assert choice.surface is not None
    assert len(choice.fitted_cells) == len(choice.surface.points)
    assert "gone" not in choice.fitted_cells


def test_the_table_of_all_cells_has_fitted_scores(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {name: list(values) for name, values in GRID.items()})
    for point in points(hill, grid(), noise=0.05):
        (cell,) = point.cells
        sweep.add(scores=dict(cell.scores), **point.values)["per_image"] = dict(cell.per_image)
    record = sweep.record()
    verdict = judge(record)
    table = cells_table(record, verdict)
    at = [column.key for column in table.columns].index("fitted_score")
    told = {str(row.entries[0].value): row.entries[at].value for row in table.rows}
    fitted = verdict.recommendation.fitted
    assert len(fitted) > 15
    assert {key: value for key, value in told.items() if value is not None} == fitted
    best = verdict.recommendation.cell
    assert best is not None
    assert fitted[best.cell] >= max(fitted.values()) - SAME


def test_a_reason_claims_no_more_of_one_of_two_surfaces() -> None:
    methods = {"method": ["lora", "dreambooth"], **GRID}
    told = set()
    for seed in range(12):
        choice = chosen(points(hill, grid(methods), noise=0.12, seed=seed))
        assert choice.fitted is not None
        top, reason = max(choice.fitted_cells.values()), reason_for(choice)
        told |= {reason.split(" fitted")[0]}
        assert reason.startswith("highest in") == (choice.fitted == top)
        assert reason.startswith("within") == (top - SAME <= choice.fitted < top)
    assert len(told) > 1


def test_the_reason_says_that_scores_were_smoothed() -> None:
    choice = chosen(points(hill, grid(), noise=0.12, seed=1))
    assert choice.surface is not None
    assert choice.alike
    told = reason_for(choice)
    assert f"fitted score ({choice.fitted:.3f})" in told
    assert f"the {len(choice.surface.points)} settings near the best" in told
    assert told.endswith("are as good")
