"""Packs: every trial as if alone, bit for bit, whoever trains beside it and in whichever slot."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small import (
    ONE_IMAGE,
    base_named,
    execute,
    pictures,
    small,
    snapshot_bytes,
    sweep_of,
)
from helpers.variants import slow
from numpy.typing import NDArray
from peft import LoraConfig
from PIL import Image
from torch import Tensor

from charsweep.__main__ import main
from charsweep.core.errors import ModelsError
from charsweep.core.specs import ImageSetSpec
from charsweep.core.store import Store
from charsweep.core.store.losses import LossRow
from charsweep.core.system.images import open_image
from charsweep.engine.image_sets import drawn_together
from charsweep.engine.local import LocalEngine
from charsweep.engine.progress import ProgressView
from charsweep.evaluate import sample
from charsweep.evaluate.sample import Asked, Paint
from charsweep.models.load import load_base
from charsweep.models.pipeline import LoadedPipeline
from charsweep.plan import plan_work
from charsweep.train.batches import Batch, TrialBatches
from charsweep.train.loop import train
from charsweep.train.methods import Materials
from charsweep.train.methods.denoising import DenoisingTrainable
from charsweep.train.stacked_lora import Adapters

RATE = 1e-3
LINEAR = "[to_q,to_k,to_v,to_out.0]"
ALSO_CONVOLUTIONS = "[to_q,to_v,conv1,conv2,proj_in]"


def without_times(rows: list[LossRow]) -> list[tuple[float, ...]]:
    return [(row.step, row.loss, row.lr, row.grad_norm) for row in rows]


def trajectory_of(root: Path, *words: str, lr: float = RATE) -> tuple[bytes, list[tuple]]:
    """Train a sweep that holds the rate; the bytes of its last snapshot and its losses."""
    sweep, store, _ = execute(root, *ONE_IMAGE, *words)
    cell = next(c for c in sweep.cells if c.values["lr"] == lr and c.values["seed"] == 0)
    folder = store.snapshot(cell.images.snapshot)
    adapter = snapshot_bytes(folder)["pytorch_lora_weights.safetensors"]
    return adapter, without_times(store.losses(cell.trajectory))


# -- pack and slot ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chosen",
    [
        [],
        slow(["method=lora", "method.text_encoder=true", "batch_size=2"]),
        slow([f"method.target_modules={ALSO_CONVOLUTIONS}"]),
        slow(["method.prior_weight=1", "method.class_images=2"]),
    ],
    ids=["attention", "text and batch of 2", "convolutions", "prior"],
)
def test_a_trial_does_not_depend_on_pack_or_slot(chosen: list[str], tmp_path: Path) -> None:
    words = [*chosen, "train_steps=4", "method.rank=3", "method.alpha=6"]
    alone = trajectory_of(tmp_path / "alone", f"lr={RATE}", *words)
    others = f"+axes.lr=[1e-2,1e-4,{RATE},1e-5]"  # a third slot, and others before and behind it
    assert trajectory_of(tmp_path / "third", others, *words) == alone
    last = f"+axes.lr=[1e-2,5e-2,1e-4,5e-4,1e-5,5e-5,1e-6,{RATE}]"  # no slot is free
    assert trajectory_of(tmp_path / "last", last, *words) == alone


def test_other_ranks_and_prompts_beside_it_change_nothing(tmp_path: Path) -> None:
    alone = trajectory_of(tmp_path / "alone", f"lr={RATE}", "train_steps=4")
    axes = "+axes={method:[lora,dreambooth_lora],method.rank:[1,4,8]}"
    sweep, store, _ = execute(tmp_path / "mixed", *ONE_IMAGE, axes, f"lr={RATE}", "train_steps=4")
    (pack,) = plan_work(sweep.cells, Store(tmp_path / "nowhere")).packs
    assert len(pack.trainings) == 6
    one = next(
        c for c in sweep.cells
        if c.values["method"] == "dreambooth_lora" and c.values["method.rank"] == 4
    )  # fmt: skip
    adapter = snapshot_bytes(store.snapshot(one.images.snapshot))
    assert adapter["pytorch_lora_weights.safetensors"] == alone[0]
    assert without_times(store.losses(one.trajectory)) == alone[1]


def test_short_trials_leave_and_waiting_ones_enter(tmp_path: Path) -> None:
    """Twelve trials on eight slots, of two lengths: each is what it is alone."""
    axes = "+axes={lr:[1e-2,1e-3,1e-4],seed:[0,1],method.rank:[4,8]}"
    _, store, results = execute(tmp_path / "many", *ONE_IMAGE, axes, "train_steps=3")
    assert len(results) == 12
    assert all(result.state == "finished" for result in results)
    longer, _, _ = execute(tmp_path / "many", *ONE_IMAGE, "train_steps=5",
                           "+axes={lr:[1e-3,1e-4],method.rank:[4]}")  # fmt: skip
    for cell in longer.cells:
        rows = store.losses(cell.trajectory)
        assert [row.step for row in rows] == [1, 2, 3, 4, 5]
    alone = trajectory_of(tmp_path / "alone", f"lr={RATE}", "train_steps=5")
    cell = next(c for c in longer.cells if c.values["lr"] == RATE)
    snapshot = snapshot_bytes(store.snapshot(cell.images.snapshot))
    assert snapshot["pytorch_lora_weights.safetensors"] == alone[0]


def test_a_member_that_diverges_changes_nothing_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its numbers turn into NaN in the third step and go through the shared pass so."""
    words = ["train_steps=5", "+axes.seed=[0,1]"]
    calm = trajectory_of(tmp_path / "calm", f"lr={RATE}", *words)
    plain = TrialBatches.batch

    def poisoned(batches: TrialBatches, which: str, step: int, noising: object) -> Batch:
        batch = plain(batches, which, step, noising)
        if batches.images.seed == 1 and step == 2:
            batch = batch._replace(latents=batch.latents * float("nan"))
        return batch

    monkeypatch.setattr(TrialBatches, "batch", poisoned)
    sweep, store, results = execute(tmp_path / "loud", f"lr={RATE}", *words)
    states = {result.values["seed"]: result.state for result in results}
    assert states == {0: "finished", 1: "diverged"}
    one, gone = (cell.trajectory for cell in sweep.cells)
    folder = store.snapshot(sweep.cells[0].images.snapshot)
    assert snapshot_bytes(folder)["pytorch_lora_weights.safetensors"] == calm[0]
    assert without_times(store.losses(one)) == calm[1]
    assert store.diverged_at(gone) == 3
    assert [row.step for row in store.losses(gone)] == [1, 2, 3]


