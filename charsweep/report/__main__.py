"""`python -m charsweep.report SWEEP_FOLDER`: rebuild the report of a sweep from its folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from charsweep.errors import CharsweepError
from charsweep.report import write_report


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code: 0, or 2 when the folder cannot be read or written."""
    parser = argparse.ArgumentParser(prog="python -m charsweep.report", description=__doc__)
    parser.add_argument("sweep", type=Path, help="a sweep's folder, such as sweeps/lr_grid")
    parser.add_argument("--store", type=Path, help="the store (default: store/ beside the sweep)")
    given = parser.parse_args(arguments)
    sweep = given.sweep.resolve()
    try:
        print(write_report(sweep, given.store.resolve() if given.store else sweep.parent / "store"))
    except CharsweepError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
