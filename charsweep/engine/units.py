"""What of a plan workers are given, and in which order: the `Agenda`; no torch, no processes.

A unit is a pack to train, a reference image set, or parts of trajectories to draw and score. Of
what bits depend on nothing is cut: packs keep their width, image sets are drawn whole. Whatever
workers there are, one trains as long as there is something to train, because all else waits for
it; the others draw and score what has been trained, and train where nothing is to be drawn.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar

from charsweep.core.cells import Cell
from charsweep.core.errors import TrainingError
from charsweep.core.specs import ImageSetSpec, ScoreSpec, Source
from charsweep.plan import Pack, Plan, Scoring, Speeds, Training
from charsweep.plan.cost import calls_each

SCORING = 0.02  # seconds for each image: reading it, and every metric; measured on one core
HALVED = 0.7  # of a pass's time, with half of the slots free: measured on two cores; on a card 1
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
One = TypeVar("One")
Near = Callable[[Training], bool]  # whether a worker has a trajectory's state, or its snapshot
More = Callable[[int], Plan | None]  # asks for a further plan, for one of so many who is free

MOST_LOSSES = 3  # of workers at the same work, which is then given up
LOOK = 64  # packs, or trajectories to draw of, among which those near a worker are sought


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


class Ready:
    """Parts that can be drawn, by trajectory, in the order in which these became ready."""

    def __init__(self) -> None:
        self.parts: dict[str, deque[Part]] = {}
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Part]:
        return (part for parts in self.parts.values() for part in parts)

    def add(self, part: Part) -> None:
        self.parts.setdefault(part.key, deque()).append(part)
        self.seconds += part.seconds

    def pop(self, key: str) -> Part:
        """The first of a trajectory's."""
        part = self.parts[key].popleft()
        if not self.parts[key]:
            del self.parts[key]
        self.seconds = self.seconds - part.seconds if self.parts else 0.0
        return part


