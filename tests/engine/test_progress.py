"""How long work still takes, as it is shown."""

from __future__ import annotations

import pytest

from charsweep.engine.progress import ProgressView


def test_what_is_left_is_reckoned_at_the_pace_so_far_and_is_never_less_than_nothing() -> None:
    view = ProgressView()
    view.expect(images=10)
    view.advance("images", 4, seconds=8.0)
    assert view.left == pytest.approx(12.0)
    view.workers = 2
    assert view.left == pytest.approx(6.0)
    view.advance("images", 8, seconds=16.0)  # more than were expected
    assert view.left == 0.0
