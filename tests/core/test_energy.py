"""The meter: its arithmetic on hand-made readings, and codecarbon itself, without a network."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.small import loaded_after

from charsweep.__main__ import main
from charsweep.core.system.energy import (
    Energy,
    Meter,
    Metered,
    energy_of,
    grid_intensity,
    is_measured,
)

ESTIMATED = ("RAM()", "CPU(Cpu Load)")


class Readings:
    """A probe that tells what it was given."""

    def __init__(self, *readings: Metered | None, parts: tuple[str, ...] = ESTIMATED) -> None:
        self.readings, self.parts, self.stopped = list(readings), parts, False

    def read(self) -> Metered | None:
        return self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]

    def stop(self) -> None:
        self.stopped = True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def metered(country: str, probe: Readings, seconds: float) -> tuple[Energy | None, Meter]:
    clock = Clock()
    with Meter(country, lambda _: probe, clock, delay=0.0) as meter:
        meter._thread.join()
        clock.now += seconds
        return meter.read(), meter


def test_the_first_seconds_count_at_the_mean_power() -> None:
    # 360 kJ in 1,800 s are 200 W; the meter's block has lasted 2,000 s
    energy, _ = metered("WLD", Readings(Metered(0.1, 1800.0)), 2000.0)
    assert energy is not None
    assert energy.watts == pytest.approx(200.0)
    assert energy.seconds == 2000.0
    assert energy.kwh == pytest.approx(200.0 * 2000 / 3.6e6)
    assert energy.co2_kg == pytest.approx(energy.kwh * 0.475)


def test_a_cells_share() -> None:
    energy = Energy(0.2, 0.095, 3600.0, 200.0, False, "", "WLD")
    assert energy_of(90.0, energy) == pytest.approx((5.0, 2.375))
    assert energy_of(3600.0, energy) == pytest.approx((200.0, 95.0))
    assert energy_of(90.0, replace(energy, workers=2)) == pytest.approx((2.5, 1.1875))
    assert energy_of(90.0, Energy(0.0, 0.0, 1.0, 0.0, False, "", "WLD")) == (0.0, 0.0)


def test_electricity_differs_by_country() -> None:
    assert grid_intensity("SWE") < grid_intensity("WLD") < grid_intensity("POL")
    swede, _ = metered("SWE", Readings(Metered(0.1, 1800.0)), 1800.0)
    pole, _ = metered("POL", Readings(Metered(0.1, 1800.0)), 1800.0)
    assert swede
    assert pole
    assert swede.kwh == pole.kwh
    assert swede.co2_kg / pole.co2_kg == pytest.approx(
        grid_intensity("SWE") / grid_intensity("POL")
    )


@pytest.mark.parametrize(
    ("parts", "measured"),
    [
        (ESTIMATED, False),
        (("RAM()", "CPU(AMD EPYC > 240W [generic])"), False),
        (("RAM()", "CPU(Intel Rapl)"), True),
        (("RAM()", "CPU(Cpu Load)", "GPU(NVIDIA H100)"), False),
        (("RAM()", "CPU(Intel Rapl)", "GPU(NVIDIA H100)"), True),
        (("RAM()",), False),
    ],
)
def test_measured_means_counted(parts: tuple[str, ...], measured: bool) -> None:
    assert is_measured(parts) is measured
    energy, _ = metered("WLD", Readings(Metered(0.1, 1800.0), parts=parts), 1800.0)
    assert energy
    assert energy.measured is measured
    assert ("by counter" in energy.source) is any("GPU" in part or "Rapl" in part for part in parts)


def test_nothing_to_meter_with_is_no_error() -> None:
    def refuse(_: float) -> Readings:
        raise OSError("no permission")

    with Meter("WLD", refuse, delay=0.0) as meter:
        assert meter.read() is None
    assert meter.read() is None
    energy, _ = metered("WLD", Readings(None), 10.0)
    assert energy is None


def test_a_slow_start_holds_up_nothing() -> None:
    ready = threading.Event()

    def slow(_: float) -> Readings:
        ready.wait(10)
        return Readings(Metered(0.1, 1800.0))

    began = time.perf_counter()
    with Meter("WLD", slow, delay=0.0) as meter:
        assert time.perf_counter() - began < 1.0
        assert meter.read() is None
        ready.set()
        meter._thread.join()
        assert meter.read()


def test_the_last_reading_stays() -> None:
    probe = Readings(Metered(0.1, 1800.0))
    energy, meter = metered("WLD", probe, 1800.0)
    assert probe.stopped
    assert meter.read() == energy


def test_a_probe_made_too_late_is_stopped() -> None:
    begun, go, late = threading.Event(), threading.Event(), Readings(Metered(0.1, 1.0))

    def slow(_: float) -> Readings:
        begun.set()
        go.wait(10)
        return late

    with Meter("WLD", slow, delay=0.0, patience=0.1) as meter:
        while not begun.is_set():
            time.sleep(0.01)
    assert not late.stopped
    go.set()
    meter._thread.join()
    assert late.stopped
    assert meter.read() is None


def test_a_block_with_nothing_to_do_pays_nothing() -> None:
    made: list[float] = []

    def make(grams_per_kwh: float) -> Readings:
        made.append(grams_per_kwh)
        return Readings(None)

    began = time.perf_counter()
    with Meter("WLD", make, delay=60.0) as meter:
        pass
    assert time.perf_counter() - began < 1.0
    assert not meter._thread.is_alive()
    assert made == []


def test_codecarbon_meters_without_network_and_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: object) -> None:
        assert self.family == socket.AF_UNIX, f"tried to reach {address}"
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    with Meter("FRA", delay=0.0) as meter:
        meter._thread.join()
        first = meter.read()
        time.sleep(1.2)
        second = meter.read()
    assert first
    assert second
    assert 0 < first.kwh < second.kwh
    assert 1 < second.watts < 10_000
    assert second.co2_kg / second.kwh == pytest.approx(grid_intensity("FRA") / 1000)
    counted = Path("/sys/class/powercap/intel-rapl/subsystem").exists() or "GPU" in second.source
    assert second.measured <= counted
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_meter_is_made_without_its_library() -> None:
    code = "from charsweep.core.system.energy import Meter, energy_of\nMeter('USA')"
    assert not {"codecarbon", "pandas", "torch", "psutil"} & loaded_after(code)


@pytest.mark.parametrize("country", ["XYZ", "usa", "US"])
def test_an_unknown_country_is_refused(
    country: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["action=plan", f"root={tmp_path}", f"runtime.country={country}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"ConfigError: runtime.country={country}: ")
    assert len(said.splitlines()) == 1
