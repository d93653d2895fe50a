"""A time limit: ends in order before it, report included, and the same command goes on."""

from __future__ import annotations

import json
import random
import re
import shlex
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "faults"))

from harness import assert_equal, finished_stages, quick
from helpers.small import command, trials

from charsweep.__main__ import main
from charsweep.actions import run
from charsweep.config import load_sweep
from charsweep.core.store import Store
from charsweep.core.system import signals
from charsweep.engine import image_sets
from charsweep.engine.progress import ProgressView
from charsweep.evaluate.sample import PartialImageSet
from charsweep.plan import cost

WORDS = ["+axes.lr=[1e-2,1e-3]", "+axes.train_steps=[8,20]", "pack=2", "runtime.tracking=false"]
LIMIT = "runtime.stop_after=1h"
STOPS = 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that nobody has disturbed."""
    root = tmp_path_factory.mktemp("whole")
    assert main(quick(root, *WORDS)) == 0
    return root


def ring_at(patch: pytest.MonkeyPatch, what: str, count: int) -> None:
    """Have the alarm ring when so many steps, images or cells are counted."""
    left = count
    plain = ProgressView.advance

    def advance(self: ProgressView, name: str, number: int = 1, seconds: float = 0.0) -> None:
        nonlocal left
        plain(self, name, number, seconds)
        left -= name == what
        if name == what and left == 0:
            signal.raise_signal(signal.SIGALRM)

    patch.setattr(ProgressView, "advance", advance)


def test_stopped_in_time_it_goes_on_to_the_same_bits(
    whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Too short a limit, one in training, one in drawing, and one that does."""
    words = quick(tmp_path, *WORDS)
    page = tmp_path / "sweeps/small/report/index.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "seconds_for_work", lambda *_: 0.0)
        assert main([*words, "runtime.stop_after=90s"]) == 2
    told = capfd.readouterr().err
    assert "runtime.stop_after=90s was over before anything was finished" in told
    assert "Traceback" not in told
    (limit,) = re.findall(r"as in (runtime\.stop_after=\d+min)\n", told)

    words, kept, said = [*words, limit], {}, []
    for what, count in (("steps", 3), ("cells", 1)):
        with pytest.MonkeyPatch.context() as patch:
            ring_at(patch, what, count)
            code = main(words)
        told = capfd.readouterr()
        said.append(told.out)
        assert code == 75, told.err
        assert "stopping (runtime.stop_after)" in told.err
        again = re.search(r"go on, run it again:\n  (.*)\n$", told.err)
        assert again
        assert shlex.split(again[1]) == ["python", "-m", "charsweep", *words]
        assert "not finished: " in page.read_text()
        now = finished_stages(tmp_path)
        assert kept.items() <= now.items()
        kept = now
    trained, drawn = said
    assert "best     No cell has ended yet" in trained
    assert "missing  4 of 4 cells: " in trained
    assert re.search("is (recommended|the best so far): ", drawn)
    assert re.search(r"missing  [123] of 4 cells: 0 steps, \d+ images, about ", drawn)

    assert main(words) == 0
    assert kept.items() <= finished_stages(tmp_path).items()
    assert "not finished: " not in page.read_text()
    assert_equal(tmp_path, whole, tracked=False)


def test_a_limit_that_is_over_before_the_work_begins(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "plan_work", lambda *_: signal.raise_signal(signal.SIGALRM))
    assert main(quick(tmp_path, *WORDS, "runtime.stop_after=60s")) == 2
    assert "runtime.stop_after=60s was over before anything was" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