@pytest.mark.slow
def test_widths_agree(tmp_path: Path) -> None:
    """Fifty steps in packs of 1, 2 and 8: losses agree to 1e-4, though not bit for bit."""
    losses = {}
    for width in (1, 2, 8):
        words = [f"lr={RATE}", "train_steps=50", f"pack={width}"]
        train_only(tmp_path / str(width), *words)
        spec = sweep_of(tmp_path / str(width), *words).cells[0].trajectory
        losses[width] = [row.loss for row in Store(tmp_path / str(width)).losses(spec)]
        assert len(losses[width]) == 50
    assert losses[1] == pytest.approx(losses[8], rel=1e-4)
    assert losses[2] == pytest.approx(losses[8], rel=1e-4)


def test_stopped_in_a_pack_and_resumed_is_as_uninterrupted(tmp_path: Path) -> None:
    """The loop is closed in the middle, as a kill would; states were written every step."""
    words = [f"+axes.lr=[1e-2,{RATE},1e-4]", "train_steps=6"]
    sweep, whole, _ = execute(tmp_path / "whole", *words)
    store = Store(tmp_path / "parts")
    assert train_only(tmp_path / "parts", *words, steps=3, resume_seconds=0.0) == [3, 3, 3]
    assert [store.resume_step(cell.trajectory) for cell in sweep.cells] == [3, 3, 3]
    execute(tmp_path / "parts", *words)
    for cell in sweep.cells:
        assert without_times(store.losses(cell.trajectory)) == without_times(
            whole.losses(cell.trajectory)
        )
        one, other = (s.snapshot(cell.images.snapshot) for s in (whole, store))
        assert snapshot_bytes(one) == snapshot_bytes(other)


