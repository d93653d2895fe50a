"""What charsweep promises bit for bit on the CPU: prefixes, resumption, packs, an intact base."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.small import ONE_IMAGE, base_named, execute, pictures, snapshot_bytes, sweep_of
from helpers.variants import slow

from charsweep.core.specs import SnapshotSpec
from charsweep.core.store import Store
from charsweep.core.store.losses import LossRow
from charsweep.evaluate.sample import Asked, paint_with
from charsweep.models.load import load_base
from charsweep.models.pipeline import LoadedPipeline
from charsweep.plan import TrainingSpan, plan_work
from charsweep.train.loop import train
from charsweep.train.methods import ClassImage, Materials

TAUGHT = ["dreambooth_lora", "lora", "dreambooth"]  # on a base
METHODS = [*TAUGHT, "gan", "diffusion"]
QUICK = {
    "dreambooth_lora": [],
    "lora": ["method.text_encoder=true", *ONE_IMAGE],
    "dreambooth": ["method.class_images=2", "method.text_encoder=true", *ONE_IMAGE],
    "gan": ["method.channels=8", "resolution=32", "batch_size=3"],
    "diffusion": ["method.channels=[8,16]", "resolution=32", "batch_size=3"],
}


def without_times(rows: list[LossRow]) -> list[tuple[float, ...]]:
    return [(row.step, row.loss, row.lr, row.grad_norm, *row.parts.values()) for row in rows]


@pytest.mark.parametrize("method", [slow(m) if m == "dreambooth" else m for m in METHODS])
def test_a_short_run_is_a_prefix_of_a_long_one_and_is_resumed_exactly(
    method: str, tmp_path: Path
) -> None:
    chosen = [f"method={method}", *QUICK[method]]
    sweep, whole, results = execute(tmp_path / "whole", *chosen, "+axes.train_steps=[2,6]")
    _, parts, (short,) = execute(tmp_path / "parts", *chosen, "train_steps=2")
    spec = sweep.cells[0].trajectory
    assert without_times(parts.losses(spec)) == without_times(whole.losses(spec))[:2]
    first = SnapshotSpec(spec, 2)
    assert snapshot_bytes(parts.snapshot(first)) == snapshot_bytes(whole.snapshot(first))

    _, parts, (resumed,) = execute(tmp_path / "parts", *chosen, "train_steps=6")
    assert without_times(whole.losses(spec)) == without_times(parts.losses(spec))
    assert [row.step for row in parts.losses(spec)] == [1, 2, 3, 4, 5, 6]
    last = SnapshotSpec(spec, 6)
    assert snapshot_bytes(whole.snapshot(last)) == snapshot_bytes(parts.snapshot(last))
    assert [one.scores for one in results] == [short.scores, resumed.scores]
    assert {one.trajectory for one in (*results, short, resumed)} == {short.trajectory}


@pytest.mark.slow
def test_a_snapshot_before_the_stored_state_is_trained_again_and_is_the_same(
    tmp_path: Path,
) -> None:
    execute(tmp_path, "train_steps=6")
    sweep = sweep_of(tmp_path, "+axes.train_steps=[3,6,8]")
    (training,) = plan_work(sweep.cells, Store(tmp_path)).trainings
    assert training.spans == (TrainingSpan(0, (3,)), TrainingSpan(6, (8,)))
    assert training.steps == 5

    _, store, results = execute(tmp_path, "+axes.train_steps=[3,6,8]")
    _, fresh, straight = execute(tmp_path / "fresh", "+axes.train_steps=[3,6,8]")
    assert [r.scores for r in results] == [r.scores for r in straight]
    spec = sweep.cells[0].trajectory
    assert without_times(store.losses(spec)) == without_times(fresh.losses(spec))


def test_another_seed_and_another_rate_train_something_else(tmp_path: Path) -> None:
    sweep, store, results = execute(
        tmp_path, "train_steps=2", "+axes.seed=[0,1]", "+axes.lr=[1e-2,1e-4]"
    )
    assert len({result.trajectory for result in results}) == 4
    # the first loss is that of the base, so it depends on the seed alone; the second on both
    rows = [without_times(store.losses(cell.trajectory)) for cell in sweep.cells]
    assert len({row[0][1] for row in rows}) == 2
    assert len({row[1][1] for row in rows}) == 4


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> LoadedPipeline:
    sweep = sweep_of(tmp_path_factory.mktemp("base"))
    return load_base(sweep.cells[0].trajectory.base, base_named(sweep, "sdxl"), torch.device("cpu"))


def test_an_image_does_not_depend_on_its_batch(sdxl: LoadedPipeline, tmp_path: Path) -> None:
    spec = sweep_of(tmp_path).cells[0].images
    paint = paint_with(sdxl)
    one, two = Asked(spec.prompts[0], 0, 0), Asked(spec.prompts[1], 1, 1)
    three = Asked(spec.prompts[0], 0, 5)
    alone = paint(spec, [one] * 4)[0]
    with_others = paint(spec, [two, three, one, one])
    assert alone.tobytes() == with_others[2].tobytes()
    assert with_others[0].tobytes() == paint(spec, [two] * 4)[0].tobytes()
    assert alone.tobytes() != with_others[1].tobytes()


@pytest.mark.parametrize("method", TAUGHT)
def test_the_base_is_put_back_exactly(method: str, tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, f"method={method}", *QUICK[method], "train_steps=2")
    spec, store = sweep.cells[0].trajectory, Store(tmp_path)
    base = load_base(spec.base, sweep.bases[spec.base.key], torch.device("cpu"))
    before, names = base.digest(), [name for name, _ in base.denoiser.named_modules()]
    from charsweep.core.system.images import open_image

    images = [open_image(path) for path in sweep.character.paths]
    chosen = spec.method.made
    priors = [ClassImage(path, "") for path in sweep.character.paths[: 2 * bool(spec.class_images)]]
    (training,) = plan_work(sweep.cells, store).trainings
    trainable = chosen.trainable(spec, Materials(base.device, base, images, lambda _: priors))
    blocks = list(train(trainable, iter([training]), store, 60))
    trainable.close()
    assert [one.row.step for done in blocks for one in done] == [1, 2]
    assert base.digest() == before
    assert [name for name, _ in base.denoiser.named_modules()] == names
    assert not any(p.requires_grad for m in base.modules.values() for p in m.parameters())
    with base.with_snapshot(store.snapshot(SnapshotSpec(spec, 2))):
        assert base.digest() != before
    assert base.digest() == before


def test_a_finished_plan_has_nothing_to_do(tmp_path: Path) -> None:
    sweep, store, (first,) = execute(tmp_path, "train_steps=2")
    assert plan_work(sweep.cells, store).is_done
    folder = store.folder / str(first.images)
    before = pictures(folder)
    again = execute(tmp_path, "train_steps=2")[2]
    assert again[0].scores == first.scores
    assert again[0].paid_seconds < 0.1
    assert pictures(folder) == before
