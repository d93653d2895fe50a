"""Lengths of time as they are typed: 11h, 90min, 1h30min, 45s, 1.5d, or plain seconds."""

from __future__ import annotations

import re

UNITS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST = 366 * UNITS["d"]
PART = r"(\d+(?:\.\d*)?|\.\d+)\s*(s|min|m|h|d)"


def seconds_of(typed: object) -> float:
    """The seconds of such a length; ValueError, which says what to type, for anything else."""
    text = "" if isinstance(typed, bool) else str(typed).strip().lower()
    if re.fullmatch(rf"(?:{PART}\s*)+", text):
        parts = re.findall(PART, text)
        named = [UNITS[unit] for _, unit in parts]
        seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
        in_order = named == sorted(set(named), reverse=True)
    else:
        in_order = re.fullmatch(r"\d+(\.\d*)?(e[+-]?\d+)?|\.\d+", text) is not None
        seconds = float(text) if in_order else 0.0
    if not in_order:
        raise ValueError("should be a length of time, as in 11h, 90min, 1h30min, 45s or 3600")
    if not 0 < seconds <= LONGEST:
        raise ValueError("should be longer than 0 and at most 366 days, as in 11h, 90min or 45s")
    return seconds
