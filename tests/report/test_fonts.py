"""Letters that DejaVu Sans lacks: set in an installed font that has them, else said once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from helpers.fake_sweep import FakeSweep, scored
from PIL import Image

from charsweep.report.figures import fonts
from charsweep.report.figures.contact_sheets import ContactSheet, Tile
from charsweep.report.figures.sheet_png import draw_sheet, wrap
from charsweep.report.pages import typesetting

KANA = "ミアの"


def make_font(path: Path, letters: str) -> Path:
    """A font in which each of these letters is a full square."""
    names = {letter: f"square{index}" for index, letter in enumerate(letters)}
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 1000), (1000, 1000), (1000, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square, order = pen.glyph(), [".notdef", *names.values()]
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(order)
    font.setupCharacterMap({ord(letter): name for letter, name in names.items()})
    font.setupGlyf(dict.fromkeys(order, square))
    font.setupHorizontalMetrics(dict.fromkeys(order, (1000, 0)))
    font.setupHorizontalHeader(ascent=1000, descent=0)
    font.setupNameTable({"familyName": "Squares", "styleName": "Regular", "psName": "Squares"})
    font.setupOS2()
    font.setupPost()
    font.save(path)
    return path


@pytest.fixture
def no_font(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(fonts, "installed", tuple)
    fonts.fallbacks.cache_clear()
    yield
    fonts.fallbacks.cache_clear()


@pytest.fixture
def font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The one font that is installed."""
    (tmp_path / "fonts").mkdir()
    path = make_font(tmp_path / "fonts" / "squares.ttf", KANA)
    monkeypatch.setattr(fonts, "installed", lambda: (path,))
    fonts.fallbacks.cache_clear()
    yield path
    fonts.fallbacks.cache_clear()


def test_which_fonts_a_text_needs(font: Path) -> None:
    assert fonts.fonts_for("Привет, Éva") == (fonts.OWN,)
    assert fonts.fonts_for(f"a {KANA}") == (fonts.OWN, font)
    assert fonts.lacking(f"{KANA}Привет語") == "語"


@pytest.mark.usefixtures("no_font")
def test_what_no_font_has_is_named() -> None:
    assert fonts.lacking(f"Mia {KANA}\n") == "".join(sorted(KANA))


def sheet() -> Image.Image:
    """A contact sheet whose one heading is two kana, without images."""
    tiles = ((Tile(None, " "),),)
    return draw_sheet(ContactSheet("s", "", ("ミア",), ("",), tiles), 128, title=False)


def dark(image: Image.Image) -> int:
    """How many pixels of its first lines are ink."""
    above = image.convert("L").crop((0, 0, image.width, image.height - 136))
    return sum(above.histogram()[:128])


def test_a_contact_sheet_is_written_in_it(font: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squares = dark(sheet())
    monkeypatch.setattr(fonts, "installed", tuple)
    fonts.fallbacks.cache_clear()
    boxes = dark(sheet())
    assert squares > 2 * boxes > 0
    assert 300 < squares < 450  # two squares of 13 pixels


def test_long_texts_without_blanks_are_cut_by_their_width() -> None:
    assert wrap("a picture of a girl", 200, 13, 9) == ["a picture of a girl"]
    assert [len(line) for line in wrap("の" * 30, 200, 13, 9)] == [13, 13, 4]
    assert wrap("の" * 30, 200, 13, 1)[0].endswith("…")


def report(tmp_path: Path) -> tuple[FakeSweep, str]:
    """A report on values in Japanese, with its PDF."""
    axis = "sampler.negative_prompt"
    sweep = FakeSweep(tmp_path, {axis: ["ミア", "アミ"]}, question="ミアの?")
    for value, score in (("ミア", 0.4), ("アミ", 0.5)):
        sweep.add(**{axis: value}, scores=scored(score))
    return sweep, sweep.report(pdf=True)


def test_a_report_is_written_in_it(
    font: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, page = report(tmp_path)
    plot = (sweep.folder / "report/plots/pareto.svg").read_text()
    assert plot.count('id="Squares-') == 2  # the glyphs of ミ and ア
    assert "No font here" not in page + capsys.readouterr().out
    assert b"Squares" in (sweep.folder / "report/report.pdf").read_bytes()


@pytest.mark.usefixtures("no_font")
def test_without_a_font_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(typesetting, "missing_letters", lambda *_: "ミアの")
    _, page = report(tmp_path)
    said = capsys.readouterr().out
    assert said.count("No font here has") == page.count("No font here has") == 1
    assert "No font here has アミの, for which boxes stand in" in said
    assert "in plots and contact sheets and report.pdf: install one" in said


def test_the_pdf_finds_the_font(font: Path) -> None:
    assert typesetting.missing_letters("ミ", [font.parent]) == ""
