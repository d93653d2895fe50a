"""Two characters in one trajectory: whom a step shows, pictures of both, and exactness."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small import snapshot_bytes, sweep_of
from helpers.variants import slow
from PIL import Image, ImageDraw

from charsweep.character import TrainingImage, caption_in_place
from charsweep.core.methods import method_of
from charsweep.core.specs import TrajectorySpec
from charsweep.core.store import Store
from charsweep.engine.local import LocalEngine
from charsweep.engine.measure_pack_width import timed_steps
from charsweep.engine.progress import ProgressView
from charsweep.models import embedded
from charsweep.models.load import load_base
from charsweep.models.pipeline import LoadedPipeline
from charsweep.plan import cost, memory, plan_work
from charsweep.train import company, seg_mix
from charsweep.train.batches import TrainingImages
from charsweep.train.company import CompanyImages, company_images, company_materials, shown_at
from charsweep.train.methods import ClassImage, Materials
from charsweep.train.methods.denoising import DenoisingTrainable
from charsweep.train.seg_mix import COUNT, InPlace, SegMix

TOGETHER = ["characters=[unicorn_girl,thunder_bear]", "company=together"]
HALF = [*TOGETHER, "company.joint_share=0.5"]
RATE = 1e-3
NAMES = ("UnicornGirl", "ThunderBear")


# -- whom a step shows -----------------------------------------------------------------------------


def test_steps_show_both_as_often_as_asked_and_else_one_by_turns() -> None:
    assert [shown_at(step, 0.25)[0] for step in range(8)] == [0, 1, 0, 2, 1, 0, 1, 2]
    assert [shown_at(step, 0.0) for step in range(4)] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert [shown_at(step, 1.0) for step in range(3)] == [(2, 0), (2, 1), (2, 2)]
    for share in (0.1, 0.29, 1 / 3, 0.7):
        shown = [shown_at(step, share) for step in range(100)]
        assert sum(which == 2 for which, _ in shown) == int(100 * share + 1e-9)
        for kind in range(3):  # each visit once, in order
            visits = [visit for which, visit in shown if which == kind]
            assert visits == list(range(len(visits)))


# -- pictures of both ------------------------------------------------------------------------------


def drawing(colour: str, box: tuple[int, int, int, int], ground: str = "green") -> TrainingImage:
    """A rectangle and its mask."""
    image, mask = Image.new("RGB", (128, 128), ground), Image.new("L", (128, 128), 0)
    ImageDraw.Draw(image).rectangle(box, fill=colour)
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    return TrainingImage(image, mask)


RED, BLUE = drawing("red", (44, 20, 84, 120)), drawing("blue", (30, 60, 98, 124))


def where(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """The columns of a colour."""
    return np.nonzero((np.abs(pixels.astype(int) - colour).max(axis=2) < 40).any(axis=0))[0]


def test_pictures_of_both_show_who_their_captions_say_is_left() -> None:
    mix = SegMix([RED], [BLUE], ("Red", "Blue"), (96, 64), flip=False)
    captions = mix.captions()
    left = {"Red": 0, "Blue": 0}
    sizes = set()
    for picture, caption in zip(map(mix.picture, range(COUNT)), captions, strict=True):
        assert picture.caption == caption
        assert picture.image.size == picture.mask.size == (96, 64)
        pixels, inside = np.asarray(picture.image), np.asarray(picture.mask) > 127
        assert not (where(pixels, (0, 128, 0))).size  # nothing of their grounds
        assert (pixels[np.asarray(picture.mask) == 0] == 255).all()
        red, blue = where(pixels, (255, 0, 0)), where(pixels, (0, 0, 255))
        assert 0.5 * 96 >= len(red) >= 10
        assert len(blue) >= 20
        first = "Red" if red.mean() < blue.mean() else "Blue"
        left[first] += 1
        second = {"Red": "Blue", "Blue": "Red"}[first]
        assert caption == (
            f"a picture of {first} on the left and {second} on the right on a white background"
        )
        sizes.add((len(red), len(blue)))
        assert 0.1 < inside.mean() < 0.8
    assert min(left.values()) > COUNT / 4
    assert len(sizes) > 20
    again = SegMix([RED], [BLUE], ("Red", "Blue"), (96, 64), flip=False)
    assert again.picture(7).image.tobytes() == mix.picture(7).image.tobytes()
    assert again.picture(7).image.tobytes() != mix.picture(8).image.tobytes()


def test_somebody_too_large_is_made_to_fit() -> None:
    wide = drawing("red", (0, 30, 127, 90))
    mix = SegMix([wide], [wide], ("Red", "Blue"), (96, 64), flip=True)
    for picture in map(mix.picture, range(COUNT)):
        columns = np.asarray(picture.mask).any(axis=0)
        assert columns.sum() <= 96
        assert np.asarray(picture.mask).any(axis=1).sum() < 64


def test_an_object_is_smaller_than_who_stands_beside_it() -> None:
    mix = SegMix([RED], [BLUE], ("Red", "Blue"), (96, 64), flip=False, kind="object")
    beside = SegMix([RED], [BLUE], ("Red", "Blue"), (96, 64), flip=False)
    for index in range(COUNT):
        both = [np.asarray(one.picture(index).image) for one in (mix, beside)]
        small, large = (len(where(pixels, (0, 0, 255))) for pixels in both)
        assert 0 < small < 0.85 * large
        red, again = (where(pixels, (255, 0, 0)) for pixels in both)
        assert np.array_equal(red, again)
    assert mix.captions() == beside.captions()


def test_somebody_stands_anywhere_in_every_drawing_of_a_place() -> None:
    places = [Image.new("RGB", (160, 128), colour) for colour in ("yellow", "cyan")]
    captions = ["a picture of Land", "Land at night, whose moon is Land's"]
    mix = InPlace([RED], places, captions, ("Red", "Land"), (64, 64), flip=False)
    told = {(255, 255, 0): "a picture of Red in Land",
            (0, 255, 255): "Red in Land at night, whose moon is Red in Land's"}  # fmt: skip
    shown, spots = [], set()
    for index, caption in enumerate(mix.captions()):
        picture = mix.picture(index)
        pixels = np.asarray(picture.image)
        assert picture.image.size == picture.mask.size == (64, 64)
        assert np.asarray(picture.mask).all()  # the ground is taught too
        assert not where(pixels, (0, 128, 0)).size  # nothing of the drawing's own ground
        assert told[tuple(pixels[0, 0])] == picture.caption == caption
        red = where(pixels, (255, 0, 0))
        assert 0.5 * 64 >= len(red) >= 10
        spots.add((len(red), int(red.mean())))
        shown.append(caption)
    assert len(spots) > 20
    assert set(map(shown.count, told.values())) == {COUNT // 2}


def test_a_caption_without_the_place_says_where_somebody_is() -> None:
    assert caption_in_place("lollipops at night", "Red", "Land") == "a picture of Red in Land"


# -- what a trial sees -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> LoadedPipeline:
    sweep = sweep_of(tmp_path_factory.mktemp("base"))
    spec = sweep.cells[0].trajectory.base
    assert spec is not None
    return load_base(spec, sweep.bases[spec.key], torch.device("cpu"))


def seen_by(
    root: Path, base: LoadedPipeline, *words: str, seed: int = 0
) -> tuple[TrajectorySpec, CompanyImages]:
    """What a trial of a sweep learns from."""
    sweep = sweep_of(root, *words, f"seed={seed}")
    spec = sweep.cells[0].trajectory
    known = sweep.drawings.training_images(spec.character.digests, spec.framing.masks)
    one = TrainingImages(
        base, spec, "image", spec.character.digests, [image.image for image in known],
        list(method_of(spec.method).captions(spec.character)), spec.framing,
        [image.mask for image in known],
    )  # fmt: skip
    materials = company_materials(spec, sweep.drawings, lambda _: [])
    assert materials is not None
    return spec, company_images(base, spec, one, materials)


def test_a_trial_sees_each_with_its_prompt_and_both_wide(
    tmp_path: Path, base: LoadedPipeline
) -> None:
    _, images = seen_by(tmp_path, base, *TOGETHER)
    _, others = seen_by(tmp_path, base, *TOGETHER, seed=1)
    for step in range(12):
        which = shown_at(step, 0.25)[0]
        batch = images.batch(step)
        (caption,) = batch.captions
        assert tuple(batch.latents.shape[-2:]) == ((8, 12) if which == 2 else (8, 8))
        width = 96 if which == 2 else 64
        assert batch.sizes.tolist() == [[64, width, 0, 0, 64, width]]
        assert [name in caption for name in NAMES] == [which != 1, which != 0]
        assert torch.equal(images.batch(step).latents, batch.latents)
        assert others.batch(step).latents.shape == batch.latents.shape  # they may share a pass
        assert not torch.equal(others.batch(step).latents, batch.latents)
        assert torch.equal(batch.area, torch.ones_like(batch.area))
    assert set(images.captions) == {
        *(f"a picture of {name}" for name in NAMES),
        *(f"a picture of {left} on the left and {right} on the right on a white background"
          for left, right in (NAMES, NAMES[::-1])),
    }  # fmt: skip


def test_masks_count_in_pictures_of_both_where_they_do_in_those_of_one(
    tmp_path: Path, base: LoadedPipeline
) -> None:
    girl = f"{{images:{embedded.UNICORN_GIRL},identifier:UnicornGirl,class_noun:girl,masks:file}}"
    words = [f"characters=[{girl},thunder_bear]", "company=together", "mask_background=0"]
    _, images = seen_by(tmp_path, base, *words)
    area = images.batch(3).area
    assert area.mean().item() == pytest.approx(1.0)
    assert area.min() == 0
    assert images.batch(0).area.min() == 0
    assert images.batch(1).area.min() == 1  # the bear's masks are not asked for


def test_pictures_of_both_that_there_are_take_the_place_of_composed_ones(
    tmp_path: Path, base: LoadedPipeline
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    for name in ("00", "01"):
        shutil.copy(embedded.TOGETHER_EXAM / f"{name}.png", shared)
        (shared / f"{name}.txt").write_text(f"{name}: ThunderBear, UnicornGirl", encoding="utf-8")
    _, images = seen_by(tmp_path, base, *HALF, f"company.joint_images={shared}", "flip=true")
    batches = [images.batch(step) for step in (1, 3)]
    assert {text for batch in batches for text in batch.captions} == {
        "00: ThunderBear, UnicornGirl", "01: ThunderBear, UnicornGirl"
    }  # fmt: skip
    for batch in batches:  # their bucket, which has the area of a square at most
        height, width = batch.latents.shape[-2:]
        assert width > height
        assert height * width <= 64
    assert len(images.parts[2].framed[0]) == 1  # not mirrored: captions may say who is left


def test_class_images_of_both_classes_come_by_turns(tmp_path: Path, base: LoadedPipeline) -> None:
    sweep = sweep_of(tmp_path, *TOGETHER, "method.prior_weight=1", "method.class_images=2")
    spec = sweep.cells[0].trajectory
    girls, bears = (
        [ClassImage(path / f"0{n}.png", text) for n in (1, 2)]
        for path, text in ((embedded.UNICORN_GIRL, "a girl"), (embedded.THUNDER_BEAR, "a bear"))
    )
    images = sweep.drawings.open(spec.character.digests)
    both = company_materials(spec, sweep.drawings, lambda _: bears)
    materials = Materials(base.device, base, images, lambda _: girls, company=both)
    made = method_of(spec.method).trainable(spec, materials)
    assert isinstance(made, DenoisingTrainable)
    made.enter(0, spec)
    prior = made.batches[0].prior
    assert prior is not None
    assert [prior.batch(step).captions for step in range(4)] == 2 * [["a girl"], ["a bear"]]
    made.close()


def test_in_a_place_a_trial_sees_squares_with_the_captions_of_its_drawings(
    tmp_path: Path, base: LoadedPipeline
) -> None:
    words = ["characters=[unicorn_girl,candyland]", "company=together", "method=lora", "flip=true"]
    _, images = seen_by(tmp_path, base, *words, "exam=place", "company.joint_share=0.5")
    captions = set()
    for step in range(24):
        which, batch = shown_at(step, 0.5)[0], images.batch(step)
        (caption,) = batch.captions
        assert tuple(batch.latents.shape[-2:]) == (8, 8)
        named = [name in caption for name in ("UnicornGirl", "Candyland")]
        assert named == [which != 1, which != 0]
        captions |= {caption} if which == 2 else set()
    assert "a picture of UnicornGirl in Candyland at night" in {*images.parts[2].captions}
    assert all(" in Candyland" in caption for caption in captions)
    assert len(images.parts[2].framed[0]) == 1  # what is composed is not mirrored as a whole


# -- bit for bit -----------------------------------------------------------------------------------


@pytest.fixture
def fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four pictures of both, not sixty-four."""
    monkeypatch.setattr(company, "COUNT", 4)
    monkeypatch.setattr(seg_mix, "COUNT", 4)


