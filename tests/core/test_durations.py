"""Lengths of time, as they are typed."""

from __future__ import annotations

import pytest

from charsweep.core.durations import seconds_of


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [
        ("11h", 39600), ("90min", 5400), ("90m", 5400), ("45s", 45), ("45", 45), (45, 45),
        (0.5, 0.5), ("1.5h", 5400), ("1h30min", 5400), ("1 h 30 min", 5400), (".5h", 1800),
        ("1d2h3min4s", 93784), ("2H", 7200), (1e3, 1000), ("1e3", 1000), (" 20min ", 1200),
    ],
)  # fmt: skip
def test_a_length_of_time_is_read(typed: object, seconds: float) -> None:
    assert seconds_of(typed) == seconds


@pytest.mark.parametrize(
    "typed",
    ["", "soon", "5eur", "-1h", "0", 0, "0h", "1h1h", "1min1h", "1m1min", "h", "1,5h", "1e999",
     "400d", True, None, float("nan"), float("inf"), [1]],
)  # fmt: skip
def test_nothing_else_is(typed: object) -> None:
    with pytest.raises(ValueError, match="as in 11h, 90min"):
        seconds_of(typed)
