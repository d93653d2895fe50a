"""A meter of the energy that this machine draws while we work, and of its CO2.

`codecarbon` does the measuring: counters where the machine has them (NVML of a GPU, RAPL of a CPU,
which needs root on most systems), else an estimate from the processor's rated power and load; the
memory is always estimated from its size. It meters the whole machine, so on a shared one others'
work is counted too. How much of a reading is measured, the reading says itself.

It is used without network, files and telemetry: nothing is handed to its outputs but ours, and the
carbon intensity of the country's grid is given to it from the table that it ships (Ember and Energy
Institute, by Our World in Data; for `WLD`, the world, the IEA's 475 g/kWh), so that nothing is left
to look up. Making ready takes it two to four seconds and 1.5 of a core, so a thread does it.
It slows a matrix product beside it by less than can be measured (medians of five runs, one core).
Rejected: NVML and RAPL read here (less to install, but a laptop without either gets no figure).
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Protocol

from charsweep.core.system.hardware import folder_of

WORLD = "WLD"
JOULES_PER_KWH = 3.6e6
COUNTERS = ("Rapl", "Emi", "Power Gadget", "Raspberry", "AppleSiliconChip", "GPU")
MEASURE_SECONDS = 15.0  # between codecarbon's own readings, so that no counter overflows


@dataclass(frozen=True)
class Energy:
    """Since the meter began: energy in kWh, CO2-equivalent in kg, seconds, mean power in watts.

    `measured`: all but the memory comes from counters, nothing from a rated power.
    """

    kwh: float
    co2_kg: float
    seconds: float
    watts: float
    measured: bool
    source: str
    country: str
    workers: int = 1  # processes that drew it side by side


class Metered(NamedTuple):
    """What a probe has counted, and over how many seconds."""

    kwh: float
    seconds: float


class Probe(Protocol):
    """What counts energy from the moment it is made; `parts` describe what it counts, and how."""

    @property
    def parts(self) -> Sequence[str]: ...

    def read(self) -> Metered | None:
        """All that was counted so far; None before the first reading."""

    def stop(self) -> None:
        """Count no more; what it holds of the machine is let go."""


def energy_of(seconds: float, energy: Energy) -> tuple[float, float]:
    """What a worker's seconds drew at its share of the mean power: watt-hours, grams of CO2."""
    watt_hours = seconds * energy.watts / energy.workers / 3600
    grams_per_kwh = 1000 * energy.co2_kg / energy.kwh if energy.kwh else 0.0
    return watt_hours, watt_hours / 1000 * grams_per_kwh


# -- countries -------------------------------------------------------------------------------------


def checked_country(country: str) -> str:
    """The ISO 3166 alpha-3 code as it is; ValueError if its electricity is not known."""
    if country not in _intensities():
        raise ValueError(
            "the electricity of no such country is known; give its code of three capital letters, "
            f"such as FRA or USA, or {WORLD} for the world's mean"
        )
    return country


def grid_intensity(country: str) -> float:
    """Grams of CO2-equivalent per kWh of a country's electricity; ValueError if not known."""
    return _intensities()[checked_country(country)]


@cache
def _intensities() -> dict[str, float]:
    """By country, from codecarbon's table, which is read without importing it."""
    folder = folder_of("codecarbon") / "data" / "private_infra"
    sources = json.loads((folder / "carbon_intensity_per_source.json").read_text("utf-8"))
    countries = json.loads((folder / "global_energy_mix.json").read_text("utf-8"))
    known = {code: float(mix["carbon_intensity"]) for code, mix in countries.items()}
    return {**known, WORLD: float(sources["world_average"])}


# -- the meter -------------------------------------------------------------------------------------