def rows_of(store: Store, spec: TrajectorySpec) -> list[tuple[float, ...]]:
    return [(row.step, row.loss, row.lr, row.grad_norm) for row in store.losses(spec)]


def trained(root: Path, *words: str, step: int) -> tuple[dict[str, bytes], list[tuple[float, ...]]]:
    """The snapshot at a step of the trial at the rate with seed 0, and its losses; no exam."""
    sweep, store = sweep_of(root, *HALF, *words), Store(root)
    plan = plan_work(sweep.cells, store)
    with ProgressView() as view:
        engine = LocalEngine(sweep, store, view)
        engine.prepare(plan)
        engine.image_sets.draw(sweep.cells[0].class_sets)
        for pack in plan.packs:
            for _ in engine.packs.train(pack):
                pass
    cell = next(
        c for c in sweep.cells
        if c.values["lr"] == RATE and c.values["seed"] == 0 and c.step == step
    )  # fmt: skip
    return snapshot_bytes(store.snapshot(cell.images.snapshot)), rows_of(store, cell.trajectory)


def test_a_short_run_is_a_prefix_and_is_resumed_exactly(fewer: None, tmp_path: Path) -> None:
    short = trained(tmp_path / "parts", "train_steps=3", "pack=1", step=3)
    whole = trained(tmp_path / "whole", "train_steps=5", "pack=1", step=5)
    assert whole[1][:3] == short[1]
    assert trained(tmp_path / "parts", "train_steps=5", "pack=1", step=5) == whole


