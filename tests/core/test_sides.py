"""Who a prompt puts on the left."""

from __future__ import annotations

import pytest

from charsweep.core.sides import in_halves, left_column, left_of


@pytest.mark.parametrize(
    ("prompt", "left"),
    [
        ("a picture of {subject} on the left and {other} on the right", "subject"),
        ("{other} jumping on the left and {subject} with both arms raised on the right", "other"),
        ("{subject} and {other} holding hands in a forest", None),
        ("{subject} in front of {other} in the snow", None),
        ("{other} on the left holding hands with {subject} on the right at night", "other"),
        ("{subject} on the left and {other} on the right the right one taller", "subject"),
        ("{subject} beside {other} on the left", "other"),
        ("{subject} on the right beside {other}", "other"),
        ("{subject} to the left of {other}", "subject"),
        ("on the left {subject}, on the right {other}", "subject"),
        ("on the right {subject}, on the left {other}", "other"),
        ("{subject} with the left arm raised and {other}", None),
        ("{subject} with a bird on the left arm and {other}", None),
        ("{subject} on the left and {other} on the left", None),
        ("{subject} on the left", "subject"),
        ("two ADDBASE {other} ADDCOL a tree ADDCOL {subject}", "other"),
        ("{subject} and {other} ADDBASE {other} ADDCOL {subject}", None),  # the whole does not say
    ],
)
def test_who_stands_on_the_left(prompt: str, left: str | None) -> None:
    assert left_of(prompt) == left


def test_a_picture_of_one_has_no_halves() -> None:
    assert in_halves("{other} on the beach") == "{other} on the beach"
    assert in_halves("{subject} and {other}").endswith("ADDCOL {other} and {other}")


def test_columns_name_one_at_each_side() -> None:
    assert left_column("{subject} and {other} ADDBASE {other} ADDCOL {subject}") == "other"
    assert left_column("two ADDBASE {other} ADDCOL {other}") is None
    assert left_column("{subject} on the left and {other} on the right") is None