SEARCHES = {
    "tpe": (
        ["search=tpe", "search.trials=2", "search.at_once=1", "+axes.lr={low: 1e-3, high: 1e-2}"],
        ("cells", 1), r"[12] of 2 trials",
    ),
    "halving": (  # behind its rung, which prunes two of four: at the first cell of the others
        ["search=halving", "search.trials=4", "search.at_once=4", "search.rungs=[1]",
         "+axes.lr={low: 1e-3, high: 1e-2}"],
        ("cells", 5), r"1 of 4 trials",
    ),
    "find": (
        ["search=find", "find.rates=[1e-3,1e-2]", "find.steps=[2,4]", "find.inference_steps=[1]"],
        ("cells", 1), r"\d+ of \d+ cells of the stages so far, and what they lead to",
    ),
    "race": (  # in its second round, of which no cell has a result as yet
        ["search=race", "+axes.lr=[1e-2,1e-3]", "exam.seeds=[0,1,2]"],
        ("trajectories", 3), r"2 of 2 cells",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [name if name == "tpe" else pytest.param(name, marks=pytest.mark.slow) for name in SEARCHES],
)
def test_a_search_goes_on_too(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    own, at, missing = SEARCHES[name]
    words = quick(tmp_path, "train_steps=3", "runtime.tracking=false", LIMIT, *own)
    with pytest.MonkeyPatch.context() as patch:
        ring_at(patch, *at)
        assert main(words) == 75
    out = capfd.readouterr().out
    assert "stop after    1 h 00 min, report included: " in out
    assert re.search(rf"missing  {missing}\n", out)
    assert main(words) == 0
    record = json.loads((tmp_path / "sweeps/small/sweep.json").read_text())
    assert record["finished"]
    assert {state for _, state in trials(tmp_path)} <= {"COMPLETE", "PRUNED"}


def test_no_set_is_begun_that_cannot_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its images would be lost with it."""
    sweep = load_sweep(quick(tmp_path, *WORDS))
    drawing = image_sets.ImageSets(sweep, Store(tmp_path), None, None, None)  # type: ignore[arg-type]
    images = sweep.cells[0].images
    begun = PartialImageSet(images)
    seconds: list[float] = []
    monkeypatch.setattr(image_sets, "check_room", seconds.append)
    drawing._check_room([begun, begun], 0)
    assert seconds == []  # how long it takes is not known yet
    drawing.pace = 2.0**-12  # of a pixel
    for drawn in range(4):
        drawing._check_room([begun, begun], drawn)
    each = 1.0 * cost.calls_each(images)
    assert seconds == [2 * each, each, 2 * each, each]
    drawing._check_room([PartialImageSet(replace(images, size=(96, 64)))], 0)
    assert seconds[-1] == 3 * each  # wider, so longer


def test_the_earlier_of_two_limits_rings_and_others_alarms_are_left_alone() -> None:
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    pending = signal.setitimer(signal.ITIMER_REAL, 30)
    try:
        with signals.listening():
            with signals.time_limit(20), signals.time_limit(None):
                with pytest.raises(signals.Stopped) as stopped, signals.time_limit(0.01):
                    time.sleep(5)
                assert stopped.value.code == 75
                signals.check()  # it is forgotten with its block
                with pytest.raises(signals.Stopped):
                    signals.check_room(25)
            with signals.time_limit(20):
                signals.check_room(10)
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 30
        signal.raise_signal(signal.SIGALRM)
        assert rung == [1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, *pending)
        signal.signal(signal.SIGALRM, before)


def test_the_step_at_hand_is_finished_first() -> None:
    done = []

    def work() -> None:
        with signals.delay_signals():
            time.sleep(0.1)
            done.append("step")
        done.append("next")

    with signals.listening(), signals.time_limit(0.02), pytest.raises(signals.Stopped):
        work()
    assert done == ["step"]


@pytest.mark.parametrize(
    ("words", "limit", "said"),
    [
        (["+axes.lr=[1e-2,1e-3]", "train_steps=2000"], "2h", "all of it is expected to fit"),
        (["+axes.lr=[1e-2,1e-3]", "train_steps=2000"], "30s", "about .* of work will be left; the"),
        (["search=find"], "30s", "at most .* of work will be left; the same command goes on"),
        (["+sweep=tpe"], "30s", "what is left then, the same command goes on with"),
    ],
)
def test_the_plan_says_whether_it_fits(
    words: list[str], limit: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(quick(tmp_path, *words, "action=plan", f"runtime.stop_after={limit}")) == 0
    assert re.search(f"  stop after .*, report included: {said}", capsys.readouterr().out)


@pytest.mark.parametrize("typed", ["soon", "0", "-5min", "5eur", "[1h]"])
def test_what_is_no_length_of_time_is_one_message(
    typed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(quick(tmp_path, f"runtime.stop_after={typed}")) == 2
    told = capsys.readouterr().err
    assert "runtime.stop_after=" in told
    assert "as in 11h, 90min" in told
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_limits_at_random(whole: Path, tmp_path: Path) -> None:
    """As processes, with the clock's own alarm: each ends in time, and all as if never stopped."""
    chance, stops, sweeps = random.Random(5), 0, 0
    started = time.monotonic()
    assert command(*quick(tmp_path / "clock", *WORDS), timeout=900).returncode == 0
    span = time.monotonic() - started
    while stops < STOPS:
        root, code = tmp_path / f"{sweeps:02d}", 75
        kept: dict[Path, Any] = {}
        while code:
            limit = chance.uniform(0.1, 2.0) * span
            words = quick(root, *WORDS, f"runtime.stop_after={limit:.2f}s")
            began = time.monotonic()
            done = command(*words, timeout=900)
            took, code = time.monotonic() - began, done.returncode
            print(f"{code} after {took:.1f} s of {limit:.1f}")
            assert code in (0, 2, 75), done.stderr
            if code:
                stops += 1
                assert took < limit + 3, f"{took:.1f} s of {limit:.1f}\n{done.stderr}"
                expected = "give it more" if code == 2 else "to go on, run it again"
                assert expected in done.stderr
            now = finished_stages(root)
            assert kept.items() <= now.items()
            kept = now
        assert_equal(root, whole, tracked=False)
        sweeps += 1
