"""The samplers of conf/, as schedulers of diffusers."""

from __future__ import annotations

from pathlib import Path

from helpers.small import sweep_of

from charsweep.models.samplers import make_scheduler

NOISE = {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear"}


def test_karras_noise_levels(tmp_path: Path) -> None:
    """Those of Karras et al. 2022, equation 5, and none of the others'."""
    levels = {}
    for name in ("dpm", "dpm_karras"):
        (cell,) = sweep_of(tmp_path, f"sampler={name}").cells
        scheduler = make_scheduler(cell.images.sampler, NOISE, None, of_latents=True)
        scheduler.set_timesteps(10)
        levels[name] = scheduler.sigmas[:-1]
    karras = levels["dpm_karras"]
    steps = karras ** (1 / 7)
    assert (steps[:-1] - steps[1:]).std() < 1e-4  # evenly spread in the seventh root
    assert abs(karras - levels["dpm"]).max() > 0.1


def test_latents_are_not_clipped_as_pixels_are(tmp_path: Path) -> None:
    """diffusers' DDIM clips to [-1, 1] unless it is told otherwise, and latents go far beyond.

    What was drawn so has another key.
    """
    (cell,) = sweep_of(tmp_path, "sampler=ddim").cells
    latents, pixels, told = (
        make_scheduler(cell.images.sampler, NOISE | more, None, of_latents=of_latents)
        for more, of_latents in (({}, True), ({}, False), ({"clip_sample": True}, True))
    )
    clipped = [one.config.clip_sample for one in (latents, pixels, told)]
    assert clipped == [False, True, True]
    (euler,) = sweep_of(tmp_path, "sampler=euler").cells
    assert [one.images.sampler.version for one in (cell, euler)] == [2, 1]
