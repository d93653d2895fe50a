"""Masks: what of a training image is the character, in the loss and in the references."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.photos import SHAPES, face, make_masks, make_photos, mask, scene
from helpers.small import execute, sweep_of
from PIL import Image

from charsweep.character import framed, open_training_images
from charsweep.character.masks import NEUTRAL
from charsweep.config import Sweep
from charsweep.core.errors import CharacterError, ConfigError
from charsweep.core.keys import digest_of_content
from charsweep.core.store import Store
from charsweep.models.load import load_base
from charsweep.models.pipeline import LoadedPipeline
from charsweep.plan import plan_work
from charsweep.train.batches import TrainingImages, weights_of

SOME = ("1-landscape.jpg", "2-portrait.png", "3-turned.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_photos(tmp_path / "mia", SOME)
    make_masks(tmp_path / "mia")
    return tmp_path / "mia"


def words_of(folder: Path, *more: str) -> list[str]:
    return ["character=folder", f"character.images={folder}", "character.masks=file", *more]


def message_of(folder: Path, *more: str) -> str:
    with pytest.raises(CharacterError) as caught:
        sweep_of(folder.parent, *words_of(folder, *more))
    return str(caught.value)


# -- reading ---------------------------------------------------------------------------------------


def test_a_mask_is_no_training_image_whether_it_is_used_or_not(folder: Path) -> None:
    for more in ([], ["character.masks=null"]):
        character = sweep_of(folder.parent, *words_of(folder, *more)).character
        assert [path.name for path in character.paths] == list(SOME)


def test_a_drawing_whose_name_ends_alike_is_a_drawing(folder: Path) -> None:
    scene((90, 90)).save(folder / "gas-mask.png")
    character = sweep_of(folder.parent, *words_of(folder, "character.masks=null")).character
    assert "gas-mask.png" in [path.name for path in character.paths]


def test_digests_are_in_the_spec_when_masks_are_used_and_only_then(folder: Path) -> None:
    def framing(*more: str) -> object:
        return sweep_of(folder.parent, *words_of(folder, *more)).cells[0].trajectory.framing

    digests = tuple(digest_of_content(folder / f"{Path(n).stem}-mask.png") for n in SOME)
    assert framing().masks == digests
    assert framing().background == 0.1
    plain = framing("character.masks=null")
    assert plain.masks == ()
    assert framing("mask_background=1") == plain
    make_photos(folder.parent / "other", ("4-cut-out.png",))
    alpha = words_of(folder.parent / "other", "character.masks=alpha")
    assert sweep_of(folder.parent, *alpha).cells[0].trajectory.framing.masks == ("alpha",)


@pytest.mark.parametrize(
    ("name", "image", "said"),
    [
        ("9-mask.png", mask((50, 50)), "9-mask.png: is a mask without an image: add 9.png"),
        ("1-landscape-mask.png", mask((160, 240)), "is 160 × 240 pixels, but 1-landscape.jpg is"),
        ("3-turned-mask.png", mask((240, 160)), "but 3-turned.jpg is 160 × 240 when upright"),
        ("1-landscape-mask.png", Image.new("L", (240, 160)), "is all black, so nothing would"),
        ("1-landscape-mask.jpg", mask((240, 160)), "has the masks 1-landscape-mask.jpg and 1-l"),
        ("4.png", scene((90, 90)), "4.png: has no mask: add 4-mask.png, all white if all of it"),
    ],
)
def test_bad_masks(folder: Path, name: str, image: Image.Image, said: str) -> None:
    image.save(folder / name)
    message = message_of(folder)
    assert said in message
    assert len(message.splitlines()) == 1


def test_broken_masks_and_drawings_are_told_together(folder: Path) -> None:
    (folder / "1-landscape-mask.png").write_bytes(b"no image")
    (folder / "2-portrait.png").write_bytes(b"")
    first, *lines = message_of(folder).splitlines()
    assert first.endswith("2 things to mend")
    assert "2-portrait.png: is empty" in lines[0]
    assert "1-landscape-mask.png: its content is not PNG" in lines[1]


def test_bad_alpha_channels(folder: Path) -> None:
    assert "no image has transparency" in message_of(folder, "character.masks=alpha")
    Image.new("RGBA", (90, 90), (1, 2, 3, 0)).save(folder / "4.png")
    assert "4.png: is all transparent" in message_of(folder, "character.masks=alpha")


def test_a_subject_outside_the_frame_is_refused_before_anything_is_spent(folder: Path) -> None:
    edge = Image.new("L", SHAPES["1-landscape.jpg"], 0)
    edge.paste(255, (0, 0, 20, 160))
    edge.save(folder / "1-landscape-mask.png")
    assert "1-landscape.jpg: nothing of its mask is within what framing=center" in message_of(
        folder
    )
    sweep_of(folder.parent, *words_of(folder, "framing=buckets"))
    sweep_of(folder.parent, *words_of(folder, "mask_background=1"))


@pytest.mark.parametrize("word", ["references=subject", "+axes.mask_background=[0,1]"])
def test_what_needs_masks_says_so(word: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"character\.masks=null; set character\.masks=file or a"):
        sweep_of(tmp_path, word)


def test_transparency_is_white_unless_it_is_the_mask(tmp_path: Path) -> None:
    words = make_photos(tmp_path / "mia", ("4-cut-out.png",))
    plain = open_training_images(sweep_of(tmp_path, *words).character, True)[0]
    assert plain.mask is None
    assert plain.image.getpixel((3, 3)) == (255, 255, 255)
    masked = open_training_images(
        sweep_of(tmp_path, *words, "character.masks=alpha").character, True
    )[0]
    assert masked.mask is not None
    assert masked.mask.tobytes() == mask((180, 180)).tobytes()
    assert masked.image.tobytes() == scene((180, 180)).tobytes()


# -- the loss --------------------------------------------------------------------------------------


@pytest.fixture
def base(folder: Path) -> LoadedPipeline:
    sweep = sweep_of(folder.parent, *words_of(folder))
    spec = sweep.cells[0].trajectory.base
    return load_base(spec, sweep.bases[spec.key], torch.device("cpu"))


def images_of(base: LoadedPipeline, sweep: Sweep) -> TrainingImages:
    spec = sweep.cells[0].trajectory
    training_images = open_training_images(sweep.character, True)
    pictures, masks = [one.image for one in training_images], [one.mask for one in training_images]
    keys = [path.name for path in sweep.character.paths]
    return TrainingImages(base, spec, "image", keys, pictures, keys, spec.framing, masks)


def test_weights_are_one_on_average_and_the_background_s_share_is_as_set() -> None:
    half = Image.new("L", (64, 64), 0)
    half.paste(255, (0, 0, 16, 64))
    weights = weights_of(half, torch.ones(16, 16), 0.25)
    assert weights.mean().item() == pytest.approx(1.0)
    assert (weights[:, 8] / weights[:, 0]).tolist() == pytest.approx([0.25] * 16)
    assert torch.equal(weights_of(Image.new("L", (64, 64), 255), torch.ones(16, 16), 0.0),
                       torch.ones(16, 16))  # fmt: skip


@pytest.mark.parametrize("framing", ["center", "random", "buckets"])
def test_masks_are_cut_and_mirrored_exactly_like_their_pictures(
    framing: str, folder: Path, base: LoadedPipeline
) -> None:
    """The face is the only pale thing: a latent's weights lie where its decoded pixels are pale."""
    for path in folder.glob("*-mask.png"):  # off the middle, or a mirror would show nothing
        name = next(n for n in SOME if n.startswith(path.stem.removesuffix("-mask")))
        size = SHAPES[name]
        left, top, right, bottom = face(size)
        box = (left + 15, top + 10, right + 15, bottom + 10)
        image, white = Image.new("RGB", size, "black"), Image.new("L", size, 0)
        image.paste((255, 255, 255), box)
        white.paste(255, box)
        white.save(path)
        image.save(folder / f"{Path(name).stem}.png")
        (folder / name).unlink() if name.endswith(".jpg") else None
    more = [f"framing={framing}", "flip=true", "mask_background=0"]
    plain = images_of(base, sweep_of(folder.parent, *words_of(folder, *more)))
    for step in range(12):
        shown = plain.batch(step)
        scale = base.pipeline.vae.config.scaling_factor
        with torch.no_grad():
            pixels = base.pipeline.vae.decode(shown.latents / scale).sample
        pale = (pixels.mean(1) > 0).float()
        inside = torch.nn.functional.avg_pool2d(pale, 8)[0]
        weighted = shown.area[0] / shown.area[0].max()
        assert torch.corrcoef(torch.stack([inside.flatten(), weighted.flatten()]))[0, 1] > 0.95


