"""A folder of photographs of every size, orientation and mode trains, and the report shows how."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.photos import BLUE, RED, SHAPES, make_photos
from helpers.small import loaded_after, small
from PIL import Image

from charsweep.actions.run import run
from charsweep.character.framing import bucket_of
from charsweep.config import load_sweep
from charsweep.core.store import Store
from charsweep.engine.local import LocalEngine
from charsweep.engine.progress import ProgressView
from charsweep.plan import plan_work
from charsweep.report.figures.training_images import training_sheets, ways_of
from charsweep.results import load_record

QUIET = ["runtime.tracking=false", "runtime.energy=false", "metric=[score]"]


@pytest.mark.slow
def test_photographs_train_and_are_cached_and_shown_as_the_model_saw_them(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "mia")
    (tmp_path / "mia" / "2-portrait.txt").write_text("a portrait of Zwx")
    words = [*photos, "+axes.framing=[buckets,random]", "method=lora", "flip=true", "train_steps=3"]
    page = run(load_sweep(small(tmp_path, *words, "character.masks=alpha", *QUIET)))

    report = page.parent
    sheets = sorted(path.name for path in (report / "contact_sheets").glob("training-*.png"))
    assert sheets == ["training-1-lora.png", "training-2-lora.png"]
    html = page.read_text()
    assert "As lora saw them: buckets of about 64 × 64 pixels" in html
    assert "As lora saw them: windows of 64 × 64 pixels" in html
    assert "a portrait of Zwx (48\u00a0×\u00a080)" in html
    assert re.search(r"What is veiled counts 0\.1 times as much as the rest\.", html)
    for number, (name, size) in enumerate(SHAPES.items(), start=1):
        with Image.open(report / "training" / f"1-{number:02d}-seen.png") as seen:
            width, height = bucket_of(size, 64)
            assert seen.width / seen.height == width / height  # upright, whole
            if name not in ("4-cut-out.png", "6-scan.png"):
                corners = [(3, 3), (seen.width - 4, seen.height - 4)]
                colours = [seen.getpixel(corner) for corner in corners]
                assert colours == [pytest.approx(RED, abs=40), pytest.approx(BLUE, abs=40)]


def test_the_caches_hold_each_photograph_at_its_bucket_and_its_mirror(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "mia")
    sweep = load_sweep(small(tmp_path, *photos, "framing=buckets", "flip=true", "train_steps=1"))
    with ProgressView() as view:
        engine = LocalEngine(sweep, Store(tmp_path), view)
        list(engine.execute(plan_work(sweep.cells, Store(tmp_path))))
    (base,) = engine.image_sets.bases.loaded.values()
    shapes = sorted(tuple(mean.shape[-2:]) for mean, _ in base._latents.values())
    buckets = [bucket_of(size, 64) for size in SHAPES.values()]
    assert shapes == sorted([(height // 8, width // 8) for width, height in buckets] * 2)


def test_a_photograph_that_has_changed_since_is_not_shown_as_seen(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "mia", ("1-landscape.jpg", "2-portrait.png"))
    page = run(load_sweep(small(tmp_path, *photos, "train_steps=1", *QUIET)))
    assert "As dreambooth_lora saw them: the middle square, 64 × 64 pixels" in page.read_text()
    assert "\n\n\n" not in (page.parent / "verdicts.md").read_text()
    (tmp_path / "mia" / "1-landscape.jpg").write_bytes(b"something else")
    record = load_record(page.parents[1], Store(tmp_path).folder)
    (way,) = ways_of(record)
    assert way.captions == ("a picture of Zwx",) * 2
    (sheet,) = training_sheets(record, tmp_path / "again")
    assert [[tile.path is not None for tile in row] for row in sheet.tiles] == [
        [False, False],
        [True, True],
    ]
    (tmp_path / "mia" / "2-portrait.png").unlink()
    assert training_sheets(record, tmp_path / "gone") == ()


def test_the_report_needs_no_torch_for_this() -> None:
    assert "torch" not in loaded_after("import charsweep.report.figures.training_images")
