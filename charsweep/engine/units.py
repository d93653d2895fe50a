"""What of a plan workers are given, and in which order: the `Agenda`; no torch, no processes.

A unit is a pack to train, a reference image set, or parts of trajectories to draw and score. Of
what bits depend on nothing is cut: packs keep their width, image sets are drawn whole. Whatever
workers there are, one trains as long as there is something to train, because all else waits for
it; the others draw and score what has been trained, and train where nothing is to be drawn.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from charsweep.core.errors import TrainingError
from charsweep.core.specs import Cell, ImageSetSpec, Source
from charsweep.plan import Pack, Plan, Scoring, Speeds, Training
from charsweep.plan.cost import calls_each

SCORING = 0.02  # seconds for each image: reading it, and every metric; measured on one core
MOST_SECONDS = 20.0  # of a unit that is drawn, so that workers end together


@dataclass(frozen=True)
class Train:
    """A pack, of which nothing is drawn."""

    pack: Pack


@dataclass(frozen=True)
class Reference:
    """An image set of an untaught base, or the true one, and its scores for every exam."""

    scorings: tuple[Scoring, ...]

    @property
    def images(self) -> ImageSetSpec:
        return self.scorings[0].images


@dataclass(frozen=True)
class Finish:
    """Trainings with some of their cells, to be drawn, scored and yielded.

    `spent`: seconds of training by trajectory and step; `errors`: why one was not trained to its
    end, by trajectory.
    """

    trainings: tuple[Training, ...]
    spent: Mapping[str, dict[int, float]]
    errors: Mapping[str, str]


Unit = Train | Reference | Finish
Take = Callable[[Source], bool]  # whether a source is, or now becomes, this command's to work on
Near = Callable[[Training], bool]  # whether a worker has a trajectory's state, or its snapshot

NEAREST = 200  # parts that have been ready longest, among which what is near is looked for
MOST_LOSSES = 3  # of workers at the same work, which is then given up


@dataclass(frozen=True, eq=False)
class Part:
    """Cells of a training that share image sets, and the expected seconds of these."""

    training: Training
    seconds: float
    needs: frozenset[str] = frozenset()  # keys of reference image sets
    by: int | None = None  # the worker who alone can draw it: it has the weights

    @property
    def key(self) -> str:
        return self.training.source.key

    @property
    def step(self) -> int:
        return self.training.cells[0].step


@dataclass
class Agenda:
    """What of a plan is still to be handed out, and what waits for what."""

    plan: Plan
    speeds: Speeds
    workers: int
    packs: list[Pack] = field(init=False)
    references: list[Reference] = field(init=False)
    waiting: list[Part] = field(init=False)  # for their snapshot
    ready: list[Part] = field(init=False)  # trained, so far as they will be
    training: int = 0  # packs that are out
    undrawn: set[str] = field(init=False)  # keys of references
    left: Counter[str] = field(init=False)  # by source: cells and references that are not done
    spent: dict[str, dict[int, float]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    locked_out: Source | None = None  # what another command works on
    losses: Counter[str] = field(default_factory=Counter)  # of workers, by what they were at
    given_up: list[tuple[Cell, str]] = field(default_factory=list)  # and why

    def __post_init__(self) -> None:
        plan = self.plan
        wanted: dict[str, list[Scoring]] = {}
        for scoring in plan.references:
            if scoring.draw or scoring.scores:
                wanted.setdefault(scoring.images.key, []).append(scoring)
        self.references = [Reference(tuple(scorings)) for scorings in wanted.values()]
        self.undrawn = set(wanted)
        packs = [part for pack in plan.packs for part in split(pack, self.workers)]
        if len(packs) < self.workers:
            packs = [half for pack in packs for half in halves(pack)]
        self.packs = sorted(packs, key=lambda pack: -pack.passes)
        self.left = Counter(cell.source.key for cell in plan.cells)
        self.left.update(reference.images.snapshot.source.key for reference in self.references)
        self.waiting, self.ready = [], []
        for training in plan.trainings:
            for part in self._parts(training):
                trained = part.step not in training.snapshots
                (self.ready if trained else self.waiting).append(part)

    # -- what has happened ---------------------------------------------------------------------

    def reached(
        self,
        key: str,
        spent: Mapping[int, float],
        last: bool,
        error: str | None = None,
        by: Callable[[Training], int | None] = lambda _: None,
    ) -> None:
        """A trajectory has stored the snapshots of these steps, or, at `last`, has left.

        With an error, that was before its end. `by`: the worker with whom the weights stayed.
        """
        self.spent.setdefault(key, {}).update(spent)
        if error:
            self.errors[key] = error
        for part in [p for p in self.waiting if p.key == key and (last or p.step in spent)]:
            self.waiting.remove(part)
            self.ready.append(replace(part, by=by(part.training)))

    def drawn(self, reference: Reference) -> bool:
        """A reference is done; whether that was the last of its source."""
        self.undrawn.discard(reference.images.key)
        return self.finished(reference.images.snapshot.source)

    def finished(self, source: Source) -> bool:
        """A cell or a reference is done; whether that was the last of its source."""
        self.left[source.key] -= 1
        return not self.left[source.key]

    def take_back(self, unit: Unit, done: set[str], lost: str = "") -> None:
        """What a worker has not done of its unit; `done` has keys of cells and of trajectories.

        `lost`: why the worker was; what has cost several of them is given up. TrainingError where
        all else waits for it.
        """
        if isinstance(unit, Reference):
            if self._costs_too_much(unit.images.key, lost):
                raise TrainingError(_too_many(unit.images.snapshot.source.slug, lost))
            self.references.insert(0, unit)
        elif isinstance(unit, Finish):
            for key, known in unit.spent.items():
                self.spent.setdefault(key, {}).update(known)
            for training in unit.trainings:
                cells = tuple(cell for cell in training.cells if cell.key not in done)
                if cells and self._costs_too_much(cells[0].key, lost):
                    why = _too_many(training.source.slug, lost)
                    self.given_up += [(cell, why) for cell in cells]
                elif cells:
                    self.ready += self._parts(replace(training, cells=cells))
        else:
            self.training -= 1
            rest = [t for t in unit.pack.trainings if t.trajectory.key not in done]
            for training in list(rest):
                key = training.trajectory.key
                if self._costs_too_much(key, lost):
                    self.reached(key, {}, True, _too_many(training.trajectory.slug, lost))
                    rest.remove(training)
            if rest:
                self.packs.insert(0, replace(unit.pack, trainings=tuple(rest)))

    def train_again(
        self, is_gone: Callable[[Training], bool], plan: Callable[[Training], Training]
    ) -> None:
        """Of what is to be drawn from weights that are gone with their worker, make them again."""
        gone = [part for part in self.ready if is_gone(part.training)]
        self.ready = [part for part in self.ready if part not in gone]
        self.waiting += [replace(part, by=None) for part in gone]
        again = {t.trajectory.key for pack in self.packs for t in pack.trainings}
        for part in gone:
            if part.key not in again:
                again.add(part.key)
                cells = [c for other in gone if other.key == part.key for c in other.training.cells]
                training = plan(replace(part.training, cells=tuple(cells)))
                self.packs.insert(0, Pack(training.trajectory.pack, (training,)))

    def _costs_too_much(self, key: str, lost: str) -> bool:
        self.losses[key] += bool(lost)
        return self.losses[key] >= MOST_LOSSES

    @property
    def is_done(self) -> bool:
        return not any(self.left.values())

    # -- what comes next -----------------------------------------------------------------------

    def next(
        self, take: Take, near: Near = lambda _: False, worker: int | None = None
    ) -> Unit | None:
        """The unit that a free worker gets; None while all that is left waits for others.

        Rather one that it need not be sent the files of.
        """
        unit: Unit | None = None if self.training else self._train(take, near)
        unit = unit or self._reference(take) or self._finish(take, near, worker)
        unit = unit or self._train(take, near)
        if isinstance(unit, Train):
            self.training += 1
        return unit

    def _takes(self, source: Source, take: Take) -> bool:
        taken = take(source)
        if not taken:
            self.locked_out = source
        return taken

    def _train(self, take: Take, near: Near) -> Train | None:
        for pack in sorted(self.packs, key=lambda pack: not any(map(near, pack.trainings))):
            needed = {c.class_images.key for t in pack.trainings for c in t.cells if c.class_images}
            if needed & self.undrawn:
                continue
            ours = tuple(t for t in pack.trainings if self._takes(t.trajectory, take))
            if not ours:
                continue
            self.packs.remove(pack)
            taken = {training.trajectory.key for training in ours}
            if others := tuple(t for t in pack.trainings if t.trajectory.key not in taken):
                self.packs.append(replace(pack, trainings=others))
            return Train(replace(pack, trainings=ours))
        return None

    def _reference(self, take: Take) -> Reference | None:
        for reference in self.references:
            nouns = {s.class_noun_set.key for s in reference.scorings if s.class_noun_set}
            if nouns & self.undrawn - {reference.images.key}:
                continue
            if self._takes(reference.images.snapshot.source, take):
                self.references.remove(reference)
                return reference
        return None

    def _finish(self, take: Take, near: Near, worker: int | None) -> Finish | None:
        """Parts that have been ready longest: a worker's share of them, unless that is much."""
        able = [
            part
            for part in self.ready
            if not part.needs & self.undrawn and part.by in (None, worker)
        ]
        able[:NEAREST] = sorted(able[:NEAREST], key=lambda part: not near(part.training))
        wanted = min(MOST_SECONDS, sum(part.seconds for part in able) / self.workers)
        chosen: list[Part] = []
        for part in able:
            if chosen and sum(one.seconds for one in chosen) >= wanted:
                break
            if self._takes(part.training.source, take):
                chosen.append(part)
        if not chosen:
            return None
        self.ready = [part for part in self.ready if part not in chosen]
        keys = {part.key for part in chosen}
        return Finish(
            tuple(part.training for part in chosen),
            {key: self._pop_spent(key, chosen) for key in keys},
            {key: error for key, error in self.errors.items() if key in keys},
        )

    def _pop_spent(self, key: str, parts: Sequence[Part]) -> dict[int, float]:
        known = self.spent.get(key, {})
        steps = {part.step for part in parts if part.key == key}
        return {step: known.pop(step) for step in steps if step in known}

    def _parts(self, training: Training) -> list[Part]:
        """A training's cells, apart as far as they share no image set."""
        groups: dict[str, list[Cell]] = {}  # by the image sets of their cells
        for cell in training.cells:
            own = [images.key for images in cell.drawn_sets]
            known = {id(groups[key]): groups[key] for key in own if key in groups}
            group = [*(other for cells in known.values() for other in cells), cell]
            groups |= {images.key: group for other in group for images in other.drawn_sets}
        together = {id(group): group for group in groups.values()}.values()
        return [self._part(training, tuple(cells)) for cells in together]

    def _part(self, training: Training, cells: tuple[Cell, ...]) -> Part:
        keys = {images.key for cell in cells for images in cell.drawn_sets}
        scorings = tuple(s for s in training.scorings if s.images.key in keys)
        seconds = sum(
            s.to_draw * calls_each(s.images) * self.speeds.call(s.images)
            + s.images.count * SCORING * bool(s.scores)
            for s in scorings
        )
        needs = {
            images.key
            for cell in cells
            for images in (
                cell.class_noun_set,
                cell.untaught_set,
                *(p.untaught for p in cell.parts),
                *(images.untaught for images in cell.drawn_sets if not images.strength),
            )
            if images is not None
        }
        own = replace(training, cells=cells, scorings=scorings, spans=())
        return Part(own, seconds, frozenset(needs))


