"""The report as a paper and in Markdown: whole pages, numbered figures, text as it was written."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest
from helpers.fake_sweep import EVIL, FakeSweep, scored
from helpers.variants import slow

from charsweep.core.errors import StoreError
from charsweep.core.system.console import command
from charsweep.report import write_report
from charsweep.report.content import build_content
from charsweep.report.pages import typesetting
from charsweep.report.pages.report_pdf import write_pdf

LONG = "a question that is so long that it cannot stand in one line of any paper " * 4
WORD = "x" * 500
HOSTILE = "#let $x^2$ \\ [*] _a_ @ref <b>bold</b> `c` // /* {} ~ \u202f 😀 שלום"

TYPED = [
    "+sweep=fake",
    'question=What\'s best, and how `much` does it cost at $5 a "night"?',
    "+axes.lr=[1e-1,1e-2]",
    "root=/a folder/of {mine}",
    *(f"story.seeds=[{n}]" for n in range(9)),
]

needs_poppler = pytest.mark.skipif(
    not shutil.which("pdftotext"), reason="needs poppler's pdftotext and pdftoppm"
)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> FakeSweep:
    """A grid with a diverged and a failed cell, printed once for all tests here."""
    sweep = FakeSweep(tmp_path_factory.mktemp("printed"), {"lr": [0.1, 0.01], "method": ["a", "b"]})
    sweep.sweep["question"] = LONG + EVIL
    sweep.sweep["command"] = command(TYPED)
    sweep.add("diverged", lr=0.1, method="a")
    sweep.add("failed", lr=0.1, method="b")["error"] = f"{HOSTILE} {WORD}"
    sweep.add(lr=0.01, method="a", scores=scored(0.8123))
    sweep.add(lr=0.01, method="b", scores=scored(0.6))
    sweep.report(pdf=True)
    return sweep


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> FakeSweep:
    """As large as the published study: five methods, 65 cells, four parts, two seeds of some."""
    methods = ["dreambooth_lora", "dreambooth", "lora", "gan", "diffusion"]
    rates, steps = [10.0**-n for n in range(1, 8)], list(range(100, 2001, 100))
    axes = {"method": methods, "lr": rates, "train_steps": steps, "inference_steps": [10, 20, 50]}
    sweep = FakeSweep(tmp_path_factory.mktemp("study"), axes, name="study")
    sweep.sweep["question"] = "Which method, how many steps, which rate?"
    sweep.sweep["metrics"] = ["dino", "clip_t", "quality_ratio"]  # fewer plots: these are slow
    less = {"scores": dict.fromkeys(["clip_i", "diversity", "copy"])}
    lora = {"method": "dreambooth_lora", **less}
    parts = {
        "rates": [sweep.add(lr=lr, train_steps=1000, **lora) for lr in rates],
        "steps": [sweep.add(train_steps=n, **lora) for n in steps],
        "inference": [sweep.add(inference_steps=n, **lora) for n in (10, 20)],
        "methods": [
            sweep.add(lr=lr, train_steps=n, method=method, **less)
            for method in methods
            for lr in rates[2:5]
            for n in (100, 200)
        ],
    }
    sweep.sweep["parts"] = {
        name: {"question": f"And the {name}?", "axes": axes, "cells": [one["cell"] for one in own]}
        for name, own in parts.items()
    }
    sweep.report(pdf=True)
    return sweep


def pdf_of(sweep: FakeSweep) -> Path:
    return sweep.folder / "report" / "report.pdf"


def pages_of(sweep: FakeSweep) -> list[str]:
    """The text of each page, every stretch of white space one space."""
    command = ["pdftotext", str(pdf_of(sweep)), "-"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [" ".join(page.split()) for page in text.split("\f")[:-1]]


def test_it_is_a_pdf_of_a4_pages_with_pictures(printed: FakeSweep) -> None:
    data = pdf_of(printed).read_bytes()
    assert data.startswith(b"%PDF-")
    boxes = re.findall(rb"/MediaBox ?\[([^\]]+)\]", data)
    sizes = {tuple(round(float(side)) for side in box.split()) for box in boxes}
    assert sizes == {(0, 0, 595, 842)}
    assert len(boxes) > 3
    assert b"/Type0" in data  # text that can be searched, not outlines
    assert data.count(b"/Subtype/Image") >= 3


def test_the_same_sweep_prints_the_same_bytes(printed: FakeSweep) -> None:
    before = pdf_of(printed).read_bytes()
    printed.report(pdf=True)
    assert pdf_of(printed).read_bytes() == before


@needs_poppler
def test_its_text_holds_the_verdict_and_the_figures(printed: FakeSweep) -> None:
    text = " ".join(pages_of(printed))
    for wanted in ("Abstract", "is recommended", "0.812", "How to reproduce it", "References"):
        assert wanted in text
    for wanted in ("diverged", "the loss stopped being finite at step 23", "not found"):
        assert wanted in text
    assert "python -m charsweep +sweep=fake" in text


def pasted(text: str) -> list[str]:
    """The words that a shell reads in the first command of a text."""
    found = re.search(r"python -m charsweep ((?:.*\\\n)*.*)", text)
    assert found, text
    shell = ["bash", "-c", f"printf '%s\\0' {found[1]}"]
    return subprocess.run(shell, capture_output=True, check=True).stdout.decode().split("\0")[:-1]


@needs_poppler
def test_a_command_pastes_from_the_paper(printed: FakeSweep) -> None:
    shell = ["pdftotext", "-layout", str(pdf_of(printed)), "-"]
    text = subprocess.run(shell, capture_output=True, text=True, check=True).stdout
    assert pasted(text[text.index("How to reproduce it") :]) == TYPED


def test_a_command_pastes_from_page_and_verdicts(printed: FakeSweep) -> None:
    folder = printed.folder / "report"
    page = (folder / "index.html").read_text("utf-8")
    assert (
        pasted(
            html.unescape(page[page.index("To reproduce or resume it") :].partition("</pre>")[0])
        )
        == TYPED
    )
    text = (folder / "verdicts.md").read_text("utf-8")
    assert pasted(text[text.rindex("python -m charsweep +sweep=fake") :]) == TYPED


@needs_poppler
def test_text_from_people_stands_as_it_was_written(printed: FakeSweep) -> None:
    """Nothing is read as markup, and what is too long for a line is broken, not lost."""
    text = "".join("".join(pages_of(printed)).split())
    assert EVIL in text
    assert "".join(HOSTILE.split("שלום")[0].split()) in text
    assert "שלום" in text or "םולש" in text
    assert WORD[:400] in text


@needs_poppler
def test_a_long_word_stays_on_the_paper(printed: FakeSweep) -> None:
    command = ["pdftotext", "-bbox", str(pdf_of(printed)), "-"]
    boxes = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    ends = [float(end) for end in re.findall(r'<word [^>]*xMax="([^"]+)"', boxes)]
    assert max(ends) < 595 - 50


@pytest.mark.slow
@needs_poppler
def test_the_main_text_of_a_large_study_is_under_12_pages(study: FakeSweep) -> None:
    pages = pages_of(study)
    appendix = next(at for at, page in enumerate(pages) if "A All cells" in page)
    assert appendix < 12
    main = " ".join(pages[: appendix + 1])  # the appendix may begin below the references
    assert "References" in main
    for name in ("rates", "steps", "inference", "methods"):
        assert f"And the {name}?" in main
    assert pdf_of(study).stat().st_size < 5e6


@needs_poppler
@pytest.mark.parametrize("which", ["printed", slow("study")])
def test_every_figure_and_table_is_numbered_and_referred_to(
    which: str, request: pytest.FixtureRequest
) -> None:
    text = " ".join(pages_of(request.getfixturevalue(which)))
    for kind in ("Figure", "Table"):
        captions = [int(number) for number in re.findall(rf"\b{kind} (\d+): ", text)]
        numbers = sorted(set(captions))
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) > 1
        for number in numbers:
            assert any(first <= number <= last for first, last in mentions(kind, text)), number


def mentions(kind: str, text: str) -> list[tuple[int, int]]:
    """The numbers that sentences refer to: "Figure 3", "Figures 3 and 4", "Figures 3 to 9"."""
    found = [(int(one), int(one)) for one in re.findall(rf"{kind} (\d+)\b(?!: )", text)]
    for first, word, last in re.findall(rf"{kind}s (\d+) (and|to) (\d+)", text):
        pair = [(int(first), int(last))] if word == "to" else [(int(n),) * 2 for n in (first, last)]
        found += pair
    return found


@needs_poppler
def test_a_table_repeats_its_headings_on_every_page(study: FakeSweep) -> None:
    pages = pages_of(study)
    first = next(at for at, page in enumerate(pages) if "A All cells" in page)
    assert "learning training inference" in pages[first + 1][:300]


def nothing(sweep: FakeSweep) -> None:
    """No cell has ended."""


def bare(sweep: FakeSweep) -> None:
    """Everything that may be missing is."""
    sweep.sweep |= {
        "exam": {"prompts": [], "seeds": []},
        "character": {"name": "", "images": [], "captions": []},
        **{key: {} for key in ("references", "settings", "environment", "plan")},
        **dict.fromkeys(["command", "question"], ""),
    }
    sweep.add(lr=0.1, seed=0)


def searched(sweep: FakeSweep) -> None:
    """A search over rates with seeds: more prompts and training images than the main text takes."""
    sweep.sweep["search"] = {"sampler": "tpe", "trials": 4}
    sweep.sweep["exam"]["prompts"] = [f"prompt {n} {HOSTILE}" for n in range(30)]
    sweep.sweep["character"]["images"] *= 10
    for lr in (0.1, 0.01):
        for seed in (0, 1):
            sweep.add(lr=lr, seed=seed)


@pytest.mark.parametrize("made", [nothing, bare, searched])
def test_whatever_a_sweep_lacks_or_has_too_much_of_is_printed(
    made: Callable[[FakeSweep], None], tmp_path: Path
) -> None:
    sweep = FakeSweep(tmp_path, {"lr": [0.1, 0.01], "seed": [0, 1]})
    made(sweep)
    (tmp_path / "report").mkdir()
    content = build_content(sweep.record(), tmp_path / "report")
    write_pdf(content, tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")


def test_letters_that_no_font_has_are_named() -> None:
    assert typesetting.rare_letters("ünï Ж “quoted” – 1 × 2 …") == []
    unassigned = "\U0003fffd"
    assert typesetting.missing_letters([unassigned]) in (unassigned, "")
    assert typesetting.missing_letters("\u13a0\U00012000") in ("\U00012000", "")


def test_a_pdf_that_cannot_be_set_costs_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = FakeSweep(tmp_path, {"lr": [0.1, 0.01]})
    sweep.add(lr=0.1)
    sweep.add(lr=0.01)
    sweep.write()
    broken = tmp_path / "report.typ"
    broken.write_text("#let x = \n#panic(json(")
    monkeypatch.setattr("charsweep.report.pages.report_pdf.TEMPLATE", broken)
    page = write_report(sweep.folder, sweep.store).read_text("utf-8")
    assert 'href="report.pdf"' not in page
    assert "report.pdf cannot be typeset" in page
    assert not pdf_of(sweep).exists()
    assert "report.pdf" not in (sweep.folder / "report" / "verdicts.md").read_text("utf-8")
    assert "Print index.html from a browser instead" in capsys.readouterr().out


def test_what_typst_refuses_is_one_clear_error(tmp_path: Path) -> None:
    template = tmp_path / "x.typ"
    template.write_text("#unknown-name")
    with pytest.raises(StoreError, match=r"x\.pdf cannot be typeset \(.*unknown-name"):
        typesetting.typeset(template, {}, tmp_path / "x.pdf", 100)


def test_the_markdowns_figures_exist(printed: FakeSweep) -> None:
    report = printed.folder / "report"
    text = (report / "verdicts.md").read_text("utf-8")
    links = [unquote(link) for link in re.findall(r"\]\(([^)]+)\)", text)]
    assert len(links) > 6
    assert all((report / link).exists() for link in links)
    assert "<script" not in text
    assert "> b · lr" not in text
    for sentence in ("## Verdict", "is recommended", "| method |", "0.812", "What failed"):
        assert sentence in text
