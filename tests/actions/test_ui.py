"""MLflow's UI as people see it, in a real browser; and a sweep's report from MLflow alone."""

from __future__ import annotations

import csv
import http.client
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import browser as chromium
from helpers.small import command, small

from charsweep.__main__ import main
from charsweep.actions.ui import choose_port
from charsweep.core.errors import ConfigError
from charsweep.report import write_report
from charsweep.results.recommendation import recommendation_of
from charsweep.track import process as track

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

RATES = {"lr=3e-3": 0.003, "lr=1e-3": 0.001, "lr=1e-4": 0.0001}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cells on the embedded models, tracked."""
    root = tmp_path_factory.mktemp("ui")
    rates = f"+axes.lr=[{','.join(map(str, RATES.values()))}]"
    assert main(small(root, "train_steps=8", "question=Which rate?", rates)) == 0
    return root


@pytest.fixture(scope="module")
def ui(root: Path) -> Iterator[chromium.Served]:
    if lacking := chromium.missing():
        pytest.skip(lacking)
    with chromium.served(root, "small") as ui:
        yield ui
        ui.process.send_signal(signal.SIGINT)  # Ctrl-C
        assert ui.process.wait(timeout=60) == 0


@pytest.fixture(scope="module")
def page(ui: chromium.Served) -> Iterator[Chrome]:
    with chromium.chromium() as page:
        yield page


def cells(root: Path) -> list[dict[str, str]]:
    with (root / "sweeps/small/cells.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def runs(root: Path) -> Any:
    return json.loads((root / "sweeps/small/runs.json").read_text())


# -- in the browser --------------------------------------------------------------------------------


@pytest.mark.browser
def test_the_experiment_lists_its_cells_with_their_scores(
    root: Path, ui: chromium.Served, page: Chrome
) -> None:
    page.get(ui.table)
    chromium.wait_for_text(page, *RATES, "score", "identity", "4 matching runs")
    chromium.wait_for_text(page, *(cell["score"][:7] for cell in cells(root)))
    best = max(cells(root), key=lambda cell: float(cell["score"]))
    named = {rate: name for name, rate in RATES.items()}
    order = sorted(RATES, key=chromium.text(page).index)
    assert order[0] == named[float(best["lr"])]


@pytest.mark.browser
def test_the_note_says_the_verdict(root: Path, ui: chromium.Served, page: Chrome) -> None:
    page.get(ui.table)
    order = ("Which rate?", "3 of 3 cells finished", "does not rest on single similarities")
    said = chromium.wait_for_text(page, *order)
    places = [said.index(words) for words in order]
    assert places == sorted(places)
    best = recommendation_of(root / "sweeps/small")
    assert best.cell is not None
    assert f"score {best.cell.scores.get('score'):.3f}" in said


@pytest.mark.browser
def test_loss_curves_scores_and_pictures_of_all_cells_side_by_side(
    root: Path, ui: chromium.Served, page: Chrome
) -> None:
    page.get(ui.charts)
    chromium.wait_for(page, "a curve per cell", lambda p: chromium.curves(p, "loss") >= len(RATES))
    scores = [f"{float(cell['identity']):.2f}" for cell in cells(root)]
    said = chromium.wait_for_text(page, *scores)
    assert all(title in said for title in ("loss", "score", "identity"))
    chromium.wait_for(page, "pictures", lambda p: len(chromium.image_widths(p)) >= len(RATES))
    chromium.wait_for(page, "loaded pictures", lambda p: all(chromium.image_widths(p)))
    assert min(chromium.image_widths(page)) > 0


@pytest.mark.browser
def test_two_runs_compared(root: Path, ui: chromium.Served, page: Chrome) -> None:
    one, other = list(runs(root)["cells"].values())[:2]
    experiment = runs(root)["experiment"]
    page.get(f'{ui.url}/#/compare-runs?runs=["{one}","{other}"]&experiments=["{experiment}"]')
    said = chromium.wait_for_text(page, "Comparing 2 Runs", "dino_gain", "energy_wh", "loss")
    compared = [rate for rate in RATES if rate in said]
    assert compared == list(RATES)[:2]
    assert {"0.003", "0.001"} <= set(said.split())


@pytest.mark.browser
def test_the_report_is_there(root: Path, ui: chromium.Served, page: Chrome) -> None:
    known = runs(root)
    run = f"{ui.url}/#/experiments/{known['experiment']}/runs/{known['sweep']}"
    page.get(f"{run}/artifacts/report/index.html")
    chromium.wait_for(page, "a frame", lambda p: p.find_elements("tag name", "iframe"))
    page.switch_to.frame(page.find_element("tag name", "iframe"))
    assert "the best so far" in chromium.wait_for_text(page, "Which rate?", "3 cells")
    page.switch_to.default_content()


@pytest.mark.browser
def test_only_this_machine_is_served(ui: chromium.Served) -> None:
    """A page of another host cannot reach it through the browser that has it open."""
    place = ui.url.removeprefix("http://")
    for host, status in ((place, 200), ("elsewhere.example", 403)):
        connection = http.client.HTTPConnection(place, timeout=60)
        connection.request("GET", "/api/2.0/mlflow/experiments/search?max_results=1",
                           headers={"Host": host})  # fmt: skip
        assert connection.getresponse().status == status
        connection.close()


# -- starting and stopping -------------------------------------------------------------------------


@pytest.mark.slow
def test_it_ends_without_a_trace(root: Path) -> None:
    with chromium.served(root, "unknown") as ui:  # shows what there is instead
        port = int(ui.url.rpartition(":")[2])
        ui.process.terminate()
        assert ui.process.wait(timeout=60) == 0
        with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
            probe.connect(("127.0.0.1", port))
        assert str(root) not in processes(f"--port {port}")


def processes(wanted: str) -> str:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return "\n".join(line for line in listed.stdout.splitlines() if wanted in line)


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"runtime\.port={port}: something listens"):
            choose_port(port)
    assert choose_port(None) >= 5000


def test_where_nothing_is_tracked(tmp_path: Path) -> None:
    done = command("action=ui", cwd=tmp_path)
    assert done.returncode == 2
    assert "run a sweep there first" in done.stderr
    assert not list(tmp_path.iterdir())


# -- the way back ----------------------------------------------------------------------------------


def test_the_report_from_mlflow_alone(root: Path, tmp_path: Path) -> None:
    """As on another machine: no store; the cells and the report are the same."""
    back = tmp_path / "sweeps" / "small"
    store = track.fetch("small", back, f"sqlite:///{root / 'mlflow.db'}")
    for name in ("cells.csv", "cells.jsonl"):
        assert (back / name).read_text() == (root / "sweeps/small" / name).read_text()
    page = write_report(back, store).read_text(encoding="utf-8")
    assert "Which rate?" in page
    own, other = (
        {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
        for folder in (root / "sweeps/small/report", back / "report")
    )
    lost = {str(name) for name in own.keys() - other.keys()}  # MLflow has no training images
    assert all(name.startswith(("training/", "contact_sheets/training-")) for name in lost), lost
    assert other.keys() <= own.keys()
    sheets = [name for name in other if name.suffix == ".png" and "contact_sheets" in name.parts]
    assert sheets
    for name in sheets:  # the pictures themselves came back, to the last bit
        assert own[name].read_bytes() == other[name].read_bytes()
