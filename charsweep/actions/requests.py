"""What a person asks of a sweep while a command works on it: files in `sweeps/NAME/requests/`.

`{"stop": CELL}` trains and draws a cell no further; `{"axis": AXIS, "value": VALUE}` adds a value
to an axis, as it is typed. Whoever asks writes a file, and the running command looks there between
two steps: it ends in order and begins anew with what is asked, as the next same command does that
comes after its death. So there is one meaning of a request: that of the files that lie there when a
command begins. To take one back, delete its file.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from charsweep.config import Range, Sweep, load_sweep
from charsweep.core.cells import Cell
from charsweep.core.errors import ConfigError
from charsweep.core.specs import ComposedSpec, SnapshotSpec
from charsweep.core.store import Store
from charsweep.core.store.files import write_json
from charsweep.core.system.console import spell
from charsweep.core.system.distributed import is_launched
from charsweep.core.system.signals import stopped_when
from charsweep.results.next_steps import without_alone

FOLDER = "requests"


@dataclass(frozen=True)
class Request:
    """One of them: a cell to stop, or a value of an axis to add."""

    at: str  # ISO 8601, UTC
    stop: str = ""  # key of a cell
    axis: str = ""
    value: str = ""  # as it is typed


def ask(folder: Path, **what: str) -> None:
    """Write a request for the sweep in that folder."""
    request = Request(datetime.now(UTC).isoformat(timespec="microseconds"), **what)
    name = f"{request.at.translate(str.maketrans('', '', '-:+.'))}-{secrets.token_hex(3)}.json"
    (folder / FOLDER).mkdir(exist_ok=True)
    write_json(folder / FOLDER / name, {k: v for k, v in asdict(request).items() if v})


def requests_of(folder: Path) -> tuple[Request, ...]:
    """The requests for the sweep in that folder, oldest first. ConfigError names an odd file."""
    found = []
    for path in sorted((folder / FOLDER).glob("[!.]*.json")):
        try:
            request = Request(**json.loads(path.read_text(encoding="utf-8")))
            if not all(isinstance(text, str) for text in asdict(request).values()):
                raise ValueError("a field is no text")
            if bool(request.stop) == bool(request.axis and request.value):
                raise ValueError("it asks neither to stop a cell nor to add a value")
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"{path} is no request ({error}); delete it") from error
        found.append(request)
    return tuple(found)


# -- what they mean --------------------------------------------------------------------------------


def words_with(
    typed: Sequence[str], axes: Mapping[str, Any], requests: Sequence[Request]
) -> tuple[str, ...]:
    """The words of a command, and one more for each axis that gets values: all of its values.

    A value that the axis has already adds nothing, so the words that come of it ask for no more.
    """
    more: dict[str, list[str]] = {}
    known = without_alone(
        {n: values for n, values in axes.items() if not isinstance(values, Range)}
    )
    for request in requests:
        if request.axis not in known:
            continue  # of another command of that name
        listed = more.setdefault(request.axis, [spell(value) for value in known[request.axis]])
        if not any(is_same(request.value, one) for one in listed):
            listed.append(request.value)
    added = {axis: listed for axis, listed in more.items() if len(listed) > len(known[axis])}
    dropped = tuple(f"axes.{axis}=" for axis in added)
    if "seed" in added:
        dropped = (*dropped, "seeds=")
    kept = [word for word in typed if not word.lstrip("+").startswith(dropped or ("\0",))]
    return (*kept, *(f"++axes.{axis}=[{','.join(listed)}]" for axis, listed in added.items()))


def is_same(one: str, other: str) -> bool:
    """Whether two values are the same as they are typed: 1e-3 and 0.001 are."""
    try:
        return float(one) == float(other)
    except ValueError:
        return one.strip("'\"") == other.strip("'\"")


def honoured(sweep: Sweep) -> Sweep:
    """The sweep with what is asked of it: more cells, or fewer. ConfigError where none is left."""
    requests = requests_of(sweep.folder)
    words = words_with(sweep.typed, sweep.axes, requests)
    if words != sweep.typed:
        sweep = load_sweep(words)
    keys = {request.stop for request in requests if request.stop}
    store = Store(sweep.root)
    stopped = tuple(cell for cell in sweep.cells if cell.key in keys and not has_ended(cell, store))
    snapshots = {cell.images.snapshot for cell in stopped}
    gone = {snapshot for snapshot in snapshots if not store.has_snapshot(snapshot)}
    stopped += tuple(cell for cell in sweep.cells if cell not in stopped and needs(cell, gone))
    if not stopped:
        return sweep
    left = tuple(cell for cell in sweep.cells if cell not in stopped)
    if not left:
        raise ConfigError(
            f"all cells of {sweep.name} are stopped by hand; delete {sweep.folder / FOLDER} to go "
            "on with them"
        )
    return replace(sweep, cells=left, stopped=stopped)


def needs(cell: Cell, gone: Collection[SnapshotSpec]) -> bool:
    """Whether its weights are those of two cells, put together, of which one will not be there."""
    source = cell.source
    parts = source.components if isinstance(source, ComposedSpec) else ()
    return any(part.snapshot in gone for part in parts)


def has_ended(cell: Cell, store: Store) -> bool:
    """Whether there is nothing left to stop: it is drawn, or it diverged."""
    diverged_at = store.diverged_at(cell.source)
    return store.has_images(cell.images) or (diverged_at is not None and cell.step >= diverged_at)


def check_added(folder: Path, typed: Sequence[str], axis: str, value: str) -> None:
    """ConfigError where a value cannot be added: as the command line would say it, or Optuna."""
    sweep = load_sweep(typed)
    values = sweep.axes.get(axis)
    if sweep.parts or not sweep.settings.is_grid or values is None or isinstance(values, Range):
        raise ConfigError(
            f"axes.{axis}: values are added to the axes of a grid, one without parts; run another "
            "sweep beside it, with name=NAME"
        )
    if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in values):
        raise ConfigError(
            f"axes.{axis}: its values are no numbers, and Optuna cannot extend such an axis; run "
            "another sweep beside it, with name=NAME"
        )
    now = words_with(sweep.typed, sweep.axes, requests_of(folder))
    before = load_sweep(now).axes[axis]
    words = words_with(now, {axis: before}, [Request("", axis=axis, value=value)])
    after = load_sweep(words).axes[axis] if words != now else before
    if len(after) != len(before) + 1:  # type: ignore[arg-type]  # no range: neither is the first
        raise ConfigError(f"axes.{axis}={value}: give one value that the axis has not yet")


# -- a running command -----------------------------------------------------------------------------


@contextmanager
def looking(sweep: Sweep) -> Iterator[None]:
    """Raise `Stopped` in the block, in order, when something new is asked of the sweep.

    Not among processes that a launcher started, which would have to agree: then the next command
    does what is asked.
    """
    place = sweep.folder / FOLDER

    def names() -> set[str]:
        return {path.name for path in place.glob("[!.]*.json")}

    if is_launched():
        yield
        return
    known = names()
    with stopped_when(lambda: names() != known):
        yield
