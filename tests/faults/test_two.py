"""Two processes on one store: what one trains, the other waits for and does not train again."""

from __future__ import annotations

from pathlib import Path

import pytest
from two import KINDS, one_after_the_other, together


def test_two_at_once_end_as_one_after_the_other(tmp_path: Path) -> None:
    """The same sweep, and two with a trajectory in common, begun at the same moment."""
    untracked = "runtime.tracking=false"
    serial = one_after_the_other(tmp_path, untracked)
    said = together(KINDS[0], tmp_path / "same", serial, 0.0, untracked)
    assert "waiting for sweep small, which process" in said
    together(KINDS[1], tmp_path / "common", serial, 0.0, untracked)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_owner_is_followed_by_the_one_that_waits(tmp_path: Path) -> None:
    serial = one_after_the_other(tmp_path)
    for number, instant in enumerate((6.0, 9.0, 14.0)):
        together(KINDS[2], tmp_path / f"killed-{number}", serial, instant)
