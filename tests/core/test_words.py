"""Words are found whole, in any case and script."""

from __future__ import annotations

import pytest

from charsweep.core.words import holds, places_in, replaced


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Ani, sitting", "ani"),
        ("a picture of UnicornGirl's hat", "unicorngirl"),
        ("1girl, miavex_(series), solo", "Miavex"),
        ("a red cat sits", "red cat"),
        ("E\u0301va sits", "Éva"),
        ("Éva sits", "E\u0301va"),
        ("миа сидит", "Миа"),
        ("ミアが座る", "ミア"),
        ("Miaが座る", "mia"),
        ("미아가 앉다", "미아"),
        ("a <mia>, sitting", "<mia>"),
    ],
)
def test_a_word_is_found(text: str, word: str) -> None:
    assert holds(text, word)


@pytest.mark.parametrize(
    ("text", "word"),
    [("an animal", "ani"), ("mia2", "mia"), ("xmia", "mia"), ("Évan", "Éva"), ("", "mia"),
     ("СМИА", "миа"), ("a red  cat", "red cat")],
)  # fmt: skip
def test_a_part_of_another_word_is_not(text: str, word: str) -> None:
    assert not holds(text, word)


def test_the_longer_of_two_phrases_is_found_where_it_stands() -> None:
    (place,) = places_in("she is ON THE BEACH towel", ["on the beach", "on the beach towel"])
    assert place == (7, 25, "ON THE BEACH towel")
    text = "ミア on the beaches, on the beach"
    (place,) = places_in(text, ["on the beach"])
    assert place.start == text.rindex("on the beach")


def test_only_whole_words_are_replaced() -> None:
    assert replaced("Ani and an animal, ani", "ani", r"\1") == r"\1 and an animal, \1"
