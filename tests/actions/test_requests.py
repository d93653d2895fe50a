"""What is asked of a sweep by hand: what it means, and that it is done, while it runs or after."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from helpers.small import small, sweep_of

from charsweep.__main__ import main
from charsweep.actions.choose.app import make_app, words_of
from charsweep.actions.choose.reader import Reader
from charsweep.actions.choose.voting import Voting
from charsweep.actions.requests import (
    FOLDER,
    Request,
    ask,
    check_added,
    honoured,
    requests_of,
    words_with,
)
from charsweep.config import Range
from charsweep.core.cells import Cell
from charsweep.core.errors import ConfigError
from charsweep.core.system.signals import Stopped, stopped_when
from charsweep.results import read_results
from charsweep.results.cells import read_asked

RATES = "+axes.lr=[1e-3,1e-4]"


def added(axis: str, value: str) -> Request:
    return Request("2026-11-29T21:00:00+00:00", axis=axis, value=value)


# -- what they mean --------------------------------------------------------------------------------

AXES: dict[str, Any] = {"lr": (1e-3, 1e-4), "train_steps": (8,), "rank": Range(low=1, high=8)}
MEANINGS = [
    ([], ("+sweep=x",)),
    ([added("lr", "5e-4")], ("+sweep=x", "++axes.lr=[0.001,0.0001,5e-4]")),
    ([added("lr", "0.0010")], ("+sweep=x",)),  # it is there
    ([added("lr", "5e-4"), added("lr", "0.0005")], ("+sweep=x", "++axes.lr=[0.001,0.0001,5e-4]")),
    (
        [added("lr", "5e-4"), added("train_steps", "4")],
        ("+sweep=x", "++axes.lr=[0.001,0.0001,5e-4]", "++axes.train_steps=[8,4]"),
    ),
    ([added("method.rank", "4")], ("+sweep=x",)),  # of another command of that name
    ([added("rank", "4")], ("+sweep=x",)),
    ([Request("", stop="0123456789ab")], ("+sweep=x",)),
]


@pytest.mark.parametrize(("requests", "words"), MEANINGS)
def test_what_requests_add_to_a_command(requests: list[Request], words: tuple[str, ...]) -> None:
    assert words_with(("+sweep=x",), AXES, requests) == words


def test_a_typed_axis_and_typed_seeds_are_replaced() -> None:
    words = words_with(("+axes.lr=[1e-3]", "name=x"), {"lr": (1e-3,)}, [added("lr", "5")])
    assert words == ("name=x", "++axes.lr=[0.001,5]")
    words = words_with(("seeds=2", "name=x"), {"seed": (0, 1)}, [added("seed", "7")])
    assert words == ("name=x", "++axes.seed=[0,1,7]")


def test_strengths_at_which_each_is_drawn_unasked_are_not_typed() -> None:
    axes = {"strength": (0.0, 1.0), "other_strength": (0.0, 0.5, 1.0)}
    words = words_with(("name=x",), axes, [added("other_strength", "0.8")])
    assert words == ("name=x", "++axes.other_strength=[0.5,1.0,0.8]")
    assert words_with(("name=x",), axes, [added("other_strength", "0.5")]) == ("name=x",)


def test_what_is_put_together_of_a_stopped_cell_stops_too(tmp_path: Path) -> None:
    """Else it would fail at every command, for there is nothing to put together."""
    sweep = sweep_of(tmp_path, "characters=[unicorn_girl,thunder_bear]", "+axes.lr=[1e-3,1e-4]")
    one, alone = (
        next(c for c in sweep.cells if c.values["lr"] == 1e-3 and at(c) == strengths)
        for strengths in ((1, 1), (1, 0))
    )
    sweep.folder.mkdir(parents=True)
    ask(sweep.folder, stop=alone.key)
    left = honoured(sweep)
    assert {cell.key for cell in left.stopped} == {one.key, alone.key}
    assert len(left.cells) == 4


def at(cell: Cell) -> tuple[float, float]:
    return cell.values["strength"], cell.values["other_strength"]


def test_requests_are_read_in_order_and_odd_ones_named(tmp_path: Path) -> None:
    assert requests_of(tmp_path) == ()
    ask(tmp_path, stop="0123456789ab")
    ask(tmp_path, axis="lr", value="5e-4")
    first, second = requests_of(tmp_path)
    assert (first.stop, second.axis, second.value) == ("0123456789ab", "lr", "5e-4")
    for text in ("{", '{"at": "x"}', '{"at": "x", "stop": 7}', '{"at": "x", "launch": "rm"}', "[]"):
        odd = tmp_path / FOLDER / "odd.json"
        odd.write_text(text)
        with pytest.raises(ConfigError, match=r"odd\.json is no request .*; delete it"):
            requests_of(tmp_path)
        odd.unlink()  # which is the remedy
        assert len(requests_of(tmp_path)) == 2


REFUSED = [
    ("lr", "1e-3", "give one value that the axis has not yet"),
    ("lr", "-1", "axes.lr"),
    ("lr", "fast", "axes.lr"),
    ("lr", "1,2", "give one value"),
    ("nothing", "1", "values are added to the axes of a grid"),
    ("method", "lora", "its values are no numbers"),
]


@pytest.mark.parametrize(("axis", "value", "words"), REFUSED)
def test_a_value_is_checked_as_on_the_command_line(
    tmp_path: Path, axis: str, value: str, words: str
) -> None:
    more = "+axes.method=[dreambooth_lora]" if axis == "method" else RATES
    typed = small(tmp_path, "train_steps=4", more)
    with pytest.raises(ConfigError, match=words):
        check_added(tmp_path, typed, axis, value)
    assert not list(tmp_path.rglob("*.json"))


def test_a_value_that_can_be_added(tmp_path: Path) -> None:
    check_added(tmp_path, small(tmp_path, "train_steps=4", RATES), "lr", "5e-4")


def test_cells_that_are_stopped_are_none_of_the_cells(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "train_steps=4", RATES)
    first, second = sweep.cells
    sweep.folder.mkdir(parents=True)
    assert honoured(sweep).cells == sweep.cells
    ask(sweep.folder, stop=first.key)
    ask(sweep.folder, stop="ffffffffffff")  # of another command of that name
    now = honoured(sweep)
    assert (now.cells, now.stopped) == ((second,), (first,))
    ask(sweep.folder, stop=second.key)
    with pytest.raises(
        ConfigError, match=f"all cells of small are stopped by hand; delete .*{FOLDER}"
    ):
        honoured(sweep)


def test_the_words_of_a_command() -> None:
    typed = "python -m charsweep +sweep=lr_grid root=. '++axes.lr=[1e-3]'"
    assert words_of(typed, Path("/x")) == ["+sweep=lr_grid", "++axes.lr=[1e-3]", "root=/x"]
    for odd in ("", "python -m other", "charsweep 'x"):
        with pytest.raises(ConfigError, match="type it once more"):
            words_of(odd, Path("/x"))


# -- a running command -----------------------------------------------------------------------------


def test_a_block_is_stopped_once_a_condition_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charsweep.core.system.signals.LOOK_SECONDS", 0.01)
    holds = threading.Event()
    with stopped_when(holds.is_set):
        time.sleep(0.05)
    holds.set()
    with pytest.raises(Stopped) as caught, stopped_when(holds.is_set):
        time.sleep(30)
    assert caught.value.is_asked
    assert not caught.value.is_time_up
    with stopped_when(lambda: False):  # and that is over
        time.sleep(0.05)


@pytest.mark.slow
def test_a_sweep_does_what_is_asked_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Asked after the first block of steps; the same as if the whole had been typed."""
    monkeypatch.setattr("charsweep.core.system.signals.LOOK_SECONDS", 0.02)
    words = small(
        tmp_path, "train_steps=80", RATES, "runtime.tracking=false", "runtime.energy=false"
    )
    sweep = sweep_of(tmp_path, "train_steps=80", RATES)
    bad = sweep.cells[0]
    losses = tmp_path / "sweeps/store" / f"{bad.trajectory.slug}--{bad.trajectory.key}/loss.csv"

    def page() -> TestClient:
        reader = Reader(sweep.folder, tmp_path / "sweeps/store")
        app, _ = make_app(reader, Voting(reader.votes, "ann"), 5999)
        url = "http://127.0.0.1:5999"
        return TestClient(app, base_url=url, headers={"Origin": url})

    def person() -> None:
        while not (losses.exists() and losses.read_bytes().count(b"\n") > 1):
            time.sleep(0.01)
        with page() as client:
            shown = client.get("/api/sweep").json()
            assert {cell["state"] for cell in shown["cells"]} == {"waiting"}
            assert client.post("/api/stop", json={"cell": bad.key}).status_code == 200
            assert client.post("/api/stop", json={"cell": "ffffffffffff"}).status_code == 404
            asked = client.get("/api/progress").json()["asked"]
            assert asked == ["stop lr = 1e-3"]
        ask(sweep.folder, axis="lr", value="5e-4")

    asking = threading.Thread(target=person)
    asking.start()
    assert main(words) == 0
    asking.join()
    results = read_results(sweep.folder / "cells.jsonl")
    states = {result.values["lr"]: result.state for result in results.values()}
    assert states == {1e-4: "finished", 5e-4: "finished", 1e-3: "stopped"}
    assert "stopped by hand after" in str(results[bad.key].error)
    assert "of 80 steps" in (sweep.folder / "cells.csv").read_text()
    record = json.loads((sweep.folder / "sweep.json").read_text())
    assert record["axes"]["lr"] == [1e-3, 1e-4, 5e-4]
    assert [one.get("value") for one in record["requests"]] == ["", "5e-4"]
    assert {one.values["lr"] for one in read_asked(sweep.folder)} == {1e-4, 5e-4}
    assert (losses.parent / "spec.json").exists()  # what is stored of it stays
    before = (sweep.folder / "cells.jsonl").read_bytes()
    assert main(words) == 0  # the same command as ever: there is nothing left to do
    assert (sweep.folder / "cells.jsonl").read_bytes() == before
    assert "stopped by hand" in (sweep.folder / "report/index.html").read_text()
    with page() as client:  # and one of them is taken
        key = next(one.cell for one in results.values() if one.finished)
        assert client.post("/api/export", json={"cell": key}).json()["state"] == "running"
        assert "wait until that is done" in client.post("/api/export", json={"cell": key}).text
        while (told := client.get("/api/export").json())["state"] == "running":
            time.sleep(0.1)
        assert told["state"] == "done", told
        assert json.loads((Path(told["path"]) / "export.json").read_text())["cell"] == key
    capfd.readouterr()