def test_the_loss_is_the_weighted_mean_of_the_squared_errors(folder: Path, tmp_path: Path) -> None:
    """All white equals no mask, bit for bit."""

    def first_losses(*more: str) -> list[float]:
        sweep, store, _ = execute(tmp_path / "runs", *words_of(folder, *more), "train_steps=3")
        return [row.loss for row in store.losses(sweep.cells[0].trajectory)]

    masked, plain = first_losses("mask_background=0"), first_losses("mask_background=1")
    assert masked != plain
    assert np.mean(masked) == pytest.approx(np.mean(plain), rel=0.9)  # of one scale
    for name in SOME:
        Image.new("L", SHAPES[name], 255).save(folder / f"{Path(name).stem}-mask.png")
    assert first_losses("mask_background=0") == plain


@pytest.mark.slow
def test_weights_of_the_background_share_a_pass(folder: Path, tmp_path: Path) -> None:
    axes = "+axes.mask_background=[0,0.1,0.5]"
    sweep, store, results = execute(tmp_path / "all", *words_of(folder, axes), "train_steps=2")
    (pack,) = plan_work(sweep.cells, Store(tmp_path / "nowhere")).packs
    assert len(pack.trainings) == 3
    assert len({result.trajectory for result in results}) == 3
    alone, one, _ = execute(
        tmp_path / "one", *words_of(folder, "mask_background=0.1"), "train_steps=2"
    )
    spec = alone.cells[0].trajectory
    assert [r.loss for r in store.losses(spec)] == [r.loss for r in one.losses(spec)]


