"""Words of a vocabulary in prompts, and the prompts with other words."""

from __future__ import annotations

from pathlib import Path

import pytest

from charsweep.character.attributes import named_in, rivals_of
from charsweep.config import load_sweep
from charsweep.core.errors import ConfigError
from charsweep.core.specs import AttributeSpec

PLACE = AttributeSpec("place", ("on the beach", "in a room", "at night"))
HELD = AttributeSpec("held", ("holding a book", "holding a book bag"))


def test_a_phrase_is_found_whole_and_in_any_case() -> None:
    assert set(named_in("A girl ON THE BEACH", [PLACE])) == {"place"}
    assert not named_in("a girl on the beaches at nightfall", [PLACE])
    assert named_in("a girl holding a book bag", [HELD])["held"].word == "holding a book bag"


def test_a_prompt_that_says_two_words_for_it_says_neither() -> None:
    assert not named_in("a girl on the beach at night", [PLACE])


def test_rivals_are_the_prompt_with_every_other_word() -> None:
    found = rivals_of("a girl At Night holding a book", [PLACE, HELD])
    assert found == {
        "place": ("a girl on the beach holding a book", "a girl in a room holding a book"),
        "held": ("a girl At Night holding a book bag",),
    }
    assert rivals_of("a girl", [PLACE]) == {}


def test_an_exam_names_its_own_attributes(tmp_path: Path) -> None:
    words = [f"root={tmp_path}", 'exam.prompts=["{subject} with a cup at night"]']
    (place,) = load_sweep(words).cells[0].exam.attributes
    assert place.name == "place"
    more = [*words, "+exam.attributes.held=[with a cup,with a book]"]
    attributes = load_sweep(more).cells[0].exam.attributes
    assert AttributeSpec("held", ("with a cup", "with a book")) in attributes
    with pytest.raises(ConfigError, match=r"exam\.attributes\.held\.words"):
        load_sweep([*words, "+exam.attributes.held=[with a cup]"])
