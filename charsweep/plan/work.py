"""The plan: the least work that is missing for cells to have their results; no torch.

Cells that share a trajectory share its training: the plan trains each trajectory once, up to the
largest step count asked, with a snapshot at each smaller one. Cells that share an image set share
its drawing. What the store holds is not planned again. Trajectories that may train in one forward
pass are packed: as many at once as their spec's `pack` says, the longest first, the next one
entering when a slot falls free.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from charsweep.core.cells import Cell, with_truth
from charsweep.core.errors import StoreError
from charsweep.core.keys import canonical_json, differences
from charsweep.core.methods import method_of
from charsweep.core.specs import (
    Added,
    ExamSpec,
    ImageSetSpec,
    ScoreSpec,
    SnapshotSpec,
    TrajectorySpec,
)
from charsweep.core.store import Store
from charsweep.core.store.files import read_json
from charsweep.core.system.versions import numerical_versions


@dataclass(frozen=True)
class Scoring:
    """An image set to draw (unless it is stored) and the scores it lacks."""

    images: ImageSetSpec
    draw: bool
    scores: tuple[ScoreSpec, ...]
    class_noun_set: ImageSetSpec | None  # the untaught base's set that quality is judged against
    before: int = 0  # images of it that other sets hold

    @property
    def to_draw(self) -> int:
        """How many images are to be drawn."""
        return self.images.count - self.before if self.draw else 0


@dataclass(frozen=True)
class TrainingSpan:
    """A range of training steps, from a stored resume state or from nothing."""

    start: int  # steps trained before: 0, or the step of the stored resume state
    snapshots: tuple[int, ...]  # ascending; training stops at the last one

    @property
    def stop(self) -> int:
        return self.snapshots[-1]


@dataclass(frozen=True)
class Training:
    """One trajectory: the spans it lacks, then what is drawn from it and scored.

    Or an adapter from elsewhere, or what is composed, which lack none.
    """

    source: TrajectorySpec | Added
    spans: tuple[TrainingSpan, ...]
    diverged_at: int | None
    scorings: tuple[Scoring, ...]
    cells: tuple[Cell, ...]
    snapshot_steps: tuple[int, ...] = ()  # steps at which it keeps a snapshot whoever asks

    @property
    def trajectory(self) -> TrajectorySpec:
        assert isinstance(self.source, TrajectorySpec)
        return self.source

    @property
    def steps(self) -> int:
        return sum(span.stop - span.start for span in self.spans)

    @property
    def snapshots(self) -> tuple[int, ...]:
        """The snapshots that the store lacks."""
        return tuple(step for span in self.spans for step in span.snapshots)


@dataclass(frozen=True)
class Pack:
    """Trainings that share a forward pass, in the order in which they enter its slots."""

    width: int
    trainings: tuple[Training, ...]

    @property
    def passes(self) -> int:
        """Forward passes until the last training is done; each serves up to `width` trials."""
        free = [0] * self.width  # at which pass each slot falls free
        for training in self.trainings:
            heapq.heapreplace(free, free[0] + training.steps)
        return max(free)


@dataclass(frozen=True)
class Plan:
    """Work in the order it is done: reference image sets first, then what is trained already."""

    cells: tuple[Cell, ...]
    references: tuple[Scoring, ...]
    trainings: tuple[Training, ...]

    @cached_property
    def packs(self) -> tuple[Pack, ...]:
        """The trainings that lack steps, grouped by what a forward pass can share."""
        groups: dict[Any, list[Training]] = {}
        for number, training in enumerate(self.trainings):
            if training.steps:
                shared = shared_pass(training.trajectory)
                groups.setdefault(number if shared is None else shared, []).append(training)
        return tuple(
            Pack(group[0].trajectory.pack, tuple(sorted(group, key=lambda t: -t.steps)))
            for group in groups.values()
        )

    @property
    def idle(self) -> float:
        """The share of slots that compute nothing of use."""
        slots = sum(pack.passes * pack.width for pack in self.packs)
        return 1 - self.steps_needed / slots if slots else 0.0

    @property
    def steps_needed(self) -> int:
        """Training steps that the store lacks, each trajectory's once."""
        return sum(training.steps for training in self.trainings)

    @property
    def steps_asked(self) -> int:
        """Steps that the cells would take if each were trained alone."""
        return sum(cell.step * len(cell.trainings) for cell in self.cells)

    @property
    def scorings(self) -> tuple[Scoring, ...]:
        """Every image set, references first."""
        return self.references + tuple(s for t in self.trainings for s in t.scorings)

    @property
    def cells_stored(self) -> int:
        """Cells whose result is already whole in the store."""
        return sum(
            is_stored(training, cell) for training in self.trainings for cell in training.cells
        )

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to train, draw or score."""
        return not self.steps_needed and not any(s.draw or s.scores for s in self.scorings)


def plan_work(
    cells: Sequence[Cell],
    store: Store,
    snapshot_steps: tuple[int, ...] = (),
) -> Plan:
    """What is missing for every cell to have its result.

    At the `snapshot_steps`, a trajectory that trains past them keeps snapshots too.
    """
    by_source: dict[str, list[Cell]] = {}
    for cell in cells:
        by_source.setdefault(cell.source.key, []).append(cell)
    trainings = [plan_training(group, store, snapshot_steps) for group in by_source.values()]
    return Plan(tuple(cells), tuple(_references(cells, store)), tuple(_drawn_once(trainings)))


def _drawn_once(trainings: Sequence[Training]) -> Iterator[Training]:
    """Trainings of which no image is drawn that another set of theirs is drawn as."""
    known = {scoring.images.key for training in trainings for scoring in training.scorings}

    def counted(scoring: Scoring) -> Scoring:
        drawn = scoring.images.as_drawn.key
        if not scoring.draw or drawn == scoring.images.key:
            return scoring
        is_known = drawn in known
        known.add(drawn)
        return replace(scoring, before=scoring.images.count) if is_known else scoring

    for training in trainings:
        yield replace(training, scorings=tuple(map(counted, training.scorings)))


def _references(cells: Sequence[Cell], store: Store) -> list[Scoring]:
    """What is drawn by the untaught base, and the true images; once, but scored for each exam."""
    wanted: dict[tuple[str, object], Scoring] = {}
    drawn, measures = set[str](), Measures()

    def add(scoring: Scoring, measure: object) -> None:
        key = scoring.images.key
        is_new = key not in drawn
        drawn.add(key)
        wanted[key, measure] = replace(scoring, draw=scoring.draw and is_new)

    for cell in cells:
        measure = measures.number(cell)
        for images in cell.class_sets:
            if images.key not in drawn:
                add(replace(_scoring(cell, images, store), scores=()), measure)  # trained on alone
        for beside in (cell.class_noun_set, cell.untaught_set):
            if beside is not None and (beside.key, measure) not in wanted:
                add(_scoring(cell, beside, store), measure)
        for base in (part.untaught for part in cell.parts):
            if base.key not in drawn:
                add(_missing(base, (), None, store, is_drawn=True), measure)
        for part_name, scoring in () if cell.images.strength else _copied_from(cell, store):
            place = (measure, part_name) if part_name else measure
            if (scoring.images.key, place) not in wanted:
                add(scoring, place)
    for cell, truth in with_truth(cells):
        add(_scoring(cell, truth, store), measures.number(cell))
    return list(wanted.values())


def _copied_from(cell: Cell, store: Store) -> Iterator[tuple[str, Scoring]]:
    """What of the untaught base a cell at strength 0 is copied from, where it lacks anything; by
    the part of the exam, "" for the exam itself."""
    own: list[tuple[str, ImageSetSpec, Sequence[ScoreSpec], ImageSetSpec | None]] = [
        (part.name, part.images, part.scores, part.untaught) for part in cell.parts
    ]
    scores = [cell.score_spec(metric, cell.images) for metric in cell.metrics]
    for name, images, specs, noun in [("", cell.images, scores, cell.class_noun_set), *own]:
        here = _missing(images, specs, noun, store, is_drawn=True)
        if here.draw or here.scores:
            alike = images.untaught
            specs = [replace(spec, images=alike) for spec in specs]
            yield name, _missing(alike, specs, noun, store, is_drawn=True)


class Measures:
    """Numbers of the different exams and metrics that cells are judged by."""

    def __init__(self) -> None:
        self._known: dict[tuple[ExamSpec, str], int] = {}
        self._of: dict[int, int] = {}  # of the exam that all cells of a combination share

    def number(self, cell: Cell) -> int:
        if (found := self._of.get(id(cell.exam))) is None:
            own = (cell.exam, canonical_json(cell.metrics))
            found = self._of[id(cell.exam)] = self._known.setdefault(own, len(self._known))
        return found


def shared_pass(spec: TrajectorySpec) -> tuple[Any, ...] | None:
    """What trajectories must have in common to share a forward pass; None: this one cannot."""
    pack_key = method_of(spec.method).pack_key
    if pack_key is None:
        return None
    shared = (
        spec.base.key if spec.base else None,
        spec.character,
        replace(spec.company, class_images=None) if spec.company else None,  # one size at a step
        spec.batch_size,
        spec.resolution,
        spec.framing.crop,
        spec.framing.masks,
        spec.precision,
        spec.teaching_adapter,
    )
    return (spec.method.identity, spec.pack, *shared, *pack_key)


def plan_training(
    cells: Sequence[Cell], store: Store, snapshot_steps: tuple[int, ...] = ()
) -> Training:
    """What the cells of one trajectory lack, or of what is put on a base as it is."""
    if isinstance(added := cells[0].source, Added):
        broken = store.diverged_at(added)
        scorings = () if broken is not None else _scorings(cells, store)
        return Training(added, (), broken, scorings, tuple(cells))
    trajectory = cells[0].trajectory
    diverged_at = store.diverged_at(trajectory)
    steps = sorted({cell.step for cell in cells})
    alive = [step for step in steps if diverged_at is None or step < diverged_at]
    there = [step for step in alive if _is_there(step, cells, store)]
    missing = [step for step in alive if step not in there]
    stored = store.resume_step(trajectory)
    store.check_losses(trajectory, max([stored, *there]))
    # A snapshot cannot be trained on from, and the stored state is the trajectory's last: what lies
    # before it is trained again from the start, what lies behind it goes on.
    before = tuple(step for step in missing if step <= stored)
    behind = tuple(step for step in missing if step > stored)
    if behind and stored:
        _check_versions(store, trajectory, stored)
    if behind:
        behind = tuple(
            sorted({*behind, *(step for step in snapshot_steps if stored < step < behind[-1])})
        )
    spans = [
        TrainingSpan(start, steps) for start, steps in ((0, before), (stored, behind)) if steps
    ]
    drawn = [cell for cell in cells if diverged_at is None or cell.step < diverged_at]
    return Training(
        source=trajectory,
        spans=tuple(spans),
        diverged_at=diverged_at,
        scorings=_scorings(drawn, store, there),
        cells=tuple(cells),
        snapshot_steps=snapshot_steps,
    )


def _scorings(
    cells: Sequence[Cell], store: Store, there: Sequence[int] | None = None
) -> tuple[Scoring, ...]:
    """What is missing of the image sets of cells; all of those at steps that are not `there`."""
    scorings: dict[str, Scoring] = {}
    for cell in cells:
        is_drawn = there is None or cell.step in there  # images lie with their snapshot
        scorings.setdefault(cell.images.key, _scoring(cell, cell.images, store, is_drawn))
        for part in cell.parts:
            asked = _missing(part.images, part.scores, part.untaught, store, is_drawn)
            scorings.setdefault(part.images.key, asked)
    return tuple(scorings.values())


def _is_there(step: int, cells: Sequence[Cell], store: Store) -> bool:
    """Whether a snapshot's weights are, or all that is to be drawn from them."""
    spec = SnapshotSpec(cells[0].trajectory, step)
    if not store.has_snapshot(spec):
        return False
    if store.held_by(spec) is None:
        return True
    drawn = (images for cell in cells if cell.step == step for images in cell.drawn_sets)
    return not store.whole and all(map(store.has_images, drawn))


