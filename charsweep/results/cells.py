"""The result of a cell, and its files: cells.jsonl, one JSON object per line, and cells.csv.

Whatever tracks, tells, tables, reports, exports or draws on it reads it from here.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from charsweep.core.cells import Cell
from charsweep.core.errors import ConfigError, StoreError
from charsweep.core.keys import key_of
from charsweep.core.specs import ImageSetSpec
from charsweep.core.store import Store
from charsweep.core.store.files import read_json, unwritable, write_text
from charsweep.core.store.losses import LossRow

State = Literal["finished", "left", "diverged", "failed", "stopped"]
ASKED = "asked.json"  # of a sweep's folder
SCORE = "score"  # by which settings are compared
IDENTITY = "identity"  # by which those that it cannot tell apart are
TOGETHER = "together"  # the part of the exam whose prompts are of two characters, and its score
DIGITS = 5  # of an image's score in cells.jsonl; the store has them all
# What an adapter from elsewhere may say of its making, in the order of tables.
MADE = ("steps", "lr", "kind", "rank", "alpha", "trainer", "base", "trigger", "other_trigger")
COSTS = (  # the fields that say what a cell took, in the order of tables
    "size_mb",
    "train_seconds",
    "paid_seconds",
    "seconds_per_step",
    "sample_seconds",
    "peak_memory_mb",
    "energy_wh",
    "co2_g",
)


@dataclass(frozen=True)
class CellResult:
    """One line of cells.jsonl; times in seconds, sizes in MB of 10^6 bytes.

    A score, gain or cost that does not apply is None, or absent.
    """

    cell: str
    state: State
    trial: int | None
    values: Mapping[str, Any]
    base: str
    trajectory: str  # folder in the store of what draws; that of an adapter from elsewhere too
    step: int
    images: str | None
    diverged_at: int | None
    error: str | None
    scores: Mapping[str, float | None]
    gains: Mapping[str, float | None]
    size_mb: float | None
    train_seconds: float | None
    paid_seconds: float
    sample_seconds: float | None
    seconds_per_step: float | None
    peak_memory_mb: float | None
    energy_wh: float | None = None  # of the cell by itself, like train_seconds; an estimate
    co2_g: float | None = None
    # By metric the score of every image: a row per prompt, with a number per exam seed.
    per_image: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    repeats: Mapping[str, int] = field(default_factory=dict)  # drawing -> images that repeat it
    # By part of the exam: its image set, and the untaught base's for the same prompts and seeds.
    parts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    # What its scores are measured by, as digests: prompts, seeds, drawings, encoders, metrics.
    judged_by: Mapping[str, str] = field(default_factory=dict)
    # Of one that left a race: after how many images, and of how many. Its scores are of those.
    left_after: Sequence[int] = field(default_factory=list)
    # Of an adapter from elsewhere: what its file says of its making.
    made: Mapping[str, Any] = field(default_factory=dict)
    worst: str = ""  # of two characters: the name of the score that is the lowest, its `score`
    trainings: int = 1  # that its weights come of, each of `step` steps: 2 of what was composed

    @property
    def finished(self) -> bool:
        """Whether it was trained, drawn and scored."""
        return self.state == "finished"

    @property
    def left(self) -> str:
        """ "left the race after 16 of 64 images"; empty for any other."""
        if not self.left_after:
            return ""
        drawn, asked = self.left_after
        return f"left the race after {drawn} of {asked} images"

    def cost(self, name: str) -> float | None:
        """One of `COSTS`."""
        assert name in COSTS
        value: float | None = getattr(self, name)
        return value


def stored_scores(cell: Cell, images: ImageSetSpec, store: Store) -> dict[str, dict[str, Any]]:
    """Stored scores of one image set by metric name: value, per_image, details."""
    specs = {metric.name: cell.score_spec(metric, images) for metric in cell.metrics}
    return {name: store.read_score(spec) for name, spec in specs.items() if store.has_score(spec)}


def judged_by(cell: Cell) -> dict[str, str]:
    """What a cell's scores are measured by, as digests; no prompts where none are read."""
    exam = cell.exam
    known: dict[str, Any] = {
        "seeds": cell.images.seeds,
        "drawings": (exam.references, exam.held_out),
        **{f"encoder {encoder.name}": encoder for encoder in exam.encoders},
        **{f"metric {metric.name}": metric for metric in cell.metrics},
    }
    if exam.prompts:
        known["prompts"] = (exam.prompts, exam.class_prompt, exam.attributes, exam.truth)
    for part in cell.parts:
        asked: tuple[Any, ...] = (part.exam.prompts, part.images.seeds)
        drawings = (part.exam.references, part.exam.held_out, part.exam.other)
        if drawings != (exam.references, exam.held_out, ()):  # another's, or of two
            asked = (*asked, drawings, part.exam.class_prompt)
        known |= {f"metric {metric.name}": (metric, asked) for metric in part.metrics}
    return {name: key_of(what) for name, what in known.items()}


