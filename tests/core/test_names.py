"""Names in every language: of files, and of folders within what a file system takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from charsweep.config import load_sweep
from charsweep.core.errors import ConfigError, StoreError
from charsweep.core.store import Store
from charsweep.core.store.files import one_name
from charsweep.core.system.names import MOST_BYTES, as_file_name, as_title


@pytest.mark.parametrize(
    ("text", "file", "title"),
    [
        ("UnicornGirl", "UnicornGirl", "UnicornGirl"),
        ("Unicorn  Girl!", "Unicorn--Girl-", "Unicorn_Girl"),
        ("ミア", "ミア", "ミア"),
        ("E\u0301va", "Éva", "Éva"),  # however it was typed
        ("मिया", "मिया", "मिया"),  # vowel signs are marks
        ("Мия", "Мия", "Мия"),
        ("../../x", "------x", "x"),
        ("🦄", "-", "character"),
    ],
)
def test_letters_stay(text: str, file: str, title: str) -> None:
    assert as_file_name(text) == file
    assert as_title(text) == title


def test_a_long_name_is_cut_between_letters() -> None:
    assert as_file_name("ミ" * 90) == "ミ" * (MOST_BYTES // 3)


def test_a_name_of_90_kana_is_refused_and_what_is_offered_fits(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"character\.name=.* has 270 bytes") as refused:
        load_sweep([f"root={tmp_path}", f"character.name='{'ミ' * 90}'"])
    (fits,) = re.findall(r" fit: (\w+) is", str(refused.value))
    sweep = load_sweep([f"root={tmp_path}", f"character.name='{fits}'"])
    store = Store(sweep.root)
    truth = sweep.cells[0].truth_set
    assert truth is not None
    with store.lock(truth.snapshot.source):  # makes its folder, which is called by it
        assert fits in store.source(truth.snapshot.source).name


def test_names_that_are_too_long_together_are_one_error() -> None:
    assert one_name("a" * 200) == "a" * 200
    with pytest.raises(StoreError, match=r"is 240 bytes long.*give the method, sampler, base"):
        one_name("ミ" * 80)
