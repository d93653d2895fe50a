"""Adapters put on a base as they are: one from elsewhere, or several of snapshots, composed.

What is composed lies in the store as links to the files of its components; no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from charsweep.core.errors import StoreError
from charsweep.core.specs import AdapterSpec, Added, ComposedSpec, SnapshotSpec
from charsweep.core.store import Store
from charsweep.core.store.files import link_or_copy, new_folder
from charsweep.models.adapter_file import ADAPTER_FILE, FACTORED_CONFIG, FACTORED_FILE

ADAPTER_FILES = (ADAPTER_FILE, FACTORED_FILE, FACTORED_CONFIG)


def added_files(source: Added, folder: Path) -> Iterator[tuple[Path, float]]:
    """The adapter files in the folder of a snapshot, each with its strength."""
    if isinstance(source, AdapterSpec):
        yield folder / ADAPTER_FILE, 1.0
        return
    for number, one in enumerate(source.components, 1):
        yield next(files_in(folder / str(number))), one.strength


def files_in(folder: Path) -> Iterator[Path]:
    """The files of an adapter that a snapshot's folder holds, the weights first."""
    return (folder / name for name in ADAPTER_FILES if (folder / name).exists())


def compose(snapshot: SnapshotSpec, store: Store) -> None:
    """Have the files of a composed snapshot's components in its folder, below 1, 2, …

    Nothing where one of them is not stored; marked as diverged where one of them has diverged.
    StoreError where one stayed with a worker.
    """
    source = snapshot.source
    assert isinstance(source, ComposedSpec)
    parts = [one.snapshot for one in source.components]
    with store.lock(source):
        if store.has_snapshot(snapshot):
            return
        for part in parts:
            if holder := store.held_by(part):
                raise StoreError(
                    f"{store.snapshot(part)}: its weights stayed with a worker on {holder}, and "
                    "two are put together here; run the same command with runtime.bring=all"
                )
        if any(_has_diverged(part, store) for part in parts):
            store.mark_diverged(source, 0)
        elif all(map(store.has_snapshot, parts)):
            files = [list(files_in(store.snapshot(part))) for part in parts]
            content = {
                "spec": {"step": snapshot.step},
                "bytes": sum(file.stat().st_size for own in files for file in own),
            }
            with new_folder(store.snapshot(snapshot), "snapshot.json", content) as new:
                for number, own in enumerate(files, 1):
                    (new / str(number)).mkdir()
                    for file in own:
                        link_or_copy(file, new / str(number) / file.name)


def _has_diverged(snapshot: SnapshotSpec, store: Store) -> bool:
    at = store.diverged_at(snapshot.source)
    return at is not None and at <= snapshot.step
