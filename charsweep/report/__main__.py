"""`python -m charsweep.report SWEEP_FOLDER`: rebuild the report of a sweep from its folder.

Of several folders one report is made on all of them, into the folder that --into names.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from charsweep.core.errors import CharsweepError
from charsweep.report import write_report, write_report_together


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code: 0, or 2 when the folder cannot be read or written."""
    parser = argparse.ArgumentParser(prog="python -m charsweep.report", description=__doc__)
    parser.add_argument("sweep", type=Path, nargs="+", help="a sweep's folder: sweeps/lr_grid")
    parser.add_argument("--store", type=Path, help="the store (default: store/ beside the sweep)")
    parser.add_argument("--into", type=Path, help="where a report on several sweeps goes")
    given = parser.parse_args(arguments)
    sweeps = [sweep.resolve() for sweep in given.sweep]
    store = given.store.resolve() if given.store else sweeps[0].parent / "store"
    if (len(sweeps) > 1) != (given.into is not None):
        parser.error("--into FOLDER belongs to a report on several sweeps, and only to that")
    try:
        if given.into is None:
            print(write_report(sweeps[0], store))
        else:
            into = given.into.resolve()
            print(write_report_together(into.name, sweeps, store, into / "report"))
    except CharsweepError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
