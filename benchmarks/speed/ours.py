"""charsweep's own loop, to be timed: real weights, a real store in a temporary folder."""

from __future__ import annotations

import contextlib
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.speed.clock import Timed, synchronize
from benchmarks.speed.task import Task
from charsweep.core.methods import base_precision
from charsweep.core.specs import SnapshotSpec
from charsweep.core.store import Store
from charsweep.core.system.images import open_image
from charsweep.evaluate.sample import PartialImageSet, draw
from charsweep.models.load import load_base
from charsweep.models.pipeline import LoadedPipeline
from charsweep.models.precision import dtype_of, set_products
from charsweep.plan import Training, TrainingSpan
from charsweep.train.loop import train
from charsweep.train.methods import ClassImage, Materials

RESUME_SECONDS = 60.0  # as conf/runtime/auto.yaml


class Ours:
    """`width` learning rates at once, through `charsweep.train.loop`, with everything it writes.

    The loop yields where it has fetched losses, and that is at a snapshot: only from one to another
    can it be timed.
    """

    rest = "logging"

    def __init__(
        self,
        task: Task,
        width: int,
        snapshots: tuple[int, ...],
        root: Path,
        mode: str | None = None,
    ) -> None:
        """`mode`: of torch.compile's, if the base's blocks are compiled."""
        self.task, self.width, self.mode, self.store = task, width, mode, Store(root)
        self.specs = [task.spec(width, number) for number in range(width)]
        spans = (TrainingSpan(0, snapshots),)
        trainings = [Training(spec, spans, None, (), ()) for spec in self.specs]
        self.last = SnapshotSpec(self.specs[0], snapshots[-1])
        set_products(task.precision)
        self.base = self._load(base_precision(self.specs[0]))
        images = [open_image(path) for path in task.character.paths]
        own = (ClassImage(path, "") for path in task.character.paths)
        priors = list(islice(cycle(own), task.learner.prior_images))  # which changes no time
        materials = Materials(task.device, self.base, images, lambda _: priors)
        self.trainable = task.learner.trainable(self.specs[0], materials)
        self.undo = contextlib.ExitStack()
        self.undo.enter_context(self._compiled(self.base))
        self.loop: Any = train(self.trainable, iter(trainings), self.store, RESUME_SECONDS)
        self.step = 0

    def advance(self, steps: int) -> float:
        """Train so many steps more, up to a snapshot; seconds of one."""
        synchronize(self.task.device)
        started, goal = time.perf_counter(), self.step + steps
        while self.step < goal:
            self.step = next(self.loop)[-1].row.step
        synchronize(self.task.device)
        assert self.step == goal
        return (time.perf_counter() - started) / steps

    @property
    def functions(self) -> list[Timed]:
        """Where the parts of a step are spent."""
        return [
            (self.trainable, "losses", "data"),
            (self.trainable, "zero_grad", "optimizer"),
            (self.base.denoiser, "forward", "forward"),
            *encoders(self.base.pipeline),
        ]

    def draw(self, seeds: range, inference_steps: int) -> float:
        """Draw images of the first trial's last snapshot; seconds of one. Training has ended.

        As an image set that fills its batches is drawn.
        """
        self.undo.close()
        self.trainable.close()
        base, whole = self.base, dtype_of(self.task.precision)
        if base.dtype != whole:  # of all weights that train, none is in half precision
            base = self.base = self._load(self.task.precision)
        learner, spec = self.task.learner, self.task.images(self.last, seeds, inference_steps)
        folder = self.store.snapshot(self.last)
        with (
            learner.painter(spec, folder, base, self.task.device) as paint,
            self._compiled(base),
        ):
            if self.mode:  # compiles first
                first = PartialImageSet(self.task.images(self.last, seeds[:1], 1))
                list(draw([first], paint, self.store))
            drawn = list(draw([PartialImageSet(spec)], paint, self.store))
        return sum(batch.seconds for batch in drawn) / len(seeds)

    def _load(self, precision: str) -> LoadedPipeline:
        task = self.task
        return load_base(task.weights.spec, task.weights, task.device, dtype_of(precision))

    def _compiled(self, base: LoadedPipeline) -> contextlib.AbstractContextManager[None]:
        return base.compiled(self.mode) if self.mode else contextlib.nullcontext()

    def close(self) -> None:
        self.loop.close()
        self.undo.close()
        self.trainable.close()


def encoders(pipeline: Any) -> list[Timed]:
    """What turns pictures and prompts into latents and embeddings."""
    names = ("text_encoder", "text_encoder_2")
    modules = [getattr(pipeline, name, None) for name in names]
    found: list[Timed] = [(module, "forward", "encoding") for module in modules if module]
    return [*found, (pipeline.vae, "encode", "encoding")]