def _check_versions(store: Store, trajectory: TrajectorySpec, step: int) -> None:
    """StoreError where a trajectory would go on under other versions than it was begun with."""
    folder = store.resume(trajectory, step)
    then = read_json(folder / "resume.json").get("versions", {})
    if changed := "; ".join(differences(then, numerical_versions())):
        raise StoreError(
            f"{folder} was written with other versions than are installed now ({changed}), and a "
            "trajectory of two could not be repeated; install the former ones again, or delete "
            "that folder: the trajectory is trained anew then"
        )


def _scoring(cell: Cell, images: ImageSetSpec, store: Store, is_drawn: bool = True) -> Scoring:
    specs = [cell.score_spec(metric, images) for metric in cell.metrics]
    return _missing(images, specs, cell.class_noun_set, store, is_drawn)


def _missing(
    images: ImageSetSpec,
    specs: Sequence[ScoreSpec],
    untaught: ImageSetSpec | None,
    store: Store,
    is_drawn: bool,
) -> Scoring:
    """What of an image set is missing; `is_drawn` where it may be there at all."""
    lacks_images = not (is_drawn and store.has_images(images))
    # scores lie with their images: without these there are none to look for
    missing = tuple(spec for spec in specs if lacks_images or not store.has_score(spec))
    before = len(store.drawn_before(images)) if is_drawn and lacks_images else 0
    if not images.strength:
        before = images.count  # the untaught base's are drawn first
    return Scoring(images, lacks_images, missing, untaught, before)