def worst_in(stored: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str | None:
    """The name of the lowest of these scores; None where one is missing, or does not apply."""
    known = {name: stored[name]["value"] for name in names if name in stored}
    if len(known) < len(names) or None in known.values():
        return None
    return min(known, key=lambda name: known[name], default=None)


def values_of(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """The scores alone; a metric that does not apply is None."""
    return {name: score["value"] for name, score in scores.items()}


def result_of(cell: Cell, store: Store, paid: float, error: str | None = None) -> CellResult:
    """Put a cell's result together from what is stored."""
    source = cell.source
    diverged_at = store.diverged_at(source)
    diverged = diverged_at is not None and cell.step >= diverged_at
    state: State = "failed" if error else "diverged" if diverged else "finished"
    steps, seconds, runs = _trained(cell, store)
    finished = state == "finished"
    stored = stored_scores(cell, cell.images, store) if finished else {}
    seeds_of = dict.fromkeys(stored, cell.images.seeds)
    for spec in (spec for part in cell.parts for spec in part.scores if finished):
        stored[spec.metric.name] = store.read_score(spec)
        seeds_of[spec.metric.name] = spec.images.seeds
    untaught = {}
    if finished and cell.untaught_set is not None:
        untaught = values_of(stored_scores(cell, cell.untaught_set, store))
    worst = worst_in(stored, cell.worst_of)
    if worst:
        stored[SCORE], seeds_of[SCORE] = stored[worst], seeds_of[worst]
        untaught[SCORE] = untaught.get(cell.worst_of[0])
    scores = values_of(stored)
    folder = store.images(cell.images)
    images = read_json(folder / "images.json", "seconds") if finished else {}
    snapshot = store.snapshot(cell.images.snapshot)
    return CellResult(
        cell=cell.key,
        state=state,
        trial=None,
        values=cell.values,
        base=cell.base_label,
        trajectory=store.source(source).name,
        step=cell.step,
        images=store.relative(folder) if finished else None,
        diverged_at=diverged_at if diverged else None,
        error=error,
        scores=scores,
        gains={name: _minus(value, untaught.get(name)) for name, value in scores.items()},
        size_mb=read_json(snapshot / "snapshot.json", "bytes")["bytes"] / 1e6 if finished else None,
        train_seconds=round(seconds, 3) if steps else None,
        paid_seconds=paid,
        sample_seconds=images.get("seconds"),
        seconds_per_step=round(seconds / steps, 5) if steps else None,
        peak_memory_mb=max((run["peak_memory_mb"] for run in runs), default=None),
        per_image={
            name: by_prompt(score["per_image"], len(seeds_of[name]))
            for name, score in stored.items()
            if score.get("per_image")
        },
        repeats=stored.get("copy", {}).get("details", {}).get("repeats", {}),
        parts={
            part.name: [store.relative(store.images(s)) for s in (part.images, part.untaught)]
            for part in cell.parts
            if finished
        },
        judged_by=judged_by(cell),
        made=cell.made,
        worst=worst or "",
        trainings=max(1, len(cell.trainings)),
    )


def stopped_result(cell: Cell, store: Store) -> CellResult:
    """What there is of a cell that was stopped by hand: how far it was trained."""
    steps = len(store.losses(cell.source, cell.step))
    why = f"stopped by hand after {steps:,} of {cell.step:,} steps"
    return replace(result_of(cell, store, 0.0, why), state="stopped")


def by_prompt(scores: Sequence[float], width: int) -> list[list[float]]:
    """Scores of images as rows of that width, shortened."""
    short = [round(score, DIGITS) for score in scores]
    return [short[first : first + width] for first in range(0, len(short), width)]


def _minus(score: float | None, untaught: float | None) -> float | None:
    return None if score is None or untaught is None else score - untaught


def _trained(cell: Cell, store: Store) -> tuple[int, float, list[dict[str, Any]]]:
    """Steps and seconds of all trainings that a cell's weights come of, each by itself, and what
    provenance.json says of them."""
    steps, seconds, every = 0, 0.0, list[dict[str, Any]]()
    for one in cell.trainings:
        rows, runs = store.losses(one, cell.step), _runs(store.source(one))
        steps, seconds = steps + len(rows), seconds + _seconds_alone(rows, runs)
        every += runs
    return steps, seconds, every


def _runs(trajectory: Path) -> list[dict[str, Any]]:
    """What provenance.json says of the commands that trained it."""
    path = trajectory / "provenance.json"
    runs: list[dict[str, Any]] = read_json(path, "runs")["runs"] if path.exists() else []
    return runs


def _seconds_alone(rows: Sequence[LossRow], runs: Sequence[Mapping[str, Any]]) -> float:
    """What the steps would take by themselves: of a pack, as measured beside it."""
    alone: dict[int, float] = {}
    for run in runs:
        if run.get("seconds_per_step_alone") is not None:
            first, last = run["steps"]
            alone |= dict.fromkeys(range(first, last + 1), run["seconds_per_step_alone"])
    return sum(alone.get(row.step, row.seconds) for row in rows)


# -- cells.jsonl and cells.csv ---------------------------------------------------------------------


def read_results(path: Path) -> dict[str, CellResult]:
    """Results by cell key, {} without a file; StoreError names a line that is no result.

    A last line that a killed process has not ended is left out, as is what is still being written.
    """
    try:
        whole = path.read_bytes().rpartition(b"\n")[0]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error}); check its permissions") from error
    results = {}
    for number, line in enumerate(whole.splitlines(), 1):  # of bytes: at line ends only
        try:
            result = result_from(json.loads(line))
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"{path}, line {number}: {error}; delete the file and run the sweep's command "
                "again, which makes it anew from the store"
            ) from error
        results[result.cell] = result
    return results


