"""Entries on their way between two stores: whole or not there, once, and none outside the store."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.small import sweep_of

from charsweep.core.cells import Cell
from charsweep.core.errors import StoreError
from charsweep.core.specs import SnapshotSpec
from charsweep.core.store import Store
from charsweep.core.store.files import new_folder, write_json
from charsweep.core.store.store import image_manifest
from charsweep.core.system.versions import numerical_versions
from charsweep.engine import copies
from charsweep.engine.copies import Copies, needed, snapshots_of, stored
from charsweep.engine.messages import Piece
from charsweep.engine.units import Agenda, Finish, Train, Unit
from charsweep.models.composition import compose
from charsweep.plan import Speeds, plan_work

GRID = ["+axes.lr=[1e-2]", "+axes.train_steps=[10,40]", "pack=1"]


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    return sweep_of(tmp_path, *GRID).cells[0]


@pytest.fixture
def ends(tmp_path: Path) -> tuple[Copies, Copies]:
    """A head's end and a worker's."""
    return Copies(Store(tmp_path / "head"), "1"), Copies(Store(tmp_path / "worker"))


def train(store: Store, cell: Cell, *steps: int) -> None:
    """What training leaves in a store, in small."""
    folder, rows = store.open_trajectory(cell.trajectory), "step,loss,lr,grad_norm,seconds\n"
    (folder / "loss.csv").write_text(
        rows + "".join(f"{n},1,1,1,1\n" for n in range(1, 1 + max(steps)))
    )
    for step in steps:
        manifest = {"spec": {"step": step}, "bytes": 9}
        snapshot = store.snapshot(SnapshotSpec(cell.trajectory, step))
        with new_folder(snapshot, "snapshot.json", manifest) as new:
            (new / "unet").mkdir()
            (new / "unet" / "w.safetensors").write_bytes(b"weights %d" % step * 40)
            (new / "empty.txt").touch()
        state = {"step": step, "versions": numerical_versions()}
        with new_folder(store.resume(cell.trajectory, step), "resume.json", state) as new:
            (new / "state.safetensors").write_bytes(b"state")


def draw(store: Store, cell: Cell) -> Path:
    manifest = image_manifest(cell.images, 1.0)
    with new_folder(store.images(cell.images), "images.json", manifest) as new:
        for entry in manifest["files"]:
            (new / entry["file"]).write_bytes(b"png")
    return store.images(cell.images)


def sent(one: Copies, other: Copies, paths: Sequence[Path]) -> int:
    """Pieces that went from one end to the other."""
    pieces = list(one.pieces(paths))
    for piece in pieces:
        other.take(piece)
    return len(pieces)


def files(store: Store) -> dict[str, bytes]:
    found = (path for path in store.folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(store.root).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize("size", [16, 1 << 20])
def test_what_a_worker_has_stored_is_sent_once(
    size: int, cell: Cell, ends: tuple[Copies, Copies], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the newest resume state alone stays."""
    monkeypatch.setattr(copies, "PIECE_BYTES", size)
    head, worker = ends
    train(worker.store, cell, 10)
    draw(worker.store, cell)
    source = worker.store.source(cell.trajectory)
    assert sent(worker, head, list(stored(source))) >= 5
    assert files(head.store) == files(worker.store)
    assert sent(worker, head, list(stored(source))) == 0
    assert sent(head, worker, list(stored(head.store.source(cell.trajectory)))) == 0

    train(worker.store, cell, 40)
    worker.store.commit_resume(cell.trajectory, 40)
    assert sent(worker, head, list(stored(source))) > 0
    assert files(head.store) == files(worker.store)
    assert head.store.resume_step(cell.trajectory) == 40


