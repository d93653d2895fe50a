"""Where MLflow lies, a database or a server, and whether it can be reached."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from charsweep.core.errors import TrackingError
from charsweep.core.system.sqlite import address_of, path_in

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # it is on by default
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # a log is for what went wrong
    # By default MLflow tries for minutes, and may log twice what was answered too late. We begin
    # again with what is on disk, where each run can be told whole or not.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "OMP_NUM_THREADS": "1",  # the cores belong to training
    "OPENBLAS_NUM_THREADS": "1",
}
VIEW = "charsweep"  # the saved view of an experiment, and the tag that MLflow's UI keeps it in
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
AGAIN = "run the same command again: what is missing is logged then"


class UnreachableError(TrackingError):
    """There is no answer now; there may be one later."""


def tracking_uri(root: Path, configured: str | None = None) -> str:
    """Where MLflow keeps its runs: as configured, MLFLOW_TRACKING_URI, or `<root>/mlflow.db`.

    TrackingError for MLflow's old file store, which it no longer reads.
    """
    given = configured or os.environ.get("MLFLOW_TRACKING_URI")
    if not given:
        _refuse_leftover(root)
        return address_of(root.resolve() / "mlflow.db")
    if path := database(given):
        return address_of(path.absolute())
    files_allowed = os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() == "true"
    if urlsplit(given).scheme in ("", "file") and given != "databricks" and not files_allowed:
        raise TrackingError(
            f"MLFLOW_TRACKING_URI is {given}, a folder, which MLflow 3 no longer writes; "
            f"unset it, or use {address_of(root.resolve() / 'mlflow.db')}"
        )
    return given


def hush() -> None:
    """No telemetry, few words; before MLflow is imported."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def database(uri: str) -> Path | None:
    """The SQLite file behind a tracking URI; None for a server or another database."""
    return path_in(uri)


def is_server(uri: str) -> bool:
    return urlsplit(uri).scheme in ("http", "https")


def reach(uri: str) -> None:
    """Ask an MLflow server for a sign of life; UnreachableError when there is none."""
    if not is_server(uri):
        return
    try:
        urllib.request.urlopen(f"{public(uri).rstrip('/')}/health", timeout=20).close()
    except urllib.error.HTTPError:
        return  # it answers; whether it lets us in is MLflow's matter
    except OSError as error:
        raise UnreachableError(
            f"no MLflow server at {public(uri)} ({error}); start it, or unset MLFLOW_TRACKING_URI "
            f"for a local mlflow.db, and {AGAIN}"
        ) from error


def public(uri: str) -> str:
    """Without a password."""
    place = urlsplit(uri).netloc
    return uri.replace(place, place.rpartition("@")[2]) if place else uri


def _refuse_leftover(root: Path) -> None:
    """MLflow's UI prefers an old file store in ./mlruns to the database beside it."""
    if any(meta.parent.name.isdigit() for meta in root.glob("mlruns/*/meta.yaml")):
        raise TrackingError(
            f"{root / 'mlruns'} holds runs of MLflow's old file store, which would hide "
            f"{root / 'mlflow.db'} from `mlflow ui`; move that folder away"
        )
