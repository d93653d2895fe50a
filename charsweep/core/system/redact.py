"""Removal of passwords and tokens from all that is stored, logged or shown.

A password may stand in an address of the command line (`runtime.tracking_uri=`, `study=`), a token
in the environment; libraries put either into their error messages.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

HIDDEN = "***"
SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MLFLOW_TRACKING_PASSWORD",
           "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
           "DATABRICKS_TOKEN", "PGPASSWORD")  # fmt: skip
SHORTEST = 8  # characters of a secret; shorter ones would blot out ordinary words
PATTERNS = (
    (re.compile(r"(\w://[^\s/:@'\"]*):[^\s/'\"]*@"), rf"\1:{HIDDEN}@"),  # scheme://user:password@
    # the same with an unquoted / in the password, which is no port here
    (re.compile(r"(\bpostgres\w*[+\w]*://[^\s/:@]*):[^\s]*@"), rf"\1:{HIDDEN}@"),
    (re.compile(r"([?&](?:(?:ssl)?password|passwd|pwd|token|secret|api_key|key)=)[^&\s'\"]+", re.I),
     rf"\1{HIDDEN}"),
    (re.compile(r"\bhf_[A-Za-z0-9]{16,}"), HIDDEN),
)  # fmt: skip


def redacted(text: str) -> str:
    """The text without the secrets of the environment and whatever looks like one."""
    for name in SECRETS:
        value = os.environ.get(name, "")
        if len(value) >= SHORTEST:
            text = text.replace(value, HIDDEN)
    for pattern, instead in PATTERNS:
        text = pattern.sub(instead, text)
    return text


def redacted_all(value: Any) -> Any:
    """Plain data with every text in it redacted."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {name: redacted_all(item) for name, item in value.items()}
    if isinstance(value, Sequence):
        return [redacted_all(item) for item in value]
    return value
