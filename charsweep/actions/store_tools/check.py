"""`action=check`: what in the store is damaged, missing or foreign, and what must be done again.

    python -m charsweep action=check
    python -m charsweep action=check store.repair=true

Every file is read and its digest compared with the manifest that was written with it, every
manifest's key with its place. Repair removes what is damaged, so that the sweep's own command makes
it again; what is not charsweep's is never touched.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from charsweep.actions.store_tools.inventory import (
    LIGHT,
    MANIFESTS,
    Item,
    items_of,
    key_by_spec,
)
from charsweep.actions.store_tools.references import Use, left_alone, nothing_running, uses_of
from charsweep.config import Settings
from charsweep.core.errors import StoreError
from charsweep.core.keys import key_of
from charsweep.core.store import Store
from charsweep.core.store.checksums import with_checksums, wrong_with
from charsweep.core.store.files import read_json, write_json
from charsweep.core.store.losses import read_losses
from charsweep.core.system.console import out

State = Literal["damaged", "missing", "left half-written", "foreign"]
ORDER: tuple[State, ...] = ("damaged", "missing", "left half-written", "foreign")
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, StoreError)


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be: where, what is wrong, what follows, and its cure."""

    state: State
    item: Item
    path: Path
    wrong: str
    redo: str = ""


def act(settings: Settings, store: Store) -> None:
    """See the module; StoreError, and so exit code 2, while anything is damaged or missing."""
    items = list(items_of(store))
    uses = uses_of(store, items)
    found = list(findings(store, items, uses))
    report(store, items, found)
    broken = [finding for finding in found if finding.state == "damaged"]
    if settings.store.repair:
        with nothing_running(store, "repaired"):
            for finding in found:
                with left_alone(finding.item) as free:
                    if free:
                        mend(finding, items)
                    else:
                        out(f"in use, and left: {finding.path.relative_to(store.folder)}")
        if broken:
            out("removed; run the sweep's command again: what it lacks is made then")
        return
    gone = [finding for finding in found if finding.state == "missing"]
    if broken or gone:
        raise StoreError(
            f"{len(broken)} damaged and {len(gone)} missing in {store.folder}; "
            + ("add store.repair=true to remove what is damaged, and " if broken else "")
            + "run the sweep's command again: what it lacks is made then"
        )


def report(store: Store, items: Sequence[Item], found: Sequence[Finding]) -> None:
    """Print the findings, the gravest state first, and how much was looked at."""
    for state in ORDER:
        alike = [finding for finding in found if finding.state == state]
        if alike:
            out(state)
        for finding in alike:
            out(f"  {finding.path.relative_to(store.folder)}: {finding.wrong}")
            if finding.redo:
                out(f"    {finding.redo}")
    count = sum(item.manifest is not None for item in items)
    out(f"{count} manifests and their files looked at, {sum(s.state == 'damaged' for s in found)} "
        f"damaged: {store.folder}")  # fmt: skip


# -- finding ---------------------------------------------------------------------------------------


def findings(store: Store, items: Sequence[Item], uses: Sequence[Use]) -> Iterator[Finding]:
    """All that is wrong, in the order of the store."""
    broken: set[Path] = set()
    for item in items:
        if item.parent and item.parent.path in broken:  # goes with what contains it
            broken.add(item.path)
            continue
        if item.kind in ("foreign", "left half-written"):
            if item.kind == "foreign":
                yield Finding("foreign", item, item.path, "not charsweep's; move it elsewhere")
            else:
                yield Finding("left half-written", item, item.path, "by a process that was killed")
        elif not item.is_whole and item.kind == "snapshot":
            broken.add(item.path)
            yield Finding("left half-written", item, item.path, "it has no snapshot.json")
        elif wrong := what_is_wrong(item):
            if item.kind != "trajectory":
                broken.add(item.path)
            yield Finding("damaged", item, item.path, wrong, consequence(item, items, uses))
        if item.kind == "trajectory":
            yield from of_records(item, items, uses)
    for use in uses:
        for path in use.missing.values():
            item = Item("image set", store.folder / path)
            redo = f"drawn and scored again by sweep {use.name}, with the training that this needs"
            yield Finding("missing", item, store.folder / path, "a finished cell's pictures", redo)


def what_is_wrong(item: Item) -> str:
    """Of an item with a manifest, in one line; empty if it is as it was written."""
    if item.manifest is None:
        return ""
    if not item.is_whole:
        return f"{item.manifest.name} is gone"
    problems = list(wrong_with(item.manifest))
    if not problems and key_by_spec(item) not in ("", item.key):
        problems = [f"its spec is that of {key_by_spec(item)}, which its name is not"]
    if not problems and item.kind == "image set" and not _is_in_place(item):
        problems = ["it was drawn from other weights than it lies with"]
    more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
    return ", ".join(problems[:3]) + more


