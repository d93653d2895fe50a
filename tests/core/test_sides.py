"""Who a prompt puts on the left."""

from __future__ import annotations

import pytest

from charsweep.core.sides import check_halves, in_halves, left_of


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
    ],
)
def test_who_stands_on_the_left(prompt: str, left: str | None) -> None:
    assert left_of(prompt) == left


@pytest.mark.parametrize(
    ("prompt", "halves", "told"),
    [
        ("x ADDBASE {subject} ADDCOL {other}", ("{subject}", "{other}"), "stands beside columns"),
        ("{subject}, {other}", ("{subject}", "{other} ADDCOL a tree"), "has columns in a half"),
        ("{subject}, {other}", ("two ADDBASE {subject}", "{other}"), "has columns in a half"),
    ],
)
def test_halves_are_not_beside_columns(prompt: str, halves: tuple[str, str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_halves(prompt, halves)


def test_a_picture_of_one_has_no_halves() -> None:
    assert in_halves("{other} on the beach") == "{other} on the beach"
    assert in_halves("{subject} and {other}").endswith("ADDCOL {other} and {other}")
