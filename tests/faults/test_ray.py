"""Workers on Ray: the bits of one process, whoever is killed, comes late or has to go."""

from __future__ import annotations

import math
import random
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from harness import assert_equal, ended, quick, start, steps, until
from helpers.ray_nodes import Place, place

pytestmark = pytest.mark.ray

GRID = ["+axes.lr=[1e-2,1e-3]", "+axes.train_steps=[10,80]", "pack=1",
        "runtime.tracking=false", "runtime.threads=1", "runtime.resume_seconds=0.5"]  # fmt: skip
WORKER = "charsweep.engine.worker"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of one process."""
    root = tmp_path_factory.mktemp("alone")
    log = root / "log"
    words = quick(root, *GRID, "runtime.workers=1")
    assert ended(start(words, log)) == 0, log.read_text()
    return root


@pytest.fixture
def here() -> Iterator[Place]:
    with place() as made:
        yield made


def words(root: Path, cluster: str, *more: str) -> list[str]:
    scratch = f"runtime.scratch={root / 'scratch'}"
    return quick(root, *GRID, f"runtime.cluster={cluster}", scratch, *more)


def begun(root: Path) -> bool:
    """Whether a worker has taken a step."""
    return any(root.glob("scratch/*/*/sweeps/store/dreambooth*/loss.csv"))


def left(here: Place, seconds: float = 60) -> list[str]:
    """What still runs after so long of what Ray or we have started for a command."""
    end = time.monotonic() + seconds
    while (found := here.named("ray") + here.named("charsweep")) and time.monotonic() < end:
        time.sleep(0.2)
    return [" ".join(process.cmdline()) for process in found]


def test_a_worker_is_killed_and_then_the_command(tmp_path: Path, alone: Path, here: Place) -> None:
    """Both are trained by others from where they were; the same command goes on; no one is left."""
    log, local = tmp_path / "log", words(tmp_path, "local", "runtime.workers=2")
    process = here.command(local, log)
    until(partial(begun, tmp_path), process, log)
    time.sleep(random.uniform(0, 3))
    here.named(WORKER)[0].kill()
    said = "was killed by SIGKILL; its work is done by others"
    until(lambda: steps(tmp_path) > 0 and said in log.read_text(), process, log)
    process.kill()
    process.wait()
    assert left(here) == []

    assert ended(here.command(local, log)) == 0, log.read_text()
    assert left(here) == []
    assert_equal(tmp_path, alone, tracked=False)
    assert not list(tmp_path.glob("scratch/*/*/sweeps"))


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_worker_is_killed_at_any_instant(
    share: float, tmp_path: Path, alone: Path, here: Place
) -> None:
    """Somewhere in that tenth of the work, by the losses and images that are stored."""
    log = tmp_path / "log"
    process = here.command(words(tmp_path, "local", "runtime.workers=2"), log)
    whole = done(alone)
    reached = (share + random.uniform(-0.1, 0.1)) * whole
    until(lambda: done(tmp_path) + done_in_scratch(tmp_path) >= reached, process, log)
    random.choice(here.named(WORKER)).kill()
    assert ended(process) == 0, log.read_text()
    assert "was killed by SIGKILL; its work is done by others" in log.read_text()
    assert left(here) == []
    assert_equal(tmp_path, alone, tracked=False)


def done(root: Path) -> int:
    """Steps and images that are stored."""
    return steps(root) + len(list(root.glob("sweeps/store/**/*.png")))


def done_in_scratch(root: Path) -> int:
    try:
        return sum(done(scratch) for scratch in root.glob("scratch/*/*"))
    except FileNotFoundError:  # a folder was renamed meanwhile: at the next look
        return 0


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "frozen", "drained"])
def test_a_node_goes_and_another_comes(how: str, tmp_path: Path, alone: Path, here: Place) -> None:
    log, port = tmp_path / "log", random.randint(20000, 30000)
    address = f"127.0.0.1:{port}"
    here.node("--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false",
              "--node-ip-address=127.0.0.1")  # fmt: skip
    nodes = [here.node(f"--address={address}", "--num-cpus=1") for _ in range(2)]
    process = here.command(words(tmp_path, address), log)
    until(partial(begun, tmp_path), process, log)
    gone = here.below(nodes[0])
    if how == "drained":
        nodes[0].terminate()
    else:
        for one in gone:
            one.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
    started = time.monotonic()
    here.node(f"--address={address}", "--num-cpus=1")
    assert ended(process) == 0, log.read_text()
    said = log.read_text()
    if how == "drained":
        assert "leaves, because its machine is about to go" in said
        nodes[0].wait(30)
    else:
        assert "was lost: " in said
    assert time.monotonic() - started < 300
    assert_equal(tmp_path, alone, tracked=False)
    if how != "frozen":
        assert not psutil.wait_procs(gone, timeout=10)[1]
        assert here.named(WORKER) == []


@pytest.mark.slow
def test_a_wrong_token_is_one_message(tmp_path: Path, here: Place) -> None:
    log, port = tmp_path / "log", random.randint(20000, 30000)
    here.node("--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false",
              "--node-ip-address=127.0.0.1")  # fmt: skip
    asked = words(tmp_path, f"127.0.0.1:{port}")
    assert ended(here.command(asked, log, RAY_AUTH_TOKEN="0" * 64), 120) == 2
    said = log.read_text()
    assert f"ConfigError: runtime.cluster=127.0.0.1:{port}: no Ray that takes us answers" in said
    assert "ray get-auth-token --generate" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_stopped_in_order_all_is_saved_at_the_head(
    tmp_path: Path, alone: Path, here: Place
) -> None:
    """Nothing of a scratch store is needed to go on."""
    log, local = tmp_path / "log", words(tmp_path, "local", "runtime.workers=2")
    process = here.command(local, log)
    until(partial(begun, tmp_path), process, log)
    time.sleep(2)
    process.terminate()
    assert ended(process, 90) == 143, log.read_text()
    assert left(here) == []
    assert list(tmp_path.glob("sweeps/store/dreambooth*/resume/step-*/resume.json"))
    assert not list(tmp_path.glob("scratch/*/*/sweeps"))
    assert ended(here.command(local, log)) == 0, log.read_text()
    assert_equal(tmp_path, alone, tracked=False)


@pytest.mark.slow
def test_two_workers_take_little_more_than_half_the_time(tmp_path: Path, here: Place) -> None:
    """From the first step on; the faster of two runs of each, on cores that are idle."""
    if cores_at_rest() < 2:
        pytest.skip("needs two idle cores")
    rates = ",".join(f"{rate}e-4" for rate in range(1, 13))
    grid = [f"+axes.lr=[{rates}]", "train_steps=100", "pack=1", "runtime.tracking=false",
            "runtime.threads=1", "runtime.cluster=local"]  # fmt: skip
    seconds: dict[int, float] = {}
    for run, count in enumerate((1, 2, 1, 2)):
        root, log = tmp_path / str(run), tmp_path / f"{run}.log"
        scratch = f"runtime.scratch={root / 'scratch'}"
        process = here.command(quick(root, *grid, scratch, f"runtime.workers={count}"), log)
        until(partial(begun, root), process, log)
        began = time.monotonic()
        assert ended(process) == 0, log.read_text()
        seconds[count] = min(time.monotonic() - began, seconds.get(count, math.inf))
    assert seconds[1] / seconds[2] >= 1.5, seconds


def cores_at_rest() -> float:
    """How many of this machine's cores nobody has used for a second."""
    return sum(100 - busy for busy in psutil.cpu_percent(interval=1, percpu=True)) / 100 + 0.1
