"""Folders as people bring them from other trainers: what is a drawing, a mask, a caption."""

from __future__ import annotations

import json
import shlex
import unicodedata
from pathlib import Path

import pytest
from helpers.drawn import load, message_of
from helpers.small import sweep_of
from PIL import Image

from charsweep.character import Character, load_held_out, mask_beside
from charsweep.character.folder import contents_of
from charsweep.core.errors import CharacterError, ConfigError

SIZE = (48, 40)


def draw(folder: Path, *names: str) -> None:
    """Images of that name, no two alike."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image = Image.effect_noise(SIZE, 90)
        image.putpixel((0, 0), hash(name) % 256)
        image.save(folder / name)


def names(character: Character) -> list[str]:
    return [path.name for path in character.paths]


def words_of(folder: Path, *more: str) -> list[str]:
    return ["character=folder", f"character.images={folder}", "character.identifier=Miavex", *more]


# -- images of an image ----------------------------------------------------------------------------


MASKS = [
    "01-mask.png", "01_mask.png", "01.mask.png", "01 mask.png", "01_masks.png", "01_MASK.PNG",
    "01-masklabel.png", "01_mask_label.png", "01_mask_0.png", "01_alpha.png", "01-alpha-mask.webp",
    "01_matte.png", "mask_01.png", "mask-01.jpg", "01.png.mask.png", "01.png_mask.png",
    "masks/01.png", "mask/01_mask.png", "Masks/01.jpg",
]  # fmt: skip


@pytest.mark.parametrize("mask", MASKS)
def test_masks_are_known_by_the_names_that_trainers_give_them(tmp_path: Path, mask: str) -> None:
    draw(tmp_path, "01.png", mask)
    character = load(tmp_path)
    assert names(character) == ["01.png"]
    assert character.found.masks == 1
    assert character.found.left_out == ()
    used = load(tmp_path, masks="file")
    assert used.masks.paths == (tmp_path / mask,) == (mask_beside(tmp_path / "01.png"),)


def test_masks_are_known_beside_images_that_are_called_images(tmp_path: Path) -> None:
    draw(tmp_path, "0.src.jpg", "0.mask.png", "image_1.png", "mask_1.png")
    character = load(tmp_path, masks="file")
    assert names(character) == ["0.src.jpg", "image_1.png"]
    assert [path.name for path in character.masks.paths] == ["0.mask.png", "mask_1.png"]


ASIDE = [
    "01_depth.png", "01-depth-map.png", "01_canny.png", "01_edges.png", "01.hed.png", "01_pose.png",
    "01_openpose.png", "dwpose_01.png", "01_lineart.png", "01-line-art.png", "01_normal_map.png",
    "01_seg.png", "01-condlabel.png", "01_conditioning.png", "01_control_image.png",
    "01_sketch.png", "01_keypoints.jpg", "01_thumb.jpg", "01.preview.png", "01_scribble_2.png",
]  # fmt: skip


@pytest.mark.parametrize("aside", ASIDE)
def test_images_of_an_image_are_left_out_and_named(tmp_path: Path, aside: str) -> None:
    draw(tmp_path, "01.png", "02.png", aside)
    character = load(tmp_path)
    assert names(character) == ["01.png", "02.png"]
    (left,) = character.found.left_out
    assert left.startswith(f"{aside} (the ")
    assert left.endswith(" of 01.png)")


def test_the_same_words_alone_are_drawings(tmp_path: Path) -> None:
    alone = ["depth.png", "gas-mask.png", "mask.png", "mask_02.png", "01_portrait.png", "pose.png"]
    draw(tmp_path, "01.png", *alone)
    assert set(names(load(tmp_path))) == {"01.png", *alone}


def test_a_mask_of_nothing_is_refused_once_masks_are_used(tmp_path: Path) -> None:
    draw(tmp_path, "01.png", "masks/01.png", "masks/09.png")
    assert load(tmp_path).found.left_out == ("masks/09.png",)
    assert "masks/09.png: is a mask without an image: rename it" in message_of(
        tmp_path, masks="file"
    )
    draw(tmp_path, "01_mask.png")
    (tmp_path / "masks" / "09.png").unlink()
    assert "01.png: has the masks 01_mask.png and 01.png: keep one" in message_of(
        tmp_path, masks="file"
    )


def test_the_file_that_a_drawing_was_drawn_in_is_left_out(tmp_path: Path) -> None:
    draw(tmp_path, "01.png")
    (tmp_path / "01.psd").write_bytes(b"8BPS")
    assert load(tmp_path).found.left_out == ("01.psd (another file of 01.png)",)


@pytest.mark.parametrize("name", ["03.jxl", "03.psd", "03.heic", "03.clip", "03.jp2"])
def test_images_that_cannot_be_read_are_named(tmp_path: Path, name: str) -> None:
    draw(tmp_path, "01.png")
    (tmp_path / name).write_bytes(b"\xff\x0a of a format that Pillow does not read")
    said = f"{name}: its content is not PNG, JPEG, WebP, AVIF, BMP, GIF or TIFF: convert it to PNG"
    assert said in message_of(tmp_path)
    (tmp_path / name).rename(tmp_path.parent / name)  # "or move it away"
    assert names(load(tmp_path)) == ["01.png"]


def test_masks_are_not_measured_against(tmp_path: Path) -> None:
    draw(tmp_path, "01.png", "01_mask.png", "01_depth.png")
    assert [path.name for path in load_held_out(tmp_path).paths] == ["01.png"]


def test_all_that_is_left_out_is_named_shortly(tmp_path: Path) -> None:
    draw(tmp_path, "01.png", "sub/07.png")
    for name in ("notes.md", "a.npz", "b.npz", "c.npz", "d.npz", ".hidden", "Thumbs.db"):
        (tmp_path / name).write_text("x")
    assert set(load(tmp_path).found.left_out) == {"notes.md", "4 files .npz", "sub/"}


# -- captions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("01.txt", "a picture of Miavex"),
        ("01.caption", "a picture of\nMiavex "),
        ("01.png.txt", "a picture of Miavex"),
        ("01.tags", "a picture of Miavex"),
        ("01.json", {"caption": "a picture of Miavex"}),
        ("01.json", {"text": "a picture of Miavex", "width": 7}),
        ("metadata.jsonl", {"file_name": "01.png", "text": "a picture of Miavex"}),
        ("metadata.jsonl", {"file_name": "01.png", "caption": "a picture of Miavex"}),
        ("metadata.jsonl", {"file_name": "01.png", "prompt": "a picture of Miavex"}),
        ("metadata.jsonl", {"image_path": "01.png", "caption": "a picture of Miavex"}),
        ("metadata.jsonl", {"image": "./01.png", "text": "a picture of Miavex"}),
        ("metadata.csv", 'file_name,text\n01.png,"a picture of Miavex"\n'),
        ("metadata.json", {"01.png": "a picture of Miavex"}),
        ("metadata.json", {"01": {"caption": "a picture of Miavex"}}),
        ("metadata.json", [{"file_name": "01.png", "text": "a picture of Miavex"}]),
        ("meta_lat.json", {"01": {"tags": "a picture of Miavex", "train_resolution": [64, 64]}}),
        ("captions.json", {"01.png": "a picture of Miavex", "elsewhere.png": "x"}),
        ("metdata.jsonl", {"file_name": "01.png", "text": "a picture of Miavex"}),
    ],
)
def test_captions_are_read_as_other_trainers_write_them(
    tmp_path: Path, file: str, content: object
) -> None:
    draw(tmp_path, "01.png", "02.png")
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / file).write_text(text)
    character = load(tmp_path, instance_prompt="Miavex")
    assert character.spec.captions == ("a picture of Miavex", "Miavex")
    assert character.found.captions == {"01.png": "a picture of Miavex"}
    assert character.found.left_out == ()


def test_tags_stand_after_the_caption(tmp_path: Path) -> None:
    draw(tmp_path, "01.png", "02.png")
    rows = {"01": {"caption": "Miavex", "tags": "a, b"}, "02": {"caption": "Miavex", "tags": ["c"]}}
    (tmp_path / "meta_cap.json").write_text(json.dumps(rows))
    assert load(tmp_path).spec.captions == ("Miavex, a, b", "Miavex, c")


def test_columns_that_hold_no_caption_are_named(tmp_path: Path) -> None:
    draw(tmp_path, "01.png")
    file = tmp_path / "metadata.jsonl"
    file.write_text('{"file_name": "01.png", "label": "Miavex"}')
    said = message_of(tmp_path)
    assert "line 1: has no caption, its columns are file_name, label: call the one with the" in said
    file.write_text('{"file_name": "01.png", "text": "Miavex"}')  # as it says
    assert load(tmp_path).found.captions == {"01.png": "Miavex"}
    file.write_text('{"name": "01.png", "text": "Miavex"}')
    assert "names no image, its columns are name, text: call the one with the file's" in message_of(
        tmp_path
    )


@pytest.mark.parametrize("name", ["01.txt.txt", "01 .txt", "01_caption.txt", "O1.caption"])
def test_a_name_that_is_nearly_an_image_s_is_told(tmp_path: Path, name: str) -> None:
    draw(tmp_path, "01.png", "02.png")
    (tmp_path / "02.txt").write_text("Miavex")
    (tmp_path / name).write_text("Miavex sits")
    said = message_of(tmp_path)
    remedy = said.partition("rename it ")[2].partition(" if it is that of 01.png")[0]
    (tmp_path / name).rename(tmp_path / remedy)
    assert load(tmp_path).spec.captions == ("Miavex sits", "Miavex")


def test_a_mistyped_name_of_a_caption_is_told(tmp_path: Path) -> None:
    draw(tmp_path, "mia_sitting.png", "mia_jumping.png")
    (tmp_path / "mia_jumping.txt").write_text("Miavex jumping")
    (tmp_path / "mia_siting.txt").write_text("Miavex sitting")
    said = message_of(tmp_path)
    assert "mia_siting.txt: is a caption without an image: rename it mia_sitting.txt if" in said
    (tmp_path / "mia_siting.txt").rename(tmp_path / "mia_sitting.txt")
    assert load(tmp_path).spec.captions == ("Miavex jumping", "Miavex sitting")


def test_two_captions_of_one_image_must_agree(tmp_path: Path) -> None:
    draw(tmp_path, "01.png")
    (tmp_path / "01.txt").write_text("Miavex, 1girl")
    (tmp_path / "01.caption").write_text("a girl, Miavex")
    assert "01.png: has a caption in 01.caption and another in 01.txt: keep one" in message_of(
        tmp_path
    )
    (tmp_path / "01.caption").write_text("Miavex, 1girl")
    assert load(tmp_path).spec.captions == ("Miavex, 1girl",)


def test_captions_of_masks_are_no_captions(tmp_path: Path) -> None:
    draw(tmp_path, "01.png", "01_mask.png")
    (tmp_path / "01_mask.txt").write_text("black and white")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "01_mask.png", "text": "black"}')
    character = load(tmp_path)
    assert character.found.captions == {}
    assert set(character.found.left_out) == {"01_mask.txt", "metadata.jsonl"}


def test_names_are_the_same_however_their_letters_are_written(tmp_path: Path) -> None:
    whole, parts = (unicodedata.normalize(form, "Éva") for form in ("NFC", "NFD"))
    assert whole != parts
    draw(tmp_path, f"{parts}.png", f"{parts}2.png")
    (tmp_path / f"{whole}.txt").write_text("Miavex sits")
    row = {"file_name": f"{whole}2.png", "text": "Miavex jumps"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row))
    captions = {f"{parts}.png": "Miavex sits", f"{parts}2.png": "Miavex jumps"}
    assert load(tmp_path).found.captions == captions


# -- sd-scripts' folders ---------------------------------------------------------------------------


def test_the_folder_with_repeats_is_read(tmp_path: Path) -> None:
    draw(tmp_path, "10_sks girl/01.png", "10_sks girl/01_mask.png", "10_sks girl/02.png")
    (tmp_path / "10_sks girl" / "01.caption").write_text("Miavex")
    row = {"file_name": "10_sks girl/02.png", "text": "Miavex sits"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row))
    character = load(tmp_path)
    assert names(character) == ["01.png", "02.png"]
    assert character.spec.captions == ("Miavex", "Miavex sits")
    assert character.found.folder == "10_sks girl"
    assert character.found.left_out == ()
    inside = load(tmp_path / "10_sks girl")
    assert inside.spec.digests == character.spec.digests
    assert inside.found.folder == ""


@pytest.mark.parametrize("folders", [("5_mia hat", "10_mia"), ("train",), ("a b", "c")])
def test_drawings_in_folders_of_it_are_told(tmp_path: Path, folders: tuple[str, ...]) -> None:
    for folder in folders:
        draw(tmp_path, f"{folder}/01.png")
    with pytest.raises(CharacterError, match=rf"its drawings are in {folders[0]}") as caught:
        sweep_of(tmp_path / "runs", *words_of(tmp_path))
    (word,) = shlex.split(str(caught.value).partition("as in ")[2])
    sweep = sweep_of(tmp_path / "runs", *words_of(tmp_path), word)
    assert [path.parent.name for path in sweep.character.paths] == [folders[0]]


def test_a_folder_beside_drawings_is_left_out(tmp_path: Path) -> None:
    draw(tmp_path, "01.png", "10_mia/02.png")
    character = load(tmp_path)
    assert names(character) == ["01.png"]
    assert character.found.left_out == ("10_mia/",)
    assert contents_of(tmp_path).repeats == 0


# -- the identifier --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["lora", "textual_inversion"])
def test_captions_without_the_identifier_are_refused(tmp_path: Path, method: str) -> None:
    folder = tmp_path / "drawings"
    draw(folder, "01.png", "02.png")
    for name in ("01", "02"):
        (folder / f"{name}.txt").write_text("an animal, miavexed")
    words = words_of(folder, f"method={method}", "method.prompts=captions")
    with pytest.raises(ConfigError, match="no caption holds the identifier Miavex, so nothing"):
        sweep_of(tmp_path, *words)
    assert sweep_of(tmp_path, *words, "method.prompts=instance").cells
    (folder / "01.txt").write_text("MIAVEX, sitting")
    assert sweep_of(tmp_path, *words).cells


def test_an_identifier_is_compared_with_words(tmp_path: Path) -> None:
    draw(tmp_path / "drawings", "01.png")
    words = [*words_of(tmp_path / "drawings"), "character.identifier=Ani"]
    assert sweep_of(tmp_path, *words, "character.class_noun=animal").cells
    with pytest.raises(CharacterError, match='class_prompt "a picture of an Ani" contains the'):
        sweep_of(tmp_path, *words, "character.class_prompt=a picture of an Ani")
    with pytest.raises(ConfigError, match="should contain the identifier Ani"):
        sweep_of(tmp_path, *words, "character.instance_prompt=a picture of an animal")
