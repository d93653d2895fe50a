"""The trainer against a plain loop of diffusers and peft calls, and the files that it writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDPMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from helpers.small import base_named, execute, sweep_of
from helpers.variants import FAMILIES, slow
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image

from charsweep.character import middle_square
from charsweep.config import Sweep
from charsweep.core.seeding import generator
from charsweep.core.specs import SnapshotSpec, TrajectorySpec
from charsweep.core.store import Store
from charsweep.core.system.images import open_image
from charsweep.models.load import load_base
from charsweep.models.pipeline import quiet
from charsweep.train import loop
from charsweep.train.checkpoint import save_snapshot
from charsweep.train.methods import Materials
from charsweep.train.methods.denoising import DenoisingTrainable
from charsweep.train.methods.finetune import FineTune

STEPS = 20


def reference_run(sweep: Sweep, folder: Path) -> tuple[list[float], dict[str, torch.Tensor]]:
    """LoRA on SDXL as the public example scripts do it, on the same draws; losses and adapter."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, dtype=torch.float32)
    unet, vae = pipeline.unet, pipeline.vae
    for module in (unet, vae, pipeline.text_encoder, pipeline.text_encoder_2):
        module.requires_grad_(False)
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=targets))
    source = generator(0, "adapter")  # the same first weights: A normal / rank, B zero
    for name, parameter in unet.named_parameters():
        if "lora_A" in name:
            parameter.data = torch.randn(parameter.shape, generator=source) / 4
    pictures = [middle_square(open_image(p), 64) for p in sweep.character.paths]
    pixels = [torch.from_numpy(np.array(p)).permute(2, 0, 1)[None] / 127.5 - 1 for p in pictures]
    with torch.no_grad():
        posteriors = [vae.encode(one.float()).latent_dist for one in pixels]
        embeds, _, pooled, _ = pipeline.encode_prompt(
            sweep.character.spec.instance_prompt, do_classifier_free_guidance=False
        )
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    trained = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.01, fused=True)
    time_ids = torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]])
    losses = []
    for step in range(STEPS):
        order = torch.randperm(len(pixels), generator=generator(0, "image order", step // 6))
        posterior = posteriors[int(order[step % 6])]
        drawn = torch.randn(posterior.mean.shape, generator=generator(0, "image", step))
        latents = (posterior.mean + posterior.std * drawn) * vae.config.scaling_factor
        noise = torch.randn(latents.shape, generator=generator(0, "image noise", step))
        timestep = torch.randint(1000, (1,), generator=generator(0, "image timestep", step))
        noisy = scheduler.add_noise(latents, noise, timestep)
        added = {"text_embeds": pooled, "time_ids": time_ids}
        predicted = unet(noisy, timestep, embeds, added_cond_kwargs=added).sample
        loss = torch.nn.functional.mse_loss(predicted.float(), noise.float(), reduction="mean")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, get_peft_model_state_dict(unet)


def test_losses_and_adapter_equal_a_plain_loop(tmp_path: Path) -> None:
    sweep, store, (result,) = execute(tmp_path, f"train_steps={STEPS}", "lr=1e-3", "pack=1")
    expected, adapter = reference_run(sweep, base_named(sweep, "sdxl").path)
    rows = store.losses(sweep.cells[0].trajectory)
    assert [row.loss for row in rows] == pytest.approx(expected, rel=1e-5)

    from safetensors.torch import load_file

    written = load_file(
        store.snapshot(SnapshotSpec(sweep.cells[0].trajectory, STEPS))
        / "pytorch_lora_weights.safetensors"
    )
    assert {f"unet.{name}" for name in adapter} == set(written)
    for name, tensor in adapter.items():
        torch.testing.assert_close(
            written[f"unet.{name}"], tensor,
            rtol=1e-5, atol=1e-5 * tensor.abs().max().item(),
        )  # fmt: skip
    assert result.size_mb is not None


@pytest.mark.parametrize("method", ["lora", "dreambooth_lora"])
@pytest.mark.parametrize("base", FAMILIES)
def test_adapters_load_with_plain_diffusers(method: str, base: str, tmp_path: Path) -> None:
    sweep, store, (result,) = execute(
        tmp_path, f"method={method}", f"method.base={base}", "train_steps=3", "lr=1e-2",
        "method.text_encoder=true", "method.rank=3", "method.alpha=6",
    )  # fmt: skip
    kind = StableDiffusionXLPipeline if base == "sdxl" else StableDiffusionPipeline
    with quiet():
        pipeline = kind.from_pretrained(base_named(sweep, base).path, dtype=torch.float32)
        before = _draw(pipeline, sweep)
        folder = store.snapshot(sweep.cells[0].images.snapshot)
        pipeline.load_lora_weights(folder)
    after = _draw(pipeline, sweep)
    stored = Image.open(store.folder / str(result.images) / "000.png")
    # the same sum in another order: here and there a value falls to the other side of a half level
    away = np.abs(np.asarray(after, dtype=int) - np.asarray(stored, dtype=int))
    assert away.max() <= 1
    assert (away > 0).mean() < 0.01
    assert np.abs(np.asarray(before, dtype=int) - np.asarray(stored, dtype=int)).max() > 20


@pytest.mark.slow
@pytest.mark.parametrize("kind", [slow("dora"), "loha", slow("lokr")])
def test_other_kinds_of_adapters_train_alone_and_draw_from_their_files(
    kind: str, tmp_path: Path
) -> None:
    words = [f"method.adapter={kind}", "lr=1e-2", "method.text_encoder=true"]
    sweep, store, (result,) = execute(tmp_path, *words, "train_steps=3")
    assert result.state == "finished"
    assert sweep.cells[0].trajectory.pack == 1
    rows = store.losses(sweep.cells[0].trajectory)
    resumed, parts, (same,) = execute(tmp_path / "parts", *words, "train_steps=2")
    resumed, parts, (same,) = execute(tmp_path / "parts", *words, "train_steps=3")
    assert [r.loss for r in parts.losses(resumed.cells[0].trajectory)] == [r.loss for r in rows]
    assert same.scores == result.scores  # drawn by another load of the same adapter
    base = store.images(sweep.cells[0].untaught_set)
    taught = store.images(sweep.cells[0].images)
    assert (base / "000.png").read_bytes() != (taught / "000.png").read_bytes()
    spec = sweep.cells[0].trajectory.base
    whole = load_base(spec, sweep.bases[spec.key], torch.device("cpu"))
    before = whole.digest()
    with whole.with_snapshot(store.snapshot(sweep.cells[0].images.snapshot)):
        assert whole.digest() != before
    assert whole.digest() == before


@pytest.mark.slow
def test_a_dreambooth_snapshot_is_a_pipeline(tmp_path: Path) -> None:
    sweep, store, (result,) = execute(
        tmp_path, "method=dreambooth", "method.class_images=2", "train_steps=3", "lr=1e-4"
    )
    folder = store.snapshot(sweep.cells[0].images.snapshot)
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    stored = Image.open(store.folder / str(result.images) / "000.png")
    assert _draw(pipeline, sweep).tobytes() == stored.tobytes()


def _draw(pipeline: StableDiffusionPipeline, sweep: Sweep) -> Image.Image:
    """The first image of the exam, as a person with diffusers alone would draw it."""
    spec = sweep.cells[0].images
    pipeline.set_progress_bar_config(disable=True)
    images: list[Image.Image] = pipeline(
        [spec.prompts[0]] * spec.batch_width,
        negative_prompt=[""] * spec.batch_width,
        generator=[generator(0, "image") for _ in range(spec.batch_width)],
        num_inference_steps=spec.inference_steps,
        guidance_scale=spec.guidance_scale,
    ).images
    return images[0]


# -- losses ----------------------------------------------------------------------------------------


@pytest.fixture
def trainable(tmp_path: Path) -> DenoisingTrainable:
    return make_trainable(tmp_path)


def make_trainable(
    root: Path, prediction: str = "epsilon", **settings: object
) -> DenoisingTrainable:
    """One trial in the first slot."""
    sweep = sweep_of(root)
    spec = sweep.cells[0].trajectory
    spec = replace(spec, method=replace(spec.method, settings={**spec.method.settings, **settings}))
    base = load_base(spec.base, base_named(sweep, "sdxl"), torch.device("cpu"))
    base.pipeline.scheduler = EulerDiscreteScheduler.from_config(
        base.pipeline.scheduler.config, prediction_type=prediction
    )
    images = [open_image(path) for path in sweep.character.paths]
    method = FineTune(**spec.method.settings)
    made = method.trainable(spec, Materials(base.device, base, images, lambda _: []))
    made.enter(0, spec)
    return made


def first_loss(trainable: DenoisingTrainable) -> float:
    return sum(trainable.losses([0] + [None] * (trainable.width - 1)))[0].item()


def test_v_prediction_has_another_target(tmp_path: Path) -> None:
    losses = {
        kind: first_loss(make_trainable(tmp_path, kind)) for kind in ("epsilon", "v_prediction")
    }
    assert losses["epsilon"] != losses["v_prediction"]


def test_min_snr_weights_are_those_of_the_paper(tmp_path: Path) -> None:
    epsilon = make_trainable(tmp_path, min_snr_gamma=5.0)
    velocity = make_trainable(tmp_path, "v_prediction", min_snr_gamma=5.0)
    steps = torch.tensor([0, 500, 999])
    kept = epsilon.noising.scheduler.alphas_cumprod[steps]
    snr = kept / (1 - kept)
    five = torch.minimum(snr, torch.tensor(5.0))
    torch.testing.assert_close(epsilon.noising.weights(steps, 5.0), five / snr)
    torch.testing.assert_close(velocity.noising.weights(steps, 5.0), five / (snr + 1))
    plain = make_trainable(tmp_path)
    timestep = plain.batches[0].batch("images", 0, plain.noising).timesteps
    factor = plain.noising.weights(timestep, 5.0).item()
    assert first_loss(epsilon) == pytest.approx(factor * first_loss(plain), rel=1e-5)


def test_every_picture_is_seen_once_an_epoch(trainable: DenoisingTrainable) -> None:
    training_images = trainable.batches[0].images
    training_images.captions = [str(i) for i in range(6)]
    for epoch in range(3):
        seen = [training_images.batch(step)[1][0] for step in range(6 * epoch, 6 * epoch + 6)]
        assert sorted(seen) == training_images.captions


def test_noise_offset_changes_the_loss(tmp_path: Path) -> None:
    plain, offset = make_trainable(tmp_path), make_trainable(tmp_path, noise_offset=0.1)
    assert first_loss(plain) != first_loss(offset)


def test_own_text_encoding_equals_the_pipeline_s(trainable: DenoisingTrainable) -> None:
    prompt = "a picture of UnicornGirl on the beach"
    ours = trainable.base.texts([prompt])
    embeds, _, pooled, _ = trainable.base.pipeline.encode_prompt(
        prompt, do_classifier_free_guidance=False
    )
    torch.testing.assert_close(ours.hidden, embeds, rtol=0, atol=0)
    torch.testing.assert_close(ours.pooled, pooled, rtol=0, atol=0)


@pytest.mark.parametrize("step", [1, 5])
def test_cosine_needs_the_horizon_and_constant_does_not(step: int) -> None:
    from charsweep.train.schedules import Constant, Cosine

    assert Constant(warmup_steps=0)(step, None) == 1.0
    assert Constant(warmup_steps=9)(4, None) == 0.5
    assert Cosine.needs_horizon
    assert not Constant.needs_horizon
    assert Cosine(warmup_steps=0)(step, 10) > Cosine(warmup_steps=0)(step + 1, 10)
    assert Cosine(warmup_steps=0)(10, 10) == pytest.approx(0.0, abs=1e-12)


def test_losses_are_on_disk_before_the_weights_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed after a snapshot has lost no row that belongs to it."""
    seen = []

    def noted(spec: SnapshotSpec, trainable: Any, slot: int, store: Store) -> None:
        assert isinstance(spec.source, TrajectorySpec)
        seen.append((spec.step, [row.step for row in store.losses(spec.source)]))
        save_snapshot(spec, trainable, slot, store)

    monkeypatch.setattr(loop, "save_snapshot", noted)
    execute(tmp_path, "+axes.train_steps=[1,3]")
    assert seen == [(1, [1]), (3, [1, 2, 3])]


def test_a_loss_that_is_not_finite_is_a_result(tmp_path: Path) -> None:
    """A rate that no adapter survives ends the trajectory; earlier snapshots stay good."""
    _, store, results = execute(
        tmp_path, "method=dreambooth", "method.prior_weight=0", "lr=50", "max_grad_norm=1e9",
        "+axes.train_steps=[1,40]",
    )  # fmt: skip
    last = results[-1]
    assert last.state == "diverged"
    assert last.images is None
    assert last.scores == {}
    assert last.diverged_at is not None
    sweep = sweep_of(
        tmp_path, "method=dreambooth", "method.prior_weight=0", "lr=50", "max_grad_norm=1e9",
        "+axes.train_steps=[1,40]",
    )  # fmt: skip
    rows = store.losses(sweep.cells[0].trajectory)
    assert not np.isfinite(rows[-1].loss)
    assert rows[-1].step >= last.diverged_at
    again = execute(
        tmp_path, "method=dreambooth", "method.prior_weight=0", "lr=50", "max_grad_norm=1e9",
        "+axes.train_steps=[1,40]",
    )[2]  # fmt: skip
    assert [r.state for r in again] == [r.state for r in results]