@pytest.mark.parametrize(
    "chosen",
    [[], slow(["method.prior_weight=1", "method.class_images=2"]),
     slow(["method=lora", "method.text_encoder=true", "batch_size=2", "framing=buckets"])],
    ids=["plain", "prior", "text and batch of 2"],
)  # fmt: skip
def test_a_trial_does_not_depend_on_pack_or_slot(
    chosen: list[str], fewer: None, tmp_path: Path
) -> None:
    words = [*chosen, "train_steps=4", "pack=4"]
    alone = trained(tmp_path / "alone", f"lr={RATE}", *words, step=4)
    others = f"+axes={{seed:[1,0],lr:[1e-2,1e-4,{RATE}]}}"
    assert trained(tmp_path / "others", others, *words, step=4) == alone


def test_trials_of_one_share_share_a_pass_and_others_do_not(tmp_path: Path) -> None:
    axes = "+axes={lr:[1e-3,1e-4],seed:[0,1],company.joint_share:[0,0.5]}"
    packs = plan_work(sweep_of(tmp_path, *TOGETHER, axes).cells, Store(tmp_path)).packs
    assert [len(pack.trainings) for pack in packs] == [4, 4]


# -- what it costs ---------------------------------------------------------------------------------


def test_steps_are_timed_of_either_size(tmp_path: Path) -> None:
    """Else what wide pictures take of time and memory would not be seen where they are few."""
    few = sweep_of(tmp_path, *TOGETHER, "company.joint_share=0.1").cells[0].trajectory
    assert timed_steps(few, 3) == [(0.9, [0, 1, 2]), (0.1, [9, 19, 29])]
    rare = sweep_of(tmp_path, *TOGETHER, "company.joint_share=1e-8").cells[0].trajectory
    assert [steps for _, steps in timed_steps(rare, 2)] == [[0, 1]]
    every = sweep_of(tmp_path, *TOGETHER, "company.joint_share=1").cells[0].trajectory
    assert timed_steps(every, 2) == [(1.0, [0, 1])]
    for words in ((), (*TOGETHER, "company.joint_share=0")):
        assert timed_steps(sweep_of(tmp_path, *words).cells[0].trajectory, 2) == [(1.0, [0, 1])]


def test_wide_steps_are_reckoned_by_their_area(tmp_path: Path) -> None:
    def of(*words: str) -> tuple[float, float, str]:
        sweep = sweep_of(tmp_path, *words)
        spec, speeds = sweep.cells[0].trajectory, cost.Speeds(Store(tmp_path))
        place = memory.Place(sweep.bases, speeds, None)
        (need,) = memory.needs_of([memory.Work(spec)], place)
        return speeds.step(spec), need.passing, memory.name_of(need.work, "cpu")

    square, wide = of(), of(*TOGETHER)
    assert wide[0] == pytest.approx(1.125 * square[0])
    assert wide[1] == pytest.approx(1.5 * square[1], rel=1e-6)
    assert wide[2] != square[2]
    assert of(*TOGETHER, "company.joint_share=0") == square
