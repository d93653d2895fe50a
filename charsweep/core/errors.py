"""The exceptions for whatever a person can mend: one root, `CharsweepError`, and its kinds.

A message says what is wrong, where, the value that was got, and what to do about it.
"""

from __future__ import annotations

from charsweep.core.system.redact import redacted

LONGEST = 80  # characters of a value in a message: a line


class CharsweepError(Exception):
    """The root: shown as one message without a traceback, exit code 2."""


class ConfigError(CharsweepError):
    """The configuration or the command line cannot be used as it is."""


class CharacterError(CharsweepError):
    """The training images, captions or masks of the character cannot be used."""


class ModelsError(CharsweepError):
    """Weights are missing, unreadable, or of another kind than asked for."""


class StoreError(CharsweepError):
    """Something on disk is not what its manifest says, or cannot be written."""


class TrainingError(CharsweepError):
    """A trajectory cannot be trained (not: its loss diverged, which is a result)."""


class TrackingError(CharsweepError):
    """MLflow or the Optuna study cannot be used."""


def shown(value: object, longest: int = LONGEST) -> str:
    """A value as it would be typed, on one line and no longer than that, without a password: cut,
    that could not be told any more."""
    known = {None: "null", True: "true", False: "false"}
    text = known[value] if value is None or isinstance(value, bool) else redacted(str(value))
    cut = len(text) > longest
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:longest])
    return f"{text}… ({len(str(value))} characters)" if cut else text