@dataclass
class Agenda:
    """What of a plan is still to be handed out, and what waits for what.

    `is_open`: further plans may be added, each of trajectories that no other one is training.
    """

    plan: Plan
    speeds: Speeds
    workers: int
    is_open: bool = False
    cells: dict[str, Cell] = field(default_factory=dict)
    packs: list[Pack] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    waiting: dict[str, list[Part]] = field(default_factory=dict)  # by trajectory, for a snapshot
    blocked: list[Part] = field(default_factory=list)  # for references
    ready: defaultdict[int | None, Ready] = field(  # by who alone can draw it
        default_factory=lambda: defaultdict(Ready)
    )
    to_train: float = 0.0  # expected seconds of the packs
    to_draw: float = 0.0  # of all parts
    training: int = 0  # packs that are out
    undrawn: Counter[str] = field(default_factory=Counter)  # references, by their images' key
    undrawn_then: int = 0  # of so many images, since `blocked` was last looked at
    left: Counter[str] = field(default_factory=Counter)  # by source: cells, references not done
    unfinished: int = 0  # all of these
    spent: dict[str, dict[int, float]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    locked_out: Source | None = None  # what another command works on
    losses: Counter[str] = field(default_factory=Counter)  # of workers, by what they were at
    given_up: list[tuple[Cell, str]] = field(default_factory=list)  # and why

    def __post_init__(self) -> None:
        self._class_images: dict[str, set[str]] = {}
        self._scores: dict[str, set[ScoreSpec]] = {}  # of references, by their images' key
        self.add(self.plan)

    def add(self, plan: Plan) -> None:
        """One more plan, behind what is there."""
        references = self._further_references(plan)
        self.references += references
        packs = [part for pack in plan.packs for part in split(pack, self.workers)]
        if len(packs) < self.workers and not self.is_open:
            packs = [half for pack in packs for half in halves(pack)]
        self.packs += sorted(packs, key=lambda pack: -self.seconds(pack))
        self.to_train += sum(map(self.seconds, packs))
        self.cells |= {cell.key: cell for cell in plan.cells}
        self.left.update(cell.source.key for cell in plan.cells)
        self.left.update(reference.images.snapshot.source.key for reference in references)
        self.unfinished += len(plan.cells) + len(references)
        for training in plan.trainings:
            key = training.source.key
            self.errors.pop(key, None)
            sets = (images for cell in training.cells for images in cell.class_sets)
            self._class_images[key] = {images.key for images in sets}
            missing = set(training.snapshots)
            for part in self._parts(training):
                self.to_draw += part.seconds
                if part.step in missing:
                    self.waiting.setdefault(part.key, []).append(part)
                else:
                    self._make_ready(part)

    def _further_references(self, plan: Plan) -> list[Reference]:
        """What a plan lacks of references, but for what is on its way already."""
        wanted: dict[str, list[Scoring]] = {}
        for scoring in plan.references:
            if scoring.draw or scoring.scores:
                wanted.setdefault(scoring.images.key, []).append(scoring)
        further, before = [], len(self.undrawn)
        for key, scorings in wanted.items():
            scores = {spec for scoring in scorings for spec in scoring.scores}
            on_its_way = self._scores[key] if key in self.undrawn else None
            if on_its_way is None or not scores <= on_its_way:
                further.append(Reference(tuple(scorings)))
                self.undrawn[key] += 1
                self._scores[key] = scores | (on_its_way or set())
        self.undrawn_then += len(self.undrawn) - before
        return further

    def seconds(self, pack: Pack) -> float:
        """What training a pack is expected to take."""
        return pack.passes * self.seconds_of_pass(pack)

    def seconds_of_pass(self, pack: Pack) -> float:
        whole = self.speeds.step(pack.trainings[0].trajectory)
        return whole * (HALVED if 2 * len(pack.trainings) <= pack.width else 1.0)

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
        waiting = self.waiting.pop(key, [])
        if still := [part for part in waiting if not (last or part.step in spent)]:
            self.waiting[key] = still
        for part in waiting:
            if last or part.step in spent:
                self._make_ready(replace(part, by=by(part.training)))

    def _make_ready(self, part: Part) -> None:
        if not part.needs.isdisjoint(self.undrawn):
            self.blocked.append(part)
        else:
            self.ready[part.by].add(part)

    def drawn(self, reference: Reference) -> bool:
        """A reference is done; whether that was the last of its source."""
        key = reference.images.key
        if self.undrawn[key] > 1:
            self.undrawn[key] -= 1
        else:
            del self.undrawn[key]
        return self.finished(reference.images.snapshot.source)

    def finished(self, source: Source) -> bool:
        """A cell or a reference is done; whether that was the last of its source."""
        self.unfinished -= 1
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
                    for part in self._parts(replace(training, cells=cells)):
                        self.to_draw += part.seconds
                        self._make_ready(part)
        else:
            self.training -= 1
            rest = [t for t in unit.pack.trainings if t.trajectory.key not in done]
            for training in list(rest):
                key = training.trajectory.key
                if self._costs_too_much(key, lost):
                    self.reached(key, {}, True, _too_many(training.trajectory.slug, lost))
                    rest.remove(training)
            if rest:
                self._put_back(replace(unit.pack, trainings=tuple(rest)), 0)

    def _put_back(self, pack: Pack, place: int) -> None:
        self.packs.insert(place, pack)
        self.to_train += self.seconds(pack)

    def _unblock(self) -> None:
        """See which parts wait for no reference any more, if one has been drawn since."""
        if self.blocked and len(self.undrawn) < self.undrawn_then:
            blocked, self.blocked = self.blocked, []
            for part in blocked:
                self._make_ready(part)
        self.undrawn_then = len(self.undrawn)

    def train_again(
        self, is_gone: Callable[[Training], bool], plan: Callable[[Training], Training]
    ) -> None:
        """Of what is to be drawn from weights that are gone with their worker, make them again."""
        there = [*self.blocked, *(part for one in self.ready.values() for part in one)]
        self.blocked, self.ready = [], defaultdict(Ready)
        gone: dict[str, list[Part]] = {}
        for part in there:
            if is_gone(part.training):
                gone.setdefault(part.key, []).append(replace(part, by=None))
            else:
                self._make_ready(part)
        again = {t.trajectory.key for pack in self.packs for t in pack.trainings}
        for key, parts in gone.items():
            self.waiting.setdefault(key, []).extend(parts)
            if key not in again:
                cells = tuple(cell for part in parts for cell in part.training.cells)
                training = plan(replace(parts[0].training, cells=cells))
                self._put_back(Pack(training.trajectory.pack, (training,)), 0)

    def _costs_too_much(self, key: str, lost: str) -> bool:
        self.losses[key] += bool(lost)
        return self.losses[key] >= MOST_LOSSES

    @property
    def is_done(self) -> bool:
        return not self.unfinished

    def is_short_for(self, workers: int) -> bool:
        """Whether nothing is left to draw for so many workers, and not a pack for each."""
        left = len(self.references) + len(self.ready[None].parts) + len(self.packs)
        return left < workers

    # -- what comes next -----------------------------------------------------------------------

    def next(
        self, take: Take, near: Near = lambda _: False, worker: int | None = None
    ) -> Unit | None:
        """The unit that a free worker gets; None while all that is left waits for others.

        Rather one that it need not be sent the files of.
        """
        unit: Unit | None = None if self.training else self._train(take, near)
        unit = unit or self._reference(take)
        if unit is None and self._lags():
            unit = self._train(take, near)
        unit = unit or self._finish(take, near, worker) or self._train(take, near)
        if isinstance(unit, Train):
            self.training += 1
        return unit

    def _lags(self) -> bool:
        """Whether too few train for the packs that are left to be trained while others draw."""
        if not self.packs:
            return False
        whole = (self.to_train + self.to_draw) / self.workers
        room = whole - self.seconds(self.packs[0]) - MOST_SECONDS
        return self.to_train > self.training * room

    def _takes(self, source: Source, take: Take) -> bool:
        taken = take(source)
        if not taken:
            self.locked_out = source
        return taken

    def _train(self, take: Take, near: Near) -> Train | None:
        packs = ((one, one[1].trainings) for one in enumerate(self.packs))
        for place, pack in self._nearest(packs, near):
            if self.undrawn and any(
                not self._class_images[t.trajectory.key].isdisjoint(self.undrawn)
                for t in pack.trainings
            ):
                continue
            ours = tuple(t for t in pack.trainings if self._takes(t.trajectory, take))
            if not ours:
                continue
            del self.packs[place]
            self.to_train = max(0.0, self.to_train - self.seconds(pack))
            taken = {training.trajectory.key for training in ours}
            if others := tuple(t for t in pack.trainings if t.trajectory.key not in taken):
                self._put_back(replace(pack, trainings=others), len(self.packs))
            return Train(replace(pack, trainings=ours))
        return None

    @staticmethod
    def _nearest(found: Iterable[tuple[One, Sequence[Training]]], near: Near) -> Iterator[One]:
        """All of them; of the first ones, those near a worker before the others."""
        rest = iter(found)
        for one, _ in sorted(islice(rest, LOOK), key=lambda one: not any(map(near, one[1]))):
            yield one
        for one, _ in rest:
            yield one

    def _reference(self, take: Take) -> Reference | None:
        for reference in self.references:
            nouns = {s.class_noun_set.key for s in reference.scorings if s.class_noun_set}
            if nouns & self.undrawn.keys() - {reference.images.key}:
                continue
            if self._is_drawn_now(reference):
                continue
            if self._takes(reference.images.snapshot.source, take):
                self.references.remove(reference)
                return reference
        return None

    def _is_drawn_now(self, reference: Reference) -> bool:
        """Whether somebody works on the same images, for other scores."""
        key = reference.images.key
        return self.undrawn[key] > sum(one.images.key == key for one in self.references)

    def _finish(self, take: Take, near: Near, worker: int | None) -> Finish | None:
        """Parts of what has been ready longest: a worker's share of all, unless that is much."""
        self._unblock()
        shared, own = self.ready[None], self.ready.get(worker) if worker is not None else None
        wanted = min(MOST_SECONDS, shared.seconds / self.workers + (own.seconds if own else 0.0))
        chosen: list[Part] = []
        seconds = 0.0
        for ready in filter(None, (own, shared)):
            found = ((key, [parts[0].training]) for key, parts in list(ready.parts.items()))
            for key in self._nearest(found, near):
                if chosen and seconds >= wanted:
                    break
                if not self._takes(ready.parts[key][0].training.source, take):
                    continue
                while key in ready.parts and not (chosen and seconds >= wanted):
                    chosen.append(ready.pop(key))
                    seconds += chosen[-1].seconds
        if not chosen:
            return None
        self.to_draw = max(0.0, self.to_draw - seconds)
        keys = {part.key for part in chosen}
        return Finish(
            tuple(part.training for part in chosen),
            {key: self._pop_spent(key, chosen) for key in keys},
            {key: self.errors[key] for key in keys & self.errors.keys()},
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
        by_images = {scoring.images.key: scoring for scoring in training.scorings}
        return [self._part(training, tuple(cells), by_images) for cells in together]

    def _part(
        self, training: Training, cells: tuple[Cell, ...], by_images: Mapping[str, Scoring]
    ) -> Part:
        keys = dict.fromkeys(images.key for cell in cells for images in cell.drawn_sets)
        scorings = tuple(by_images[key] for key in keys if key in by_images)
        seconds = sum(self.seconds_to_score(scoring) for scoring in scorings)
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

    def seconds_to_score(self, scoring: Scoring) -> float:
        """What drawing an image set and scoring it is expected to take."""
        drawing = scoring.to_draw * calls_each(scoring.images) * self.speeds.call(scoring.images)
        return drawing + scoring.images.count * SCORING * bool(scoring.scores)


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