def _is_in_place(images: Item) -> bool:
    snapshot: dict[str, Any] = images.spec["snapshot"]
    same_source = key_of(snapshot["source"]) == images.source.key
    return same_source and snapshot["step"] == images.step


def of_records(trajectory: Item, items: Sequence[Item], uses: Sequence[Use]) -> Iterator[Finding]:
    """Files of a trajectory that grow, or are noted beside it: without digests, they must read."""
    for name, read, cost in (
        ("loss.csv", _rows, "put it back from a copy, or " + consequence(trajectory, items, uses)),
        ("provenance.json", _runs, "on what it was trained is no longer known"),
        ("diverged.json", _step, "found out again"),
    ):
        path = trajectory.path / name
        try:
            if path.exists() or name == "loss.csv":
                read(path, _last(trajectory, items))
        except UNREADABLE as error:
            yield Finding("damaged", trajectory, path, str(error), cost)


def _rows(path: Path, last: int) -> None:
    steps = [row.step for row in read_losses(path)]
    if steps != list(range(1, len(steps) + 1)) or len(steps) < last:
        raise ValueError(f"it has not a row for each of its {last} steps")


def _runs(path: Path, _: int) -> None:
    read_json(path)["runs"]


def _step(path: Path, _: int) -> None:
    int(read_json(path)["step"])


def _last(trajectory: Item, items: Sequence[Item]) -> int:
    """The last step that a snapshot or a state of it stands for."""
    steps = (item.step for item in items if item.source == trajectory and item.is_whole)
    return max(steps, default=0)


# -- what follows ----------------------------------------------------------------------------------


def consequence(item: Item, items: Sequence[Item], uses: Sequence[Use]) -> str:
    """What would be done again, and for which sweeps."""
    asking = [use.name for use in uses if item.source.key in use.sources]
    if item.kind == "made weights":
        return "made again when a sweep loads them"
    if item.kind == "resume state":
        return "needed only to train on; without it that begins at step 0"
    if not asking:
        return "no sweep refers to it"
    return f"{_again(item, items)}, for {', '.join(asking)}"


def _again(item: Item, items: Sequence[Item]) -> str:
    inside = [other for other in items if other.path.is_relative_to(item.path)]
    count = sum(_image_count(other) for other in inside if other.kind == "image set")
    drawn = f"{count} pictures drawn and scored again" if count else ""
    if item.kind == "score":
        return "scored again"
    if item.kind == "snapshot" and item.source.kind in LIGHT:
        made = "put together again" if item.source.kind == "composed" else "copied again"
        return f"{made}, {drawn}" if drawn else made
    if item.kind == "snapshot":
        begin = max(_states(item.source, items), default=0)
        first = begin if begin < item.step else 0
        trained = f"steps {first + 1} to {item.step} trained again"
        return f"{trained}, {drawn}" if drawn else trained
    if item.kind == "trajectory":
        if what_is_wrong(item) and _spec_elsewhere(item, items):
            return "written again from a picture set's manifest"
        last = max((other.step for other in inside if other.kind == "snapshot"), default=0)
        return f"steps 1 to {last} trained again, {drawn or 'no pictures'}"
    return drawn or "drawn and scored again"


def _image_count(images: Item) -> int:
    spec = images.spec
    return len(spec.get("prompts") or ()) * len(spec.get("seeds") or ())


def _states(source: Item, items: Sequence[Item]) -> list[int]:
    states = [state for state in items if state.kind == "resume state" and state.source == source]
    return [state.step for state in states if not what_is_wrong(state)]


def _spec_elsewhere(trajectory: Item, items: Sequence[Item]) -> dict[str, Any] | None:
    """The trajectory's spec as one of its image sets holds it; its key proves it right."""
    for item in items:
        if item.kind == "image set" and item.source == trajectory:
            spec = item.spec.get("snapshot", {}).get("source")
            if spec and key_of(spec) == trajectory.key:
                return dict(spec)
    return None


# -- mending ---------------------------------------------------------------------------------------


def mend(finding: Finding, items: Sequence[Item]) -> None:
    """Remove what is damaged, or write it anew where all is known; nothing foreign is touched."""
    item, path = finding.item, finding.path
    if finding.state not in ("damaged", "left half-written") or not path.exists():
        return
    of_trajectory = item.kind == "trajectory" and path.is_dir()
    if of_trajectory and (spec := _spec_elsewhere(item, items)):
        write_json(path / "spec.json", with_checksums({"key": item.key, "spec": spec}))
    else:
        drop(item.path if path.name == "loss.csv" else path)


def drop(path: Path) -> None:
    """Remove a file, or a folder: its manifests first, so that a kill leaves nothing half there."""
    if not path.is_dir() or path.is_symlink():
        path.unlink()
        return
    for name in MANIFESTS.values():
        for manifest in path.rglob(name):
            manifest.unlink()
    shutil.rmtree(path)
