"""Writing of a report folder: made beside its final place, then swapped in whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from charsweep.core.errors import StoreError
from charsweep.core.store.files import clear_abandoned, temporary_path
from charsweep.core.system.console import out
from charsweep.report.content import Content, build_content
from charsweep.report.figures.contact_sheets import forget
from charsweep.report.pages.html import build_page
from charsweep.report.pages.markdown import build_markdown
from charsweep.report.pages.report_pdf import write_pdf
from charsweep.results import Record
from charsweep.results.table import write_tables


def write_record(record: Record, final: Path) -> Path:
    """Make the whole report and put it in its place; returns its index.html."""
    forget()
    with swapped_in(final) as folder:
        content = build_content(record, folder)
        write_tables(content.tables, folder / "tables")
        if note := print_content(content, folder / "report.pdf"):
            out(f"report.pdf: {note}")
        (folder / "verdicts.md").write_text(build_markdown(content), encoding="utf-8")
        (folder / "index.html").write_text(build_page(content, final, note), encoding="utf-8")
    forget()
    return final / "index.html"


def print_content(content: Content, path: Path) -> str:
    """Write the PDF; returns what is wrong with it in a sentence: the page matters more."""
    try:
        missing = write_pdf(content, path)
    except StoreError as error:
        path.unlink(missing_ok=True)
        return f"{error}."
    if not missing:
        return ""
    return f"No font here has {missing}: install one that does, or print this page instead."


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
        f"then run: python -m charsweep.report {final.parent}"
    )
