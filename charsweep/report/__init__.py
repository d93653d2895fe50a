"""The report of a sweep: a page, a PDF, Markdown, plots and tables; needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from charsweep.core.errors import StoreError
from charsweep.results import load_record
from charsweep.results.parts import together


def write_report(sweep_folder: Path, store_folder: Path) -> Path:
    """Write `sweep_folder/report/` (index.html, report.pdf, tables/, …) and return its index.html.

    Reads sweep.json, cells.jsonl, every trajectory's loss.csv and the image sets. The folder is
    made beside its final place and swapped in, so a reader sees the old report or the new one.
    Raises StoreError when a file of the sweep cannot be read or the report cannot be written.
    """
    # Imported here: matplotlib takes half a second, and planning imports this package too.
    from charsweep.report.write import write_record

    return write_record(load_record(sweep_folder, store_folder), sweep_folder / "report")


def write_report_together(
    name: str, sweep_folders: Sequence[Path], store_folder: Path, final_folder: Path
) -> Path:
    """Write one report on several sweeps of one store into `final_folder`; return its index.html.

    Each sweep is a part with its own question and plots; tables, fronts and advantages are over
    all their cells. What makes scores incomparable (exam, character, encoders) is said in its
    notes. Raises StoreError as `write_report` does.
    """
    from charsweep.report.write import write_record

    if not sweep_folders:
        raise StoreError("No sweep was given to report on. Name at least one sweep's folder.")
    records = [load_record(folder, store_folder) for folder in sweep_folders]
    return write_record(together(name, records, store_folder), final_folder)


__all__ = ["write_report", "write_report_together"]
