"""An MLflow server that is killed and comes back: no run is lost, none is there twice."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from helpers.services import free_port, mlflow
from helpers.tracked_sweep import STEPS, append, make_cell, make_sweep, peek, until

from charsweep.track import process as track

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def port() -> int:
    return free_port()


def test_what_a_server_missed_is_delivered_once(tmp_path: Path, port: int) -> None:
    """It is away at the start, is killed while it logs, hangs, and is away at the end."""
    sweep, place = make_sweep(tmp_path, "s"), tmp_path / "server"
    store, uri = tmp_path / "sweeps" / "store", f"http://127.0.0.1:{port}"
    cells = [f"{index:012x}" for index in range(12)]
    with track.start(sweep, store, uri, niceness=0) as tracker:
        append(sweep, "".join(make_cell(tmp_path, index) for index in range(6)))
        with mlflow(place, port) as process:
            until(lambda: len(track.read_runs(sweep)) >= 2, 120)
            os.killpg(process.pid, signal.SIGSTOP)  # accepts and never answers
            time.sleep(2)
        assert tracker.problem() is None  # it waits for another
        append(sweep, "".join(make_cell(tmp_path, index) for index in range(6, 9)))
        with mlflow(place, port):
            until(lambda: len(track.read_runs(sweep)) == 9, 150)
        append(sweep, "".join(make_cell(tmp_path, index) for index in range(9, 12)))
        started = time.monotonic()
        problem = tracker.wait()
        assert time.monotonic() - started < 90
    assert problem
    assert "run the same command again" in problem
    assert not track.is_delivered(sweep, cells)
    log = (sweep / "tracking.log").read_text()
    assert "Traceback" not in log
    assert f"no MLflow server at {uri}" in log

    with mlflow(place, port):
        runs = track.rebuild(sweep, store, uri)
        assert track.is_delivered(sweep, cells)
    found = peek(place / "mlflow.db")
    assert found == {cell: [(runs[cell], "FINISHED", STEPS)] for cell in cells}