class Meter:
    """Meters the work of a `with` block.

    `start` makes the probe, in a thread, `delay` seconds after the block has begun: a block with
    nothing to do is over by then and pays nothing. Until that is done, and where there is nothing
    to meter with, `read` gives None. The first seconds are reckoned at the mean power of the rest.
    Leaving the block waits for a probe that is being made, at most `patience` seconds: a thread
    that is cut off within an import can take the process with it.
    """

    def __init__(
        self,
        country: str,
        start: Callable[[float], Probe] | None = None,
        clock: Callable[[], float] = time.monotonic,
        delay: float = 2.0,
        patience: float = 10.0,
        workers: int = 1,
    ) -> None:
        self.country, self.workers = country, workers
        self.intensity = grid_intensity(country)
        self._start, self._clock = start or CodeCarbon, clock
        self._delay, self._patience = delay, patience
        self._probe: Probe | None = None
        self._began = clock()
        self._thread = threading.Thread(target=self._make_probe, daemon=True, name="energy")
        self._ended = threading.Event()
        self._last: Energy | None = None

    def __enter__(self) -> Meter:
        self._began = self._clock()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop; `read` gives the last reading from now on."""
        self._last = self.read()
        self._ended.set()
        self._thread.join(timeout=self._patience)
        if self._probe:
            self._probe.stop()
            self._probe = None

    def read(self) -> Energy | None:
        """All energy since the block began; None while there is none to tell of."""
        probe = self._probe
        metered = probe.read() if probe else None
        if probe is None or metered is None or metered.seconds <= 0:
            return self._last
        seconds = self._clock() - self._began
        watts = metered.kwh * JOULES_PER_KWH / metered.seconds
        kwh = watts * seconds / JOULES_PER_KWH
        return Energy(
            kwh=kwh,
            co2_kg=kwh * self.intensity / 1000,
            seconds=seconds,
            watts=watts,
            measured=is_measured(probe.parts),
            source=", ".join(_words(part) for part in probe.parts),
            country=self.country,
            workers=self.workers,
        )

    def _make_probe(self) -> None:
        if self._ended.wait(self._delay):
            return
        # Whatever goes wrong in there, the work goes on: it is then not metered.
        with contextlib.suppress(Exception):
            probe = self._start(self.intensity)
            if self._ended.is_set():
                probe.stop()
            else:
                self._probe = probe


def is_measured(parts: Sequence[str]) -> bool:
    """Whether all that is metered, but for the memory, is metered by counters."""
    others = [part for part in parts if not part.startswith("RAM")]
    return bool(others) and all(_is_counted(part) for part in others)


def _is_counted(part: str) -> bool:
    return any(name in part for name in COUNTERS)


def _words(part: str) -> str:
    """A part as a person reads it: "CPU(Cpu Load)" is "processor by its load"."""
    if _is_counted(part):
        return f"{part} by counter"
    return "memory by its size" if part.startswith("RAM") else "processor by its load"


class CodeCarbon:
    """codecarbon's tracker as a `Probe`."""

    def __init__(self, grams_per_kwh: float) -> None:
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.output_methods.base_output import BaseOutput

        output = BaseOutput()
        output.out = self._keep  # type: ignore[method-assign]
        # it speaks before it reads log_level
        logging.getLogger("codecarbon").setLevel(logging.ERROR)
        # What a person's own .codecarbon.config could send elsewhere is named here, and so unused.
        self._tracker: Any = OfflineEmissionsTracker(
            output_methods=[],
            output_handlers=[output],
            emissions_endpoint=None,
            cloud_provider=None,
            force_carbon_intensity_g_co2e_kwh=grams_per_kwh,
            measure_power_secs=MEASURE_SECONDS,
            allow_multiple_runs=True,
            log_level="error",
        )
        self._tracker.start()
        self._metered: Metered | None = None
        self.parts = tuple(str(part.description()) for part in self._tracker._hardware)

    def read(self) -> Metered | None:
        self._tracker.flush()
        return self._metered

    def stop(self) -> None:
        self._tracker.stop()

    def _keep(self, total: Any, delta: Any) -> None:
        """Called by `flush` and `stop`."""
        self._metered = Metered(float(total.energy_consumed), float(total.duration))
