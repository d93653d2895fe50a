"""Strength: what was taught put on in part; and another base that draws what was taught."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.adapters import base_of, write_adapter
from helpers.small import execute, pictures, small, sweep_of
from PIL import Image

from charsweep.config import load_sweep
from charsweep.core.errors import ConfigError
from charsweep.core.specs import Cell
from charsweep.models.pipeline import LoadedPipeline
from charsweep.plan import plan_work

TAUGHT = ["train_steps=2", "+axes.lr=[1e-1,1e-2]"]
STRENGTHS = "+axes.strength=[0,0.5,1,1.5]"


def at(cells: tuple[Cell, ...], strength: float) -> list[Cell]:
    return [cell for cell in cells if cell.values.get("strength", 1) == strength]


def pixels(folder: Path) -> np.ndarray:
    return np.stack(
        [np.asarray(Image.open(BytesIO(one)), int) for one in pictures(folder).values()]
    )


@pytest.mark.parametrize("width", [4, 8])  # fused into the weights, and in slots of a batch
def test_an_axis_of_strengths_trains_nothing_and_0_is_the_untaught_base(
    width: int, tmp_path: Path
) -> None:
    words = [*TAUGHT, f"sampler.batch_width={width}"]
    before, store, _ = execute(tmp_path, *words)
    asked = sweep_of(tmp_path, *words, STRENGTHS)
    assert [c.key for c in at(asked.cells, 1)] == [c.key for c in before.cells]
    plan = plan_work(asked.cells, store)
    assert plan.steps_needed == 0
    assert sum(s.to_draw for s in plan.scorings) == 2 * 2 * 4  # rates, new strengths, images
    sweep, store, results = execute(tmp_path, *words, STRENGTHS)
    assert {result.state for result in results} == {"finished"}
    by_key = {result.cell: result for result in results}
    for cell in at(sweep.cells, 0):
        assert cell.untaught_set is not None
        untaught = pictures(store.images(cell.untaught_set))
        assert pictures(store.images(cell.images)) == untaught
        scores = [store.read_score(cell.score_spec(m, cell.untaught_set)) for m in cell.metrics]
        assert [by_key[cell.key].scores[m.name] for m in cell.metrics] == [
            score["value"] for score in scores
        ]
    drawn = {c.key: pictures(store.images(c.images)) for c in sweep.cells}
    assert len({str(one) for one in drawn.values()}) == 2 * 3 + 1
    assert plan_work(sweep.cells, store).is_done
    # whatever is drawn beside it: alone, elsewhere, one strength gives the same bits
    _, apart, (alone,) = execute(
        tmp_path / "b", *words, "+axes.strength=[0.5]", "~axes.lr", "lr=1e-2"
    )
    (same,) = (c for c in at(sweep.cells, 0.5) if c.values["lr"] == 1e-2)
    assert pictures(apart.folder / str(alone.images)) == drawn[same.key]


@pytest.mark.parametrize("kind", ["lora", "dora", "loha", "lokr"])
def test_a_strength_is_a_point_on_the_line_through_both_weights(kind: str, tmp_path: Path) -> None:
    base = base_of("sdxl")
    write_adapter(base, tmp_path / "a", kind)
    before = weights_of(base)
    half, whole = (weights_at(base, tmp_path / "a", strength) for strength in (0.5, 1 + 1e-6))
    changes = [name for name, tensor in before.items() if not torch.equal(tensor, whole[name])]
    assert len(changes) > 100
    for name in changes:
        middle = (before[name] + whole[name]) / 2
        torch.testing.assert_close(half[name], middle, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights_of(base).items())


def test_weights_that_were_all_taught_are_interpolated(tmp_path: Path) -> None:
    words = ["method=dreambooth", "train_steps=1", "lr=1e-3", "~method.prior_weight"]
    words = ["method=dreambooth", "train_steps=1", "lr=1e-3", "method.prior_weight=0"]
    sweep, store, _ = execute(tmp_path, *words, STRENGTHS)
    (cell,) = at(sweep.cells, 1)
    folder, name = store.snapshot(cell.images.snapshot), cell.trajectory.base_name
    base = base_of(name)
    before = weights_of(base)
    whole, half = (weights_at(base, folder, strength) for strength in (1, 0.5))
    changes = [name for name, tensor in before.items() if not torch.equal(tensor, whole[name])]
    assert changes
    for name in changes:
        torch.testing.assert_close(half[name], (before[name] + whole[name]) / 2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights_of(base).items())
    drawn = {str(pictures(store.images(c.images))) for c in sweep.cells}
    assert len(drawn) == 4


def weights_of(base: LoadedPipeline) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": tensor.clone()
        for name, module in base.parts(base.family.taught(text_encoder=True)).items()
        for key, tensor in module.state_dict().items()
    }


def weights_at(base: LoadedPipeline, folder: Path, strength: float) -> dict[str, torch.Tensor]:
    with base.with_snapshot(folder, strength):
        return weights_of(base)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["strength=5"], "strength=5"),
        (["+axes.strength=[0.5,a]"], "axes.strength"),
        (["method=gan", "strength=0.5"], "strength=0.5: method=gan"),
        (["method=textual_inversion", "+axes.strength=[0,1]"], "strength=0: method=textual_inv"),
        (["method=diffusion", "strength=0"], "strength=0: method=diffusion"),
    ],
)
def test_what_has_no_such_strength_is_said_once(
    words: list[str], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as error:
        load_sweep(small(tmp_path, *words))
    assert str(error.value).startswith(said)
    assert len(str(error.value).splitlines()) == 1
