"""Reading and writing `loss.csv`: one row per optimizer step."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from charsweep.core.errors import StoreError
from charsweep.core.store.files import write_text

LOSS_COLUMNS = ("step", "loss", "lr", "grad_norm", "seconds")


@dataclass(frozen=True)
class LossRow:
    """One optimizer update: step from 1, loss, learning rate, gradient norm, seconds it took.

    `parts` are the losses that add up to the loss, by name, where there are several.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    seconds: float
    parts: Mapping[str, float] = field(default_factory=dict)


def read_losses(path: Path, last: int | None = None) -> list[LossRow]:
    """Rows of a `loss.csv` up to step `last`; [] without a file, StoreError for a broken one.

    A last line that a killed process has not ended is left out.
    """
    if not path.exists():
        return []
    try:
        *whole, _ = path.read_text(encoding="utf-8").split("\n")  # the last is empty, or torn
        columns, *rows = csv.reader(whole)
        if tuple(columns[: len(LOSS_COLUMNS)]) != LOSS_COLUMNS:
            raise ValueError(f"its first line is not {','.join(LOSS_COLUMNS)}")
        known = (_loss_row(row, columns) for row in rows)
        return [row for row in known if last is None or row.step <= last]
    except (OSError, ValueError) as error:
        raise StoreError(
            f"cannot read {path}: {error}; put it back from a copy, or delete {path.parent}: that "
            "trajectory is trained again then"
        ) from error


def _loss_row(row: Sequence[str], columns: Sequence[str]) -> LossRow:
    step, loss, lr, norm, seconds, *rest = row
    parts = dict(zip(columns[len(LOSS_COLUMNS) :], map(float, rest), strict=True))
    return LossRow(int(step), float(loss), float(lr), float(norm), float(seconds), parts)


def write_losses(path: Path, rows: Sequence[LossRow], parts: Sequence[str] = ()) -> None:
    """Replace a `loss.csv`; the columns of `parts` stand behind those of every method."""
    lines = [",".join([*LOSS_COLUMNS, *parts]), *(loss_line(row) for row in rows)]
    write_text(path, "\n".join(lines) + "\n")


def loss_line(row: LossRow) -> str:
    """A row as `loss.csv` has it, without its line break; floats read back exactly."""
    text = f"{row.step},{row.loss!r},{row.lr!r},{row.grad_norm!r},{row.seconds:.6f}"
    return ",".join([text, *(repr(loss) for loss in row.parts.values())])
