"""Pictures that are not square: drawn by the embedded bases, stored, planned and shown."""

from __future__ import annotations

import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from helpers.adapters import base_of
from helpers.small import execute, pictures, sweep_of
from PIL import Image

from charsweep.character import middle_of
from charsweep.core.errors import ConfigError
from charsweep.core.keys import canonical
from charsweep.core.specs import ImageSetSpec, image_set_key, revived
from charsweep.core.store import Store
from charsweep.core.store.files import write_json
from charsweep.core.store.store import image_manifest
from charsweep.evaluate.sample import Asked, paint_with
from charsweep.models.embedded import FOLDER
from charsweep.plan import Speeds, plan_work
from charsweep.plan.describe import reckon
from charsweep.plan.memory import Place, Work, name_of, needs_of
from charsweep.track.pictures import contact_sheet, cut, exam_rows, strip

PROMPTS = "['a picture of {subject} jumping','a picture of {subject} sitting','{subject} at night']"


def part(size: str) -> str:
    """The exam's part `elsewhere`, with pictures of that size."""
    return f"exam.parts={{elsewhere:{{prompts:{PROMPTS},seeds:[0],size:{size}}}}}"


WIDE, SQUARE = part("[1.5,1]"), part("null")


@pytest.mark.parametrize("base", ["sd15", "sdxl"])
def test_a_wide_picture_does_not_depend_on_its_batch(base: str, tmp_path: Path) -> None:
    square = sweep_of(tmp_path, f"method.base={base}").cells[0].images
    paint, spec = paint_with(base_of(base)), replace(square, size=(96, 64))
    one, two = Asked("a girl and a bear", 0, 0), Asked("a bear", 1, 1)
    alone, among = paint(spec, [one] * 4), paint(spec, [two, two, one, two])
    assert alone.shape == (4, 64, 96, 3)
    assert alone[0].tobytes() == among[2].tobytes()
    assert alone[0].tobytes() != among[0].tobytes()


def test_adapters_draw_wide_pictures_together_as_alone(tmp_path: Path) -> None:
    words = ["train_steps=1", "sampler.batch_width=8", "metric=[drift,score]", WIDE]
    sweep, store, results = execute(tmp_path, "+axes.lr=[1e-1,1e-2]", *words)
    assert {result.state for result in results} == {"finished"}
    first, second = (store.images(cell.parts[0].images) for cell in sweep.cells)
    shown = pictures(second)
    sizes = {Image.open(BytesIO(data)).size for data in shown.values()}
    assert (len(shown), sizes) == (3, {(96, 64)})
    assert shown != pictures(first)
    shutil.rmtree(second)
    execute(tmp_path, "lr=1e-2", *words)
    assert pictures(second) == shown


def test_a_size_is_part_of_a_key_where_there_is_one(tmp_path: Path) -> None:
    square, wide = (sweep_of(tmp_path, words).cells[0].parts[0].images for words in (SQUARE, WIDE))
    assert wide == replace(square, size=(96, 64))
    assert wide.key != square.key
    assert "size" not in canonical(square)
    again = revived(ImageSetSpec, canonical(wide))
    assert (again.size, again.key) == ((96, 64), wide.key)
    assert image_set_key(canonical(wide)) == wide.key
    assert "96x64px" in wide.slug
    as_square = sweep_of(tmp_path, part("[1,1]")).cells[0].parts[0].images
    assert as_square == square


@pytest.mark.parametrize(
    ("size", "pixels"),
    [("[1.5,1]", (96, 64)), ("[1,2]", (64, 128)), ("[1.3,0.3]", (80, 16)), ("[4,0.25]", (256, 16))],
)
def test_sizes_are_multiples_of_the_bases_unit(
    size: str, pixels: tuple[int, int], tmp_path: Path
) -> None:
    assert sweep_of(tmp_path, part(size)).cells[0].parts[0].images.pixels == pixels


@pytest.mark.parametrize("size", ["[1.5]", "[1.5,1,1]", "[0.1,1]", "[1,5]", "[wide,1]", "1.5"])
def test_a_size_that_is_none_is_said_once(size: str, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"exam\.parts\.elsewhere\.size=.* as in \[1\.5,1\]"
    ) as told:
        sweep_of(tmp_path, part(size))
    assert len(str(told.value).splitlines()) == 1


def test_a_wide_picture_costs_what_its_pixels_do(tmp_path: Path) -> None:
    seconds, drawn, passing, names = [], [], [], []
    for words in (SQUARE, WIDE):
        sweep, store = sweep_of(tmp_path, words), Store(tmp_path)
        plan = plan_work(sweep.cells, store)
        numbers = reckon(sweep, store, plan)
        images = sweep.cells[0].parts[0].images
        seconds.append(Speeds(store).call(images))
        drawn.append(numbers["bytes"])
        (need,) = needs_of([Work(images)], Place(sweep.bases, Speeds(store), None))
        passing.append(need.passing)
        names.append(name_of(need.work, "cuda"))
    assert seconds[1] == pytest.approx(1.5 * seconds[0])
    assert passing[1] == pytest.approx(1.5 * passing[0], rel=1e-6)
    assert drawn[1] - drawn[0] == 2 * 3 * 32 * 64  # by what is taught and by the base, three each
    assert names[0] != names[1]


def test_a_true_picture_keeps_its_shape() -> None:
    """As it is drawn: whole factors are means over blocks."""
    with Image.open(FOLDER / "together_exam" / "00.png") as image:
        wide = image.convert("RGB")
    assert wide.size == (768, 512)
    assert middle_of(wide, (96, 64)).tobytes() == wide.reduce(8).tobytes()
    assert middle_of(wide, (64, 64)).size == (64, 64)


def test_sheets_of_wide_pictures(tmp_path: Path) -> None:
    spec, folder = sweep_of(tmp_path, WIDE).cells[0].parts[0].images, tmp_path / "images"
    folder.mkdir()
    manifest = image_manifest(spec, 1.0)
    write_json(folder / "images.json", manifest)
    for number, entry in enumerate(manifest["files"]):
        Image.radial_gradient("L").resize((96, 64)).rotate(number).convert("RGB").save(
            folder / entry["file"]
        )
    sheet, row = contact_sheet(folder), strip(folder)
    assert sheet is not None
    assert row is not None
    assert (sheet.size, row.size) == ((96, 3 * 64), (3 * 96, 64))
    rows = {}
    for number, (_, one) in enumerate(exam_rows(folder)):
        one.save(tmp_path / f"{number}.png")
        rows[number] = tmp_path / f"{number}.png"
    (tmp_path / "cut").mkdir()
    cut(rows, manifest, tmp_path / "cut")
    for name in pictures(folder):
        assert Image.open(tmp_path / "cut" / name).tobytes() == Image.open(folder / name).tobytes()