def once_done(plan: Plan, earlier: Sequence[Plan]) -> Plan:
    """The plan as it will be once earlier ones are done: what they train and draw is there then."""
    drawn = {scoring.images.key for one in earlier for scoring in one.scorings}
    reached: dict[str, int] = {}
    for training in (training for one in earlier for training in one.trainings):
        stop = max((span.stop for span in training.spans), default=0)
        key = training.source.key
        reached[key] = max(stop, reached.get(key, 0))

    def left(training: Training) -> Training:
        there = reached.get(training.source.key, 0)
        spans = tuple(
            TrainingSpan(max(there, span.start), tuple(s for s in span.snapshots if s > there))
            for span in training.spans
            if span.stop > there
        )
        scorings = tuple(s for s in training.scorings if s.images.key not in drawn)
        return replace(training, spans=spans, scorings=scorings)

    references = tuple(s for s in plan.references if s.images.key not in drawn)
    return Plan(plan.cells, references, tuple(map(left, plan.trainings)))


def is_stored(training: Training, cell: Cell) -> bool:
    """Whether the cell's result is whole in the store."""
    if training.diverged_at is not None and cell.step >= training.diverged_at:
        return True
    own = {images.key for images in cell.drawn_sets}
    return cell.step not in training.snapshots and not any(
        s.draw or s.scores for s in training.scorings if s.images.key in own
    )
