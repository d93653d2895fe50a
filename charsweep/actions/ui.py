"""A root folder in; MLflow's UI on 127.0.0.1 until Ctrl-C, and the addresses to open, out.

A server of ours and not plain `mlflow ui`: that one starts four workers and seven processes for
jobs (1.5 GB), phones home, and opens on an empty page.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from charsweep.config import Settings
from charsweep.core.errors import ConfigError, TrackingError
from charsweep.core.system.console import out
from charsweep.core.system.signals import Stopped
from charsweep.track.server import (
    QUIET,
    VIEW,
    VIEW_TAG,
    database,
    is_server,
    public,
    reach,
    tracking_uri,
)

HOST = "127.0.0.1"
FIRST_PORT = 5000
PORTS = 100  # how many are tried when none is asked for
START_SECONDS = 180.0  # 10 s on two idle cores; importing MLflow on a busy machine takes minutes
STOP_SECONDS = 15.0


def show(settings: Settings) -> None:
    """Serve until Ctrl-C or SIGTERM, and say what to open.

    ConfigError when the port is taken, TrackingError when nothing has been tracked yet.
    """
    root = Path(settings.root).expanduser().resolve()
    uri = tracking_uri(root, settings.runtime.tracking_uri)
    if is_server(uri):  # somebody serves it already
        reach(uri)
        tell(uri, settings.name)
        return
    path = database(uri)
    if path is not None and not path.exists():
        raise TrackingError(
            f"nothing is tracked in {root}: there is no {path}; run a sweep there first, or set "
            "root= to the folder of one"
        )
    url = f"http://{HOST}:{choose_port(settings.runtime.port)}"
    try:
        with served(uri, url, root) as server:
            tell(url, settings.name)
            out("stop it with Ctrl-C")
            server.wait()
            raise TrackingError(
                f"MLflow's UI has ended by itself ({server.returncode}); start it anew"
            )
    except Stopped:  # which is how it ends
        out("stopped")


# -- what to open ----------------------------------------------------------------------------------


def tell(url: str, name: str) -> None:
    """Where in a running server the sweep is; if MLflow has none of that name, all of them."""
    query = f"{url.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1000"
    with urllib.request.urlopen(query, timeout=60) as answer:
        found = json.load(answer).get("experiments", [])  # the newest first
    known = [one for one in found if one["name"] != "Default"]
    if not known:
        out("MLflow   has no sweep yet")
    for one in [one for one in known if one["name"] == name] or known:
        table = table_of(public(url), one)
        out(one["name"])
        out(f"  cells and scores     {table}")
        out(f"  curves and pictures  {table}&compareRunsMode=CHART")


def table_of(url: str, experiment: Mapping[str, Any]) -> str:
    """The address of its cells as a table."""
    has_view = any(tag["key"] == VIEW_TAG for tag in experiment.get("tags", []))
    page = f"{url.rstrip('/')}/#/experiments/{experiment['experiment_id']}/runs"
    page += "?workflowType=machine_learning"
    return page + (f"&viewStateShareKey={VIEW}" if has_view else "")


# -- the server ------------------------------------------------------------------------------------


def choose_port(asked: int | None, setting: str = "runtime.port") -> int:
    """The port that is asked for, else the first free one from 5000; ConfigError if taken."""
    if asked is None:
        return next((p for p in range(FIRST_PORT, FIRST_PORT + PORTS) if is_free(p)), FIRST_PORT)
    if not is_free(asked):
        raise ConfigError(
            f"{setting}={asked}: something listens there already; choose another, or leave it "
            "out for the first free one"
        )
    return asked


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server will
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def served(uri: str, url: str, root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers; whatever happens within, none of its processes outlives the block."""
    port = url.rpartition(":")[2]
    command = [sys.executable, "-m", "mlflow", "ui", "--host", HOST, "--port", port]
    environment = {
        **os.environ,
        **QUIET,
        "MLFLOW_BACKEND_STORE_URI": uri,  # not in `ps`: may hold a password
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",  # a web page must not read the runs
    }
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [*command, "--workers", "1"], cwd=root, env=environment, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, process_group=0,  # Ctrl-C is for us to handle
        )  # fmt: skip
        try:
            wait_until_up(server, url, log)
            yield server
        finally:
            stop(server)


def wait_until_up(server: subprocess.Popen[bytes], url: str, log: Any) -> None:
    out("starting MLflow's UI …")
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
            return
        time.sleep(0.2)
    log.seek(0)
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    raise TrackingError(
        f"MLflow's UI did not start at {url}: {lines[-1] if lines else 'it says nothing'}; "
        "if mlflow.db is broken, move it away: `action=report` logs a sweep anew from the store"
    )


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and the worker that it started."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=STOP_SECONDS)
            if not group_is_alive(server.pid):
                return


def group_is_alive(group: int) -> bool:
    """Whether the worker is still closing its connections, for at most a few seconds."""
    end = time.monotonic() + STOP_SECONDS
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True