def named_cell(results: Mapping[str, CellResult], key: str, sweep: str, setting: str) -> CellResult:
    """The finished cell whose key begins so. Raises `ConfigError`."""
    found = [result for cell, result in results.items() if cell.startswith(key)]
    if len(found) != 1:
        what = "several cells begin so" if found else "there is no such cell"
        raise ConfigError(
            f"{setting}={key}: {what} in sweep {sweep}; its cells.csv lists them by key"
        )
    if not (found[0].finished or found[0].left):
        raise ConfigError(
            f"{setting}={key}: that cell is {found[0].state} and has nothing to draw with; "
            "choose a finished one"
        )
    return found[0]


def result_from(record: Mapping[str, Any]) -> CellResult:
    """A result from its plain values; what a later version added is left out.

    ValueError where a field is missing.
    """
    known = {f.name: record[f.name] for f in fields(CellResult) if f.name in record}
    needed = [f.name for f in fields(CellResult) if MISSING is f.default is f.default_factory]
    missing = [name for name in needed if name not in known]
    if missing:
        raise ValueError(f"it says nothing of {', '.join(missing)}")
    return CellResult(**known)


def json_line(result: CellResult) -> str:
    return json.dumps(asdict(result), ensure_ascii=False, allow_nan=False) + "\n"


def write_results(
    path: Path, results: Sequence[CellResult], more: Mapping[str, Mapping[str, float]] | None = None
) -> None:
    """Rewrite cells.jsonl and, beside it, cells.csv, which may have `more` columns, by cell."""
    write_text(path, "".join(json_line(result) for result in results))
    flat = [{**flatten(result), **(more or {}).get(result.cell, {})} for result in results]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    write_text(path.with_suffix(".csv"), text.getvalue())


def flatten(result: CellResult) -> dict[str, Any]:
    """One row of cells.csv: axis values by their names, gains as `dino_gain`."""
    row: dict[str, Any] = {}
    for name, value in asdict(result).items():
        if name in ("values", "scores"):
            row |= value
        elif name in ("per_image", "repeats", "parts", "judged_by"):
            continue  # cells.jsonl has them: a table has one number a field
        elif name == "made":
            row |= {f"made_{key}": known for key, known in value.items()}
        elif name == "left_after":
            row |= {"left": result.left} if result.left else {}
        elif name in ("worst", "trainings"):  # which say nothing of one character
            row |= {name: value} if value not in ("", 1) else {}
        elif name == "gains":
            row |= {f"{metric}_gain": gain for metric, gain in value.items()}
        else:
            row[name] = value
    return {name: "" if value is None else value for name, value in row.items()}


# -- asked.json: the cells of a grid that have no result yet, among others ------------------------


@dataclass(frozen=True)
class AskedCell:
    """A cell that a command asks for: where it is trained, and how far."""

    cell: str
    values: Mapping[str, Any]
    trajectory: str
    step: int


def write_asked(folder: Path, cells: Sequence[Cell], store: Store) -> None:
    """What a command asks for, for others to see before there are results."""
    asked = [
        AskedCell(cell.key, cell.values, store.source(cell.source).name, cell.step)
        for cell in cells
    ]
    write_text(folder / ASKED, json.dumps([asdict(one) for one in asked], ensure_ascii=False))


def read_asked(folder: Path) -> tuple[AskedCell, ...]:
    """The same read back; () without a file, and for one from another version."""
    try:
        return tuple(AskedCell(**one) for one in json.loads((folder / ASKED).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return ()


def append_result(path: Path, result: CellResult) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json_line(result))
    except OSError as error:
        raise unwritable(path, error) from error
