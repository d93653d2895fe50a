"""The lint of a data set: what it says of spoilt ones, and that good ones are left in peace."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.small import loaded_after, sweep_of
from PIL import Image, ImageDraw, ImageOps

from charsweep.character.lint import lint_drawings, shown_names, thumbnail_of
from charsweep.core.store import Store
from charsweep.models.embedded import UNICORN_GIRL
from charsweep.models.vocabulary import common_words
from charsweep.plan import plan_work
from charsweep.plan.describe import describe_plan, lint, reckon

CAPTION = "a picture of UnicornGirl"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(UNICORN_GIRL, tmp_path / "drawings", ignore=shutil.ignore_patterns("masks"))
    return tmp_path / "drawings"


def said(folder: Path, *more: str) -> list[str]:
    words = ["character=folder", f"character.images={folder}", "character.identifier=UnicornGirl",
             "character.class_noun=girl", "method=lora", *more]  # fmt: skip
    return list(lint(sweep_of(folder.parent, *words)))


def plan_of(root: Path, *words: str) -> str:
    sweep, store = sweep_of(root, *words), Store(root)
    return describe_plan(sweep, reckon(sweep, store, plan_work(sweep.cells, store)))


def test_the_shipped_character_is_left_in_peace(tmp_path: Path) -> None:
    for method in ("lora", "gan"):
        assert list(lint(sweep_of(tmp_path, f"method={method}"))) == []
    lines = plan_of(tmp_path).splitlines()
    assert "  character     6 drawings, 6 captions, 6 masks (not used)" in lines


def test_the_plan_says_what_was_found(folder: Path) -> None:
    (folder / "06.txt").unlink()
    (folder / "notes.md").touch()
    shutil.copy(folder / "01.png", folder / "01_mask.png")
    words = ["character=folder", f"character.images={folder}", "character.identifier=UnicornGirl"]
    line = "6 drawings, 5 captions, 1 mask (not used); left out: notes.md"
    assert f"  character     {line}" in plan_of(folder.parent, *words).splitlines()
    assert "4 drawings, 4 captions, 1 mask (not used), 2 held out" in plan_of(
        folder.parent, *words, "character.held_out=2"
    )
    folder.rename(folder.parent / "10_unicorn girl")
    words[1] = f"character.images={folder.parent}"
    assert "0 masks; of 10_unicorn girl, whose repeats and words are not used" in plan_of(
        folder.parent / "runs", *words
    ).replace("1 mask (not used)", "0 masks")


def as_jpeg(image: Image.Image, path: Path) -> None:
    image.convert("RGB").save(path.with_suffix(".jpg"), quality=60)


def smaller(image: Image.Image, path: Path) -> None:
    image.resize((300, 300)).save(path)


def darker(image: Image.Image, path: Path) -> None:
    image.convert("RGB").point(lambda value: int(value * 0.9)).save(path)


@pytest.mark.parametrize("change", [as_jpeg, smaller, darker])
def test_near_identical_drawings_are_pointed_out(
    folder: Path, change: Callable[[Image.Image, Path], None]
) -> None:
    change(Image.open(folder / "02.png"), folder / "copy.png")
    (line,) = said(folder, "method=dreambooth_lora")
    assert re.match(r"02\.png and copy\.(png|jpg) are nearly the same: keep one", line)
    (folder / "02.png").unlink()  # as it says
    (folder / "02.txt").unlink()
    assert said(folder, "method=dreambooth_lora") == []


def test_mirrored_and_held_out_copies_are_pointed_out(folder: Path) -> None:
    image = Image.open(folder / "02.png").convert("RGB")
    ImageOps.mirror(image).save(folder / "07.png")
    (line,) = said(folder, "method=dreambooth_lora")
    assert line.startswith("02.png and 07.png are nearly the same, mirrored: keep one")
    image.save(folder / "07.png")
    (line,) = said(folder, "method=dreambooth_lora", "character.held_out=1")
    assert line.endswith("and the second is held out: hold out another drawing")


def test_captions_are_read_for_what_spoils_them(folder: Path) -> None:
    (folder / "01.txt").write_text("a girl standing, signature")
    (folder / "02.txt").write_text(f"{CAPTION} with rainbow hair")
    (folder / "03.txt").write_text(f"{CAPTION}, long hair, purple dress")
    lines = said(folder)
    assert lines == [
        "01.png: the caption lacks UnicornGirl: write it in",
        "captions say hair (2), dress (1) of 6: what is said is not tied to UnicornGirl; take out "
        "the looks that never change",
        '01.png: the caption says "signature", which is learned too: paint it over, or crop it '
        "away",
    ]
    assert said(folder, "method=dreambooth_lora") == []  # which reads no captions


def test_one_pose_only_is_told_where_captions_tell_it(folder: Path) -> None:
    for number in range(1, 7):
        (folder / f"0{number}.txt").write_text(f"{CAPTION} standing on the beach")
    lines = said(folder)
    assert [line.partition(", so")[0] for line in lines] == [
        'every caption says "standing"', 'every caption says "on the beach"',
    ]  # fmt: skip
    assert lines[0].endswith("add drawings of another position")
    (folder / "06.txt").write_text(f"{CAPTION} sitting")
    assert said(folder) == []


@pytest.mark.parametrize("identifier", ["Girlish", "hair", "Sitting Dress"])
def test_an_identifier_that_the_base_knows_is_told(tmp_path: Path, identifier: str) -> None:
    words = [f"character.identifier={identifier}", "method=dreambooth_lora"]
    lines = list(lint(sweep_of(tmp_path, *words)))
    if identifier == "Girlish":
        assert lines == []
        return
    (line,) = lines
    assert line.startswith(f"identifier {identifier}: the base knows it as a word")
    remedy = line.rpartition("as in ")[2]
    assert list(lint(sweep_of(tmp_path, *words, remedy))) == []


def test_clip_s_own_vocabulary_is_known_without_a_tokenizer(tmp_path: Path) -> None:
    known = common_words(tmp_path)
    assert {"girl", "mia", "luna", "unicorn"} <= known
    assert not {"sks", "ohwx", "miavex", "zwx"} & known


def test_sizes_far_below_the_resolution_are_told(folder: Path) -> None:
    Image.open(folder / "03.png").resize((100, 120)).save(folder / "03.png")
    (line,) = said(folder, "method=dreambooth_lora", "resolution=512")
    assert line == (
        "03.png: enlarged to 512 pixels from 100, so blurred: scan larger, or set resolution=64"
    )
    assert said(folder, "method=dreambooth_lora", "resolution=512", "resolution=64") == []


def scene(size: tuple[int, int]) -> Image.Image:
    image = Image.effect_noise(size, 120).convert("RGB")
    return Image.blend(image, Image.new("RGB", size, (200, 120, 60)), 0.5)


def of(image: Image.Image) -> list[str]:
    return list(lint_drawings([thumbnail_of("a.png", image)], [], 64))


@pytest.mark.parametrize("sides", [(40, 40), (40, 0), (0, 40)])
@pytest.mark.parametrize("colour", ["white", "black", (90, 10, 10)])
def test_borders_are_told(sides: tuple[int, int], colour: str | tuple[int, int, int]) -> None:
    picture = scene((600, 500))
    size = (600 + 2 * sides[0], 500 + 2 * sides[1])
    image = Image.new("RGB", size, colour)
    image.paste(picture, sides)
    assert of(image) == ["a.png: a border, which is learned too: crop it away"]
    assert of(image.crop((*sides, size[0] - sides[0], size[1] - sides[1]))) == []


def test_a_figure_on_plain_ground_has_no_border() -> None:
    image = Image.new("RGB", (600, 600), "white")
    pen = ImageDraw.Draw(image)
    pen.ellipse((200, 80, 400, 280), fill="orange")
    pen.polygon([(300, 250), (150, 550), (450, 550)], fill="purple")
    assert of(image) == []
    pen.rectangle((0, 500, 600, 600), fill="green")  # a ground
    assert of(image) == []
    assert of(Image.new("RGB", (600, 600), "white")) == []


def test_a_mask_of_an_unknown_name_is_told() -> None:
    mask = Image.new("L", (500, 500))
    ImageDraw.Draw(mask).ellipse((100, 50, 400, 450), fill=255)
    images = [("a.png", scene((500, 500))), ("m.png", mask.convert("RGB"))]
    lines = list(lint_drawings([thumbnail_of(*one) for one in images], [], 64))
    assert lines == ["m.png: black and white alone; if it is a mask, call it NAME-mask.png after "
                     "its drawing"]  # fmt: skip


def test_names_are_few() -> None:
    assert shown_names(["a"]) == "a"
    assert shown_names(["a", "b"]) == "a and b"
    assert shown_names(["a", "b", "c"]) == "a, b and c"
    assert shown_names(["a", "b", "c", "d"]) == "a, b and 2 more"


def test_the_lint_costs_little(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "method=lora")
    began = time.process_time()
    list(lint(sweep))
    assert time.process_time() - began < 0.2
    code = "from charsweep.config import load_sweep\nfrom charsweep.plan.describe import lint\n"
    assert "torch" not in loaded_after(f"{code}list(lint(load_sweep(['root={tmp_path}'])))")
