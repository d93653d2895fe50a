"""Writing of a report folder: made beside its final place, then swapped in whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from charsweep.core.errors import StoreError
from charsweep.core.store.files import clear_abandoned, temporary_path
from charsweep.core.system.console import out, quoted
from charsweep.report.content import Content, build_content, words_of
from charsweep.report.figures.contact_sheets import forget
from charsweep.report.figures.fonts import lacking
from charsweep.report.pages.html import build_page
from charsweep.report.pages.markdown import build_markdown
from charsweep.report.pages.report_pdf import write_pdf
from charsweep.results import Record
from charsweep.results.labels import listing
from charsweep.results.table import write_tables
from charsweep.results.votes import FILE

MOST_LETTERS = 40  # that are named


def write_record(record: Record, final: Path) -> Path:
    """Make the whole report and put it in its place; returns its index.html."""
    forget()
    with swapped_in(final) as folder:
        content = build_content(record, folder)
        write_tables(content.tables, folder / "tables")
        if votes := "".join(f"{vote.line}\n" for vote in record.votes):
            (folder / "tables" / FILE).write_text(votes, encoding="utf-8")
        note = print_content(content, folder / "report.pdf", lacking(words_of(record)))
        if note:
            out(f"report   {note}")
        (folder / "verdicts.md").write_text(build_markdown(content), encoding="utf-8")
        (folder / "index.html").write_text(build_page(content, final, note), encoding="utf-8")
    forget()
    return final / "index.html"


def print_content(content: Content, path: Path, boxes: str = "") -> str:
    """Write the PDF; returns what is wrong with it, and with plots: the page matters more.

    `boxes` are the letters that plots and contact sheets lack.
    """
    missing, trouble = "", ""
    try:
        missing = write_pdf(content, path)
    except StoreError as error:
        path.unlink(missing_ok=True)
        trouble = f"{error}."
    known = {"plots and contact sheets": boxes, "report.pdf": missing}
    where = listing([name for name, letters in known.items() if letters] or [""])
    letters = "".join(dict.fromkeys(boxes + missing))
    lacks = (
        f"No font here has {letters[:MOST_LETTERS]}, for which boxes stand in {where}: install one "
        "that does, such as Noto Sans CJK of Japanese and Chinese, and run action=report."
    )
    return " ".join(filter(None, (trouble, lacks if letters else "")))


@contextmanager
def swapped_in(final: Path) -> Iterator[Path]:
    """A new folder that takes the place of `final` when the block ends without an error.

    Between the two renames a kill leaves no report; at any other moment the old one stands.
    """
    clear_abandoned(final.parent)
    scratch = temporary_path(final)
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
    except OSError as error:
        raise unwritable(final, error) from error
    try:
        fresh = scratch / "report"
        fresh.mkdir()
        yield fresh
        if final.exists():
            final.rename(scratch / "old")
        fresh.rename(final)
    except OSError as error:
        raise unwritable(final, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def unwritable(final: Path, error: OSError) -> StoreError:
    """What to say when the disk is full or the folder is not ours."""
    return StoreError(
        f"The report cannot be written to {final} ({error}). Make room or give write permission, "
        f"then run: {quoted(['python', '-m', 'charsweep.report', str(final.parent)])}"
    )
