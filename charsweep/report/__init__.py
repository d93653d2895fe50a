"""A sweep's folder and the store in, `report/index.html` out; no torch anywhere."""

from __future__ import annotations

from pathlib import Path


def write_report(sweep_folder: Path, store_folder: Path) -> Path:
    """Write `sweep_folder/report/` and return its index.html.

    Reads sweep.json, cells.jsonl, every trajectory's loss.csv and the image sets. The folder is
    made beside its final place and swapped in, so a reader sees the old report or the new one.
    Raises StoreError when a file of the sweep cannot be read or the report cannot be written.
    """
    # Imported here: matplotlib takes half a second, and planning imports this package too.
    from charsweep.report.write import write

    return write(sweep_folder, store_folder)


__all__ = ["write_report"]