# -- the references --------------------------------------------------------------------------------


def test_subjects_stand_on_a_neutral_ground(folder: Path) -> None:
    training_image = open_training_images(
        sweep_of(folder.parent, *words_of(folder)).character, True
    )[0]
    width, height = training_image.image.size
    assert training_image.subject.getpixel((3, 3)) == NEUTRAL
    middle = (width // 2, height // 2)
    assert training_image.subject.getpixel(middle) == training_image.image.getpixel(middle)


@pytest.mark.slow
def test_scores_against_the_subject_do_not_depend_on_training_backgrounds(
    folder: Path, tmp_path: Path
) -> None:
    """The same faces before another background: whole references differ, subjects do not."""
    other = tmp_path / "other"
    other.mkdir()
    for name in SOME:
        size = SHAPES[name]
        image = Image.composite(scene(size), Image.new("RGB", size, (90, 0, 120)), mask(size))
        image.save(other / f"{Path(name).stem}.png")
        mask(size).save(other / f"{Path(name).stem}-mask.png")
        (folder / name).unlink()
        scene(size).save(folder / f"{Path(name).stem}.png")
    scores = {}
    for where in (folder, other):
        for references in ("whole", "subject"):
            more = [f"references={references}", "mask_background=1", "lr=1e-7", "train_steps=1"]
            sweep, _, (result,) = execute(tmp_path / where.name, *words_of(where, *more))
            scores[where.name, references] = result.scores["dino"]
            marked = [digest.count("/") for digest in sweep.cells[0].exam.references]
            assert marked == [int(references == "subject")] * 3
    assert scores["mia", "whole"] != pytest.approx(scores["other", "whole"], abs=0.01)
    assert scores["mia", "subject"] == pytest.approx(scores["other", "subject"], abs=1e-3)


def test_another_mask_is_another_score_and_another_trajectory(folder: Path) -> None:
    sweep = sweep_of(folder.parent, *words_of(folder, "references=subject"))
    other = np.array(mask(SHAPES[SOME[0]]).resize(SHAPES[SOME[0]]))
    Image.fromarray(255 - other).save(folder / "1-landscape-mask.png")
    again = sweep_of(folder.parent, *words_of(folder, "references=subject"))
    assert sweep.cells[0].trajectory.key != again.cells[0].trajectory.key
    cell = replace(again.cells[0], images=sweep.cells[0].images)
    metric = cell.metrics[0]
    assert (
        cell.score_spec(metric, cell.images).key
        != sweep.cells[0].score_spec(metric, cell.images).key
    )


def test_greys_keep_their_shares() -> None:
    grey = Image.new("L", (64, 64), 0)
    grey.paste(51, (0, 0, 64, 32))  # a fifth
    weights = weights_of(framed(grey, "center", 64), torch.ones(16, 16), 0.0)
    assert weights[0, 0].item() == pytest.approx(2.0)
    assert weights[15, 0].item() == 0.0
