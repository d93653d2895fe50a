"""Several processes on one store: what one trains, the others wait for and do not train again."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import bits
from helpers.small import runs
from two import KINDS, one_after_the_other, together


@pytest.mark.slow
def test_three_at_once_end_as_one_after_the_other(tmp_path: Path) -> None:
    """The same sweep twice, and one with a trajectory in common, begun at the same moment."""
    untracked = "runtime.tracking=false"
    serial = one_after_the_other(tmp_path, untracked)
    said = together(("small", "small", "other"), tmp_path / "root", serial, untracked)
    assert "waiting for sweep small, which process" in said


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("killed", [6.0, 9.0, 14.0])
def test_a_killed_owner_is_followed_by_the_one_that_waits(killed: float, tmp_path: Path) -> None:
    serial, root = one_after_the_other(tmp_path), tmp_path / "root"
    together(KINDS["one is killed"], root, serial, killed=killed)
    assert bits(root) == bits(serial[0])
    assert len(runs(root)) == 2
