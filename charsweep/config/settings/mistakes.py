"""pydantic's mistakes in plain words."""

from __future__ import annotations

import pydantic

from charsweep.config.settings.field_types import COUNTRY, FOLDER_NAME, KEY, NAME, REPOSITORY
from charsweep.core.errors import shown

NUMBER, WHOLE = "should be a number, as in 0.0001 or 1e-4", "should be a whole number"
# pydantic's kinds of mistakes, and its patterns, in plainer words than its own.
SAID = {
    "float_parsing": NUMBER, "float_type": NUMBER,
    "int_parsing": WHOLE, "int_from_float": WHOLE, "int_type": WHOLE,
    "bool_parsing": "should be true or false", "bool_type": "should be true or false",
    "string_type": "should be a text",
    "list_type": "should be a list, as in [1,2]", "tuple_type": "should be a list, as in [1,2]",
    "dict_type": "should be settings by name, as in {NAME: VALUE}",
    "model_type": "should be settings by name, as in {NAME: VALUE}",
    "string_too_short": "is empty; give a text",
    FOLDER_NAME: "should be letters, digits, dots, - and _, at most 100, as in my_sweep",
    NAME: "should be a name without / and \\, at most 100 characters",
    KEY: "should be the beginning of a key, at most 12 of 0-9 and a-f",
    REPOSITORY: "should be OWNER/NAME on the hub",
    COUNTRY: "should be three capital letters, as in FRA",
}  # fmt: skip


def mistakes(error: pydantic.ValidationError, prefix: str = "") -> list[str]:
    """One line per mistake: where, the value, what is wanted."""
    lines = []
    for mistake in error.errors(include_url=False):
        where = ".".join(shown(part) for part in (prefix, *mistake["loc"]) if str(part))
        if mistake["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            lines.append(f"{where}: there is no such setting; take it out or mend its name")
        elif mistake["type"] in ("missing", "missing_argument"):
            lines.append(f"{where}: is missing; set it with {where}=VALUE")
        else:
            known = SAID.get(mistake.get("ctx", {}).get("pattern", mistake["type"]))
            message = mistake["msg"].replace("Input should", "should")
            message = known or shown(message.removeprefix("Value error, "), 400)
            lines.append(f"{where}={shown(mistake['input'])}: {message}")
    return lines
