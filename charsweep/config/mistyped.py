"""Messages for mistyped words of the command line, in a sentence each.

Hydra's own messages speak of its grammar and its structs. What people mistype is known, so it is
said here what to type instead; of anything else, Hydra's first line.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from charsweep.core.errors import ConfigError, shown
from charsweep.core.plugins import CONF

NAME = re.compile(r"[^\W\d][\w$-]*([./@:][\w$-]+)*")
# What other programs call them.
ALIASES = {"learning_rate": "lr", "steps": "train_steps", "max_train_steps": "train_steps",
           "num_inference_steps": "inference_steps", "epochs": "train_steps", "model": "models",
           "output_dir": "root", "network_dim": "method.rank"}  # fmt: skip
EXAMPLE = "write NAME=VALUE, as in lr=1e-3 or method.rank=8"
MOST_PROBLEMS = 10  # mistyped words that are told at once
# What Hydra says -> what to do instead; {name} is the setting, {word} what was typed.
SAID = (
    (r"Could not override '(?P<name>[^']*)'\.?\s+(?:Did you mean|No match)", "{no_group}"),
    (r"config group '(?P<name>[^']*)' does not exist", "{no_group}"),
    (r"Could not delete '(?P<name>[^'=]*).*No match", "{no_group}"),
    (r"Could not override '(?P<name>[^']*)'", "{no_setting}"),
    (r"An item is already at '(?P<name>[^']*)'",
     "{word}: {name} is there already; leave the plus sign out: {bare}"),
    (r"Multiple values for (?P<name>[\w/@]+)",
     "{word}: {name} is chosen already; leave the plus sign out: {bare}"),
    (r"force-add of config groups is not supported: '\+\+(?P<name>[^=']*)",
     "{word}: {name} is a group; choose a file of it without plus signs, as in {bare}"),
    (r"Config group override (?P<name>\w*).*must be",
     "a group is given what is no name of a file; choose one of conf/, as in method=lora"),
    (r"delete from config\. '(?P<name>[^']*)' does not exist", "{no_setting}"),
    (r"delete from config\. The value of '(?P<name>[^']*)'",
     "{word}: it has another value; write ~{name} to take it out whatever its value is"),
)  # fmt: skip


# -- one word at a time ----------------------------------------------------------------------------


def check_words(words: Sequence[str]) -> None:
    """ConfigError for words that are none of Hydra's, or that stand for several commands."""
    bare = [word for word in words if word.strip() and "=" not in word and word[0] != "~"]
    problems = [problem for word in words if word not in bare and (problem := _problem(word))]
    if bare:
        problems.append(
            f"{shown(' '.join(bare))}: stands without a name and =; {EXAMPLE}, and a value with "
            "spaces in quotes"
        )
    if problems:
        more = len(problems) - MOST_PROBLEMS
        rest = [f"and {more} more like these; mend them too"] if more > 0 else []
        raise ConfigError("\n".join(dict.fromkeys([*problems[:MOST_PROBLEMS], *rest])))


def _problem(word: str) -> str | None:
    given, (name, _, value) = shown(word.strip()), word.lstrip("+~").partition("=")
    if not word.strip():
        return f"'{given}' is no setting; {EXAMPLE}"
    if any(not char.isprintable() and not char.isspace() for char in word):
        return f"{given}: holds a character that is no text; type it without"
    try:
        override = OverridesParser.create().parse_override(word)
    except Exception:  # ANTLR's kinds, and Python's over numbers of thousands of digits
        if not NAME.fullmatch(name):
            return f"{given}: '{shown(name)}' is no name of a setting; {EXAMPLE}"
        return (
            f"{given}: its value cannot be read; close every bracket and quotation mark, and put "
            f"a text that holds any of them, commas or colons in quotes: \"{name}='a, b'\""
        )
    if override.is_sweep_override():
        return (
            f"{given}: is more than one value; make them an axis, as in +axes.{name}="
            f"[{shown(value)}], or put a text in quotes: \"{name}='{shown(value)}'\""
        )
    return None


# -- all together ----------------------------------------------------------------------------------


def explain(error: Exception, words: Sequence[str]) -> str:
    """What Hydra or OmegaConf could not do with these words, and what to type instead."""
    if sweep := next((word for word in words if word.startswith("sweep=")), None):
        return f"{shown(sweep)}: a sweep is added with a plus sign; type +{shown(sweep)}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, file = error.missing_cfg_file.rpartition("/")
        known = error.options or sorted(path.stem for path in (CONF / group).glob("*.yaml"))
        return (
            f"{group}={shown(file)}: there is no conf/{group}/{shown(file)}.yaml; choose "
            f"{', '.join(known)}"
        )
    if axis := next((word for word in words if word.startswith("axes.")), None):
        return f"{shown(axis)}: an axis is added with a plus sign; type +{shown(axis)}"
    text = str(error)
    for pattern, instead in SAID:
        if found := re.search(pattern, text, re.DOTALL):
            return _instead(instead, found["name"], words)
    where = getattr(error, "full_key", None)
    if "nterpolation" in text:
        return _interpolation(text, str(where or ""))
    line = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    given = shown(" ".join(words), 300) or "nothing"
    return (
        f"{f'{where}: ' if where else ''}{shown(line, 300)}; mend one of the words given: {given}"
    )


def _instead(instead: str, name: str, words: Sequence[str]) -> str:
    word = next((given for given in words if _name_of(given) == name), name)
    told = {"{no_group}": _no_group, "{no_setting}": _no_setting}
    if instead in told:
        return told[instead](name, word, words)
    return instead.format(word=shown(word), name=shown(name), bare=shown(word.lstrip("+~")))


def _name_of(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _no_group(name: str, word: str, _: Sequence[str]) -> str:
    groups = [group for group, value in _composed().items() if isinstance(value, Mapping)]
    near = difflib.get_close_matches(name, groups, 1)
    return f"{shown(word)}: there is no group {shown(name)}; {_try(near)}"


def _no_setting(name: str, word: str, words: Sequence[str]) -> str:
    known = list(names(_composed()))
    top, _, rest = name.partition(".")
    if rest and name in known:  # which another file of the group has
        chosen = [given for given in words if _name_of(given) == top]
        return (
            f"{shown(word)}: {chosen[-1] if chosen else top} has no {rest}; take it out, or choose "
            f"another {top}"
        )
    within = [setting for setting in known if setting.endswith(f".{name}")]
    alike = difflib.get_close_matches(name, known, 1)
    near = [ALIASES[name]] if name in ALIASES else within or alike
    return f"{shown(word)}: there is no setting {shown(name)}; {_try(near)}"


def _try(near: Sequence[str]) -> str:
    every = "python -m charsweep --cfg job"
    if near:
        return f"should it be {near[0]}? All that there are: {every}"
    return f"see all that there are with {every}"


def _interpolation(text: str, where: str) -> str:
    line = re.sub(r"^\w+ raised while resolving interpolation: ", "", text.splitlines()[0])
    return (
        f"{where}: {shown(line, 300)}; ${{NAME}} stands for another setting's value: name one that "
        "there is, or write \\${ for a text that has it"
    )


def _composed() -> dict[str, Any]:
    plain = OmegaConf.to_container(compose("config"), resolve=False)
    assert isinstance(plain, dict)
    return {str(name): value for name, value in plain.items()}


def names(raw: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings, groups included."""
    for name, value in raw.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from names(value, f"{prefix}{name}.")
