"""Strength: what was taught put on in part; and another base that draws what was taught."""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.adapters import base_of, write_adapter
from helpers.small import execute, pictures, small, sweep_of
from helpers.variants import first
from PIL import Image
from safetensors.torch import load_file, save_file

from charsweep.config import load_sweep
from charsweep.core.cells import Cell
from charsweep.core.errors import ConfigError
from charsweep.core.specs import BaseSpec
from charsweep.evaluate.sample import Asked, paint_with
from charsweep.models.embedded import FOLDER
from charsweep.models.load import load_base
from charsweep.models.pipeline import LoadedPipeline
from charsweep.plan import plan_work

TAUGHT = ["train_steps=2", "+axes.lr=[1e-1,1e-2]"]
STRENGTHS = "+axes.strength=[0,0.5,1,1.5]"


def at(cells: tuple[Cell, ...], strength: float) -> list[Cell]:
    return [cell for cell in cells if cell.values.get("strength", 1) == strength]


@pytest.mark.parametrize("width", first(1, [8, 4]))  # in slots of a batch; fused into the weights
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
    (half, _) = at(sweep.cells, 0.5)  # drawn alone, the same bits
    shutil.rmtree(store.images(half.images))
    execute(tmp_path, *words, "axes.lr=[1e-1]", "strength=0.5")
    assert pictures(store.images(half.images)) == drawn[half.key]


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


# -- taught on one base, drawn with another --------------------------------------------------------


@pytest.fixture(scope="module")
def turbo(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Another base of the embedded one's kind and sizes, as a word of the command line."""
    folder = tmp_path_factory.mktemp("bases") / "turbo"
    shutil.copytree(FOLDER / "weights" / "sdxl", folder)
    (file,) = (folder / "unet").glob("*.safetensors")
    tensors = load_file(file)
    save_file({name: 1.05 * tensor for name, tensor in tensors.items()}, file)
    kind = "charsweep.models.families.stable_diffusion.StableDiffusionXL"
    return f"+models.bases.turbo={{_target_:{kind},path:{folder},resolution:64}}"


@pytest.mark.slow
def test_what_one_base_was_taught_another_draws(turbo: str, tmp_path: Path) -> None:
    words = [turbo, "train_steps=2", "lr=1e-1", "+axes.sampler.base=[sdxl,turbo]"]
    sweep, store, results = execute(tmp_path, *words, "+axes.strength=[0,1]")
    assert len({cell.trajectory.key for cell in sweep.cells}) == 1
    assert [r.base for r in results].count("turbo (taught on sdxl)") == 2
    plain = sweep_of(tmp_path, "train_steps=2", "lr=1e-1").cells[0]
    by = {(c.values["sampler.base"], c.values["strength"]): c for c in sweep.cells}
    assert by["sdxl", 1].key == plain.key
    untaught, taught = by["turbo", 0], by["turbo", 1]
    for cell in (untaught, taught):
        for images in (cell.untaught_set, cell.class_noun_set):
            assert images is not None
            assert isinstance(images.snapshot.source, BaseSpec)
            assert (images.snapshot.source.name, images.base) == ("turbo", None)
    drawn = {place: pictures(store.images(cell.images)) for place, cell in by.items()}
    assert drawn["turbo", 0] == pictures(store.images(untaught.images.untaught))
    assert len({str(one) for one in drawn.values()}) == 4
    spec = taught.images.base
    assert spec is not None
    base = load_base(spec, sweep.bases[spec.key], torch.device("cpu"))
    asked = [Asked(p, n, seed) for n, p in enumerate(taught.images.prompts)
             for seed in taught.images.seeds]  # fmt: skip
    with base.with_snapshot(store.snapshot(taught.images.snapshot)):
        by_hand = paint_with(base)(taught.images, asked)
    for array, picture in zip(by_hand, drawn["turbo", 1].values(), strict=True):
        shown = np.asarray(Image.open(BytesIO(picture)), int)
        assert np.abs(shown - (array * 255).round()).max() <= 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sampler.base=nope"], "sampler.base=nope: models=embedded has no such base"),
        (["sampler.base=sd15"], "sampler.base=sd15: it is"),
        (["sampler.base=turbo", "method=dreambooth"], "sampler.base=turbo: method=dreambooth make"),
        (["sampler.base=turbo", "method=gan"], "sampler.base=turbo: method=gan makes no adapter"),
        (["sampler.base=turbo", "method=textual_inversion"], "sampler.base=turbo: method=textual"),
    ],
)
def test_what_no_other_base_can_draw_is_said_once(
    words: list[str], said: str, turbo: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as error:
        load_sweep(small(tmp_path, turbo, *words))
    assert str(error.value).startswith(said)
    assert len(str(error.value).splitlines()) == 1


def test_a_base_of_other_sizes_is_refused(turbo: str, tmp_path: Path) -> None:
    """The published XL in its true size, of which shapes are known without weights."""
    kind = "charsweep.models.families.stable_diffusion.StableDiffusionXL"
    large = f"+models.bases.large={{_target_:{kind},path:'random:sdxl',resolution:1024}}"
    with pytest.raises(ConfigError, match=r"sampler\.base=large: its unet\..* has not the size"):
        load_sweep(small(tmp_path, large, "sampler.base=large"))