def test_a_pack_that_runs_out_of_memory_fails_its_cells_and_keeps_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = DenoisingTrainable.losses

    def greedy(trainable: DenoisingTrainable, steps: list[int | None]) -> Tensor:
        if any(step is not None and step >= 3 for step in steps):
            raise torch.OutOfMemoryError("no room for 1 GiB")
        return plain(trainable, steps)

    monkeypatch.setattr(DenoisingTrainable, "losses", greedy)
    words = ["+axes.lr=[1e-3,1e-4]", "+axes.train_steps=[2,5]"]
    _, _, results = execute(tmp_path, *words)
    assert [(r.step, r.state) for r in results] == 2 * [(2, "finished"), (5, "failed")]
    for error in [r.error for r in results if r.error]:
        assert error.startswith("out of memory: no room for 1 GiB; try runtime.checkpointing=true")
    monkeypatch.undo()
    _, store, again = execute(tmp_path, *words)
    assert all(result.state == "finished" for result in again)
    for folder in store.folder.glob("dreambooth_lora-*"):
        assert len((folder / "loss.csv").read_text().splitlines()) == 6


# -- drawing ---------------------------------------------------------------------------------------


def test_image_sets_of_several_adapters_share_batches_and_are_as_if_drawn_alone(
    tmp_path: Path,
) -> None:
    """Three sets of four images in batches of eight: the second set is cut in two."""
    words = ["train_steps=2", "sampler.batch_width=8", "method.text_encoder=true"]
    sweep, store, results = execute(tmp_path / "three", "+axes.lr=[1e-1,1e-2,1e-3]", *words)
    _, apart, (alone,) = execute(tmp_path / "alone", "lr=1e-2", *words)
    together = next(r for r in results if r.values["lr"] == 1e-2)
    shown = pictures(store.folder / str(together.images))
    assert shown == pictures(apart.folder / str(alone.images))
    assert len(shown) == 4
    assert together.scores == alone.scores
    others = [pictures(store.folder / str(r.images)) for r in results if r is not together]
    assert all(other != shown for other in others)
    assert len({cell.images.key for cell in sweep.cells}) == 3
    plain = sweep.cells[0]
    assert drawn_together(plain.images) == drawn_together(sweep.cells[1].images)
    more = replace(plain.images, inference_steps=9)
    assert drawn_together(plain.images) != drawn_together(more)


@pytest.mark.parametrize("targets", ["[to_q,to_k,to_v,to_out.0]", "[conv1,conv_shortcut]"])
def test_an_adapter_that_fills_batches_is_fused_and_taken_off_exactly(
    targets: str, tmp_path: Path, sdxl: LoadedPipeline
) -> None:
    words = ["train_steps=2", "lr=1e-1", f"method.target_modules={targets}"]
    sweep, store, (fused,) = execute(tmp_path, *words)  # four images in a batch of four
    _, _, (loaded,) = execute(tmp_path, *words, "sampler.batch_width=8")
    shown = pictures(store.folder / str(fused.images))
    for name, data in pictures(store.folder / str(loaded.images)).items():
        first, second = (np.asarray(Image.open(BytesIO(one)), int) for one in (data, shown[name]))
        assert np.abs(first - second).max() <= 1
    spec = sweep.cells[0].trajectory
    method = spec.method.made
    before = sdxl.digest()
    images = sweep.cells[0].images
    with method.painter(images, store.snapshot(images.snapshot), sdxl, sdxl.device):
        assert sdxl.digest() != before
    assert sdxl.digest() == before


