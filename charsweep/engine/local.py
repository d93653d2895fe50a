"""A plan in, finished cells out, one after the other in this process."""

from __future__ import annotations

import contextlib
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image

from charsweep.bases import Base, load_base
from charsweep.character import open_picture, picture_at
from charsweep.config import Sweep
from charsweep.cost import Speeds, calls, count
from charsweep.errors import ConfigError, TrainingError
from charsweep.plan import Pack, Plan, Scoring, Training, plan_training
from charsweep.plugins import resolve
from charsweep.progress import View
from charsweep.results import CellResult, result_of
from charsweep.sample import NotFiniteError, draw, make_scheduler
from charsweep.score import LOADERS, Scorer
from charsweep.specs import BaseSpec, Cell, ImageSetSpec, TrajectorySpec, TruthSpec
from charsweep.store import Store, image_manifest, new_folder, read_json, write_json
from charsweep.train import Trained, make_optimizer, train


class Book:
    """What training one trajectory has taken so far."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.spent: dict[int, float] = {}  # seconds paid, by the snapshot they led to
        self.seconds: list[float] = []  # of each step, as it would be alone
        self.first = self.last = 0
        self.started = datetime.now(UTC)

    def enter(self, one: Trained) -> None:
        """A step shared by several trials is paid by each in part."""
        row = one.row
        goal = next((step for step in self.training.snapshots if step >= row.step), row.step)
        self.spent[goal] = self.spent.get(goal, 0.0) + row.seconds / one.shared
        self.seconds.append(row.seconds)
        self.first, self.last = self.first or row.step, row.step


class Entrance:
    """Lets a pack's trainings in, each under its lock.

    A trajectory that another process works on is passed over while there is something else to do,
    so two processes never wait for each other in a circle; when its turn comes, what is missing is
    looked up again.
    """

    def __init__(self, pack: Pack, store: Store) -> None:
        self.store = store
        self.waiting = list(pack.trainings)
        self.inside: dict[str, Training] = {}
        self._locks: dict[str, contextlib.ExitStack] = {}

    def trainings(self) -> Iterator[Training | None]:
        while self.waiting:
            free = next((t for t in self.waiting if self._lock(t, wait=False)), None)
            if free is None and self._locks:
                yield None
                continue
            if free is None:
                free = self.waiting[0]
                self._lock(free, wait=True)
            self.waiting.remove(free)
            fresh = plan_training(free.cells, self.store)
            self.inside[fresh.trajectory.key] = fresh
            if fresh.steps:
                yield fresh

    def _lock(self, training: Training, wait: bool) -> bool:
        stack = contextlib.ExitStack()
        if not stack.enter_context(self.store.lock(training.trajectory, wait=wait)):
            stack.close()
            return False
        self._locks[training.trajectory.key] = stack
        return True

    def release(self, training: Training) -> None:
        """The training's cells are done: let other processes have it."""
        del self.inside[training.trajectory.key]
        self._locks.pop(training.trajectory.key).close()

    def rest(self) -> list[Training]:
        """Those that never left a slot: trained by another process meanwhile, or stopped."""
        return [*self.inside.values(), *self.waiting]

    def close(self) -> None:
        for stack in self._locks.values():
            stack.close()
        self._locks.clear()


LIBRARIES = ("torch", "diffusers", "transformers", "peft", "accelerate", "open_clip_torch", "timm",
             "torchmetrics", "numpy", "pillow", "optuna", "mlflow", "hydra-core")  # fmt: skip


