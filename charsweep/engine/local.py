"""The engine of this process: trains, draws and scores a plan's cells, one after the other."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace

import torch

from charsweep.config import Sweep
from charsweep.core.cells import Cell
from charsweep.core.errors import TrainingError
from charsweep.core.specs import EncoderSpec, ExamSpec, ScoreSpec, SnapshotSpec
from charsweep.core.store import Store
from charsweep.core.system.distributed import ALONE, Team, device_of
from charsweep.engine.environment import environment, find_device, is_out_of_memory
from charsweep.engine.image_sets import Bases, ImageSets
from charsweep.engine.packs import Packs
from charsweep.engine.progress import View
from charsweep.engine.units import More
from charsweep.evaluate.encoders import Encoder, load_encoder
from charsweep.evaluate.score import Scorer, squares, subjects
from charsweep.models.samplers import make_scheduler
from charsweep.plan import Plan, Scoring, Speeds, Training
from charsweep.plan.workers import threads_of
from charsweep.results import CellResult
from charsweep.results.cells import result_of
from charsweep.train.checkpoint import make_optimizer

SCORE_FIELDS = ("value", "per_image", "details")


class LocalEngine:
    """Executes plans here; keeps bases, latents, embeddings and features while it lives."""

    def __init__(self, sweep: Sweep, store: Store, view: View, team: Team = ALONE) -> None:
        self.sweep, self.store, self.view, self.team = sweep, store, view, team
        self.device = device_of(team, find_device(sweep.settings.runtime.device))
        if threads := threads_of(sweep, self.device.type):
            torch.set_num_threads(threads)
        self.environment = environment(self.device)
        speeds, bases = Speeds(store), Bases(sweep, self.device, view)
        self.packs = Packs(sweep, store, view, bases, speeds, team)
        self.image_sets = ImageSets(sweep, store, view, bases, speeds)
        self._encoders: dict[EncoderSpec, Encoder] = {}
        self._scorers: dict[tuple[object, ...], Scorer] = {}

    def execute(self, plan: Plan, more: More | None = None) -> Generator[CellResult, None, None]:
        """Do the plan, then what there is `more`, yielding each cell as it is finished, diverged or
        failed."""
        further: Plan | None = plan
        while further:
            yield from self._execute(further)
            further = more(1) if more else None

    def _execute(self, plan: Plan) -> Iterator[CellResult]:
        self.prepare(plan)
        with self.short_of_memory():
            for scoring in plan.references:
                if scoring.draw or scoring.scores:
                    with self.store.lock(scoring.images.snapshot.source):
                        self.score(scoring)
            for training in plan.trainings:
                if not training.steps:
                    with self.store.lock(training.source):
                        yield from self._finish_whole([training], {})
            for pack in plan.packs:
                spent: dict[str, dict[int, float]] = {}
                with contextlib.closing(self.packs.train(pack)) as told:
                    for news in told:
                        for key, known in news.spent.items():
                            spent.setdefault(key, {}).update(known)
                        yield from self._finish_whole(news.left, spent, news.errors)

    def _finish_whole(
        self,
        trainings: Sequence[Training],
        spent: Mapping[str, dict[int, float]],
        errors: Mapping[str, str] | None = None,
    ) -> Iterator[CellResult]:
        """Finish trainings of which no cell is left then."""
        yield from self.finish(trainings, spent, errors or {})
        self.view.advance("trajectories", len(trainings))

    def prepare(self, plan: Plan) -> None:
        """Refuse what can be refused before anything is spent."""
        self._check(plan)
        self.packs.priors |= {own.key: own for cell in plan.cells for own in cell.class_sets}

    def fetch(self, spec: SnapshotSpec) -> None:
        """All snapshots are here."""

    def close(self) -> None:
        """Nothing outlives this process."""

    @contextlib.contextmanager
    def short_of_memory(self) -> Iterator[None]:
        """Say what was being done; training has ways of its own (see `Packs`)."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, RuntimeError) and not is_out_of_memory(error):
                raise
            reason, *_ = str(error).splitlines() or [type(error).__name__]
            raise TrainingError(
                f"out of memory ({self.view.now}): {reason}; a smaller sampler.batch_width "
                "or resolution takes less; what is finished is in the store"
            ) from error

    @property
    def among_references(self) -> dict[tuple[object, ...], dict[str, float]]:
        """Of each measure that was used here, the scores of its references among themselves."""
        return {measure: one.among_references for measure, one in self._scorers.items()}

    def finish(
        self,
        trainings: Sequence[Training],
        spent: Mapping[str, dict[int, float]],
        errors: Mapping[str, str],
    ) -> Iterator[CellResult]:
        """Draw together what lacks images, then score and yield each cell."""
        alive = [
            scoring.images
            for training in trainings
            for scoring in training.scorings
            if self.store.has_snapshot(scoring.images.snapshot)
        ]
        paid = self.image_sets.draw(
            [images for images in alive if not self.store.has_images(images)]
        )
        for training in trainings:
            key = training.source.key
            by_step = spent.get(key, {})
            scorings = {scoring.images.key: scoring for scoring in training.scorings}
            for cell in training.cells:
                own = cell.drawn_sets
                seconds = sum(paid.pop(images.key, 0.0) for images in own)
                seconds += by_step.pop(cell.step, 0.0)
                if self._is_alive(cell) and all(map(self.store.has_images, own)):
                    seconds += sum(self.score(scorings[images.key]) for images in own)
                    yield result_of(cell, self.store, seconds)
                else:
                    why = errors.get(key, self._lacks(cell)) if self._is_alive(cell) else None
                    yield result_of(cell, self.store, seconds, why)

    def _lacks(self, cell: Cell) -> str:
        """Why there are no images of a cell that has not diverged."""
        if not self.store.has_snapshot(cell.images.snapshot):
            return "not trained"
        return f"images not finite at strength {cell.images.strength:g}"

    def _is_alive(self, cell: Cell) -> bool:
        """Whether the cell's step lies before the one at which its trajectory diverged, if any."""
        diverged_at = self.store.diverged_at(cell.source)
        return diverged_at is None or cell.step < diverged_at

    # -- image sets ----------------------------------------------------------------------------

    def score(self, scoring: Scoring) -> float:
        """Draw and score what is missing; seconds that it took."""
        started = time.perf_counter()
        images = scoring.images
        if not self.store.has_images(images):
            self.image_sets.draw([images])
        missing = [spec for spec in scoring.scores if not self.store.has_score(spec)]
        if not images.strength:
            missing = [spec for spec in missing if not self._copied(spec)]
        if missing:
            self.scorer(missing[0].exam).score(missing, images, scoring.class_noun_set)
        return time.perf_counter() - started

    def _copied(self, spec: ScoreSpec) -> bool:
        """Whether a score of an image set at strength 0 was there, as the untaught base's."""
        alike = replace(spec, images=spec.images.untaught)
        if there := self.store.has_score(alike):
            known = self.store.read_score(alike)
            self.store.write_score(spec, {name: known[name] for name in SCORE_FIELDS})
        return there

    # -- loaded once ---------------------------------------------------------------------------

    def scorer(self, exam: ExamSpec) -> Scorer:
        """What judges by an exam's encoders, references and other images, which are read once."""
        key = exam.measure
        if key not in self._scorers:
            drawings, names, held_out = self.sweep.drawings, exam.references, exam.held_out
            images = [name.partition("/")[0] for name in names]
            unmasked = subjects(lambda: drawings.references(images))
            is_masked = any("/" in name for name in names)
            self._scorers[key] = Scorer(
                self._encoder,
                self.store,
                subjects(lambda: drawings.references(names)) if is_masked else unmasked,
                unmasked,
                squares(lambda: drawings.open(held_out)) if held_out else None,
            )
        scorer = self._scorers[key]
        if (true := exam.truth) and true not in scorer.truths:
            scorer.truths[true] = squares(lambda: self.sweep.drawings.open(true), len(true))
        if (other := exam.other) and other not in scorer.others:
            scorer.others[other] = subjects(lambda: self.sweep.drawings.references(other))
        return scorer

    def _encoder(self, spec: EncoderSpec) -> Encoder:
        if spec not in self._encoders:
            self._encoders[spec] = load_encoder(spec, self.sweep.encoders[spec])
        return self._encoders[spec]

    def _check(self, plan: Plan) -> None:
        """Everything that can be refused before anything is spent."""
        for spec in {
            t.trajectory.optimizer.identity: t.trajectory for t in plan.trainings if t.steps
        }.values():
            make_optimizer(spec, {"": torch.nn.Parameter(torch.zeros(1))})
        for scoring in plan.scorings:
            if scoring.draw and scoring.images.sampler.identity:
                config = {"num_train_timesteps": 1000}
                make_scheduler(scoring.images.sampler, config, None, of_latents=False)
