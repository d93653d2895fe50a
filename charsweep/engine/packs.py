"""Training packs of trajectories, with their locks, their costs and what they take of memory."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from statistics import median
from typing import NamedTuple

from charsweep.character import TrainingImage
from charsweep.config import Sweep
from charsweep.config.pack_width import name_of
from charsweep.core.errors import TrainingError
from charsweep.core.methods import base_precision, method_of
from charsweep.core.specs import ImageSetSpec, TrajectorySpec
from charsweep.core.store import Store
from charsweep.core.store.files import read_json, write_json
from charsweep.core.system.distributed import ALONE, Team, broadcast_each
from charsweep.core.system.hardware import find_card
from charsweep.core.system.signals import Stopped, delay_signals
from charsweep.engine.environment import environment, free_memory, is_out_of_memory
from charsweep.engine.image_sets import Bases
from charsweep.engine.measure_memory import Peak, peak_memory_mb
from charsweep.engine.measure_pack_width import seconds_per_trial
from charsweep.engine.progress import View
from charsweep.engine.queue import CostLedger, TrainingQueue
from charsweep.models.pipeline import LoadedPipeline
from charsweep.models.precision import set_products
from charsweep.plan import Pack, Speeds, Training, memory
from charsweep.train.company import company_materials
from charsweep.train.loop import Trained, train
from charsweep.train.methods import ClassImage, Execution, Materials, Trainable


class TrainingNews(NamedTuple):
    """What training has come to since it was told of last.

    `left`: what will be trained no further; `spent`: seconds, by trajectory and step, that led to
    the snapshots that are stored now, or to nothing; `errors`: by trajectory, why one has left
    before its end.
    """

    left: Sequence[Training]
    spent: Mapping[str, Mapping[int, float]]
    errors: Mapping[str, str]


class Packs:
    """Trains packs in this process; keeps training images while it lives."""

    def __init__(
        self,
        sweep: Sweep,
        store: Store,
        view: View,
        bases: Bases,
        speeds: Speeds,
        team: Team = ALONE,
    ) -> None:
        self.sweep, self.store, self.view, self.team = sweep, store, view, team
        self.bases, self.speeds, self.device = bases, speeds, bases.device
        runtime = sweep.settings.runtime
        self.execution = Execution(
            checkpointing=runtime.checkpointing is True,
            micro_batch=runtime.micro_batch,
            compile=runtime.compile,
            team=team,
        )
        self.resume_seconds = runtime.resume_seconds
        self.environment = environment(self.device)
        self.place = memory.Place(sweep.bases, speeds, find_card(runtime.device))
        self.priors: dict[str, ImageSetSpec] = {}  # what bases drew of classes, by key
        self._training_images: dict[tuple[tuple[str, ...], ...], list[TrainingImage]] = {}
        self._alone: dict[str, float | None] = {}

    def train(self, pack: Pack) -> Generator[TrainingNews]:
        """Train a pack, telling of each snapshot and of what has left, whose locks are held then.

        Who draws when news come does so beside trainings that wait meanwhile.
        """
        ledgers: dict[str, CostLedger] = {}
        with contextlib.closing(TrainingQueue(pack, self.store)) as queue:
            try:
                with contextlib.closing(self._train(pack, queue, ledgers)) as trained:
                    for block, trainable in trained:
                        if (news := self._news(block, ledgers)).spent:
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
                yield self._given_up(stopped, ledgers, queue.error)
                stopped = []
            for training in queue.trained_elsewhere:
                with self.store.lock(training.trajectory):
                    yield TrainingNews([training], {}, {})
        if stopped:  # from where they were saved last, in less memory
            yield from self.train(replace(pack, trainings=tuple(stopped)))

    def _news(self, block: Sequence[Trained], ledgers: Mapping[str, CostLedger]) -> TrainingNews:
        """What a block of steps has led to, with its costs written down."""
        left: list[Training] = []
        spent: dict[str, dict[int, float]] = {}
        for one in block:
            step, key = one.row.step, one.training.trajectory.key
            if one.is_last:
                left.append(one.training)
                self._record_costs(ledgers[key])
            elif step in one.training.snapshots:
                self._remember_run(ledgers[key])  # read by who draws it meanwhile
            else:
                continue
            told = ledgers[key].tell(None if one.is_last else step)
            spent.setdefault(key, {}).update(told)
        return TrainingNews(left, spent, {})

    def _given_up(
        self, stopped: Sequence[Training], ledgers: Mapping[str, CostLedger], error: str | None
    ) -> TrainingNews:
        """What could not be trained to its end."""
        spent = {}
        for key in [t.trajectory.key for t in stopped if t.trajectory.key in ledgers]:
            self._record_costs(ledgers[key])
            spent[key] = ledgers[key].tell(None)
        errors = {training.trajectory.key: error for training in stopped if error}
        return TrainingNews(stopped, spent, errors)

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
            self.priors = {own.key: own for t in pack.trainings for own in t.cells[0].class_sets}
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
        adapter = self.sweep.teaching_adapters.get(spec.teaching_adapter or "")
        assert (adapter is None) == (spec.teaching_adapter is None)
        company = company_materials(spec, self.sweep.drawings, self._other_class_images)
        materials = Materials(
            self.device, base, images, self._class_images, execution, masks, adapter, company
        )
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

    def _record_costs(self, ledger: CostLedger) -> None:
        """What is remembered of a trajectory that has just been trained."""
        spec = ledger.training.trajectory
        self.speeds.remember_step(spec, median(ledger.seconds))
        self._remember_run(ledger)
        missed = len(ledger.seconds) - ledger.training.steps  # a diverged one ends early
        self.view.expect(steps=missed)

    def _class_images(self, spec: TrajectorySpec) -> list[ClassImage]:
        """Of the first character's class."""
        return self._of_class(spec.class_images)

    def _other_class_images(self, spec: TrajectorySpec) -> list[ClassImage]:
        """Of the other's, where two are taught."""
        return self._of_class(spec.company.class_images if spec.company else None)

    def _of_class(self, key: str | None) -> list[ClassImage]:
        """A person's own, or those that the untaught base has drawn; none without prior loss."""
        if key is None:
            return []
        if own := self.sweep.drawings.class_images.get(key):
            pairs = zip(own.paths, own.captions, strict=True)
            return [ClassImage(path, caption) for path, caption in pairs]
        images = self.priors[key]
        folder, (prompt,) = self.store.images(images), images.prompts
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