class LocalEngine:
    """Executes plans here; keeps bases, latents, embeddings and features while it lives."""

    def __init__(self, sweep: Sweep, store: Store, view: View) -> None:
        self.sweep, self.store, self.view = sweep, store, view
        runtime = sweep.settings.runtime
        if runtime.threads:
            torch.set_num_threads(runtime.threads)
        self.device = find_device(runtime.device)
        self.environment = environment(self.device)
        self.speeds = Speeds(store)
        self.bases: dict[str, Base] = {}
        self.pictures = [open_picture(path) for path in sweep.character.paths]
        self._scorer: Scorer | None = None

    def execute(self, plan: Plan) -> Iterator[CellResult]:
        """Do the plan, yielding each cell as it is finished, diverged or failed."""
        self._check(plan)
        for scoring in plan.references:
            if scoring.draw or scoring.scores:
                with self.store.lock(scoring.images.snapshot.source):
                    self._score(scoring)
        for training in plan.trainings:
            if not training.steps:
                with self.store.lock(training.trajectory):
                    yield from self._cells(training, {})
                self.view.advance("trajectories")
        for pack in plan.packs:
            yield from self._pack(pack)

    def among_references(self) -> dict[str, float]:
        """The training images' scores among themselves; empty if nothing was scored here."""
        return self._scorer.among_references() if self._scorer else {}

    # -- trajectories --------------------------------------------------------------------------

    def _pack(self, pack: Pack) -> Iterator[CellResult]:
        """Train a pack; draw, score and yield each trajectory's cells when it has left its slot."""
        books: dict[str, Book] = {}
        error = None
        with contextlib.closing(Entrance(pack, self.store)) as entrance:
            try:
                for left, students in self._train(pack, entrance, books):
                    with students.aside():
                        for training in left:
                            book = books[training.trajectory.key]
                            self._close_book(book)
                            yield from self._cells(training, book.spent)
                            entrance.release(training)
            except (TrainingError, torch.OutOfMemoryError) as caught:
                error = str(caught).splitlines()[0]
            for training in entrance.rest():
                book = books.get(training.trajectory.key, Book(training))
                yield from self._cells(training, book.spent, error)

    def _train(
        self, pack: Pack, entrance: Entrance, books: dict[str, Book]
    ) -> Iterator[tuple[list[Training], Any]]:
        """Train, keeping book; yields what has left its slot, and the students, after each step."""
        spec, count = pack.trainings[0].trajectory, len(pack.trainings)
        base = self._base(spec.base)
        method = resolve(spec.method.target)(**spec.method.settings)
        many = f" and {count - 1} others, {pack.width} at once" if count > 1 else ""
        self.view.doing(f"training {spec.slug}{many}")
        resume_seconds = self.sweep.settings.runtime.resume_seconds
        given = (spec, base, self.sweep.character, self.pictures, self._class_pictures)
        with contextlib.closing(method.students(*given)) as students:
            for done in train(students, entrance.trainings(), self.store, resume_seconds):
                for one in done:
                    key = one.training.trajectory.key
                    books.setdefault(key, Book(one.training)).enter(one)
                    self.view.step(one.row.seconds / one.shared, one.row.loss)
                yield [one.training for one in done if one.is_last], students

    def _cells(
        self, training: Training, spent: dict[int, float], error: str | None = None
    ) -> Iterator[CellResult]:
        """Draw, score and yield each cell of a trajectory; `spent` are seconds by snapshot."""
        scorings = {scoring.images.key: scoring for scoring in training.scorings}
        for cell in training.cells:
            paid = spent.pop(cell.step, 0.0)
            if self._is_alive(cell) and self.store.has_snapshot(cell.images.snapshot):
                try:
                    paid += self._score(scorings[cell.images.key])
                except NotFiniteError:
                    self.store.mark_diverged(training.trajectory, cell.step)
                yield result_of(cell, self.store, paid)
            else:
                yield result_of(cell, self.store, paid, error if self._is_alive(cell) else None)

    def _is_alive(self, cell: Cell) -> bool:
        """Whether the cell's step lies before the one at which its trajectory diverged, if any."""
        diverged_at = self.store.diverged_at(cell.trajectory)
        return diverged_at is None or cell.step < diverged_at

    def _close_book(self, book: Book) -> None:
        """What is remembered of a trajectory that has just been trained."""
        spec = book.training.trajectory
        self.speeds.remember_step(spec, median(book.seconds))
        self._remember_run(spec, book.first, book.last, book.started)
        self.view.expect(steps=len(book.seconds) - book.training.steps)  # a diverged one ends early
        self.view.advance("trajectories")

    def _class_pictures(self, spec: TrajectorySpec) -> list[Image.Image]:
        images = next(c.class_images for c in self.sweep.cells if c.trajectory.key == spec.key)
        if images is None:
            return []
        folder = self.store.images(images)
        return [open_picture(folder / f"{i:03d}.png") for i in range(count(images))]

    def _remember_run(self, spec: TrajectorySpec, start: int, stop: int, began: datetime) -> None:
        """Add to provenance.json: recorded, never hashed."""
        path = self.store.source(spec) / "provenance.json"
        runs = read_json(path)["runs"] if path.exists() else []
        run = {
            "steps": [start + 1, stop],
            "started": began.isoformat(timespec="seconds"),
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "peak_memory_mb": round(peak_memory_mb(self.device), 1),
            **self.environment,
        }
        write_json(path, {"runs": [*runs, run]})

    # -- one image set -------------------------------------------------------------------------

    def _score(self, scoring: Scoring) -> float:
        """Draw and score what is missing; seconds that it took."""
        started = time.perf_counter()
        images = scoring.images
        if not self.store.has_images(images):
            self._draw(images)
        missing = [spec for spec in scoring.scores if not self.store.has_score(spec)]
        if missing:
            self.scorer.score(missing, images, scoring.noun)
        return time.perf_counter() - started

    def _draw(self, images: ImageSetSpec) -> None:
        source = images.snapshot.source
        if isinstance(source, TruthSpec):
            self._copy_truth(images)
            return
        spec = source if isinstance(source, BaseSpec) else source.base
        base = self._base(spec)
        taught = None if isinstance(source, BaseSpec) else self.store.snapshot(images.snapshot)
        self.view.doing(f"drawing {source.slug}, step {images.snapshot.step}, {images.slug}")
        before = time.perf_counter()
        with base.wearing(taught):
            for done in draw(images, base, self.store):
                now = time.perf_counter()
                self.view.advance("images", done, now - before)
                before = now
        seconds = read_json(self.store.images(images) / "images.json")["seconds"]
        self.speeds.remember_call(images, seconds / calls(images))

    def _copy_truth(self, images: ImageSetSpec) -> None:
        """The true pictures become an image set, so that they are scored like any other."""
        assert self.sweep.truth_folder is not None
        manifest = image_manifest(images, 0.0)
        with new_folder(self.store.images(images), "images.json", manifest) as folder:
            for i, entry in enumerate(manifest["files"]):
                picture = open_picture(self.sweep.truth_folder / f"{i:02d}.png")
                picture_at(picture, images.resolution).save(folder / entry["file"])
                self.view.advance("images")

    # -- loaded once ---------------------------------------------------------------------------

    def _base(self, spec: BaseSpec) -> Base:
        if spec.key not in self.bases:
            self.view.doing(f"loading {spec.name}")
            self.bases[spec.key] = load_base(spec, self.sweep.bases[spec.name], self.device)
        return self.bases[spec.key]

    @property
    def scorer(self) -> Scorer:
        if self._scorer is None:
            encoders = {
                name: LOADERS[name](spec, folder)
                for name, (spec, folder) in self.sweep.encoders.items()
            }
            squares = [picture_at(picture, min(picture.size)) for picture in self.pictures]
            references = {name: encoder.images(squares) for name, encoder in encoders.items()}
            self._scorer = Scorer(encoders, self.store, references)
        return self._scorer

    def _check(self, plan: Plan) -> None:
        """Everything that can be refused before anything is spent."""
        for spec in {t.trajectory.optimizer.target: t.trajectory for t in plan.trainings}.values():
            make_optimizer(spec, [torch.nn.Parameter(torch.zeros(1))])
        for scoring in plan.scorings:
            if scoring.draw and scoring.images.sampler.target:
                config = {"num_train_timesteps": 1000}
                make_scheduler(scoring.images.sampler, config, None)


def find_device(name: str) -> torch.device:
    """`auto`: a CUDA card if there is one, else Apple's, else the CPU."""
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, found in there.items() if found)
    if not there[name]:
        raise ConfigError(f"runtime.device={name}: this machine has none; use runtime.device=auto")
    return torch.device(name)


def peak_memory_mb(device: torch.device) -> float:
    """Highest memory so far: allocated on the card, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and machine, for the record."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "charsweep": version("charsweep"),
        "python": platform.python_version(),
        **{library: version(library) for library in LIBRARIES},
        "device": name,
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "git": git_commit(),
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def git_commit() -> str | None:
    """The commit of the source checkout that charsweep runs from, if it is one."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"],
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
