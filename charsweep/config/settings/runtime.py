"""Where and how the work is done, and where a study is kept."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field

from charsweep.config.settings.field_types import STRICT, Country, Duration, Text
from charsweep.core.system.redact import redacted

ADDRESS = re.compile(r"(?:[\w.-]+|\[[0-9a-fA-F:]+\]):\d{1,5}", re.ASCII)


def clustered(cluster: str) -> str:
    """What names a Ray cluster, as it is; ValueError for anything else."""
    if cluster not in ("local", "auto") and not ADDRESS.fullmatch(cluster):
        raise ValueError(
            "should be local (Ray is started here), auto (the Ray that runs here) or HOST:PORT"
        )
    return cluster


def counted(workers: Any) -> Any:
    """auto -> None: as many as there is room for."""
    return None if workers == "auto" else workers


Cluster = Annotated[str, AfterValidator(clustered)]
Workers = Annotated[Annotated[int, Field(ge=1, le=4096)] | None, BeforeValidator(counted)]


class Runtime(pydantic.BaseModel):
    """Where and how the work is done; nothing of it is in a key."""

    model_config = STRICT
    device: Literal["auto", "cpu", "cuda", "mps"]
    workers: Workers
    cluster: Cluster | None
    scratch: Text | None
    bring: Literal["all", "best", "adapters"]
    threads: Annotated[int, Field(ge=1, le=1024)] | None
    checkpointing: Literal["auto", True, False]
    micro_batch: Annotated[int, Field(ge=1, le=4096)] | None
    adapt: bool
    compile: bool
    energy: bool
    country: Country
    tracking: bool
    tracking_uri: Text | None
    port: Annotated[int, Field(ge=1, le=65535)] | None
    resume_seconds: Annotated[float, Field(gt=0)]
    stop_after: Duration | None


class Address(str):
    """The address of a database; another process is sent it without its password."""

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (redacted(self),)


def on_server(address: str) -> Address:
    """The address of a PostgreSQL database; ValueError for any other."""
    try:
        parts = urlsplit(address)
        database = parts.path.strip("/")
        is_one = bool(parts.hostname and database) and "@" not in database and parts.port != 0
    except ValueError:  # a port that is no number
        is_one = False
    if not (is_one and parts.scheme in ("postgresql", "postgresql+psycopg")):
        raise ValueError(
            "should be postgresql+psycopg://USER@HOST:PORT/DATABASE, with %2F for a / and %40 for "
            "an @ in a password, or null for study.db in the sweep's folder"
        )
    return Address(address)
