"""The samplers of conf/ that differ from another in their settings alone."""

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


def test_latents_are_not_clipped_as_if_they_were_pixels(tmp_path: Path) -> None:
    """Unless somebody says so; what clipped them once has other keys now."""
    (cell,) = sweep_of(tmp_path, "sampler=ddim").cells
    sampler = cell.images.sampler
    assert sampler.version == 2
    clips = [
        make_scheduler(sampler, {**NOISE, **more}, None, of_latents=of_latents).config.clip_sample
        for of_latents, more in ((True, {}), (True, {"clip_sample": True}), (False, {}))
    ]
    assert clips == [False, True, True]
    (cell,) = sweep_of(tmp_path, "sampler=euler").cells
    assert cell.images.sampler.version == 1
