"""Words as people type them: what is meant, and how a command is printed so that it pastes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from charsweep.config import load_settings, load_sweep
from charsweep.config.compose import Composing, compose_words
from charsweep.config.schema import is_list, is_open, is_text, may_be_text
from charsweep.config.typed_words import as_meant, elements, opened, parsed
from charsweep.core.errors import ConfigError
from charsweep.core.system.console import command, quoted, spell, wrapped

TEXTS = ["Éva", "ミア", "~/drawings", "drawings (1)", "What's best?", "a; b & c", "<x>", "#1 girl",
         'the "best" one', "{x}", "[draft] which is best", "50% off", "a\\b", "C:\\x\\", "it\\'s",
         "\\", "''", "100", "1e5", "true", "inf", "a, b", "x = y", "*", "🦄", "a:b", "a\tb",
         "\\\\'"]  # fmt: skip


def read_by_a_shell(typed: str) -> list[str]:
    shell = ["bash", "-c", f"printf '%s\\0' {typed}"]
    return subprocess.run(shell, capture_output=True, check=True).stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_taken_as_it_is_typed(text: str) -> None:
    for setting in ("question", "character.identifier", "sampler.negative_prompt"):
        (word,) = as_meant([f"{setting}={text}"])
        override = parsed(word)
        assert override is not None, word
        read = override.value()
        # quotes around a text are the grammar's: two with nothing between are no text
        meant = "" if text == "''" else text
        assert (read if isinstance(read, str) else None) in (meant, text.replace("\\\\'", "\\'"))


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_spelled_reads_back(text: str) -> None:
    override = parsed(f"x={spell(text)}")
    assert override is not None
    assert override.value() == text


@pytest.mark.parametrize("text", [*TEXTS, "a\nb", "$HOME `x` !y 'z'", "\\n'\n"])
def test_what_is_printed_pastes(text: str) -> None:
    words = [f"question={text}", "+axes.lr=[1e-4,1e-3]", f"root=/a b/{text}"]
    typed = command(words)
    assert read_by_a_shell(typed)[3:] == words
    assert "\n" not in typed
    assert quoted(["lr=1e-4"]) == "lr=1e-4"


@pytest.mark.parametrize("width", [20, 60, 200])
def test_a_command_is_broken_where_a_shell_joins_it(width: int) -> None:
    words = [f"question={text}" for text in TEXTS]
    lines = wrapped(command(words), width)
    assert all(len(line) <= max(width, 90) for line in lines)
    assert read_by_a_shell("\n".join(lines))[3:] == words


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("name=2026", "2026"),
        ("character.held_out=2", 2),
        ("character.held_out=drawings (2)", "drawings (2)"),
        ("character.masks=null", None),
        ("lr=1e-4", 1e-4),
        ("question='What's best?'", "What's best?"),
        ("sampler.negative_prompt=blurry, bad hands", "blurry, bad hands"),
        ("exam.prompts=[{subject}'s café, 'a, b', at sea (1)]",
         ["{subject}'s café", "a, b", "at sea (1)"]),
        ("+axes.sampler.negative_prompt=[flou, défauts]", ["flou", "défauts"]),
        ("story.cell=123e4", "123e4"),
        ("caption.prompt=it's {class_prompt}", "it's {class_prompt}"),
        ("question=${lr}", "${lr}"),
    ],
)  # fmt: skip
def test_a_word_is_read_as_it_is_meant(word: str, value: Any) -> None:
    (meant,) = as_meant([word])
    override = parsed(meant)
    assert override is not None
    assert override.value() == value


def test_elements_of_a_list() -> None:
    assert list(elements("a, {b, c}, 'd, e', [f,g], it's, h")) == [
        "a", "{b, c}", "'d, e'", "[f,g]", "it's", "h",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("says", "these", "not_those"),
    [
        (is_text, "question character.images models.bases.sdxl.path caption.prompt name",
         "lr action character.held_out method.adapter exam.seeds nothing.such"),
        (may_be_text, "question character.held_out runtime.tracking_uri", "precision lr metric"),
        (is_list, "exam.seeds metric objectives method.target_modules", "method.rank nothing.such"),
        (is_open, "axes.lr constraints optimizer.eps sampler.settings", "method.rank sampler.name"),
    ],
)  # fmt: skip
def test_what_the_schema_says(says: Callable[[str], bool], these: str, not_those: str) -> None:
    assert [name for name in these.split() if not says(name)] == []
    assert [name for name in not_those.split() if says(name)] == []


@pytest.mark.parametrize(("words", "place", "value"), [
    ("constraints.flexibility.least=0.5", "constraints", {"flexibility": {"least": 0.5}}),
    ("constraints={flexibility:{least:0.5}}", "constraints", {"flexibility": {"least": 0.5}}),
    ("axes.lr=[1e-4,1e-3]", "axes", {"lr": [1e-4, 1e-3]}),
    ("parts={rates:{sweep:lr_grid},one:{lr:1e-4}}", "parts",
     {"rates": {"sweep": "lr_grid"}, "one": {"lr": 1e-4}}),
    ("parts.inf.lr=1e-4", "parts", {"inf": {"lr": 1e-4}}),
    ("parts={2024:{lr:1e-4},true:{lr:1e-3}}", "parts",
     {"2024": {"lr": 1e-4}, "true": {"lr": 1e-3}}),
    ("exam.attributes={held: [holding a book, holding a cup]}", "exam.attributes",
     {"held": ["holding a book", "holding a cup"]}),
    ("optimizer.amsgrad=true", "optimizer.amsgrad", True),
    ("sampler.settings={timestep_spacing:trailing}", "sampler.settings.timestep_spacing",
     "trailing"),
])  # fmt: skip
def test_a_mapping_that_is_open_needs_no_plus(words: str, place: str, value: Any) -> None:
    """And takes one all the same."""
    for word in (words, f"+{words}", f"++{words}"):
        found: Any = load_sweep([word]).resolved
        for name in place.split("."):
            found = found[name]
        assert found == value


def test_a_plus_is_no_hindrance_where_a_sweep_has_the_axis() -> None:
    for sign in ("", "+", "++"):
        sweep = load_sweep(["+sweep=lr_grid", f"{sign}axes.lr=[1e-4,1e-3]"])
        assert sweep.axes["lr"] == (1e-4, 1e-3)
    assert opened("optimizer=adamw") == "optimizer=adamw"


def test_parts_named_as_numbers_keep_their_names() -> None:
    with Composing():
        raw = compose_words(["parts={inf:{lr:1},nan:{lr:1},true:{lr:1},2024:{lr:1}}"])
    assert list(raw["parts"]) == ["inf", "nan", "true", "2024"]


def test_a_stray_word_is_no_key_unless_keys_are_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"bee: stands without .*'character.identifier=mia bee'"):
        load_settings(["character.identifier=mia", "bee"])
    assert load_settings(["action=show", "bee", "123e4"]).store.keys == ["bee", "123e4"]