def test_images_that_are_no_numbers_are_a_divergence_of_their_own_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One image of the second of three trials is not finite; the others go on."""
    plain, calls = sample.paint_with, []

    def spoiling(base: LoadedPipeline) -> Paint:
        paint = plain(base)

        def one_spoilt(spec: ImageSetSpec, asked: list[Asked]) -> NDArray[np.float32]:
            images = paint(spec, asked)
            calls.append(spec)
            if len(calls) == 2:
                images[1] = np.nan
            return images

        return one_spoilt

    monkeypatch.setattr(sample, "paint_with", spoiling)
    sweep, store, results = execute(tmp_path, "+axes.lr=[1e-2,1e-3,1e-4]", "train_steps=2")
    assert [result.state for result in results] == ["finished", "diverged", "finished"]
    assert not store.has_images(sweep.cells[1].images)
    engine = LocalEngine(sweep, store, ProgressView())
    with pytest.raises(ModelsError, match=r"base-sdxl.*fetch its weights again"):
        engine.image_sets._mark_broken(sweep.cells[0].untaught_set)


# -- gradients -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> LoadedPipeline:
    sweep = sweep_of(tmp_path_factory.mktemp("base"))
    return load_base(sweep.cells[0].trajectory.base, base_named(sweep, "sdxl"), torch.device("cpu"))


RANKS, ALPHAS = (3, 8, 1, 4), (6.0, 8.0, 1.0, 2.0)
TEXT = ("q_proj", "v_proj")


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("with_text", [False, True], ids=["unet", "text"])
@pytest.mark.parametrize("targets", [LINEAR, ALSO_CONVOLUTIONS], ids=["linear", "convolution"])
def test_gradients_equal_separate_training(
    sdxl: LoadedPipeline, targets: str, with_text: bool, checkpointing: bool
) -> None:
    """Four trials of unequal ranks, against one adapter of peft's after the other."""
    modules = {"unet": sdxl.denoiser}
    if with_text:
        modules |= {name: sdxl.modules[name] for name in ("text_encoder", "text_encoder_2")}
    names = {name: tuple(targets[1:-1].split(",")) if name == "unet" else TEXT for name in modules}
    adapters = Adapters(modules, names, len(RANKS), 8)
    first = [random_weights(adapters, rank, slot) for slot, rank in enumerate(RANKS)]
    if checkpointing:
        sdxl.denoiser.enable_gradient_checkpointing()
    sdxl.denoiser.train(checkpointing)  # no dropout: this only switches checkpointing on
    try:
        expected = [separate(sdxl, modules, names, slot, first[slot]) for slot in range(4)]
        for slot, rank in enumerate(RANKS):
            adapters.set(slot, first[slot], ALPHAS[slot] / rank)
        adapters.attach()
        losses(sdxl, list(range(4)), with_text).sum().backward()
        adapters.detach()
    finally:
        sdxl.denoiser.disable_gradient_checkpointing()
        sdxl.denoiser.eval()
    for slot, rank in enumerate(RANKS):
        views = adapters.views(slot, rank)
        got, wanted = [], []
        for name, tensor in expected[slot].items():
            gradient = views[name.removesuffix(".weight")].grad
            assert gradient is not None
            got.append(gradient)
            wanted.append(tensor.flatten(1).T if name.endswith("lora_B.weight") else tensor)
            torch.testing.assert_close(got[-1], wanted[-1], rtol=1e-3, atol=1e-6)
        whole = torch.cat([g.flatten() for g in wanted])
        error = torch.cat([g.flatten() for g in got]) - whole
        assert whole.norm() > 0
        assert error.norm() / whole.norm() < 1e-6


def random_weights(adapters: Adapters, rank: int, seed: int) -> dict[str, Tensor]:
    """A and B both not zero, so that both have gradients."""
    source = torch.Generator().manual_seed(seed)
    return {
        name: 0.1 * torch.randn(like.shape, generator=source)
        for name, like in adapters.weights(0, rank).items()
    }


def losses(base: LoadedPipeline, slots: list[int], with_text: bool) -> Tensor:
    """A loss for each slot, from inputs that depend on the slot."""
    sources = [torch.Generator().manual_seed(100 + slot) for slot in slots]
    latents = torch.stack([torch.randn(32, 8, 8, generator=source) for source in sources])
    prompts = [f"a picture of a girl number {slot} on the beach" for slot in slots]
    told = base.encode(prompts) if with_text else base.texts(prompts)
    predicted = base.predict(
        latents,
        torch.tensor([100 * s + 50 for s in slots]),
        told,
        torch.tensor([[64, 64, 0, 0, 64, 64]]).expand(len(latents), -1),
    )
    return predicted.square().mean(dim=(1, 2, 3))


