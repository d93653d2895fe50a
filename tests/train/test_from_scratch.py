"""The GAN and the diffusion model from nothing: through the same plan, loop, store and scores."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline
from helpers.small import execute, small, sweep_of
from PIL import Image

from charsweep.__main__ import main
from charsweep.core.seeding import generator
from charsweep.core.store import Store
from charsweep.evaluate.sample import Asked
from charsweep.models.pipeline import quiet
from charsweep.plan import cost, plan_work
from charsweep.train.methods.gan import augmented, make_discriminator, make_generator

TINY = {
    "gan": ["method=gan", "method.channels=8", "resolution=32", "batch_size=3"],
    "diffusion": ["method=diffusion", "method.channels=[8,16]", "resolution=32", "batch_size=3"],
}


def test_what_does_not_apply_is_blank_and_not_zero(tmp_path: Path) -> None:
    parts = [
        "+parts.taught={method: dreambooth_lora}",
        "+parts.gan={method: gan, method.channels: 8}",
        "+parts.diffusion={method: diffusion, method.channels: [8, 16]}",
        "train_steps=2",
    ]  # fmt: skip
    assert main(small(tmp_path, *parts, "runtime.tracking=false")) == 0
    with (tmp_path / "sweeps/small/cells.csv").open(newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"dreambooth_lora", "gan", "diffusion"}
    for name in ("gan", "diffusion"):
        blank = ["base", "score", "identity", "prompt", "clip_t", "dino_gain", "error"]
        assert [rows[name][column] for column in blank] == [""] * len(blank)
        for column in ("dino", "clip_i", "diversity", "copy", "colour", "size_mb", "train_seconds"):
            float(rows[name][column])
    assert rows["gan"]["inference_steps"] == ""
    assert rows["diffusion"]["inference_steps"] == "2"
    assert rows["dreambooth_lora"]["clip_t"] != ""
    assert (tmp_path / "sweeps/small/report/index.html").exists()


def test_both_losses_of_the_gan_are_logged_and_add_up(tmp_path: Path) -> None:
    sweep, store, _ = execute(tmp_path, *TINY["gan"], "train_steps=3")
    rows = store.losses(sweep.cells[0].trajectory)
    assert [list(row.parts) for row in rows] == [["loss_generator", "loss_discriminator"]] * 3
    assert all(row.loss == sum(row.parts.values()) for row in rows)
    header = next(store.folder.glob("gan-*/loss.csv")).read_text().splitlines()[0]
    assert header == "step,loss,lr,grad_norm,seconds,loss_generator,loss_discriminator"


def test_each_player_is_moved_by_its_own_loss_alone() -> None:
    from torch.func import functional_call

    torch.manual_seed(0)
    maker, judge = make_generator(4, 8, 16), make_discriminator(8, 16)
    fake = maker(torch.randn(2, 4))
    fixed = {name: tensor.detach() for name, tensor in judge.named_parameters()}
    functional_call(judge, fixed, (fake,)).sum().backward()
    assert all(one.grad is None for one in judge.parameters())
    assert all(one.grad is not None for one in maker.parameters())


def test_inference_steps_and_guidance_do_not_multiply_what_they_do_not_change(
    tmp_path: Path,
) -> None:
    axes = ["+axes.inference_steps=[2,3]", "+axes.sampler.guidance_scale=[1,5]"]
    assert len(sweep_of(tmp_path, *TINY["gan"], *axes).cells) == 1
    cells = sweep_of(tmp_path, *TINY["diffusion"], *axes).cells
    assert [cell.values["inference_steps"] for cell in cells] == [2, 3]
    assert not any("sampler.guidance_scale" in cell.values for cell in cells)


def test_the_diffusion_snapshot_is_a_plain_pipeline_that_draws_the_same(tmp_path: Path) -> None:
    """With 1,000 steps of its own scheduler, so that `DDPMPipeline` does what we do."""
    sweep, store, _ = execute(tmp_path, *TINY["diffusion"], "train_steps=3")
    images = sweep.cells[0].images
    with quiet():
        pipeline = DDPMPipeline.from_pretrained(store.snapshot(images.snapshot))
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(
        batch_size=4,
        generator=[generator(seed, "image", place) for place in (0, 1) for seed in (0, 1)],
        num_inference_steps=2,
        output_type="np",
    ).images
    stored = [Image.open(store.images(images) / f"{i:03d}.png") for i in range(4)]
    ours = np.stack([np.asarray(image) for image in stored]).astype(int)
    assert np.abs(ours - (drawn * 255).round().astype(int)).max() <= 1


def test_an_image_of_the_gan_does_not_depend_on_its_batch(tmp_path: Path) -> None:
    sweep, store, _ = execute(tmp_path, *TINY["gan"], "train_steps=2")
    images = sweep.cells[0].images
    plugin = sweep.cells[0].trajectory.method
    method = plugin.made
    folder, device = store.snapshot(images.snapshot), torch.device("cpu")
    one, two = Asked("", 0, 0), Asked("", 1, 1)
    with method.painter(images, folder, None, device) as paint:
        alone = paint(images, [one] * 4)[0].tobytes()
        assert alone == paint(images, [two, two, one, two])[2].tobytes()
        assert alone != paint(images, [two] * 4)[0].tobytes()


def test_augmentation_keeps_shape_and_gradient_and_is_a_function_of_its_seed() -> None:
    images = torch.rand(3, 3, 32, 32, requires_grad=True)
    one = augmented(images, generator(0, "augment", 1))
    assert one.shape == images.shape
    assert torch.equal(one, augmented(images, generator(0, "augment", 1)))
    assert not torch.equal(one, augmented(images, generator(0, "augment", 2)))
    one.sum().backward()
    assert images.grad is not None
    assert bool((images.grad != 0).any())
    assert 0.05 < (one == 0).all(dim=1).float().mean() < 0.6  # cut out or shifted in: grey


@pytest.mark.parametrize("method", ["gan", "diffusion"])
def test_the_planned_size_is_about_the_written_one(method: str, tmp_path: Path) -> None:
    sweep, _, (result,) = execute(tmp_path, f"method={method}", "train_steps=1")
    planned = cost.snapshot_bytes(sweep.cells[0].trajectory, sweep.bases)
    assert result.size_mb is not None
    assert planned / 1e6 == pytest.approx(result.size_mb, rel=0.15)
    numbers = cost.summary(plan_work(sweep.cells, Store(tmp_path)), Store(tmp_path), {})
    assert numbers["steps_needed"] == 0
