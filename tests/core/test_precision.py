"""`precision=auto`: what it means is kept by the store, so that no other machine changes keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.small import sweep_of

from charsweep.config import precision
from charsweep.core.errors import ConfigError
from charsweep.core.store import Store
from charsweep.core.system.hardware import Card
from charsweep.plan import plan_work
from charsweep.plan.describe import describe_plan, reckon

A100 = Card("NVIDIA A100", 40 << 30, (8, 0))
T4 = Card("Tesla T4", 16 << 30, (7, 5))
CPU = Card("CPU", 8 << 30, device="cpu")


def on(card: Card | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that asks has this card."""
    monkeypatch.setattr(precision, "find_card", lambda device: card)


def said(root: Path, *words: str) -> tuple[str, list[str]]:
    """What the plan says of it, and the keys of the cells."""
    sweep, store = sweep_of(root, "precision=auto", *words), Store(root)
    plan = plan_work(sweep.cells, store)
    lines = describe_plan(sweep, reckon(sweep, store, plan)).splitlines()
    note = next((line for line in lines if line.startswith("  precision=auto")), "")
    return note, [cell.key for cell in sweep.cells]


def test_a_machine_without_the_card_plans_with_the_same_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(A100, monkeypatch)
    note, begun = said(tmp_path)
    assert note == ""
    precision.remember_precision(sweep_of(tmp_path, "precision=auto").settings, Store(tmp_path))
    for card in (CPU, T4, None, A100):
        on(card, monkeypatch)
        note, keys = said(tmp_path)
        assert keys == begun
        assert ("bf16, as this store was begun on NVIDIA A100" in note) is (card is not A100)
    # What the note advises is heeded.
    on(T4, monkeypatch)
    advised = said(tmp_path)[0].partition("set ")[2].partition(" for")[0]
    assert advised == "precision=fp16"
    assert said(tmp_path, advised)[1] != begun


def test_planning_alone_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on(CPU, monkeypatch)
    note, keys = said(tmp_path)
    assert note == "  precision=auto fp32 on CPU; to plan for an NVIDIA card, set precision=bf16"
    assert precision.remembered(Store(tmp_path)) is None
    on(A100, monkeypatch)
    assert said(tmp_path)[1] != keys
    assert said(tmp_path)[1] == said(tmp_path, "precision=bf16")[1]


def test_a_card_that_is_not_here_cannot_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(None, monkeypatch)
    monkeypatch.setattr(precision, "torch_is_built_for", lambda: frozenset({"cuda"}))
    with pytest.raises(ConfigError, match="set precision=bf16"):
        sweep_of(tmp_path, "precision=auto", "runtime.device=cuda")
    monkeypatch.setattr(precision, "torch_is_built_for", lambda: frozenset({"hip"}))
    assert sweep_of(tmp_path, "precision=auto", "runtime.device=cuda").cells