def test_what_comes_in_part_is_not_there(
    cell: Cell, ends: tuple[Copies, Copies], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a worker that is lost, and the next one sends it from its beginning."""
    monkeypatch.setattr(copies, "PIECE_BYTES", 16)
    head, worker = ends
    train(worker.store, cell, 10)
    snapshot = worker.store.snapshot(SnapshotSpec(cell.trajectory, 10))
    for piece in list(worker.pieces([snapshot]))[:-1]:
        head.take(piece)
    assert not head.store.has_snapshot(SnapshotSpec(cell.trajectory, 10))
    head.drop()
    assert files(head.store) == {}
    sent(Copies(worker.store), Copies(head.store, "2"), list(stored(snapshot.parent)))
    assert files(head.store) == files(worker.store)


def test_a_snapshot_that_is_told_of_is_there_without_its_weights(
    cell: Cell, ends: tuple[Copies, Copies]
) -> None:
    """It is not sent back; the weights come when they are needed, beside images that are there."""
    head, worker = ends
    train(head.store, cell, 10)
    images = draw(head.store, cell)
    spec, folder = SnapshotSpec(cell.trajectory, 10), head.store.source(cell.trajectory)
    sent(head, worker, [folder / "spec.json", folder / "loss.csv"])
    for piece in head.told([folder / "step-000010"]):
        worker.take(piece)
    assert worker.store.has_snapshot(spec)
    assert not (worker.store.snapshot(spec) / "unet").exists()
    sent(head, worker, [images])
    assert worker.store.has_images(cell.images)
    assert sent(worker, head, list(stored(worker.store.source(cell.trajectory)))) == 0

    sent(head, worker, [folder / "step-000010"])
    assert (worker.store.snapshot(spec) / "unet" / "w.safetensors").exists()
    assert worker.store.has_snapshot(spec)
    assert worker.store.has_images(cell.images)


def test_the_earlier_mark_of_divergence_stands(cell: Cell, ends: tuple[Copies, Copies]) -> None:
    head, worker = ends
    for store, step in ((head.store, 10), (worker.store, 40)):
        store.open_trajectory(cell.trajectory)
        store.mark_diverged(cell.trajectory, step)
    for one, other in ((worker, head), (head, worker)):
        mark = one.store.source(cell.trajectory) / "diverged.json"
        sent(Copies(one.store), other, [mark])
        assert other.store.diverged_at(cell.trajectory) == 10


def test_nothing_leads_out_of_the_store(ends: tuple[Copies, Copies]) -> None:
    for entry, name in (("../there", ""), ("sweeps/store/a", "../../../../../there")):
        with pytest.raises(StoreError, match="leads out of"):
            ends[0].take(Piece(entry, ((name, b"x"),), True))
    assert not list(ends[0].store.root.parent.rglob("there"))


def test_a_unit_gets_what_it_needs_and_no_more(tmp_path: Path, cell: Cell) -> None:
    """To go on: losses and the last state. To draw: the weights. Who is ahead gets nothing."""
    store = Store(tmp_path)
    train(store, cell, 10)
    plan = plan_work(sweep_of(tmp_path, *GRID).cells, store)
    agenda = Agenda(plan, Speeds(store), 1)
    unit = agenda.next(lambda _: True)
    assert isinstance(unit, Train)
    source = store.source(cell.trajectory)

    def names(unit: Unit, trained: int = 0) -> set[str]:
        paths = needed(unit, store, {source.name: trained})
        there = (path for path in paths if path.exists() and path.is_relative_to(source))
        return {path.relative_to(source).as_posix() for path in there}

    assert names(unit) == {"spec.json", "loss.csv", "resume/step-000010"}
    assert names(unit, trained=30) == set()
    assert names(unit, trained=5) == names(unit)
    told = [path.name for path in snapshots_of(unit, store)]
    assert told == ["step-000010", "step-000040"]

    agenda.references, agenda.undrawn = [], set()
    finish = agenda.next(lambda _: True)
    assert isinstance(finish, Finish)
    assert names(finish) == {"spec.json", "loss.csv", "step-000010"}


def test_a_unit_gets_what_adapters_that_draw_apart_draw_alone(tmp_path: Path) -> None:
    """The weights of the one that draws all of an image set, and what it has drawn."""
    two = "characters=[unicorn_girl,thunder_bear]"
    both, first, other = sweep_of(tmp_path, two, "exam=company", "sampler.regional=true").cells
    store = Store(tmp_path)
    for cell in (first, other):
        train(store, cell, cell.step)
    alone = draw(store, first)
    compose(both.images.snapshot, store)
    agenda = Agenda(plan_work([both], store), Speeds(store), 1)
    agenda.references, agenda.undrawn = [], Counter()
    unit = agenda.next(lambda _: True)
    assert isinstance(unit, Finish)
    sent = set(needed(unit, store, {}))
    for cell in (first, other):
        source = store.source(cell.trajectory)
        assert {source / "spec.json", store.snapshot(cell.images.snapshot)} <= sent
    assert alone in sent


def test_speeds_of_elsewhere_are_added(tmp_path: Path) -> None:
    """Of peaks, those that are higher."""
    speeds = Speeds(Store(tmp_path))
    speeds.add({})
    assert not speeds.path.exists()
    speeds.remember("memory of a", 5.0)
    speeds.add({"memory of a": 3.0, "step b": 1.0})
    speeds.add({"memory of a": 7.0, "step b": 2.0})
    assert json.loads(speeds.path.read_text()) == {"memory of a": 7.0, "step b": 2.0}
    write_json(speeds.path, {"step c": 1.0})
    speeds.add({"step d": 1.0})
    assert Speeds(Store(tmp_path)).known == {"step c": 1.0, "step d": 1.0}
