"""Two processes on one store: what one trains, the other waits for and does not train again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from small import cells_without_times, command, small

RATES = "+axes.lr=[1e-2,1e-3,1e-4]"


def test_two_sweeps_at_once_share_their_trajectories(tmp_path: Path) -> None:
    """The same rates in two sweeps, begun together: each trajectory has its rows once."""
    words = [RATES, "train_steps=30", "runtime.tracking=false"]
    sweeps = [["name=one", *words], ["name=two", *words]]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "charsweep", *small(tmp_path), *own],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for own in sweeps
    ]  # fmt: skip
    for process in running:
        _, errors = process.communicate(timeout=250)
        assert process.returncode == 0, errors
    folders = sorted((tmp_path / "sweeps/store").glob("dreambooth_lora-*"))
    assert len(folders) == 3
    for folder in folders:
        steps = [line.split(",")[0] for line in (folder / "loss.csv").read_text().splitlines()[1:]]
        assert steps == [str(step) for step in range(1, 31)]
    one, two = (cells_without_times(tmp_path / f"sweeps/{n}/cells.csv") for n in ("one", "two"))
    assert one == two
    alone = command(*small(tmp_path / "alone"), *words)
    assert alone.returncode == 0
    assert cells_without_times(tmp_path / "alone/sweeps/small/cells.csv") == one
