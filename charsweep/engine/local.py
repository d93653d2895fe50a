"""The engine of this process: trains, draws and scores a plan's cells, one after the other."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from statistics import median

import torch

from charsweep.character import TrainingImage
from charsweep.config import Sweep
from charsweep.config.pack_width import name_of
from charsweep.core.errors import TrainingError
from charsweep.core.methods import base_precision, method_of
from charsweep.core.specs import Cell, EncoderSpec, ExamSpec, ImageSetSpec, TrajectorySpec
from charsweep.core.store import Store
from charsweep.core.store.files import read_json, write_json
from charsweep.core.system.distributed import ALONE, Team, broadcast_each, device_of
from charsweep.core.system.hardware import cores, find_card
from charsweep.core.system.signals import Stopped, delay_signals
from charsweep.engine.environment import environment, find_device, free_memory, is_out_of_memory
from charsweep.engine.image_sets import Bases, ImageSets
from charsweep.engine.measure_memory import Peak, peak_memory_mb
from charsweep.engine.measure_pack_width import seconds_per_trial
from charsweep.engine.progress import View
from charsweep.engine.queue import CostLedger, TrainingQueue
from charsweep.evaluate.encoders import LOADERS, Encoder
from charsweep.evaluate.score import Scorer, reference_features, square_features
from charsweep.models.pipeline import LoadedPipeline
from charsweep.models.precision import set_products
from charsweep.models.samplers import make_scheduler
from charsweep.plan import Pack, Plan, Scoring, Speeds, Training, memory
from charsweep.plan.workers import threads_for
from charsweep.results import CellResult
from charsweep.results.cells import result_of
from charsweep.train.checkpoint import make_optimizer
from charsweep.train.loop import Trained, train
from charsweep.train.methods import ClassImage, Execution, Materials, Trainable

NO_ERRORS: Mapping[str, str] = {}


@dataclass(frozen=True)
class TrainingNews:
    """What training has come to: what has left its slot, and which snapshots are stored.

    `spent` and `reached`: seconds by trajectory and step; `errors`: by trajectory, why it left
    before its end.
    """

    left: tuple[Training, ...]
    spent: Mapping[str, dict[int, float]]
    errors: Mapping[str, str]
    reached: Mapping[str, dict[int, float]] = field(default_factory=dict)


class LocalEngine:
    """Executes plans here; keeps bases, latents, embeddings and features while it lives."""

    def __init__(self, sweep: Sweep, store: Store, view: View, team: Team = ALONE) -> None:
        self.sweep, self.store, self.view, self.team = sweep, store, view, team
        runtime = sweep.settings.runtime
        self.device = device_of(team, find_device(runtime.device))
        if threads := threads_for(runtime, self.device.type, cores()):
            torch.set_num_threads(threads)
        self.execution = Execution(
            checkpointing=runtime.checkpointing is True,
            micro_batch=runtime.micro_batch,
            compile=runtime.compile,
            team=team,
        )
        self.resume_seconds = runtime.resume_seconds
        self.environment = environment(self.device)
        self.speeds = Speeds(store)
        self.place = memory.Place(sweep.bases, self.speeds, find_card(runtime.device))
        self.bases = Bases(sweep, self.device, view)
        self.image_sets = ImageSets(sweep, store, view, self.bases, self.speeds)
        self._training_images: dict[tuple[tuple[str, ...], ...], list[TrainingImage]] = {}
        self._encoders: dict[EncoderSpec, Encoder] = {}
        self._scorers: dict[tuple[object, ...], Scorer] = {}
        self._priors: dict[str, ImageSetSpec | None] = {}
        self._alone: dict[str, float | None] = {}

    def execute(self, plan: Plan) -> Generator[CellResult, None, None]:
        """Do the plan, yielding each cell as it is finished, diverged or failed."""
        self.prepare(plan)
        with self.short_of_memory():
            for scoring in plan.references:
                if scoring.draw or scoring.scores:
                    with self.store.lock(scoring.images.snapshot.source):
                        self.score(scoring)
            for training in plan.trainings:
                if not training.steps:
                    with self.store.lock(training.trajectory):
                        yield from self.finish([training], {})
                    self.view.advance("trajectories")
            for pack in plan.packs:
                with contextlib.closing(self.train(pack)) as told:
                    for news in told:
                        if news.left:
                            yield from self.finish(news.left, news.spent, news.errors)

    def prepare(self, plan: Plan) -> None:
        """Refuse what can be refused before anything is spent."""
        self._check(plan)
        self._priors = {cell.trajectory.key: cell.class_images for cell in plan.cells}

    def close(self) -> None:
        """Nothing outlives this process."""

    @contextlib.contextmanager
    def short_of_memory(self) -> Iterator[None]:
        """Say what was being done; training has ways of its own (see `_adapt`)."""
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
        return {measure: one.among_references() for measure, one in self._scorers.items()}

    # -- trajectories --------------------------------------------------------------------------

    def train(self, pack: Pack) -> Generator[TrainingNews]:
        """Train a pack, telling what can be drawn while its trajectories are held.

        Who draws when news come does so beside a training that waits meanwhile.
        """
        ledgers: dict[str, CostLedger] = {}
        with contextlib.closing(TrainingQueue(pack, self.store)) as queue:
            try:
                with contextlib.closing(self._train(pack, queue, ledgers)) as trained:
                    for block, trainable in trained:
                        news = self._news(block, ledgers)
                        with trainable.aside() if news.left else contextlib.nullcontext():
                            yield news
                        for training in news.left:
                            queue.release(training)
            except (Stopped, GeneratorExit):  # their states are saved: what was done is, too
                for key in queue.inside.keys() & ledgers.keys():
                    self._remember_run(ledgers[key])
                raise
            stopped = queue.stopped()
            if not (queue.out_of_memory and self._adapt(pack)):
                keys = {training.trajectory.key for training in stopped}
                for key in keys & ledgers.keys():
                    self._record_costs(ledgers[key])
                spent = {key: ledger.spent for key, ledger in ledgers.items() if key in keys}
                yield self._left(stopped, spent, queue.error)
                stopped = []
            for training in queue.trained_elsewhere:
                with self.store.lock(training.trajectory):
                    yield self._left([training], {})
        if stopped:  # from where they were saved last, in less memory
            yield from self.train(replace(pack, trainings=tuple(stopped)))

    def _news(self, block: Sequence[Trained], ledgers: Mapping[str, CostLedger]) -> TrainingNews:
        """What a block of steps has led to, with its costs written down."""
        left = [step.training for step in block if step.is_last]
        reached: dict[str, dict[int, float]] = {}
        for step in block:
            key = step.training.trajectory.key
            if step.row.step in step.training.snapshots:
                ledger = ledgers[key]
                reached.setdefault(key, {})[step.row.step] = ledger.spent.get(step.row.step, 0.0)
                self._remember_run(ledger)  # read by who draws it meanwhile
        for training in left:
            self._record_costs(ledgers[training.trajectory.key])
        spent = {t.trajectory.key: ledgers[t.trajectory.key].spent for t in left}
        return replace(self._left(left, spent), reached=reached)

    def _left(
        self, trainings: Sequence[Training], spent: Mapping[str, dict[int, float]],
        error: str | None = None,
    ) -> TrainingNews:  # fmt: skip
        for _ in trainings:
            self.view.advance("trajectories")
        errors = {training.trajectory.key: error or "not trained" for training in trainings}
        return TrainingNews(tuple(trainings), spent, errors if error else {})

    def _train(
        self, pack: Pack, queue: TrainingQueue, ledgers: dict[str, CostLedger]
    ) -> Generator[tuple[list[Trained], Trainable], None, None]:
        """Train and note costs; after each block, its steps, and what trains."""
        spec, count = pack.trainings[0].trajectory, len(pack.trainings)
        many = f" and {count - 1} others, {pack.width} at once" if count > 1 else ""
        self.view.doing(f"training {spec.slug}{many}")
        alone = self._seconds_alone(spec)
        team = self.team if spec.base else ALONE
        team.broadcast(pack)
        trainings = broadcast_each(queue.trainings(), team)
        try:
            base = self._taught_base(spec)
            peak: Peak | None = Peak(self.device, base.modules.values() if base else ())
            kind = memory.name_of(self._memory_work(spec), self.device.type)
            with (
                contextlib.closing(self._trainable(spec, team)) as trainable,
                contextlib.closing(
                    train(trainable, trainings, self.store, self.resume_seconds, team)
                ) as blocks,
            ):
                while done := self._block(blocks, ledgers, alone):
                    for ledger in ledgers.values():
                        ledger.warm_up = trainable.warm_up_seconds
                    left = any(step.is_last for step in done)
                    if peak and team.size == 1 and (found := peak.bytes()):
                        self.speeds.remember_peak(kind, found)
                    yield done, trainable
                    peak = None if left else peak  # what draws them then stays on a card
        except TrainingError as error:
            queue.error = str(error).splitlines()[0]
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            queue.out_of_memory = True
            queue.error = f"out of memory: {str(error).splitlines()[0]}; {self._remedy(spec)}"

    def follow(self) -> None:
        """Train along with the leader until it has nothing more to train."""
        while (pack := self.team.broadcast()) is not None:
            self._priors = {t.trajectory.key: t.cells[0].class_images for t in pack.trainings}
            spec = pack.trainings[0].trajectory
            with contextlib.closing(self._trainable(spec, self.team)) as trainable:
                told = broadcast_each(iter(()), self.team)
                for _ in train(trainable, told, self.store, self.resume_seconds, self.team):
                    pass

    def _trainable(self, spec: TrajectorySpec, team: Team) -> Trainable:
        """What trains: all slots free."""
        base = self._taught_base(spec)
        set_products(spec.precision)
        execution = replace(self.execution, team=team, checkpointing=self._checkpoints(spec))
        training_images = self.training_images(spec)
        images = [image.image for image in training_images]
        masks = [image.mask for image in training_images]
        materials = Materials(self.device, base, images, self._class_images, execution, masks)
        return method_of(spec.method).trainable(spec, materials)

    def _checkpoints(self, spec: TrajectorySpec) -> bool:
        """Whether activations are made again."""
        return self._memory_work(spec).checkpointing

    def _memory_work(self, spec: TrajectorySpec) -> memory.Work:
        now = self.execution
        plain = memory.Work(spec, now.checkpointing, now.micro_batch, now.compile)
        return memory.settled(plain, self.place, self.sweep.settings.runtime)

    def _adapt(self, pack: Pack) -> bool:
        """Make do with less memory, if the user allows it and there is a way."""
        if not self.sweep.settings.runtime.adapt or self.team.size > 1:
            return False
        spec, now = pack.trainings[0].trajectory, self.execution
        batch = min(now.micro_batch or spec.batch_size, spec.batch_size)
        if spec.base and not self._checkpoints(spec):
            self.execution = replace(now, checkpointing=True)
            self.view.say(f"{spec.slug}: out of memory; goes on with runtime.checkpointing=true")
        elif spec.base and batch > 1:
            self.execution = replace(now, micro_batch=batch // 2)
            self.view.say(f"{spec.slug}: out of memory; goes on with micro_batch={batch // 2}")
        else:
            return False
        free_memory()
        return True

    def _remedy(self, spec: TrajectorySpec) -> str:
        """What would take less memory, the ways that change no result first."""
        ways = []
        if not self._checkpoints(spec):
            ways.append("runtime.checkpointing=true")
        if min(self.execution.micro_batch or spec.batch_size, spec.batch_size) > 1:
            ways.append("runtime.micro_batch=1")
        if spec.pack > 1:
            ways.append(f"pack={spec.pack // 2}")
        if spec.precision == "fp32" and self.device.type == "cuda":
            ways.append("precision=bf16")
        return f"try {', '.join([*ways, 'a lower resolution'])}, or let runtime.adapt=true choose"

    def _block(
        self, blocks: Iterator[list[Trained]], ledgers: dict[str, CostLedger], alone: float | None
    ) -> list[Trained]:
        """What the loop does until it can be left: a signal waits that long."""
        with delay_signals():
            done = next(blocks, [])
            for step in done:
                key = step.training.trajectory.key
                ledgers.setdefault(key, CostLedger(step.training, alone)).add(step)
                self.view.step(step.row.seconds / step.shared, step.row.loss)
        return done

    def finish(
        self,
        trainings: Sequence[Training],
        spent: Mapping[str, dict[int, float]],
        errors: Mapping[str, str] = NO_ERRORS,
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
            key = training.trajectory.key
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
                    why = errors.get(key, "not trained") if self._is_alive(cell) else None
                    yield result_of(cell, self.store, seconds, why)

    def _is_alive(self, cell: Cell) -> bool:
        """Whether the cell's step lies before the one at which its trajectory diverged, if any."""
        diverged_at = self.store.diverged_at(cell.trajectory)
        return diverged_at is None or cell.step < diverged_at

    def _record_costs(self, ledger: CostLedger) -> None:
        """What is remembered of a trajectory that has just been trained."""
        spec = ledger.training.trajectory
        self.speeds.remember_step(spec, median(ledger.seconds))
        self._remember_run(ledger)
        missed = len(ledger.seconds) - ledger.training.steps  # a diverged one ends early
        self.view.expect(steps=missed)

    def _class_images(self, spec: TrajectorySpec) -> list[ClassImage]:
        """A person's own, or those that the untaught base has drawn; none without prior loss."""
        if own := self.sweep.drawings.class_images.get(spec.class_images or ""):
            pairs = zip(own.paths, own.captions, strict=True)
            return [ClassImage(path, caption) for path, caption in pairs]
        images = self._priors[spec.key]
        if images is None:
            return []
        folder, prompt = self.store.images(images), spec.character.class_prompt
        return [ClassImage(folder / f"{i:03d}.png", prompt) for i in range(images.count)]

    def _seconds_alone(self, spec: TrajectorySpec) -> float | None:
        """A step of this kind in a pack of one, measured once per process; None if it is in one.

        What a pass of a wide pack takes says little about what its trials would take by themselves.
        """
        if spec.pack == 1 or spec.base is None:
            return None
        name = name_of(spec)
        if name not in self._alone:
            narrow = replace(spec, pack=1)
            base = self.bases(spec.base, spec.precision)  # packs are of adapters
            self._alone[name] = seconds_per_trial(self.sweep, narrow, base, steps=5)
        return self._alone[name]

    def _remember_run(self, ledger: CostLedger) -> None:
        """Add to provenance.json, or replace what was said of this run: recorded, never hashed."""
        path = self.store.source(ledger.training.trajectory) / "provenance.json"
        runs = read_json(path, "runs")["runs"] if path.exists() else []
        runs = runs[: -1 if ledger.recorded else None]
        ledger.recorded = True
        run = {
            "steps": [ledger.first, ledger.last],
            "started": ledger.started.isoformat(timespec="seconds"),
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds_per_step_alone": ledger.alone,
            "warm_up_seconds": round(ledger.warm_up, 3),
            "checkpointing": self.execution.checkpointing,
            "micro_batch": self.execution.micro_batch,
            "processes": self.team.size,
            "peak_memory_mb": round(peak_memory_mb(self.device), 1),
            **self.environment,
        }
        write_json(path, {"runs": [*runs, run]})

    # -- image sets ----------------------------------------------------------------------------

    def score(self, scoring: Scoring) -> float:
        """Draw and score what is missing; seconds that it took."""
        started = time.perf_counter()
        images = scoring.images
        if not self.store.has_images(images):
            self.image_sets.draw([images])
        missing = [spec for spec in scoring.scores if not self.store.has_score(spec)]
        if missing:
            self.scorer(missing[0].exam).score(missing, images, scoring.class_noun_set)
        return time.perf_counter() - started

    # -- loaded once ---------------------------------------------------------------------------

    def training_images(self, spec: TrajectorySpec) -> list[TrainingImage]:
        """The images that a trajectory is trained on, with their masks where these count."""
        own = (spec.character.digests, spec.framing.masks)
        if own not in self._training_images:
            self._training_images[own] = self.sweep.drawings.training_images(*own)
        return self._training_images[own]

    def _taught_base(self, spec: TrajectorySpec) -> LoadedPipeline | None:
        if spec.base is None:
            return None
        return self.bases(spec.base, base_precision(spec))

    def scorer(self, exam: ExamSpec) -> Scorer:
        """What judges by an exam's encoders, references and other images, which are read once."""
        key = exam.measure
        if key not in self._scorers:
            drawings, names = self.sweep.drawings, exam.references
            encoders = {spec.name: self._encoder(spec) for spec in exam.encoders}
            unmasked = reference_features(
                encoders, drawings.references([name.partition("/")[0] for name in names])
            )
            is_masked = any("/" in name for name in names)
            self._scorers[key] = Scorer(
                encoders,
                self.store,
                reference_features(encoders, drawings.references(names)) if is_masked else unmasked,
                unmasked,
                square_features(encoders, drawings.open(exam.held_out)) if exam.held_out else None,
            )
        scorer = self._scorers[key]
        if exam.truth and exam.truth not in scorer.truths:
            true = self.sweep.drawings.open(exam.truth)
            scorer.truths[exam.truth] = square_features(scorer.encoders, true)
        return scorer

    def _encoder(self, spec: EncoderSpec) -> Encoder:
        if spec not in self._encoders:
            self._encoders[spec] = LOADERS[spec.name](spec, self.sweep.encoders[spec])
        return self._encoders[spec]

    def _check(self, plan: Plan) -> None:
        """Everything that can be refused before anything is spent."""
        for spec in {
            t.trajectory.optimizer.identity: t.trajectory for t in plan.trainings
        }.values():
            make_optimizer(spec, {"": torch.nn.Parameter(torch.zeros(1))})
        for scoring in plan.scorings:
            if scoring.draw and scoring.images.sampler.identity:
                config = {"num_train_timesteps": 1000}
                make_scheduler(scoring.images.sampler, config, None)
