"""Cells: the points of the grid, each what is trained, drawn and asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from charsweep.core.specs import (
    Added,
    BaseSpec,
    CharacterSpec,
    ExamSpec,
    ImageSetSpec,
    Plugin,
    ScoreSpec,
    TrajectorySpec,
    TruthSpec,
    trained_in,
)


@dataclass(frozen=True)
class ExamPart:
    """A further question that a snapshot is asked: what it draws, what the base draws, metrics."""

    name: str
    images: ImageSetSpec
    untaught: ImageSetSpec  # by the untaught base, with the class noun
    exam: ExamSpec
    metrics: tuple[Plugin, ...]

    @property
    def scores(self) -> tuple[ScoreSpec, ...]:
        return tuple(
            ScoreSpec(self.images, metric, self.exam.read_by(metric), self.untaught.key)
            for metric in self.metrics
        )


@dataclass(frozen=True)
class Cell:
    """One point of the grid: a trajectory, a step count and an image set to score.

    Or an adapter from elsewhere in the place of a trajectory. `values` are the axis values as a
    person typed them; they always hold method, lr, train_steps and seed, or method and adapter;
    inference_steps where it draws in steps, and strength where it varies or is not 1. Prompts call
    the character by `identifier`, the character's own or what an adapter was taught with.
    `untaught_set` is the untaught base on the same exam with the same prompts, `class_noun_set` the
    same base with the class noun in place
    of the identifier, `class_images` what the base draws for prior preservation; each None without
    a base. `metrics` are those of the exam itself, `parts` what else is asked, with their own.
    Of two characters, the exam itself is the first one's.
    """

    values: Mapping[str, Any]
    character: CharacterSpec
    identifier: str
    images: ImageSetSpec
    untaught_set: ImageSetSpec | None
    class_noun_set: ImageSetSpec | None
    class_images: ImageSetSpec | None
    metrics: tuple[Plugin, ...]
    exam: ExamSpec
    parts: tuple[ExamPart, ...] = ()
    truth_set: ImageSetSpec | None = None  # the true pictures, where there are any
    made: Mapping[str, Any] = field(default_factory=dict)  # what an adapter's file says of itself
    worst_of: tuple[str, ...] = ()  # scores of which the lowest is what it is compared by
    other_class_images: ImageSetSpec | None = None  # of the other of two, if not the same

    @property
    def key(self) -> str:
        return self.images.key

    @property
    def base_label(self) -> str:
        """The base that draws by name, with the values of the axes that make it another of that
        name, and the base that was taught, where that is another."""
        name = self.base.name if self.base else ""
        if self.images.base:
            return f"{self.images.base.name} (taught on {name})"
        axes = ("models", f"models.bases.{name}.path")
        others = {axis: value for axis, value in self.values.items() if is_of_base(axis, name)}
        told = (
            str(value) if axis in axes else f"{axis.rpartition('.')[2]} {value}"
            for axis, value in others.items()
        )
        return f"{name} ({', '.join(told)})" if name and others else name

    @property
    def source(self) -> TrajectorySpec | Added:
        """What draws: a trajectory, an adapter from elsewhere, or what was composed."""
        source = self.images.snapshot.source
        assert isinstance(source, TrajectorySpec | Added)
        return source

    @property
    def base(self) -> BaseSpec | None:
        """The base that is taught, or that an adapter goes on; None for a method without one."""
        return self.source.base

    @property
    def is_trained(self) -> bool:
        """Whether it is of a trajectory."""
        return isinstance(self.images.snapshot.source, TrajectorySpec)

    @property
    def trajectory(self) -> TrajectorySpec:
        return self.images.snapshot.trajectory

    @property
    def trainings(self) -> tuple[TrajectorySpec, ...]:
        """What its weights come of: one trajectory, those of two characters put together, or, of
        adapters from elsewhere, none."""
        return trained_in(self.source)

    @property
    def step(self) -> int:
        return self.images.snapshot.step

    @property
    def class_sets(self) -> tuple[ImageSetSpec, ...]:
        """What the untaught base draws for prior preservation."""
        return tuple(filter(None, (self.class_images, self.other_class_images)))

    @property
    def drawn_sets(self) -> tuple[ImageSetSpec, ...]:
        """What its snapshot draws: for the exam, then for each of its parts."""
        return (self.images, *(part.images for part in self.parts))

    @property
    def image_sets(self) -> tuple[ImageSetSpec, ...]:
        """The same and all that the untaught base draws beside them."""
        base = (self.untaught_set, self.class_noun_set, *self.class_sets)
        every = (*self.drawn_sets, *base, *(part.untaught for part in self.parts))
        return tuple(images for images in every if images is not None)

    def begun(self, images: ImageSetSpec) -> Cell:
        """The cell as far as one of the beginnings of its image set goes.

        Judged against the whole of the untaught base's set, so that an image's score is what it
        will be; no parts and no gains, which are of the whole exam.
        """
        return replace(self, images=images, untaught_set=None, parts=())

    def score_spec(self, metric: Plugin, images: ImageSetSpec) -> ScoreSpec:
        """The spec of `metric` on this cell's image set or on one of its reference sets."""
        return ScoreSpec(
            images=images,
            metric=metric,
            exam=self.exam.read_by(metric),
            untaught=self.class_noun_set.key if self.class_noun_set else None,
        )


def is_of_base(axis: str, name: str) -> bool:
    """Whether the values of an axis make the base of that name another one."""
    return axis == "models" or axis.startswith(f"models.bases.{name}.")


def examined(cells: Sequence[Cell]) -> Cell:
    """The cell whose exam the true images are scored by: the first with prompts, else the first."""
    return next((cell for cell in cells if cell.exam.prompts), cells[0])


def with_truth(cells: Iterable[Cell]) -> list[tuple[Cell, ImageSetSpec]]:
    """The true pictures of each exam, and the cell by whose exam they are scored."""
    by_drawings: dict[Any, dict[ExamSpec, Cell]] = {}
    seen = set[int]()
    for cell in cells:
        exam, truth = cell.exam, cell.truth_set
        if truth is None or id(exam) in seen:
            continue
        seen.add(id(exam))
        assert isinstance(truth.snapshot.source, TruthSpec)
        measure = (truth.snapshot.source.digests, exam.encoders, exam.references, exam.held_out)
        by_drawings.setdefault(measure, {}).setdefault(exam, cell)
    found: list[tuple[Cell, ImageSetSpec]] = []
    for cells_of in by_drawings.values():
        prompted = [cell for exam, cell in cells_of.items() if exam.prompts]
        judges = prompted or list(cells_of.values())[:1]
        found += [(cell, cell.truth_set) for cell in judges if cell.truth_set is not None]
    return found
