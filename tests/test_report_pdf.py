"""The report to print and the one in Markdown: whole pages, wrapped text, links that lead."""

from __future__ import annotations

import re
import shutil
import subprocess
import zlib
from pathlib import Path
from urllib.parse import unquote

import pytest
from fake_sweep import EVIL, FakeSweep, dino

from charsweep.report import papertable, table, typeset, verdict
from charsweep.report.figures import style
from charsweep.report.paper import PAGE, ROOM

LONG = "a question that is so long that it cannot stand in one line of any paper " * 4


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> FakeSweep:
    """A grid with a diverged and a failed cell, printed once for all tests here."""
    sweep = FakeSweep(tmp_path_factory.mktemp("printed"), {"lr": [0.1, 0.01], "method": ["a", "b"]})
    sweep.sweep["question"] = LONG + EVIL
    sweep.add("diverged", lr=0.1, method="a")
    sweep.add("failed", lr=0.1, method="b")["error"] = "x" * 500  # one word
    sweep.add(lr=0.01, method="a", scores=dino(0.8123))
    sweep.add(lr=0.01, method="b", scores=dino(0.6))
    sweep.report(pdf=True)
    return sweep


def pdf_of(sweep: FakeSweep) -> Path:
    return sweep.folder / "report" / "report.pdf"


def test_it_is_a_pdf_of_a4_pages_with_vectors_and_fonts(printed: FakeSweep) -> None:
    data = pdf_of(printed).read_bytes()
    assert data.startswith(b"%PDF-")
    boxes = re.findall(rb"/MediaBox \[([^\]]+)\]", data)
    sizes = {tuple(round(float(side)) for side in box.split()) for box in boxes}
    assert sizes == {(0, 0, *(round(side) for side in PAGE))}
    assert len(boxes) > 3
    assert b"/Type0" in data  # text that can be searched, not outlines
    streams = re.findall(rb"stream\r?\n(.+?)\r?\nendstream", data, re.DOTALL)
    drawn = b"".join(inflated(stream) for stream in streams)
    assert drawn.count(b" l\n") > 300  # lines of plots


def inflated(stream: bytes) -> bytes:
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return b""


def test_the_same_sweep_prints_the_same_bytes(printed: FakeSweep) -> None:
    before = pdf_of(printed).read_bytes()
    printed.report(pdf=True)
    assert pdf_of(printed).read_bytes() == before


@pytest.mark.skipif(not shutil.which("pdftotext"), reason="needs poppler's pdftotext")
def test_its_text_holds_the_verdict_and_the_figures(printed: FakeSweep) -> None:
    command = ["pdftotext", "-layout", str(pdf_of(printed)), "-"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for wanted in ("Verdict", "0.812", "What failed", "To reproduce", "Pareto fronts", "diverged"):
        assert wanted in text
    assert EVIL in " ".join(text.split())


def test_lines_fit_their_room() -> None:
    for room in (40.0, 200.0):
        for text in (LONG, "x" * 300, "", "a " * 100, "\N{SNOWMAN} ünïcode"):
            with style():
                found = typeset.wrap(text, room, 9)
                assert all(typeset.width(line, 9) <= room + 0.01 for line in found)
            assert "".join("".join(found).split()) == "".join(text.split())


def test_tables_fit_the_page_in_as_many_blocks_as_it_takes(printed: FakeSweep) -> None:
    record = printed.record()
    made = table.cells_table(record, verdict.judge(record))
    blocks = papertable.blocks(made, made.rows)
    for indices, fit in blocks:
        assert sum(fit.widths) + papertable.PAD * (len(indices) - 1) <= ROOM + 0.01
    shown = {index for indices, _ in blocks for index in indices}
    assert shown == set(range(len(made.shown)))


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