def separate(
    base: LoadedPipeline, modules: dict, names: dict, slot: int, weights: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Gradients of one adapter that peft put on the base alone, by our names."""
    for name, module in modules.items():
        config = LoraConfig(
            r=RANKS[slot], lora_alpha=ALPHAS[slot], target_modules=list(names[name])
        )
        module.add_adapter(config)
    tensors = {
        f"{name}.{key.replace('.default', '')}": tensor
        for name, module in modules.items()
        for key, tensor in module.named_parameters()
        if "lora_" in key
    }
    assert tensors.keys() == weights.keys()
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(weights[name])
    losses(base, [slot], len(modules) > 1).sum().backward()
    # the last text layer is not asked by an SDXL type: no gradient there, and none in a pack
    gradients = {n: t.grad.clone() for n, t in tensors.items() if t.grad is not None}
    gradients |= {n: torch.zeros_like(t) for n, t in tensors.items() if t.grad is None}
    base.pipeline.unload_lora_weights()
    return gradients


# -- the plan --------------------------------------------------------------------------------------


def test_seven_rates_are_one_pack(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "+sweep=lr_grid")
    (pack,) = plan_work(sweep.cells, Store(tmp_path)).packs
    assert (pack.width, len(pack.trainings), pack.passes) == (8, 7, 1000)


def test_what_cannot_share_a_pass_is_not_packed_together(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "+axes={method:[dreambooth,lora,dreambooth_lora],lr:[1e-3,1e-4]}")
    packs = plan_work(sweep.cells, Store(tmp_path)).packs
    assert sorted((p.width, len(p.trainings)) for p in packs) == [(1, 1), (1, 1), (8, 4)]
    two = sweep_of(tmp_path, "+axes={method.rank:[8,16]}")  # another padded rank, other bits
    assert [len(p.trainings) for p in plan_work(two.cells, Store(tmp_path)).packs] == [1, 1]


def test_a_grid_of_42_keeps_its_slots_busy_as_planned_and_as_run(tmp_path: Path) -> None:
    """Seven rates, three seeds, two ranks; a third of them is half trained and so shorter."""
    rates = "lr:[1e-1,1e-2,1e-3,1e-4,5e-5,1e-5,1e-6],method.rank:[4,8]"
    train_only(tmp_path, f"+axes={{{rates},seed:[1]}}", "train_steps=2")
    words = [f"+axes={{{rates},seed:[0,1,2]}}", "train_steps=5"]
    (pack,) = plan_work(sweep_of(tmp_path, *words).cells, Store(tmp_path)).packs
    assert sorted(t.steps for t in pack.trainings) == [3] * 14 + [5] * 28
    steps = sum(training.steps for training in pack.trainings)
    planned = 1 - steps / (pack.passes * pack.width)
    shared = train_only(tmp_path, *words)
    assert len(shared) == pack.passes
    assert sum(shared) == steps == 182
    assert planned == pytest.approx(1 - sum(shared) / (8 * len(shared)))
    assert planned <= 0.15


def train_only(
    root: Path, *words: str, steps: int | None = None, resume_seconds: float = 60.0
) -> list[int]:
    """Train a sweep's one pack without drawing; how many trials shared each pass."""
    sweep, store = sweep_of(root, *words), Store(root)
    (pack,) = plan_work(sweep.cells, store).packs
    spec = pack.trainings[0].trajectory
    base = load_base(spec.base, sweep.bases[spec.base.key], torch.device("cpu"))
    images = [open_image(path) for path in sweep.character.paths]
    method = spec.method.made
    trainable = method.trainable(spec, Materials(base.device, base, images, lambda _: []))
    passes = train(trainable, iter(pack.trainings), store, resume_seconds, fetch_seconds=0)
    shared = [len(done) for done in itertools.islice(passes, steps)]
    passes.close()
    trainable.close()
    return shared


def test_a_width_is_measured_once_and_then_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*small(tmp_path, "pack=auto", "train_steps=2", "runtime.tracking=false")]
    assert main([*words, "action=plan"]) == 0
    assert "not measured here yet" in capsys.readouterr().out
    assert not (tmp_path / "sweeps").exists()
    assert main(words) == 0
    assert "measuring how many trials" in capsys.readouterr().out
    (measured,) = json.loads((tmp_path / "sweeps/store/widths.json").read_text()).values()
    assert measured["width"] in (1, 2, 4, 8, 16, 32, 64)
    shares = list(measured["seconds_per_trial_step"].values())
    assert shares == sorted(shares, reverse=True)
    assert main(words) == 0
    assert "measuring" not in capsys.readouterr().out
    (folder,) = (tmp_path / "sweeps/store").glob("dreambooth_lora-*")
    stored = json.loads((folder / "spec.json").read_text())
    assert stored["spec"]["pack"] == measured["width"]


def test_a_packs_trials_know_what_they_would_take_alone(tmp_path: Path) -> None:
    """A pass of eight slots takes longer than a trial's own step; its cell says the latter."""
    _, store, (result,) = execute(tmp_path, "train_steps=4")
    folder = store.folder / result.trajectory
    (run,) = json.loads((folder / "provenance.json").read_text())["runs"]
    rows = (folder / "loss.csv").read_text().splitlines()[1:]
    passes = sum(float(row.split(",")[4]) for row in rows)
    assert result.train_seconds == pytest.approx(4 * run["seconds_per_step_alone"], abs=1e-3)
    assert result.train_seconds < passes
