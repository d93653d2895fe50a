"""Energy of a cell by itself, and of a sweep over all its commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from charsweep.core.system.energy import Energy, energy_of
from charsweep.results.cells import CellResult


def energy_alone(
    result: CellResult, earlier: CellResult | None, energy: Energy | None
) -> tuple[float | None, float | None]:
    """What a cell would take by itself, like its seconds: watt-hours and grams of CO2.

    So that cells compare, whoever paid for what they share; as it was reckoned first.
    """
    if earlier and earlier.energy_wh is not None:
        return earlier.energy_wh, earlier.co2_g
    if energy is None or result.train_seconds is None:
        return None, None
    return energy_of(result.train_seconds + (result.sample_seconds or 0.0), energy)


def energy_record(
    energy: Energy,
    results: Mapping[str, CellResult],
    earlier: Mapping[str, CellResult],
    known: Mapping[str, Any],
) -> dict[str, Any]:
    """This command's energy, added to what the sweep's earlier ones took.

    `saved_kwh` is what the cells finished here would have taken alone, less what they took.
    """
    here = [result for key, result in results.items() if earlier.get(key) != result]
    alone = sum((result.train_seconds or 0.0) + (result.sample_seconds or 0.0) for result in here)
    before = sum(earlier[result.cell].paid_seconds for result in here if result.cell in earlier)
    paid = sum(result.paid_seconds for result in here) - before
    before_kwh = known.get("energy") or {}
    saved = max(0.0, energy_of(alone - paid, energy)[0] / 1000)
    return {
        "kwh": energy.kwh + before_kwh.get("kwh", 0.0),
        "co2_kg": energy.co2_kg + before_kwh.get("co2_kg", 0.0),
        "saved_kwh": saved + before_kwh.get("saved_kwh", 0.0),
        "watts": round(energy.watts, 2),
        "measured": energy.measured,
        "source": energy.source,
        "country": energy.country,
    }
