"""Passes without the slots that have fallen free: only where the bits are those of the whole."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.small import sweep_of
from torch import Tensor

from charsweep.core.methods import method_of
from charsweep.core.store import Store
from charsweep.models.load import load_base
from charsweep.plan import plan_work
from charsweep.train import narrowing
from charsweep.train.loop import train
from charsweep.train.methods import Materials
from charsweep.train.narrowing import Narrowing, Steps, windows


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrowing, "_agrees", {})


def test_windows_hold_all_trials_and_are_halves_of_halves() -> None:
    assert list(windows([5, None, None, None])) == [slice(0, 1), slice(0, 2)]
    assert list(windows([None, None, 7, None])) == [slice(2, 3), slice(2, 4)]
    assert list(windows([None, 5, 7, None])) == []
    assert list(windows([1, None, 3, *[None] * 5])) == [slice(0, 4)]


class Kernels:
    """Passes whose bits are those of the whole from a number of samples on."""

    def __init__(self, least: int) -> None:
        self.least, self.passes = least, 0

    def __call__(self, steps: Steps, slots: slice) -> list[Tensor]:
        self.passes += 1
        rounding = 0.0 if slots.stop - slots.start >= self.least else 1e-7
        return [torch.tensor([0.1 * (step or 0) + rounding for step in steps])]


def test_the_narrowest_that_agrees_is_used_and_tried_once() -> None:
    kernels = Kernels(least=4)
    chosen = Narrowing("kind", 8, kernels)
    steps = [3, *[None] * 7]
    assert all(chosen.slots(steps) == slice(0, 8) for _ in range(narrowing.PATIENCE))
    assert chosen.slots(steps) == slice(0, 4)
    tried = kernels.passes
    assert chosen.slots([4, *steps[1:]]) == slice(0, 4)
    assert chosen.slots([4, *[None] * 6, 4]) == slice(0, 8)
    assert kernels.passes == tried


def test_where_none_agrees_the_whole_is_passed() -> None:
    chosen = Narrowing("kind", 8, Kernels(least=8))
    assert all(chosen.slots([3, *[None] * 7]) == slice(0, 8) for _ in range(40))


def trained(root: Path, patience: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The weights of two trials of unlike length in a pack of eight, and their losses."""
    monkeypatch.setattr(narrowing, "PATIENCE", patience)
    sweep, store = sweep_of(root, "+axes.lr=[1e-2,1e-3]", "train_steps=6", "pack=8"), Store(root)
    (pack,) = plan_work(sweep.cells, store).packs
    spec = pack.trainings[0].trajectory
    assert spec.base is not None
    base = load_base(spec.base, sweep.bases[spec.base.key], torch.device("cpu"), torch.float32)
    images = sweep.drawings.open(spec.character.digests)
    first, second = pack.trainings
    (span,) = second.spans
    short = replace(second, spans=(replace(span, snapshots=(2,)),))
    materials = Materials(base.device, base, images, lambda _: [])
    with contextlib.closing(method_of(spec.method).trainable(spec, materials)) as trainable:
        for _ in train(trainable, iter([first, short]), store, 1000.0, fetch_seconds=0):
            pass
    files = sorted(store.folder.glob("*/step-*/*.safetensors"))
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in files}
    for training in (first, short):
        rows = [(row.step, row.loss, row.grad_norm) for row in store.losses(training.trajectory)]
        found[training.trajectory.key] = repr(rows).encode()
    assert len(found) == 4
    return found


def test_trials_get_the_bits_of_whole_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tmp_path / "whole", 1000, monkeypatch)
    assert not narrowing._agrees
    assert trained(tmp_path / "narrow", 1, monkeypatch) == whole
    assert narrowing._agrees  # it was tried; on some machine no width may agree
