"""Writing of a sweep's results: cells.jsonl, and cells.csv with what people prefer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from charsweep.results.candidates import strengths_of
from charsweep.results.cells import CellResult, write_results
from charsweep.results.read import load_cells
from charsweep.results.votes import FILE


def write_cells(sweep_folder: Path, store: Path, results: Sequence[CellResult]) -> None:
    """Rewrite both files of a sweep that has a sweep.json."""
    path = sweep_folder / "cells.jsonl"
    write_results(path, results)
    if (sweep_folder / FILE).exists():
        known = strengths_of(load_cells(sweep_folder, store))
        write_results(path, results, {cell: one.fields for cell, one in known.items()})