def _too_many(slug: str, lost: str) -> str:
    """Why work is given up."""
    return f"{slug}: {MOST_LOSSES} workers were lost at it, the last one because it {lost}"


def split(pack: Pack, workers: int) -> list[Pack]:
    """A pack in several, for workers to train side by side; as few passes as they can.

    Chunks of as many trials as there are slots, unless lengths are so unlike that slots would
    idle; then as many packs as shorten the whole, each of which refills its slots.
    """
    if workers == 1 or len(pack.trainings) <= pack.width:
        return [pack]
    starts = range(0, len(pack.trainings), pack.width)
    chunks = [replace(pack, trainings=pack.trainings[i : i + pack.width]) for i in starts]
    if sum(chunk.passes for chunk in chunks) <= 1.05 * pack.passes:
        return chunks
    dealt = [deal(pack, number) for number in range(1, min(workers, len(chunks)) + 1)]
    return min(dealt, key=lambda packs: max(part.passes for part in packs))


def halves(pack: Pack) -> list[Pack]:
    """A pack's trials in two, if each then fills half of the slots at most.

    For workers that would have nothing to train. Where half a pass gives the bits of a whole one
    (`charsweep.train.narrowing`) it takes half to two thirds of the time; elsewhere nothing is won.
    """
    half = pack.width // 2
    if not half < len(pack.trainings) <= pack.width or half == 0:
        return [pack]
    parts = (pack.trainings[:half], pack.trainings[half:])
    return [replace(pack, trainings=trainings) for trainings in parts]


def deal(pack: Pack, number: int) -> list[Pack]:
    """The trainings dealt out to so many packs, each to the slot that falls free first."""
    slots = [(0, slot) for slot in range(number * pack.width)]
    dealt: list[list[Training]] = [[] for _ in range(number)]
    for training in pack.trainings:
        free, slot = slots[0]
        heapq.heapreplace(slots, (free + training.steps, slot))
        dealt[slot // pack.width].append(training)
    return [replace(pack, trainings=tuple(trainings)) for trainings in dealt if trainings]
