"""What steps show of the training images: middle squares, random windows, buckets, mirrors."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.photos import BLUE, GREEN, RED, make_photos, scene
from helpers.small import execute, snapshot_bytes, sweep_of
from helpers.variants import slow
from PIL import Image, ImageOps

from charsweep.character import framed, middle_square, open_training_images, size_of, sizes_of
from charsweep.character.framing import bucket_of, buckets, covered
from charsweep.config import Sweep
from charsweep.core.errors import ConfigError
from charsweep.core.specs import Framing, TrajectorySpec
from charsweep.core.store import Store
from charsweep.core.store.losses import LossRow
from charsweep.models.load import load_base
from charsweep.models.pipeline import LoadedPipeline
from charsweep.train.batches import TrainingImages

# -- geometry --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("resolution", "unit"), [(64, 8), (512, 64), (768, 64), (1024, 64)])
def test_buckets_have_the_area_of_the_resolution_and_whole_sides(
    resolution: int, unit: int
) -> None:
    for width, height in buckets(resolution):
        assert width % unit == height % unit == 0
        assert resolution / 2 <= min(width, height) <= max(width, height) <= 2 * resolution
        assert 0.8 * resolution**2 <= width * height <= resolution**2
        assert (height, width) in buckets(resolution)


def test_sdxl_s_own_buckets_are_among_them() -> None:
    known = {(1024, 1024), (1152, 896), (1216, 832), (1344, 768), (1536, 640), (2048, 512)}
    assert known <= set(buckets(1024))


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((512, 512), (1024, 1024)),
        ((3000, 2000), (1216, 832)),
        ((2000, 3000), (832, 1216)),
        ((1920, 1080), (1344, 768)),
        ((5000, 400), (2048, 512)),
    ],
)
def test_a_picture_goes_to_the_bucket_nearest_to_its_aspect_ratio(
    size: tuple[int, int], bucket: tuple[int, int]
) -> None:
    assert bucket_of(size, 1024) == bucket
    factors = [abs(math.log(w / h * size[1] / size[0])) for w, h in buckets(1024)]
    assert abs(math.log(bucket[0] / bucket[1] * size[1] / size[0])) == pytest.approx(min(factors))


@pytest.mark.parametrize("size", [(240, 160), (150, 231), (33, 100), (2000, 64), (64, 64)])
@pytest.mark.parametrize("crop", ["center", "random", "buckets"])
def test_framed_pictures_are_whole_of_their_size_and_keep_flat_colour(
    size: tuple[int, int], crop: str
) -> None:
    seen = framed(Image.new("RGB", size, (10, 200, 30)), crop, 64)
    assert seen.size == size_of(size, crop, 64)
    assert all(side % 8 == 0 for side in seen.size)
    assert seen.getcolors() == [(seen.width * seen.height, (10, 200, 30))]


def test_buckets_keep_what_the_middle_square_cuts_off() -> None:
    for size in ((240, 160), (160, 240)):
        seen = framed(scene(size), "buckets", 64)
        corners = [seen.getpixel((2, 2)), seen.getpixel((seen.width - 3, seen.height - 3))]
        assert corners == [pytest.approx(RED, abs=3), pytest.approx(BLUE, abs=3)]
        middle = framed(scene((400, 100)), "center", 64)
        assert middle.getpixel((2, 2)) == pytest.approx(GREEN, abs=3)


def test_a_whole_factor_is_a_plain_mean_when_covering_too() -> None:
    image = Image.effect_noise((768, 512), 80).convert("RGB")
    assert covered(image, (96, 64)).tobytes() == image.reduce(8).tobytes()
    square = image.crop((0, 0, 512, 512))
    assert covered(square, (64, 64)).tobytes() == middle_square(square, 64).tobytes()


def test_the_six_numbers_of_sdxl() -> None:
    assert sizes_of((3000, 2000), "center", 1024) == (1024, 1024, 0, 0, 1024, 1024)
    # scaled to 1248 × 832, of which 16 pixels left and right are cut off
    assert sizes_of((3000, 2000), "buckets", 1024) == (2000, 3000, 0, 16, 832, 1216)
    assert sizes_of((2000, 3000), "random", 1024) == (3000, 2000, 0, 0, 1024, 1024)


# -- training images -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return make_photos(tmp_path_factory.mktemp("photos") / "mia")


@pytest.fixture(scope="module")
def sweep(photos: list[str], tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return sweep_of(tmp_path_factory.mktemp("sweep"), *photos)


@pytest.fixture(scope="module")
def base(sweep: Sweep) -> LoadedPipeline:
    spec = sweep.cells[0].trajectory.base
    return load_base(spec, sweep.bases[spec.key], torch.device("cpu"))


def seen(
    base: LoadedPipeline, sweep: Sweep, crop: str, flip: bool = False, seed: int = 0, batch: int = 1
) -> TrainingImages:
    spec: TrajectorySpec = replace(sweep.cells[0].trajectory, seed=seed, batch_size=batch)
    pictures = [image.image for image in open_training_images(sweep.character, False)]
    names = [path.name for path in sweep.character.paths]
    return TrainingImages(base, spec, "image", names, pictures, names, Framing(crop, flip))


def test_a_step_s_bucket_depends_on_the_step_alone_and_pictures_come_equally_often(
    base: LoadedPipeline, sweep: Sweep
) -> None:
    count = len(sweep.character.paths)
    one, other = (seen(base, sweep, "buckets", seed=seed, batch=2) for seed in (0, 1))
    shown: Counter[str] = Counter()
    orders = []
    for step in range(2 * count):
        mine, theirs = one.batch(step), other.batch(step)
        assert mine.latents.shape == theirs.latents.shape
        assert len({tuple(row.tolist()) for row in mine.sizes[:, 4:]}) == 1
        shown.update(mine.captions)
        orders.append((mine.captions, theirs.captions))
    assert shown == {path.name: 4 for path in sweep.character.paths}
    assert any(mine != theirs for mine, theirs in orders)
    assert len({one.batch(step).latents.shape for step in range(count)}) > 2


def test_windows_are_parts_of_the_whole_at_the_corner_that_is_told(
    base: LoadedPipeline, sweep: Sweep
) -> None:
    plain = seen(base, sweep, "random")
    where: dict[str, set[tuple[int, ...]]] = {}
    for step in range(70):
        shown = plain.batch(step)
        (name,), (row,) = shown.captions, shown.sizes.tolist()
        where.setdefault(name, set()).add(tuple(row[2:4]))
        assert shown.latents.shape[-2:] == (8, 8)
        assert row[4:] == [64, 64]
    wide, square = where["5-cmyk.jpg"], where["4-cut-out.png"]
    assert square == {(0, 0)}
    assert len(wide) > 5
    assert {top for top, _ in wide} == {0}
    assert all(left % 8 == 1 and left <= 1 + 168 - 64 for _, left in wide)  # of 171, 168 are kept
    again = seen(base, sweep, "random")
    assert torch.equal(again.batch(33).latents, plain.batch(33).latents)
    assert any(
        not torch.equal(seen(base, sweep, "random", seed=7).batch(s).sizes, plain.batch(s).sizes)
        for s in range(8)
    )


def test_a_window_of_the_latent_is_nearly_the_latent_of_the_window(
    base: LoadedPipeline, sweep: Sweep
) -> None:
    """Far nearer than one window is to the next: so no step needs the VAE."""
    whole = framed(scene((320, 120)), "random", 64)
    mean, _ = base.latents("whole", whole)
    left = 48
    direct, _ = base.latents("part", whole.crop((left, 0, left + 64, 64)))
    away = (mean[..., left // 8 : left // 8 + 8] - direct).square().mean().sqrt()
    other = (mean[..., :8] - direct).square().mean().sqrt()
    assert away < 0.25 * other


def test_half_of_the_pictures_are_mirrored_and_encoded_so(
    base: LoadedPipeline, sweep: Sweep
) -> None:
    flipping, plain = (
        seen(base, sweep, "center", flip=True),
        seen(base, sweep, "center"),
    )
    for index, (upright, mirrored) in enumerate(flipping.framed):
        assert torch.equal(upright.mean, plain.framed[index][0].mean)
        picture = open_training_images(sweep.character, False)[index].image
        expected, _ = base.latents(f"own {index}", middle_square(ImageOps.mirror(picture), 64))
        assert torch.equal(mirrored.mean, expected)
    same = [
        torch.equal(flipping.batch(step).latents, plain.batch(step).latents) for step in range(100)
    ]
    assert 35 < sum(same) < 65


# -- training --------------------------------------------------------------------------------------


def losses_of(rows: list[LossRow]) -> list[tuple[float, ...]]:
    return [(row.step, row.loss, row.grad_norm) for row in rows]


@pytest.mark.parametrize("framing", [slow("random"), "buckets"])
def test_a_trial_does_not_depend_on_its_pack_at_other_steps(
    photos: list[str], framing: str, tmp_path: Path
) -> None:
    """Two steps of one rate first; then it goes on beside another that starts from nothing."""
    words = [*photos, f"framing={framing}", "flip=true", "pack=2"]
    rates = {1e-2: "lr=1e-2", 1e-3: "lr=1e-3"}
    alone = {}
    for rate, word in rates.items():
        one, store, _ = execute(tmp_path / f"rate{rate}", *words, word, "train_steps=5")
        snapshot = snapshot_bytes(store.snapshot(one.cells[0].images.snapshot))
        alone[rate] = (snapshot, losses_of(store.losses(one.cells[0].trajectory)))
    execute(tmp_path / "both", *words, rates[1e-2], "train_steps=2")
    both, store, _ = execute(tmp_path / "both", *words, "+axes.lr=[1e-2,1e-3]", "train_steps=5")
    for cell in both.cells:
        snapshot = snapshot_bytes(store.snapshot(cell.images.snapshot))
        rows = losses_of(store.losses(cell.trajectory))
        assert (snapshot, rows) == alone[cell.values["lr"]]


def test_what_shapes_the_weights_is_in_the_key_and_only_that(
    photos: list[str], tmp_path: Path
) -> None:
    axes = "+axes={framing:[center,random,buckets],flip:[false,true]}"
    sweep = sweep_of(tmp_path, *photos, axes)
    assert len({cell.trajectory.key for cell in sweep.cells}) == 6
    (plain,) = sweep_of(tmp_path, *photos).cells
    assert plain.trajectory.framing == Framing()
    (gan,) = sweep_of(tmp_path, *photos, "method=gan", axes).cells
    assert gan.trajectory.framing == Framing()
    assert "framing" not in gan.values


def test_a_framing_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"framing=tiles: should be 'center', 'random' or 'buck"):
        sweep_of(tmp_path, "framing=tiles")


def test_the_base_is_told_the_true_sizes(
    photos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    plain = LoadedPipeline.predict

    def listening(base: LoadedPipeline, noisy: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        told.append((tuple(noisy.shape[-2:]), *rest[-1][0].tolist()))
        return plain(base, noisy, *rest)

    monkeypatch.setattr(LoadedPipeline, "predict", listening)
    execute(tmp_path, *photos, "framing=buckets", "train_steps=7", "pack=1")
    assert ((6, 10), 160, 240, 2, 0, 48, 80) in told
    assert ((10, 6), 240, 160, 0, 2, 80, 48) in told  # as it is upright
    for (height, width), *numbers in told:
        assert [8 * height, 8 * width] == numbers[4:]
    assert not list(Store(tmp_path).folder.glob("*/diverged.json"))


def test_greys_are_framed_like_colours() -> None:
    """A mask is cut exactly as its picture is."""
    image = Image.effect_noise((210, 130), 90)
    for crop in ("center", "random", "buckets"):
        greys = np.asarray(framed(image, crop, 64))
        colours = np.asarray(framed(image.convert("RGB"), crop, 64))
        assert (greys == colours[..., 0]).all()
